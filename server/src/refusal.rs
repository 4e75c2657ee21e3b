//! The answer to a handshake that is not accepted, as a body for hyper.

use std::fmt;

use bytes::Bytes;
use drivetrain_engine::RefusalKind;
use http::{Response, StatusCode};
use http_body_util::Full;

/// Why a handshake is refused, and the answer to it: a status, headers, and one line of plain text. `Display` is the line.
#[derive(Clone, Debug)]
pub struct Refusal(drivetrain_engine::UpgradeRefusal);

impl Refusal {
    /// Why.
    pub fn kind(&self) -> RefusalKind {
        self.0.kind()
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.0.status()
    }

    /// The answer.
    pub fn response(&self) -> Response<Full<Bytes>> {
        self.0.response().map(Full::new)
    }
}

impl From<drivetrain_engine::UpgradeRefusal> for Refusal {
    fn from(refusal: drivetrain_engine::UpgradeRefusal) -> Self {
        Self(refusal)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Refusal {}
