//! An open event stream.

use std::{
    fmt,
    future::{Future, poll_fn},
    num::NonZeroUsize,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use drivetrain_engine::{Error, ErrorKind, Result, Timer};
use futures_core::Stream;
use sse_core::{MessageEvent, SseDecoder, SseEvent};

use super::{
    Reconnect, ServerSentEvent,
    attempt::{after, attempt},
    reconnect::EventTries,
};
use crate::{request::RequestBuilder, response_body::ResponseBody};

/// The most steps without waiting (cooperative budget), so that a busy server does not starve other tasks.
const WITHOUT_WAITING: u32 = 256;

/// An open event stream. It reconnects by itself: see [`Reconnect`].
///
/// It has no task: reading, waiting and connecting happen while [`next`](Self::next) is awaited, or the
/// `Stream` polled. Dropped, it closes its connection.
///
/// | event | result of [`next`](Self::next) |
/// |---|---|
/// | the server sends an event | `Ok(Some(event))` |
/// | the connection is lost ([`ErrorKind::Io`], [`ErrorKind::Timeout`], [`ErrorKind::Connect`]), or the response ends | it reconnects with `Last-Event-ID` and continues |
/// | the same with reconnecting off, or after the last try | the error, or `Ok(None)` if the response is complete |
/// | status 204 | `Ok(None)` |
/// | another status, another content type | [`ErrorKind::Status`], [`ErrorKind::Protocol`] |
/// | an event above [`max_event_size`](super::SseRequest::max_event_size) | [`ErrorKind::TooBig`] |
///
/// An event that is incomplete when its connection ends is dropped (WHATWG HTML section 9.2.6). The server sends it
/// again after the `Last-Event-ID` of the event before.
pub struct EventStream {
    state: StreamState,
    decoder: SseDecoder,
    /// The delay that the server sent since the last event.
    retry: Option<Duration>,
    again: Option<Again>,
    busy: u32,
}

/// How to connect again.
struct Again {
    request: RequestBuilder,
    tries: EventTries,
}

enum StreamState {
    Open { body: Box<ResponseBody>, unread: Bytes },
    Waiting(Box<dyn Timer>),
    Connecting(Pin<Box<dyn Future<Output = Result<Option<ResponseBody>>> + Send>>),
    Ended { error: Option<Error>, told: bool },
}

impl EventStream {
    pub(super) fn new(
        body: Option<ResponseBody>,
        again: Option<(RequestBuilder, Reconnect)>,
        last_event_id: Option<String>,
        limit: NonZeroUsize,
    ) -> Self {
        let mut decoder = SseDecoder::with_limit(limit);
        decoder.reconnect_with_id(last_event_id.map(Arc::from));
        let again =
            again.map(|(request, policy)| Again { request, tries: EventTries::new(policy) });
        Self { state: StreamState::opened(body), decoder, retry: None, again, busy: 0 }
    }

    /// The next event; `None` at the end of the stream, and from then on.
    ///
    /// # Errors
    /// See the table [above](EventStream). It is repeated by later calls.
    ///
    /// # Cancel safety
    /// Dropped while pending, nothing is lost: the stream keeps the data received so far and a running try.
    pub async fn next(&mut self) -> Result<Option<ServerSentEvent>> {
        poll_fn(|cx| self.poll_event(cx)).await
    }

    /// The id of the last event that had one, for [`last_event_id`](super::SseRequest::last_event_id) of a
    /// later stream.
    pub fn last_event_id(&self) -> Option<&str> {
        self.decoder.last_event_id().map(|id| &**id)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<ServerSentEvent>>> {
        loop {
            if self.busy >= WITHOUT_WAITING {
                self.busy = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.busy += 1;
            let Poll::Ready(step) = self.poll_step(cx) else {
                self.busy = 0;
                return Poll::Pending;
            };
            if let Some(event) = step {
                return Poll::Ready(Ok(Some(event)));
            }
            if let StreamState::Ended { error, told } = &mut self.state {
                *told = true;
                return Poll::Ready(error.clone().map_or(Ok(None), Err));
            }
        }
    }

    /// Advances to the next event or state.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Option<ServerSentEvent>> {
        match &mut self.state {
            StreamState::Open { body, unread } => match self.decoder.next(unread) {
                Some(Ok(SseEvent::Message(message))) => {
                    return Poll::Ready(Some(self.event(message)));
                }
                Some(Ok(SseEvent::Retry(millis))) => self.set_delay(millis),
                Some(Err(error)) => self.end(Some(
                    Error::new(ErrorKind::TooBig, "an event is larger than max_event_size")
                        .with_source(error),
                )),
                None => match ready!(Pin::new(&mut **body).poll_next(cx)).transpose() {
                    Ok(Some(chunk)) => *unread = chunk,
                    Ok(None) => self.lost(None),
                    Err(error) => self.lost(Some(error)),
                },
            },
            StreamState::Waiting(timer) => {
                ready!(timer.poll(cx));
                self.connect();
            }
            StreamState::Connecting(attempt) => match ready!(attempt.as_mut().poll(cx)) {
                Ok(body) => {
                    self.decoder.reconnect();
                    self.state = StreamState::opened(body);
                }
                Err(error) => self.lost(Some(error)),
            },
            StreamState::Ended { .. } => {}
        }
        Poll::Ready(None)
    }

    fn event(&mut self, message: MessageEvent) -> ServerSentEvent {
        let MessageEvent { event, data, last_event_id: id } = message;
        // Only an event counts as success: a server may accept and hang up again and again.
        if let Some(again) = &mut self.again {
            again.tries.succeeded();
        }
        ServerSentEvent { event, data, id, retry: self.retry.take() }
    }

    fn set_delay(&mut self, millis: u32) {
        let delay = Duration::from_millis(millis.into());
        self.retry = Some(delay);
        if let Some(again) = &mut self.again {
            again.tries.set_delay(delay);
        }
    }

    /// The connection has ended, or there was none.
    fn lost(&mut self, error: Option<Error>) {
        let may_be_back = error.as_ref().is_none_or(|error| {
            let is_lost =
                matches!(error.kind(), ErrorKind::Connect | ErrorKind::Io | ErrorKind::Timeout);
            is_lost && error.is_transient()
        });
        let Some(again) = self.again.as_mut().filter(|_| may_be_back) else {
            return self.end(error);
        };
        let runtime = match again.request.client().engine().runtime() {
            Ok(runtime) => runtime,
            Err(error) => return self.end(Some(error)),
        };
        let Some(delay) = again.tries.next(runtime.random()) else { return self.end(error) };
        self.state = StreamState::Waiting(runtime.timer(runtime.now() + delay));
    }

    fn connect(&mut self) {
        let Some(request) = self.again.as_ref().and_then(|again| again.request.try_clone()) else {
            return self.end(None);
        };
        match after(request, self.last_event_id()) {
            Ok(request) => self.state = StreamState::Connecting(Box::pin(attempt(request))),
            // The user's own headers were checked before; the id comes from the server.
            Err(error) => self.end(Some(Error::new(ErrorKind::Protocol, error.to_string()))),
        }
    }

    fn end(&mut self, error: Option<Error>) {
        self.state = StreamState::Ended { error, told: false };
    }
}

impl StreamState {
    /// A response without a body ends the stream.
    fn opened(body: Option<ResponseBody>) -> Self {
        match body {
            Some(body) => Self::Open { body: Box::new(body), unread: Bytes::new() },
            None => Self::Ended { error: None, told: false },
        }
    }
}

impl Stream for EventStream {
    type Item = Result<ServerSentEvent>;

    /// As [`next`](EventStream::next), but an error comes once and is the end.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let StreamState::Ended { told: true, .. } = self.state {
            return Poll::Ready(None);
        }
        self.poll_event(cx).map(Result::transpose)
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            StreamState::Open { .. } => "open",
            StreamState::Waiting(_) => "waiting",
            StreamState::Connecting(_) => "connecting",
            StreamState::Ended { .. } => "ended",
        };
        f.debug_struct("EventStream")
            .field("state", &state)
            .field("last_event_id", &self.last_event_id())
            .finish_non_exhaustive()
    }
}
