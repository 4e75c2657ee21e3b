//! The life and end of a session: keepalive, the closing handshake and its aftermath.

pub(crate) mod closing;
pub(crate) mod keepalive;
pub(crate) mod lingering;
#[cfg(test)]
mod model;

use drivetrain_engine::{Connection, Error, Instant, Outcome};

use crate::{
    config::SessionConfig,
    lifecycle::{
        closing::Closing,
        keepalive::{Jitter, Keepalive, Pings},
        lingering::Lingering,
    },
};

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Messages go both ways.
    Open,
    /// A Close was sent or received, or something failed: nothing more is accepted for sending.
    Closing,
    /// The session has ended, and its [`Outcome`] is final.
    Closed,
}

/// The part of a session's state that decides when it ends, and how.
pub(crate) struct Lifecycle {
    pub(crate) closing: Closing,
    pub(crate) keepalive: Keepalive,
    pub(crate) pings: Pings,
    /// This end closed, and before the peer's Close came in.
    pub(crate) closed_here: bool,
    /// A panic in user code ended the session.
    pub(crate) panicked: bool,
    /// The engine sends Pings.
    pub(crate) sends_pings: bool,
    /// The outcome, once the session has ended. Boxed, because an open session needs no room for it.
    pub(crate) end: Option<Box<Outcome>>,
    /// The transport of a client that waits for the server to close TCP, until the session task takes it.
    pub(crate) lingering: Option<Box<Lingering>>,
}

impl Lifecycle {
    pub(crate) fn new(
        config: &SessionConfig,
        connection: &Connection,
        jitter: Jitter,
        now: Instant,
    ) -> Self {
        Self {
            closing: Closing::new(config.close_timeout, connection.role(), connection.protocol()),
            keepalive: Keepalive::new(config.ping_interval, config.ping_timeout, jitter, now),
            pings: Pings::default(),
            closed_here: false,
            panicked: false,
            sends_pings: config.no_pings.is_none(),
            end: None,
            lingering: None,
        }
    }

    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        match &self.end {
            Some(_) => Phase::Closed,
            None if self.closing.is_open() => Phase::Open,
            None => Phase::Closing,
        }
    }

    /// The outcome, preliminary before the end.
    pub(crate) fn outcome(&self) -> Outcome {
        self.end.as_deref().cloned().unwrap_or_else(|| self.closing.report(None))
    }

    /// The error that ended the session. `None` if the peer's Close ended it: the outcome has other failures.
    pub(crate) fn end_error(&self) -> Option<Error> {
        let end = self.end.as_deref().filter(|_| !self.closing.ended_by_peer())?;
        Some(end.error.clone()?.with_outcome(end.clone()))
    }
}
