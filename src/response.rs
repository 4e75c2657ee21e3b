//! What a server answered.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use drivetrain_engine::{Body, Error, ErrorKind, Result, Runtime, Timer, redacted};
use futures_core::Stream;
use http::{HeaderMap, StatusCode, Version};
use url::Url;

use crate::target;

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
}

/// How long the body may pause.
type Pause = (Duration, Arc<dyn Runtime>);

impl Response {
    pub(crate) fn new(response: http::Response<Body>, url: Url, pause: Option<Pause>) -> Self {
        let (parts, body) = response.into_parts();
        Self { parts, body, url, pause }
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

    /// The whole body as bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the body ended too early, [`ErrorKind::Timeout`] if it paused too long.
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

    /// The whole body as text, which must be UTF-8.
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

    /// The body as it comes.
    pub fn bytes_stream(self) -> impl Stream<Item = Result<Bytes>> + Send + Unpin + 'static {
        BodyStream { body: self.body, pause: self.pause, timer: None, waiting: false }
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
        let response = http::Response::from_parts(self.parts, Bytes::new());
        Err(Error::new(ErrorKind::Status, message).with_response(response))
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

struct BodyStream {
    body: Body,
    pause: Option<Pause>,
    timer: Option<Box<dyn Timer>>,
    /// The timer runs for the piece that is awaited.
    waiting: bool,
}

impl BodyStream {
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let Some((limit, runtime)) = &self.pause else { return Poll::Pending };
        let deadline = runtime.now() + *limit;
        let timer = self.timer.get_or_insert_with(|| runtime.timer(deadline));
        if !std::mem::replace(&mut self.waiting, true) {
            timer.reset(deadline);
        }
        timer.poll(cx).map(|()| {
            Error::new(ErrorKind::Timeout, format!("the body paused for longer than {limit:?}"))
        })
    }
}

impl Stream for BodyStream {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match http_body::Body::poll_frame(Pin::new(&mut self.body), cx) {
                Poll::Pending => return self.poll_pause(cx).map(|error| Some(Err(error))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Some(Ok(frame))) => {
                    self.waiting = false;
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
            }
        }
    }
}
