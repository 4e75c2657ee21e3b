//! Why a case fails.

use std::{error::Error, fmt, panic::Location};

/// What a case comes to.
pub(crate) type Verdict<T = ()> = Result<T, Failure>;

/// What went wrong, and where in the suite. `?` makes one of any error and notes its place.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    #[track_caller]
    pub(crate) fn new(what: impl fmt::Display) -> Self {
        Self(format!("{what} ({})", Location::caller()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: Error> From<E> for Failure {
    #[track_caller]
    fn from(error: E) -> Self {
        Self::new(format_args!("{error:?}"))
    }
}
