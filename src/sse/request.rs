//! Opening an event stream.

use std::num::NonZeroUsize;

use drivetrain_engine::{Error, ErrorKind, Result};
use http::{HeaderName, HeaderValue, header};
use serde::Serialize;

use super::{
    EventStream, Reconnect,
    attempt::{LAST_EVENT_ID, after, attempt},
};
use crate::{client::HttpClient, request::RequestBuilder};

/// An event stream to open.
///
/// Made by [`HttpClient::sse`](crate::HttpClient::sse) for a GET, and by [`RequestBuilder::sse`] for any
/// other request. Nothing happens until [`connect`](Self::connect) is awaited, which fails before any
/// I/O if an argument was invalid.
///
/// `Accept: text/event-stream` and `Cache-Control: no-store` are sent unless the request sets them. Of
/// [`HttpTimeout`](crate::HttpTimeout), `request` holds for each try until the response's head, and
/// `socket` is how long the server may be silent, comments included, before the connection counts as lost.
///
/// # Example
/// ```no_run
/// # async fn example(client: drivetrain::HttpClient) -> drivetrain::Result<()> {
/// let mut events = client
///     .sse("https://example.com/events")
///     .bearer_auth("token")
///     .last_event_id("41")
///     .connect()
///     .await?;
/// while let Some(event) = events.next().await? {
///     println!("{:?} {}: {}", event.id, event.event, event.data);
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "nothing happens until it is connected"]
pub struct SseRequest {
    request: RequestBuilder,
    last_event_id: Option<String>,
    reconnect: Option<Reconnect>,
    max_event_size: usize,
}

impl HttpClient {
    /// Begins an event stream (server-sent events). A URL that cannot be used is an error of
    /// [`connect`](SseRequest::connect).
    pub fn sse(&self, url: impl AsRef<str>) -> SseRequest {
        self.get(url).sse()
    }
}

impl RequestBuilder {
    /// Makes this request an event stream, for one with another method than GET or with a body;
    /// [`HttpClient::sse`] is for a GET. Only GET and HEAD [connect again](SseRequest::reconnect) by themselves.
    pub fn sse(self) -> SseRequest {
        SseRequest::new(self)
    }
}

impl SseRequest {
    pub(crate) fn new(request: RequestBuilder) -> Self {
        let reconnect = request.is_safe().then(Reconnect::new);
        Self { request, last_event_id: None, reconnect, max_event_size: 16 << 20 }
    }

    /// Adds a header.
    pub fn header(
        mut self,
        name: impl TryInto<HeaderName, Error: Into<http::Error>>,
        value: impl TryInto<HeaderValue, Error: Into<http::Error>>,
    ) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    /// Adds pairs to the query: see [`RequestBuilder::query`].
    pub fn query(mut self, pairs: &(impl Serialize + ?Sized)) -> Self {
        self.request = self.request.query(pairs);
        self
    }

    /// Sends basic auth (RFC 7617). A URL's userinfo does the same.
    pub fn basic_auth(mut self, user: impl AsRef<str>, password: Option<&str>) -> Self {
        self.request = self.request.basic_auth(user, password);
        self
    }

    /// Sends a bearer token (RFC 6750).
    pub fn bearer_auth(mut self, token: impl AsRef<str>) -> Self {
        self.request = self.request.bearer_auth(token);
        self
    }

    /// The id of the last event of an earlier stream: the server continues after it.
    /// Sent as `Last-Event-ID`. Default: none.
    pub fn last_event_id(mut self, id: impl Into<String>) -> Self {
        self.last_event_id = Some(id.into()).filter(|id| !id.is_empty());
        self
    }

    /// Whether and when to connect again; `None` is never. Default: [`Reconnect::new`] for GET and HEAD. Any other
    /// request is sent again, with its body, only if a policy is set here, since a streamed answer to a POST may
    /// simply be complete.
    pub fn reconnect(mut self, policy: impl Into<Option<Reconnect>>) -> Self {
        self.reconnect = policy.into();
        self
    }

    /// The limit for the data, the type and the id of an event, each, in bytes. A larger one ends the
    /// stream with [`ErrorKind::TooBig`]. Default: 16 MiB.
    pub fn max_event_size(mut self, bytes: usize) -> Self {
        self.max_event_size = bytes;
        self
    }

    /// Opens the stream. The first try is not repeated: its failure is the error.
    ///
    /// # Errors
    /// Before any I/O: [`ErrorKind::InvalidInput`], also for a body that is a stream and so cannot be sent
    /// again (switch reconnecting off); [`ErrorKind::Unsupported`]. Then those of
    /// [`send`](RequestBuilder::send); [`ErrorKind::Status`] for a status other than 200 and 204,
    /// and [`ErrorKind::Protocol`] for another content type, both with the response and the part of its body that
    /// [`error_for_status`](crate::Response::error_for_status) keeps.
    ///
    /// With status 204 the stream is empty.
    ///
    /// # Cancel safety
    /// Dropped while pending, the attempt ends.
    pub async fn connect(self) -> Result<EventStream> {
        let client = self.request.client().clone();
        self.open().await.map_err(|error| client.named(error))
    }

    async fn open(self) -> Result<EventStream> {
        let Self { request, last_event_id, reconnect, max_event_size } = self;
        let last_event_id = last_event_id.or_else(|| request.header_text(&LAST_EVENT_ID));
        let limit = NonZeroUsize::new(max_event_size).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidInput,
                "a max_event_size of zero is not possible: usize::MAX is no limit",
            )
        })?;
        // An event stream has no end: each event has a limit instead.
        let mut request = request
            .header_unless_set(header::ACCEPT, "text/event-stream")
            .header_unless_set(header::CACHE_CONTROL, "no-store")
            .max_response_size(u64::MAX);
        if last_event_id.is_some() {
            request = after(request, last_event_id.as_deref())?;
        }
        let again = reconnect.map(|policy| match request.try_clone() {
            Some(request) => Ok((request, policy)),
            None => Err(Error::new(
                ErrorKind::InvalidInput,
                "a body that is a stream cannot be sent again: call .reconnect(None)",
            )),
        });
        let again = again.transpose()?;
        let body = attempt(request).await?;
        Ok(EventStream::new(body, again, last_event_id, limit))
    }
}
