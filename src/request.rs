//! Plain HTTP requests.

use std::{fmt, time::Duration};

use drivetrain_engine::{Body, Capability, Error, ErrorKind, Result};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use serde::Serialize;
use url::Url;

use crate::{
    HttpClient, Response, deadline,
    options::require,
    target::{self, Target},
};

/// A request to send.
///
/// Made by [`HttpClient::get`] and its siblings. What is given wrongly is the error of
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
///     .error_for_status()?;
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
        }
    }

    /// Adds a header.
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
            let query = serde_urlencoded::to_string(pairs).map_err(|error| {
                Error::new(ErrorKind::InvalidInput, "the query is not made of pairs")
                    .with_source(error)
            })?;
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

    /// Sets the body: bytes, text, or [`Body::streaming`]. Default: empty.
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
        self.send_on(&client).await.map_err(|error| client.named(error))
    }

    async fn send_on(self, client: &HttpClient) -> Result<Response> {
        let Self { method, target, mut headers, body, timeout, .. } = self;
        let url = target?;
        let target = Target::for_request(url.clone())?;
        if timeout == Some(Duration::ZERO) {
            return Err(Error::new(ErrorKind::InvalidInput, "a timeout of zero is not possible"));
        }
        if let (Some(value), false) =
            (target.authorization, headers.contains_key(header::AUTHORIZATION))
        {
            headers.insert(header::AUTHORIZATION, value);
        }
        client.installed().defaults.add_to(&mut headers)?;
        require(client.engine(), Capability::Http1)?;
        let runtime = client.ready(target.secure)?;

        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = target.uri;
        *request.headers_mut() = headers;
        if let Some(timeout) = client.connect_timeout() {
            request.extensions_mut().insert(timeout);
        }
        if let Some(proxy) = client.proxy_for(request.uri()) {
            request.extensions_mut().insert(proxy);
        }
        let limits = client.installed().timeout;
        let limit = timeout.or(limits.request);
        let response =
            deadline::within(&*runtime, limit, "the request", client.engine().execute(request))
                .await?;
        Ok(Response::new(response, url, limits.socket.map(|limit| (limit, runtime))))
    }

    fn authorization(self, value: Result<HeaderValue>) -> Self {
        self.and(|request| {
            request.headers.insert(header::AUTHORIZATION, value?);
            Ok(())
        })
    }

    /// Does one step; the first error is kept for `send`.
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
