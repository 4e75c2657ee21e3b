//! The response to a request.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use drivetrain_engine::{Body, Error, ErrorKind, Result, Runtime, redacted};
use futures_core::Stream;
use http::{HeaderMap, StatusCode, Version};
use url::Url;

use crate::{error_body, response_body::ResponseBody, target};

/// How long the body of a response that is an error is read.
const REFUSAL: Duration = Duration::from_secs(10);

/// A response: its head, and its body to read.
///
/// # Example
/// ```no_run
/// # async fn example(client: drivetrain::HttpClient) -> drivetrain::Result<()> {
/// let response = client.get("https://example.com/").send().await?.error_for_status().await?;
/// println!("{} {:?}", response.status(), response.headers().get("content-type"));
/// let text = response.text().await?;
/// # Ok(()) }
/// ```
pub struct Response {
    parts: http::response::Parts,
    body: Body,
    url: Url,
    runtime: Arc<dyn Runtime>,
    pause: Option<Duration>,
    max_size: Option<u64>,
}

impl Response {
    pub(crate) fn new(response: http::Response<Body>, url: Url, runtime: Arc<dyn Runtime>) -> Self {
        let (parts, body) = response.into_parts();
        Self { parts, body, url, runtime, pause: None, max_size: None }
    }

    /// The same with limits for its body: how long it may pause, and how large it may be.
    pub(crate) fn limited(self, pause: Option<Duration>, max_size: Option<u64>) -> Self {
        Self { pause, max_size, ..self }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.parts.status
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// The version of HTTP that was spoken.
    pub fn version(&self) -> Version {
        self.parts.version
    }

    /// The URL that answered, after redirects, with the fragment of the URL that was asked for, or of the last
    /// `Location` that had one (RFC 9110 section 10.2.2).
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The length of the body, if it is known before reading: not for a chunked body, nor for one that is decoded. For
    /// the answer to a HEAD it is 0.
    pub fn content_length(&self) -> Option<u64> {
        http_body::Body::size_hint(&self.body).exact()
    }

    /// The whole body as bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the body ended too early, [`ErrorKind::Timeout`] if it paused too long,
    /// [`ErrorKind::TooBig`] if it is above
    /// [`max_response_size`](crate::RequestBuilder::max_response_size), [`ErrorKind::Protocol`] if it is in a transfer
    /// coding other than `chunked` that no `TE` of the request asked for (RFC 9112 section 7).
    ///
    /// # Cancel safety
    /// Dropped while pending, the rest of the body is lost.
    pub async fn bytes(self) -> Result<Bytes> {
        let mut chunks = self.bytes_stream();
        let mut next =
            async || std::future::poll_fn(|cx| Pin::new(&mut chunks).poll_next(cx)).await;
        let Some(first) = next().await.transpose()? else { return Ok(Bytes::new()) };
        let Some(second) = next().await.transpose()? else { return Ok(first) };
        let mut whole = BytesMut::from(first);
        whole.extend_from_slice(&second);
        while let Some(chunk) = next().await.transpose()? {
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }

    /// The whole body as text, which must be UTF-8. Another `charset` in `Content-Type` is not decoded: use
    /// [`bytes`](Self::bytes) for it.
    ///
    /// # Errors
    /// [`ErrorKind::Convert`] if it is not UTF-8, and those of [`bytes`](Self::bytes).
    ///
    /// # Cancel safety
    /// As for [`bytes`](Self::bytes).
    pub async fn text(self) -> Result<String> {
        let bytes = self.bytes().await?;
        String::from_utf8(bytes.into()).map_err(|error| {
            Error::new(ErrorKind::Convert, "the body is not UTF-8: use bytes()").with_source(error)
        })
    }

    /// The whole body as JSON; a byte order mark is ignored (RFC 8259 section 8.1).
    ///
    /// # Errors
    /// [`ErrorKind::Convert`] if it is not this value in JSON, and those of [`bytes`](Self::bytes).
    ///
    /// # Cancel safety
    /// As for [`bytes`](Self::bytes).
    #[cfg(feature = "json")]
    pub async fn json<T: serde::de::DeserializeOwned>(self) -> Result<T> {
        serde_json::from_slice(drivetrain_session::without_byte_order_mark(&self.bytes().await?))
            .map_err(|error| {
                Error::new(ErrorKind::Convert, "the body is not JSON of the expected type")
                    .with_source(error)
            })
    }

    /// The body as a stream of chunks. The stream ends after its first error; the errors are those of
    /// [`bytes`](Self::bytes). Nothing is read ahead beyond the engine's buffers.
    ///
    /// # Cancel safety
    /// Dropping the future of one chunk loses nothing: the stream keeps it. Dropped before its end, the stream
    /// closes the connection it comes from, or resets its HTTP/2 stream.
    pub fn bytes_stream(self) -> impl Stream<Item = Result<Bytes>> + Send + Unpin + 'static {
        self.into_body()
    }

    pub(crate) fn into_body(self) -> ResponseBody {
        let pause = self.pause.map(|limit| (limit, self.runtime));
        ResponseBody::new(self.body, pause, self.max_size)
    }

    /// The response, or [`ErrorKind::Status`] if its status is 400 or above. The error carries the
    /// [response](Error::response): status, headers, and up to 64 KiB of the body, or
    /// [`max_response_size`](crate::RequestBuilder::max_response_size) if that is less. The body is read up to its end, its
    /// failure or a pause of 2 s, for 10 s at most; none of these hides the status.
    ///
    /// # Errors
    /// [`ErrorKind::Status`] with the response.
    ///
    /// # Cancel safety
    /// Dropped while pending, the response is lost.
    pub async fn error_for_status(self) -> Result<Self> {
        let status = self.status();
        if !status.is_client_error() && !status.is_server_error() {
            return Ok(self);
        }
        let message = format!("the server answered {status} for {}", target::display(&self.url));
        Err(Error::new(ErrorKind::Status, message).with_response(self.into_refusal().await))
    }

    /// The response with the beginning of its body, for an error.
    pub(crate) async fn into_refusal(self) -> http::Response<Bytes> {
        let deadline = self.runtime.now() + REFUSAL;
        let mut body = error_body::start(self.body, &*self.runtime, deadline).await;
        let most = self.max_size.and_then(|most| usize::try_from(most).ok());
        body.truncate(most.unwrap_or(usize::MAX));
        http::Response::from_parts(self.parts, body)
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status())
            .field("version", &self.version())
            .field("url", &target::display(&self.url))
            .field("headers", &redacted(self.headers()))
            .finish_non_exhaustive()
    }
}
