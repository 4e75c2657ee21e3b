//! Plain HTTP requests.

use std::{fmt, sync::Arc, time::Duration};

use drivetrain_engine::{Body, Capability, Error, ErrorKind, Result};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use serde::Serialize;
use url::Url;

use crate::{
    capability::require,
    client::HttpClient,
    deadline,
    multipart::Form,
    response::Response,
    target::{self, Target},
    trace::Call,
};

/// A request to send.
///
/// Made by [`HttpClient::get`] and its siblings. An invalid argument is an error of
/// [`send`](Self::send), before any I/O.
///
/// # Example
/// ```no_run
/// # async fn example(client: drivetrain::HttpClient) -> drivetrain::Result<()> {
/// let response = client
///     .post("https://example.com/items")
///     .query(&[("dry_run", "1")])
///     .bearer_auth("token")
///     .body("an item")
///     .send()
///     .await?
///     .error_for_status()
///     .await?;
/// println!("{}", response.text().await?);
/// # Ok(()) }
/// ```
#[must_use = "nothing happens until it is sent"]
pub struct RequestBuilder {
    client: HttpClient,
    method: Method,
    target: Result<Url>,
    headers: HeaderMap,
    body: Body,
    timeout: Option<Duration>,
    max_response_size: Option<u64>,
    on_upload: Option<Arc<Observer>>,
    on_download: Option<Arc<Observer>>,
}

/// Observes the progress of a body.
type Observer = dyn Fn(u64, Option<u64>) + Send + Sync;

impl HttpClient {
    /// Begins a GET request.
    pub fn get(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::GET, url)
    }

    /// Begins a POST request.
    pub fn post(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::POST, url)
    }

    /// Begins a PUT request.
    pub fn put(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::PUT, url)
    }

    /// Begins a PATCH request.
    pub fn patch(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::PATCH, url)
    }

    /// Begins a DELETE request.
    pub fn delete(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::DELETE, url)
    }

    /// Begins a HEAD request.
    pub fn head(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::HEAD, url)
    }

    /// Begins a request with any method. A URL that cannot be used is an error of
    /// [`send`](RequestBuilder::send).
    pub fn request(&self, method: Method, url: impl AsRef<str>) -> RequestBuilder {
        RequestBuilder::new(self.clone(), method, url.as_ref())
    }
}

impl RequestBuilder {
    pub(crate) fn new(client: HttpClient, method: Method, url: &str) -> Self {
        let target = client.installed().defaults.url().and_then(|base| target::parse(url, base));
        Self {
            client,
            method,
            target,
            headers: HeaderMap::new(),
            body: Body::empty(),
            timeout: None,
            max_response_size: None,
            on_upload: None,
            on_download: None,
        }
    }

    pub(crate) fn client(&self) -> &HttpClient {
        &self.client
    }

    /// The same request again, unless its body is a stream.
    pub(crate) fn try_clone(&self) -> Option<Self> {
        Some(Self {
            client: self.client.clone(),
            method: self.method.clone(),
            target: self.target.clone(),
            headers: self.headers.clone(),
            body: self.body.try_clone()?,
            timeout: self.timeout,
            max_response_size: self.max_response_size,
            on_upload: self.on_upload.clone(),
            on_download: self.on_download.clone(),
        })
    }

    /// Whether the method is safe (RFC 9110 section 9.2.1), so that the request may be sent again unasked.
    pub(crate) fn is_safe(&self) -> bool {
        self.method == Method::GET || self.method == Method::HEAD
    }

    pub(crate) fn header_text(&self, name: &HeaderName) -> Option<String> {
        self.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    }

    pub(crate) fn header_unless_set(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.entry(name).or_insert(HeaderValue::from_static(value));
        self
    }

    /// Replaces a header, or removes it.
    pub(crate) fn header_instead(mut self, name: HeaderName, value: Option<HeaderValue>) -> Self {
        match value {
            Some(value) => drop(self.headers.insert(name, value)),
            None => drop(self.headers.remove(name)),
        }
        self
    }

