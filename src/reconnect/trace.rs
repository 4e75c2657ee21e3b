//! `tracing` events for each state change. There is none per message, and none has the text of a Close.

use std::panic::{self, AssertUnwindSafe};

use drivetrain_engine::{CloseReason, Error, Outcome};

use super::Retrying;

/// The target that users filter by.
const TARGET: &str = "drivetrain::reconnect";

/// A connection has ended.
pub(super) fn disconnected(engine: &str, outcome: &Outcome, unacknowledged: u64) {
    let code = |close: &Option<CloseReason>| close.as_ref().map(|close| u16::from(close.code()));
    emit(|| {
        tracing::debug!(
            target: TARGET,
            {
                "drivetrain.engine" = engine,
                "websocket.clean" = outcome.clean,
                "websocket.close.sent" = code(&outcome.sent),
                "websocket.close.received" = code(&outcome.received),
                "websocket.unacknowledged" = unacknowledged,
                "error.type" = outcome.error.as_ref().map(kind)
            },
            "disconnected"
        );
    });
}

/// The session waits before an attempt.
pub(super) fn retrying(engine: &str, retry: &Retrying) {
    emit(|| {
        tracing::debug!(
            target: TARGET,
            {
                "drivetrain.engine" = engine,
                "reconnect.attempt" = retry.attempt,
                "reconnect.max_tries" = retry.of,
                "reconnect.delay" = retry.delay.as_secs_f64(),
                "error.type" = kind(&retry.error)
            },
            "retrying"
        );
    });
}

/// An attempt starts.
pub(super) fn connecting(engine: &str, attempt: u32) {
    emit(|| {
        tracing::debug!(
            target: TARGET,
            { "drivetrain.engine" = engine, "reconnect.attempt" = attempt },
            "connecting"
        );
    });
}

/// A connection is open.
pub(super) fn connected(engine: &str, attempt: u32) {
    emit(|| {
        tracing::debug!(
            target: TARGET,
            { "drivetrain.engine" = engine, "reconnect.attempt" = attempt },
            "connected"
        );
    });
}

/// The session has ended; `error` after an unclean end.
pub(super) fn ended(engine: &str, error: Option<&Error>) {
    emit(|| match error {
        Some(error) => tracing::warn!(
            target: TARGET,
            { "drivetrain.engine" = engine, "error.type" = kind(error) },
            "gave up"
        ),
        None => tracing::debug!(target: TARGET, { "drivetrain.engine" = engine }, "ended"),
    });
}

/// Isolates a subscriber's panic from the session; the panic hook has reported it.
fn emit(event: impl FnOnce()) {
    let _ = panic::catch_unwind(AssertUnwindSafe(event));
}

/// The status of a refusal, or else the kind of the error.
fn kind(error: &Error) -> String {
    match error.response().map(|response| response.status().as_u16()) {
        Some(status) if status >= 400 => status.to_string(),
        _ => format!("{:?}", error.kind()),
    }
}
