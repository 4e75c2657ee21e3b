//! The failure of a case.

use std::{error::Error, fmt, panic::Location};

/// The result of a case.
pub(crate) type Verdict<T = ()> = Result<T, Failure>;

/// A failure and its place in the suite. `?` converts any error and records its place.
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
