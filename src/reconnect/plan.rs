//! Which failures deserve another attempt, and the errors of an end.

use std::sync::Arc;

use drivetrain_engine::{Error, ErrorKind, Outcome, Runtime};

use super::{
    attempt::{Failure, Recipe},
    backoff::Tries,
};

/// Whether an end or a failure deserves another attempt.
pub(super) type Decides = dyn Fn(&Error) -> bool + Send + Sync;

/// Configuration and counters that all connections share.
pub(super) struct Plan {
    pub(super) recipe: Arc<Recipe>,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) engine: String,
    pub(super) reconnect_if: Option<Box<Decides>>,
    pub(super) retry_first: bool,
    pub(super) tries: Tries,
}

impl Plan {
    pub(super) fn should_retry(&self, error: &Error) -> bool {
        self.reconnect_if.as_ref().map_or_else(|| error.is_transient(), |decides| decides(error))
    }

    /// A hook's own failure deserves another attempt. A refusal or an end inside a hook follows the usual rules.
    pub(super) fn should_retry_attempt(&self, failure: &Failure) -> bool {
        match failure {
            Failure::Hook(error)
                if self.reconnect_if.is_none()
                    && error.response().is_none()
                    && error.outcome().is_none() =>
            {
                true
            }
            failure => self.should_retry(failure.error()),
        }
    }
}

/// The error for a connection that ended with a Close.
pub(super) fn closed(outcome: &Outcome) -> Error {
    Error::new(ErrorKind::Closed, format!("the session is closed: {outcome}"))
        .with_outcome(outcome.clone())
}

pub(super) fn gave_up(message: String, last: Error) -> Error {
    let mut error = Error::new(last.kind(), message).with_transient(last.is_transient());
    if let Some(response) = last.response() {
        error = error.with_response(response.clone());
    }
    if let Some(outcome) = last.outcome() {
        error = error.with_outcome(outcome.clone());
    }
    if let Some(engine) = last.engine() {
        error = error.with_engine(engine.to_owned());
    }
    error.with_source(last)
}