    /// Adds a header. `Proxy-Authorization` is refused, as it would reach the origin: give the
    /// credentials to the [proxy](crate::Proxy::basic_auth).
    pub fn header(
        self,
        name: impl TryInto<HeaderName, Error: Into<http::Error>>,
        value: impl TryInto<HeaderValue, Error: Into<http::Error>>,
    ) -> Self {
        self.and(|request| {
            let (name, value) = target::header(name, value)?;
            request.headers.append(name, value);
            Ok(())
        })
    }

    /// Adds pairs to the query, from anything that serializes to pairs: a slice of pairs, a map, a struct.
    pub fn query(self, pairs: &(impl Serialize + ?Sized)) -> Self {
        self.and(|request| {
            let query = urlencoded(pairs, "the query")?;
            if let (Ok(url), false) = (&mut request.target, query.is_empty()) {
                let joined = match url.query() {
                    None | Some("") => query,
                    Some(before) => format!("{before}&{query}"),
                };
                url.set_query(Some(&joined));
            }
            Ok(())
        })
    }

    /// Sends basic auth (RFC 7617). A URL's userinfo does the same.
    pub fn basic_auth(self, user: impl AsRef<str>, password: Option<&str>) -> Self {
        self.authorization(target::basic_auth(user.as_ref(), password))
    }

    /// Sends a bearer token (RFC 6750).
    pub fn bearer_auth(self, token: impl AsRef<str>) -> Self {
        self.authorization(target::bearer_auth(token.as_ref()))
    }

    /// Sets the body: bytes, text, or a stream: [`Body::from_stream`], [`Body::streaming`]. Default: empty.
    pub fn body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets the body to a value in JSON, and `Content-Type` to it unless it is set.
    #[cfg(feature = "json")]
    pub fn json(self, value: &(impl Serialize + ?Sized)) -> Self {
        self.and(|request| {
            let body = serde_json::to_vec(value).map_err(|error| {
                Error::new(ErrorKind::Convert, "the value cannot be written as JSON")
                    .with_source(error)
            })?;
            request.body = body.into();
            request
                .headers
                .entry(header::CONTENT_TYPE)
                .or_insert(HeaderValue::from_static("application/json"));
            Ok(())
        })
    }

    /// Sets the body to a form (`application/x-www-form-urlencoded`), from anything that serializes to
    /// pairs, as for [`query`](Self::query), and `Content-Type` to it unless it is set.
    pub fn form(self, pairs: &(impl Serialize + ?Sized)) -> Self {
        self.and(|request| {
            request.body = urlencoded(pairs, "the form")?.into();
            request
                .headers
                .entry(header::CONTENT_TYPE)
                .or_insert(HeaderValue::from_static("application/x-www-form-urlencoded"));
            Ok(())
        })
    }

    /// Sets the body to a form with files (`multipart/form-data`, RFC 7578), and `Content-Type` to it with
    /// its boundary, in place of one that is set.
    pub fn multipart(self, form: Form) -> Self {
        self.and(|request| {
            let (content_type, body) = form.encode()?;
            request.body = body;
            request.headers.insert(header::CONTENT_TYPE, content_type);
            Ok(())
        })
    }

    /// Calls `observer` with each chunk of the request's body that the engine takes: the bytes so far, and the total
    /// length if it is known. Ktor's `onUpload`.
    ///
    /// The count only grows, and the last call has the total; an empty body has no call. A request that is
    /// repeated, for a redirect or a new token, counts from zero. Bytes that the engine has taken may still be in
    /// its buffers or the system's. A second observer replaces the first.
    ///
    /// ```no_run
    /// # async fn example(client: drivetrain::HttpClient, file: Vec<u8>) -> drivetrain::Result<()> {
    /// let request = client.put("https://example.com/file").body(file).on_upload(|sent, total| {
    ///     println!("{sent} of {total:?} bytes");
    /// });
    /// # request.send().await?; Ok(()) }
    /// ```
    pub fn on_upload(
        mut self,
        observer: impl Fn(u64, Option<u64>) + Send + Sync + 'static,
    ) -> Self {
        self.on_upload = Some(Arc::new(observer));
        self
    }

