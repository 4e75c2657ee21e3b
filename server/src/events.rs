//! Server-sent events: the sending end (WHATWG HTML section 9.2).

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use drivetrain_engine::{Instant, Runtime, Timer};
use futures_core::Stream;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::{Body, Frame};

use crate::{
    sessions::{Ends, Sessions, Slot},
    upgrader::{Peer, runtime_of},
};

/// How often a stream that says nothing says so, if nothing else is set: proxies end connections that are silent longer.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// One event to send.
///
/// ```
/// use drivetrain_server::ServerEvent;
///
/// let event = ServerEvent::new("two\nlines").event("chat").id("7");
/// assert_eq!(event.to_string(), "event: chat\nid: 7\ndata: two\ndata: lines\n\n");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerEvent {
    fields: String,
    data: String,
}

impl ServerEvent {
    /// An event with this data, which may have several lines; a browser joins them with line feeds.
    pub fn new(data: impl AsRef<str>) -> Self {
        let data = lines(data.as_ref()).map(|line| format!("data: {line}\n")).collect();
        Self { fields: String::new(), data }
    }

    /// A comment, which clients ignore: something to say when there is nothing to say.
    pub fn comment(text: impl AsRef<str>) -> Self {
        let data = lines(text.as_ref()).map(|line| format!(": {line}\n")).collect();
        Self { fields: String::new(), data }
    }

    /// Sets the event's type. Default: `message`, which is not sent. Line breaks are taken out.
    #[must_use]
    pub fn event(self, name: impl AsRef<str>) -> Self {
        self.with("event", name.as_ref())
    }

    /// Sets the event's id, which a client that reconnects sends as `Last-Event-ID`. Line breaks and NUL are taken out.
    #[must_use]
    pub fn id(self, id: impl AsRef<str>) -> Self {
        self.with("id", id.as_ref())
    }

    /// Sets how long a client waits until it reconnects, in whole milliseconds.
    #[must_use]
    pub fn retry(self, pause: Duration) -> Self {
        self.with("retry", &pause.as_millis().to_string())
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        let value: String = value.chars().filter(|c| !['\n', '\r', '\0'].contains(c)).collect();
        self.fields.push_str(&format!("{name}: {value}\n"));
        self
    }
}

/// As it goes out.
impl fmt::Display for ServerEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}{}", self.fields, self.data)
    }
}

/// The lines of a text, whatever ends them; an empty text has one.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(at) = text.find(['\n', '\r']) else { return rest.take() };
        let after = &text[at..];
        let after = after.strip_prefix("\r\n").unwrap_or(&after[1..]);
        rest = Some(after);
        Some(&text[..at])
    })
}

/// An answer that is a stream of events: `text/event-stream` until the stream ends, the client goes, or the server shuts
/// down.
///
/// ```no_run
/// # fn example<S, B>(events: S, request: &http::Request<B>, sessions: &drivetrain_server::Sessions)
/// # where S: futures_core::Stream<Item = drivetrain_server::ServerEvent> + Send + 'static {
/// use drivetrain_server::Events;
///
/// let since = Events::last_event_id(request.headers()); // what the client has seen, if it reconnects
/// let response = Events::new(events).answer(request, sessions);
/// # let _ = (since, response);
/// # }
/// ```
pub struct Events {
    stream: Pin<Box<dyn Stream<Item = ServerEvent> + Send>>,
    heartbeat: Option<Duration>,
}

impl Events {
    /// These events, with a heartbeat every 15 s.
    pub fn new(stream: impl Stream<Item = ServerEvent> + Send + 'static) -> Self {
        Self { stream: Box::pin(stream), heartbeat: Some(HEARTBEAT) }
    }

    /// Sets after how long without an event a comment is sent, so that nobody between the ends takes the connection for
    /// dead; `None` switches it off. Default: 15 s. Zero is taken as none.
    #[must_use]
    pub fn heartbeat(mut self, period: impl Into<Option<Duration>>) -> Self {
        self.heartbeat = period.into().filter(|period| !period.is_zero());
        self
    }

    /// The id of the last event that the client has seen: `Last-Event-ID` of one that reconnects.
    pub fn last_event_id(headers: &HeaderMap) -> Option<&str> {
        std::str::from_utf8(headers.get("last-event-id")?.as_bytes()).ok()
    }

