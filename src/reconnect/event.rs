//! The events of a reconnecting session.

use std::time::Duration;

use drivetrain_engine::{Error, Frame, Outcome};

use super::Unacknowledged;
use drivetrain_session::SessionStats;

/// An event from [`receive`](super::ReconnectingSession::receive).
///
/// The enum is not `non_exhaustive`: a `match` with all four events cannot overlook a loss.
#[derive(Clone, Debug)]
pub enum Event {
    /// A message, Text or Binary.
    Message(Frame),
    /// The connection has ended. The next event is [`Event::Retrying`], or the session ends.
    Disconnected(Box<Disconnected>),
    /// An attempt to connect follows. This event precedes each attempt.
    Retrying(Box<Retrying>),
    /// A new connection is open and accepts messages.
    Connected(Connected),
}

/// A connection that has ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Disconnected {
    /// How the connection ended.
    pub outcome: Outcome,
    /// The accepted messages that the peer has not acknowledged. The session does not resend them:
    /// see [the contract](super#the-contract-for-messages-in-flight).
    pub unacknowledged: Unacknowledged,
    /// The counters of the connection.
    pub stats: SessionStats,
}

/// The next attempt to connect.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Retrying {
    /// The number of the attempt, from 1, since the last connection that lasted for
    /// [`reset_after`](super::Backoff::reset_after).
    pub attempt: u32,
    /// The maximum number of attempts; `None` is no limit.
    pub of: Option<u32>,
    /// The delay before the attempt.
    pub delay: Duration,
    /// The end of the connection, or the failure of the previous attempt.
    pub error: Error,
}

/// A new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connected {
    /// The number of the successful attempt; 0 is the first connection.
    pub attempt: u32,
}
