//! What `tracing` is told: each change of the state. Nothing per message, and no text of a Close.

use std::panic::{self, AssertUnwindSafe};

use drivetrain_engine::{CloseReason, Error, Outcome};

use super::Retrying;

/// What users filter by.
const TARGET: &str = "drivetrain::reconnect";

/// A connection is lost, or has ended for good.
pub(super) fn disconnected(engine: &str, outcome: &Outcome, unconfirmed: u64) {
    let code = |close: &Option<CloseReason>| close.as_ref().map(|close| u16::from(close.code()));
    tell(|| {
        tracing::debug!(
            target: TARGET,
            {
                "drivetrain.engine" = engine,
                "websocket.clean" = outcome.clean,
                "websocket.close.sent" = code(&outcome.sent),
                "websocket.close.received" = code(&outcome.received),
                "websocket.unconfirmed" = unconfirmed,
                "error.type" = outcome.error.as_ref().map(kind)
            },
            "disconnected"
        );
    });
}

/// A try is waited for.
pub(super) fn retrying(engine: &str, retry: &Retrying) {
    tell(|| {
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

/// A try is made.
pub(super) fn connecting(engine: &str, attempt: u32) {
    tell(|| {
        tracing::debug!(
            target: TARGET,
            { "drivetrain.engine" = engine, "reconnect.attempt" = attempt },
            "connecting"
        );
    });
}

/// There is a connection.
pub(super) fn connected(engine: &str, attempt: u32) {
    tell(|| {
        tracing::debug!(
            target: TARGET,
            { "drivetrain.engine" = engine, "reconnect.attempt" = attempt },
            "connected"
        );
    });
}

/// There will be no connection any more; `error` if that is not what was agreed on.
pub(super) fn ended(engine: &str, error: Option<&Error>) {
    tell(|| match error {
        Some(error) => tracing::warn!(
            target: TARGET,
            { "drivetrain.engine" = engine, "error.type" = kind(error) },
            "gave up"
        ),
        None => tracing::debug!(target: TARGET, { "drivetrain.engine" = engine }, "ended"),
    });
}

/// A subscriber's panic, which the panic hook has seen, is not the session's.
fn tell(event: impl FnOnce()) {
    let _ = panic::catch_unwind(AssertUnwindSafe(event));
}

/// The status of a refusal, or else the kind of the error.
fn kind(error: &Error) -> String {
    match error.response().map(|response| response.status().as_u16()) {
        Some(status) if status >= 400 => status.to_string(),
        _ => format!("{:?}", error.kind()),
    }
}
