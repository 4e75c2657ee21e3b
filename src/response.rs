//! What a server answered.

use std::{fmt, pin::Pin};

use bytes::{Bytes, BytesMut};
use drivetrain_engine::{Body, Error, ErrorKind, Result, redacted};
use futures_core::Stream;
use http::{HeaderMap, StatusCode, Version};
use url::Url;

use crate::{
    response_body::{Pause, ResponseBody},
    target,
};

/// The head of a response, and its body to come.
///
/// # Example
/// ```no_run
/// # async fn example(client: drivetrain::HttpClient) -> drivetrain::Result<()> {
/// let response = client.get("https://example.com/").send().await?.error_for_status()?;
/// println!("{} {:?}", response.status(), response.headers().get("content-type"));
/// let text = response.text().await?;
/// # Ok(()) }
/// ```
pub struct Response {
    parts: http::response::Parts,
    body: Body,
    url: Url,
    pause: Option<Pause>,
    max_size: Option<u64>,
}

impl Response {
    pub(crate) fn new(response: http::Response<Body>, url: Url, pause: Option<Pause>) -> Self {
        let (parts, body) = response.into_parts();
        Self { parts, body, url, pause, max_size: None }
    }

    /// The same with a limit for its body.
    pub(crate) fn at_most(self, max_size: Option<u64>) -> Self {
        Self { max_size, ..self }
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

    /// The URL that answered.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// How many bytes the body has, if that is known before it is read: not of a body in chunks, and not of
    /// one that is decoded on the way. It is the body that counts: of the answer to a HEAD this is 0.
    pub fn content_length(&self) -> Option<u64> {
        http_body::Body::size_hint(&self.body).exact()
    }

    /// The whole body as bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the body ended too early, [`ErrorKind::Timeout`] if it paused too long,
    /// [`ErrorKind::TooBig`] if it is above
    /// [`max_response_size`](crate::RequestBuilder::max_response_size).
    ///
    /// # Cancel safety
    /// Dropped while pending, the rest of the body is lost.
    pub async fn bytes(self) -> Result<Bytes> {
        let mut pieces = self.bytes_stream();
        let mut next =
            async || std::future::poll_fn(|cx| Pin::new(&mut pieces).poll_next(cx)).await;
        let Some(first) = next().await.transpose()? else { return Ok(Bytes::new()) };
        let Some(second) = next().await.transpose()? else { return Ok(first) };
        let mut whole = BytesMut::from(first);
        whole.extend_from_slice(&second);
        while let Some(piece) = next().await.transpose()? {
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }

    /// The whole body as text, which must be UTF-8. Another `charset` in `Content-Type` is not decoded, and
    /// nothing is replaced in silence: take [`bytes`](Self::bytes) for these.
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

    /// The whole body, read as JSON.
    ///
    /// # Errors
    /// [`ErrorKind::Convert`] if it is not this value in JSON, and those of [`bytes`](Self::bytes).
    ///
    /// # Cancel safety
    /// As for [`bytes`](Self::bytes).
    #[cfg(feature = "json")]
    pub async fn json<T: serde::de::DeserializeOwned>(self) -> Result<T> {
        serde_json::from_slice(&self.bytes().await?).map_err(|error| {
            Error::new(ErrorKind::Convert, "the body is not the value that was asked for, in JSON")
                .with_source(error)
        })
    }

    /// The body as it comes. The stream ends after its first error; the errors are those of
    /// [`bytes`](Self::bytes). Nothing is read ahead of what is asked for, beyond the engine's buffers.
    ///
    /// # Cancel safety
    /// Dropping the future of one piece loses nothing: the stream has it. Dropped before its end, the stream
    /// closes the connection it comes from, or resets its HTTP/2 stream.
    pub fn bytes_stream(self) -> impl Stream<Item = Result<Bytes>> + Send + Unpin + 'static {
        self.into_body()
    }

    pub(crate) fn into_body(self) -> ResponseBody {
        ResponseBody::new(self.body, self.pause, self.max_size)
    }

    /// The response, or [`ErrorKind::Status`] if its status is 400 or above. The error carries status
    /// and headers.
    ///
    /// # Errors
    /// As said.
    pub fn error_for_status(self) -> Result<Self> {
        let status = self.status();
        if !status.is_client_error() && !status.is_server_error() {
            return Ok(self);
        }
        let message = format!("the server answered {status} for {}", target::display(&self.url));
        Err(Error::new(ErrorKind::Status, message).with_response(self.into_head()))
    }

    /// Without the body, as an error carries it.
    pub(crate) fn into_head(self) -> http::Response<Bytes> {
        http::Response::from_parts(self.parts, Bytes::new())
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
