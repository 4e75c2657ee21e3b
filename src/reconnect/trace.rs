//! What `tracing` is told: each change of the state. Nothing per message.

use drivetrain_engine::{CloseReason, Error};
use tracing::field;

use super::{Disconnected, Retrying};

/// What users filter by.
const TARGET: &str = "drivetrain::reconnect";

/// A connection is lost, or has ended for good.
pub(super) fn disconnected(engine: &str, lost: &Disconnected) {
    let code = |close: &Option<CloseReason>| close.as_ref().map(|close| u16::from(close.code()));
    let error = lost.outcome.error.as_ref().map(|error| field::debug(error.kind()));
    tracing::debug!(
        target: TARGET,
        {
            "drivetrain.engine" = engine,
            "websocket.clean" = lost.outcome.clean,
            "websocket.close.sent" = code(&lost.outcome.sent),
            "websocket.close.received" = code(&lost.outcome.received),
            "websocket.unconfirmed" = lost.unconfirmed.len(),
            "error.type" = error
        },
        "disconnected"
    );
}

/// A try is waited for.
pub(super) fn retrying(engine: &str, retry: &Retrying) {
    tracing::debug!(
        target: TARGET,
        {
            "drivetrain.engine" = engine,
            "reconnect.attempt" = retry.attempt,
            "reconnect.max_tries" = retry.of,
            "reconnect.delay" = retry.delay.as_secs_f64(),
            "error.type" = field::debug(retry.error.kind()),
            error = field::display(&retry.error)
        },
        "retrying"
    );
}

/// A try is made.
pub(super) fn connecting(engine: &str, attempt: u32) {
    tracing::debug!(
        target: TARGET,
        { "drivetrain.engine" = engine, "reconnect.attempt" = attempt },
        "connecting"
    );
}

/// There is a connection.
pub(super) fn connected(engine: &str, attempt: u32) {
    tracing::debug!(
        target: TARGET,
        { "drivetrain.engine" = engine, "reconnect.attempt" = attempt },
        "connected"
    );
}

/// There will be no connection any more; `error` if that is not what the application wanted.
pub(super) fn ended(engine: &str, error: Option<&Error>) {
    match error {
        Some(error) => tracing::warn!(
            target: TARGET,
            {
                "drivetrain.engine" = engine,
                "error.type" = field::debug(error.kind()),
                error = field::display(error)
            },
            "gave up"
        ),
        None => tracing::debug!(target: TARGET, { "drivetrain.engine" = engine }, "ended"),
    }
}
