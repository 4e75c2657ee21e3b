//! What a reconnecting session tells.

use std::time::Duration;

use drivetrain_engine::{Error, Frame, Outcome};

use super::Unconfirmed;
use crate::SessionStats;

/// What [`receive`](super::ReconnectingSession::receive) gives.
///
/// It is not `non_exhaustive`: a `match` that names the four cannot overlook a loss.
#[derive(Clone, Debug)]
pub enum Event {
    /// A message, Text or Binary.
    Message(Frame),
    /// The connection has ended, and this is what it leaves. After it comes [`Event::Retrying`], or the end
    /// of the session.
    Disconnected(Box<Disconnected>),
    /// There will be a try to connect. Comes before each one.
    Retrying(Box<Retrying>),
    /// There is a new connection, and messages are accepted again.
    Connected(Connected),
}

/// A connection that has ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Disconnected {
    /// How it ended.
    pub outcome: Outcome,
    /// The messages that it had accepted and that are not known to have arrived. They are not sent again:
    /// see [the contract](super#the-contract-for-messages-in-flight).
    pub unconfirmed: Unconfirmed,
    /// What it has carried.
    pub stats: SessionStats,
}

/// A try that is to come.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Retrying {
    /// Its number, from 1, since the last connection that lived for long enough.
    pub attempt: u32,
    /// How many there are at most; `None` is no limit.
    pub of: Option<u32>,
    /// How long it is waited for.
    pub delay: Duration,
    /// Why it is necessary: how the connection ended, or why the try before it has failed.
    pub error: Error,
}

/// A connection that was made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connected {
    /// The number of the try that has made it; 0 is the first connection of all.
    pub attempt: u32,
}
