//! What is worth another try, and what an end is called.

use std::sync::Arc;

use drivetrain_engine::{Error, ErrorKind, Outcome, Runtime};

use super::{
    attempt::{Failure, Recipe},
    backoff::Tries,
};

/// Whether an end or a failure is worth another try.
pub(super) type Decides = dyn Fn(&Error) -> bool + Send + Sync;

/// What does not change from one connection to the next, and what is counted over all of them.
pub(super) struct Plan {
    pub(super) recipe: Arc<Recipe>,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) engine: String,
    pub(super) reconnect_if: Option<Box<Decides>>,
    pub(super) retry_first: bool,
    pub(super) tries: Tries,
}

impl Plan {
    pub(super) fn is_worth_a_try(&self, error: &Error) -> bool {
        self.reconnect_if.as_ref().map_or_else(|| error.is_transient(), |decides| decides(error))
    }

    /// A hook's failure is one of this try; what a server has said in it, of every try.
    pub(super) fn may_be_repaired(&self, failure: &Failure) -> bool {
        match failure {
            Failure::Hook(error)
                if self.reconnect_if.is_none()
                    && error.response().is_none()
                    && error.outcome().is_none() =>
            {
                true
            }
            failure => self.is_worth_a_try(failure.error()),
        }
    }
}

/// Why a connection that was opened is there no longer.
pub(super) fn why(outcome: &Outcome) -> Error {
    let closed = || Error::new(ErrorKind::Closed, format!("the session is closed: {outcome}"));
    outcome.error.clone().unwrap_or_else(closed).with_outcome(outcome.clone())
}

pub(super) fn gave_up(message: String, last: Error) -> Error {
    let mut error = Error::new(last.kind(), message);
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
