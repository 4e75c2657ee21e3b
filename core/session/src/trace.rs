//! The events of a session for `tracing`, in its span. None per message.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::Arc,
};

use drivetrain_engine::{CloseCode, CloseReason, Error, Outcome, Role};
use tracing::{Span, field, level_filters::LevelFilter};

use super::{facts::Facts, stats::SessionStats};

/// The target of the events: users filter by it.
const TARGET: &str = "drivetrain::session";

/// The span of a session, from its opening to its end.
#[derive(Debug)]
pub(super) struct Trace {
    /// `None` if it is disabled, and after the end.
    span: Option<Arc<Span>>,
}

/// Events to emit when the lock is released: a subscriber is user code.
#[derive(Debug)]
pub(super) struct TraceEvents {
    span: Option<Arc<Span>>,
    events: Vec<TraceEvent>,
}

/// An event of a session.
#[derive(Debug)]
pub(super) enum TraceEvent {
    CloseSent(CloseCode),
    CloseReceived(CloseCode),
    Violation(Error),
    PingTimeout,
    /// The application dropped a streamed message before its end.
    Truncated,
    /// A broadcast has given the peer up.
    Lagged,
    Ended(Box<(Outcome, SessionStats)>),
}

impl Trace {
    pub(super) fn new(span: &Span) -> Self {
        Self { span: (!span.is_none()).then(|| Arc::new(span.clone())) }
    }

    /// Adds an event, if anybody listens.
    pub(super) fn record(
        &self,
        events: &mut Option<Box<TraceEvents>>,
        note: impl FnOnce() -> TraceEvent,
    ) {
        if self.span.is_none() && LevelFilter::current() == LevelFilter::OFF {
            return;
        }
        let new = || Box::new(TraceEvents { span: self.span.clone(), events: Vec::new() });
        events.get_or_insert_with(new).events.push(note());
    }

    pub(super) fn close_sent(
        &self,
        events: &mut Option<Box<TraceEvents>>,
        code: Option<CloseCode>,
    ) {
        self.record(events, || TraceEvent::CloseSent(code.unwrap_or(CloseCode::NO_STATUS)));
    }

    /// Adds the last event: with it the span is closed.
    pub(super) fn end(
        &mut self,
        events: &mut Option<Box<TraceEvents>>,
        note: impl FnOnce() -> TraceEvent,
    ) {
        self.record(events, note);
        self.span = None;
    }
}

/// Emits that a session is open.
pub(super) fn opened(span: &Span, facts: &Facts) {
    tracing::debug!(
        target: TARGET,
        parent: span.id(),
        {
            "websocket.role" = match facts.role {
                Role::Server => "server",
                _ => "client",
            },
            "websocket.carrier" = field::debug(facts.protocol)
        },
        "session opened"
    );
}

impl TraceEvents {
    /// Emits the events. A subscriber's panic, which the panic hook has seen, does not end the session: this may run in the
    /// session task, for which others wait.
    pub(super) fn emit(self) {
        let _ = panic::catch_unwind(AssertUnwindSafe(move || {
            let span = self.span.as_deref();
            for note in self.events {
                note.emit(span);
            }
        }));
    }
}

impl TraceEvent {
    fn emit(self, span: Option<&Span>) {
        let parent = span.and_then(Span::id);
        match self {
            Self::CloseSent(code) => {
                tracing::debug!(
                    target: TARGET, parent: parent, { "websocket.close.code" = u16::from(code) },
                    "close sent"
                );
            }
            Self::CloseReceived(code) => {
                tracing::debug!(
                    target: TARGET, parent: parent, { "websocket.close.code" = u16::from(code) },
                    "close received"
                );
            }
            Self::Violation(error) => {
                tracing::warn!(
                    target: TARGET,
                    parent: parent,
                    { "error.type" = field::debug(error.kind()), error = field::display(&error) },
                    "violation"
                );
            }
            Self::PingTimeout => tracing::warn!(target: TARGET, parent: parent, "ping timeout"),
            Self::Truncated => tracing::warn!(target: TARGET, parent: parent, "message truncated"),
            Self::Lagged => tracing::warn!(target: TARGET, parent: parent, "peer lagged behind"),
            Self::Ended(end) => ended(span, &end.0, &end.1),
        }
    }
}

fn ended(span: Option<&Span>, outcome: &Outcome, stats: &SessionStats) {
    let code = |close: &Option<CloseReason>| close.as_ref().map(|close| u16::from(close.code()));
    let (sent_code, received_code) = (code(&outcome.sent), code(&outcome.received));
    let error = outcome.error.as_ref().map(|error| field::debug(error.kind()));
    if let Some(span) = span {
        span.record("websocket.close.sent", sent_code);
        span.record("websocket.close.received", received_code);
        if let Some(error) = &error {
            span.record("error.type", error).record("otel.status_code", "ERROR");
        }
    }
    let SessionStats { received, sent, latency, smoothed_latency } = *stats;
    tracing::debug!(
        target: TARGET,
        parent: span.and_then(Span::id),
        {
            "websocket.clean" = outcome.clean,
            "websocket.discarded" = outcome.discarded,
            "websocket.received.frames" = received.frames,
            "websocket.received.bytes" = received.bytes,
            "websocket.received.messages" = received.messages,
            "websocket.received.pings" = received.pings,
            "websocket.received.pongs" = received.pongs,
            "websocket.sent.frames" = sent.frames,
            "websocket.sent.bytes" = sent.bytes,
            "websocket.sent.messages" = sent.messages,
            "websocket.sent.pings" = sent.pings,
            "websocket.sent.pongs" = sent.pongs,
            "websocket.latency" = latency.map(|latency| latency.as_secs_f64()),
            "websocket.smoothed_latency" = smoothed_latency.map(|latency| latency.as_secs_f64()),
            "error.type" = error
        },
        "session ended"
    );
}