    /// Calls `observer` with each chunk of the response's body as it is read, as
    /// [`on_upload`](Self::on_upload) does. A body that is not read makes no call. Ktor's `onDownload`.
    pub fn on_download(
        mut self,
        observer: impl Fn(u64, Option<u64>) + Send + Sync + 'static,
    ) -> Self {
        self.on_download = Some(Arc::new(observer));
        self
    }

    /// Overrides [`HttpClientBuilder::max_response_size`](crate::HttpClientBuilder::max_response_size) for
    /// this response; `u64::MAX` is no limit.
    pub fn max_response_size(mut self, bytes: u64) -> Self {
        self.max_response_size = Some(bytes);
        self
    }

    /// Overrides [`HttpTimeout::request`](crate::HttpTimeout::request).
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Sends the request and waits for the head of the response; the body streams after it.
    ///
    /// # Errors
    /// Before any I/O: [`ErrorKind::InvalidInput`] and [`ErrorKind::Unsupported`]. Then
    /// [`ErrorKind::Connect`], [`ErrorKind::Tls`], [`ErrorKind::Timeout`], [`ErrorKind::Protocol`],
    /// [`ErrorKind::Io`]. A response with an error status is no error: see
    /// [`error_for_status`](Response::error_for_status).
    ///
    /// # Cancel safety
    /// Dropped while pending, the request ends.
    pub async fn send(self) -> Result<Response> {
        let client = self.client.clone();
        let call = Call::request(client.engine_name(), &self.method, self.target.as_ref().ok());
        call.run(self.send_on(&client)).await.map_err(|error| client.named(error))
    }

    async fn send_on(self, client: &HttpClient) -> Result<Response> {
        let Self { method, target, mut headers, body, timeout, .. } = self;
        let url = target?;
        let body = match self.on_upload {
            Some(observer) => body.observed(move |sent, total| observer(sent, total)),
            None => body,
        };
        let target = Target::for_request(url.clone())?;
        if timeout == Some(Duration::ZERO) {
            return Err(Error::new(ErrorKind::InvalidInput, "a timeout of zero is not possible"));
        }
        Target::authorize(target.authorization, &mut headers);
        client.installed().defaults.add_to(&mut headers)?;
        require(client.engine(), Capability::Http1)?;
        let runtime = client.ready(target.secure)?;

        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = target.uri;
        *request.headers_mut() = headers;
        let limits = client.installed().timeout;
        let limit = timeout.or(limits.request);
        let response =
            deadline::within(&*runtime, limit, "the request", client.call(request)).await?;
        let url = target::answered(&response, url);
        let response = match self.on_download {
            Some(observer) => {
                response.map(|body| body.observed(move |read, total| observer(read, total)))
            }
            None => response,
        };
        let max_size = self.max_response_size.or(client.installed().max_response_size);
        Ok(Response::new(response, url, runtime).limited(limits.socket, max_size))
    }

    fn authorization(self, value: Result<HeaderValue>) -> Self {
        self.and(|request| {
            request.headers.insert(header::AUTHORIZATION, value?);
            Ok(())
        })
    }

    /// Applies a step, unless an earlier one failed; the first error is that of `send`.
    fn and(mut self, step: impl FnOnce(&mut Self) -> Result<()>) -> Self {
        if self.target.is_ok() {
            if let Err(error) = step(&mut self) {
                self.target = Err(error);
            }
        }
        self
    }
}

impl fmt::Debug for RequestBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBuilder")
            .field("method", &self.method)
            .field("url", &self.target.as_ref().map(target::display))
            .field("headers", &drivetrain_engine::redacted(&self.headers))
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

fn urlencoded(pairs: &(impl Serialize + ?Sized), what: &str) -> Result<String> {
    serde_urlencoded::to_string(pairs).map_err(|error| {
        let message = format!("{what} is not made of pairs");
        Error::new(ErrorKind::InvalidInput, message).with_source(error)
    })
}