    /// The answer to a request. The stream counts as a session in the registry, and ends in its
    /// [`shutdown`](Sessions::shutdown); 503 if there is no room, 500 outside a tokio runtime.
    pub fn answer<B>(self, request: &Request<B>, sessions: &Sessions) -> Response<EventBody> {
        let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
        let opened = runtime_of(request).and_then(|runtime| {
            let slot = sessions.reserve(&runtime, request.uri().path(), peer, Ends::AtOnce)?;
            Ok((runtime, slot))
        });
        let (runtime, slot) = match opened {
            Ok(opened) => opened,
            Err(refusal) => {
                sessions.count_refusal();
                let reason = refusal.kind().name();
                tracing::warn!(target: "drivetrain::server", reason, detail = %refusal, "event stream refused");
                return refusal.response().map(|text| EventBody(State::Text(text)));
            }
        };
        let heartbeat = self.heartbeat.map(|period| Heartbeat {
            period,
            due: runtime.now() + period,
            timer: runtime.timer(runtime.now() + period),
            runtime: Arc::clone(&runtime),
        });
        let open = Open { stream: self.stream, heartbeat, slot };
        let mut response = Response::new(EventBody(State::Open(Box::new(open))));
        for (name, value) in [
            (header::CONTENT_TYPE, "text/event-stream"),
            (header::CACHE_CONTROL, "no-store"),
            // nginx gives an answer on as it comes then.
            (header::HeaderName::from_static("x-accel-buffering"), "no"),
        ] {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("heartbeat", &self.heartbeat).finish_non_exhaustive()
    }
}

/// The body of an event stream: made by [`Events::answer`].
pub struct EventBody(State);

enum State {
    Text(Bytes),
    Open(Box<Open>),
    Ended,
}

struct Open {
    stream: Pin<Box<dyn Stream<Item = ServerEvent> + Send>>,
    heartbeat: Option<Heartbeat>,
    slot: Slot,
}

struct Heartbeat {
    period: Duration,
    due: Instant,
    timer: Box<dyn Timer>,
    runtime: Arc<dyn Runtime>,
}

/// What is ready at once goes out together, up to about this many bytes.
const TOGETHER: usize = 16 << 10;

impl Open {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.slot.poll_ended(cx).is_ready() {
            return Poll::Ready(None);
        }
        let mut bytes = BytesMut::new();
        while bytes.len() < TOGETHER {
            match self.stream.as_mut().poll_next(cx) {
                Poll::Ready(Some(event)) => bytes.extend_from_slice(event.to_string().as_bytes()),
                // The next poll finds the end again, or a stream that is allowed to continue.
                Poll::Ready(None) if bytes.is_empty() => return Poll::Ready(None),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        if bytes.is_empty() {
            let Some(heartbeat) = &mut self.heartbeat else { return Poll::Pending };
            std::task::ready!(heartbeat.poll(cx));
            bytes.extend_from_slice(b": heartbeat\n\n");
        }
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.begin();
        }
        Poll::Ready(Some(bytes.freeze()))
    }
}

impl Heartbeat {
    fn begin(&mut self) {
        self.due = self.runtime.now() + self.period;
        self.timer.reset(self.due);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.timer.poll(cx).is_ready() {
            if self.runtime.now() >= self.due {
                return Poll::Ready(());
            }
            self.timer.reset(self.due); // it was early
        }
        Poll::Pending
    }
}

impl Body for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match &mut self.0 {
            State::Open(open) => std::task::ready!(open.poll(cx)),
            State::Text(text) => Some(std::mem::take(text)).filter(|text| !text.is_empty()),
            State::Ended => None,
        };
        if bytes.is_none() {
            self.0 = State::Ended;
        }
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            State::Open(_) => false,
            State::Text(text) => text.is_empty(),
            State::Ended => true,
        }
    }
}

impl fmt::Debug for EventBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventBody").field("ended", &self.is_end_stream()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_has_a_field_for_each_line_and_others_have_none() {
        for (event, sent) in [
            (ServerEvent::new("one"), "data: one\n\n"),
            (ServerEvent::new(""), "data: \n\n"),
            (ServerEvent::new("a\nb\r\nc\rd\n"), "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"),
            (ServerEvent::new("data: x").id("1"), "id: 1\ndata: data: x\n\n"),
            (
                ServerEvent::new("x").event("a\r\ndata: evil").id("7\n\0"),
                "event: adata: evil\nid: 7\ndata: x\n\n",
            ),
            (ServerEvent::default().retry(Duration::from_secs(2)), "retry: 2000\n\n"),
            (ServerEvent::comment("a\nb"), ": a\n: b\n\n"),
        ] {
            assert_eq!(event.to_string(), sent);
        }
    }
}
