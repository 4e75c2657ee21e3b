//! What a session tells `tracing`: the few events of its life, in its span. Nothing per message.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::Arc,
};

use drivetrain_engine::{CloseCode, CloseReason, Error, Outcome};
use tracing::{Span, field, level_filters::LevelFilter};

use super::{shared::Facts, stats::SessionStats};

/// What users filter by.
const TARGET: &str = "drivetrain::session";

/// The span of a session, from its opening to its end.
#[derive(Debug)]
pub(super) struct Trace {
    /// `None` if nobody wants it, and after the end.
    span: Option<Arc<Span>>,
}

/// What happened under the lock, to be told when it is free: a subscriber is a user's code.
#[derive(Debug)]
pub(super) struct Notes {
    span: Option<Arc<Span>>,
    notes: Vec<Note>,
}

/// What happened.
#[derive(Debug)]
pub(super) enum Note {
    CloseSent(CloseCode),
    CloseReceived(CloseCode),
    Violation(Error),
    PingTimeout,
    /// The application dropped a streamed message before its end.
    Truncated,
    Ended(Box<(Outcome, SessionStats)>),
}

impl Trace {
    pub(super) fn new(span: &Span) -> Self {
        Self { span: (!span.is_none()).then(|| Arc::new(span.clone())) }
    }

    /// Adds a note to those that are to be told.
    pub(super) fn note(&self, notes: &mut Option<Box<Notes>>, note: impl FnOnce() -> Note) {
        if self.span.is_none() && LevelFilter::current() == LevelFilter::OFF {
            return;
        }
        let new = || Box::new(Notes { span: self.span.clone(), notes: Vec::new() });
        notes.get_or_insert_with(new).notes.push(note());
    }

    pub(super) fn close_sent(&self, notes: &mut Option<Box<Notes>>, code: Option<CloseCode>) {
        self.note(notes, || Note::CloseSent(code.unwrap_or(CloseCode::NO_STATUS)));
    }

    /// The session has ended: with the last note its span is closed.
    pub(super) fn end(&mut self, notes: &mut Option<Box<Notes>>, note: impl FnOnce() -> Note) {
        self.note(notes, note);
        self.span = None;
    }
}

/// Tells that a session is open.
pub(super) fn opened(span: &Span, facts: &Facts) {
    tracing::debug!(
        target: TARGET,
        parent: span.id(),
        { "websocket.carrier" = field::debug(facts.protocol) },
        "session opened"
    );
}

impl Notes {
    /// Tells them. A subscriber's panic, which the panic hook has seen, is not the session's: whoever tells
    /// may be the session's own task, and others wait for it.
    pub(super) fn tell(self) {
        let _ = panic::catch_unwind(AssertUnwindSafe(move || {
            let span = self.span.as_deref();
            for note in self.notes {
                note.tell(span);
            }
        }));
    }
}

impl Note {
    fn tell(self, span: Option<&Span>) {
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
