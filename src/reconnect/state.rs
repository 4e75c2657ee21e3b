//! The state of a reconnecting session.

use std::time::Duration;

/// The state of a reconnecting session, as the receiver has seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// An attempt is running.
    #[non_exhaustive]
    Connecting {
        /// The number of the attempt, 0 for the first connection.
        attempt: u32,
    },
    /// The connection is open and accepts messages.
    Connected,
    /// The connection has ended, or an attempt has failed. The next `receive` decides the next step.
    Disconnected,
    /// The session waits before the next attempt.
    #[non_exhaustive]
    Waiting {
        /// The number of the attempt, 0 for the first connection.
        attempt: u32,
        /// The maximum number of attempts; `None` is no limit.
        of: Option<u32>,
        /// The delay before the attempt.
        delay: Duration,
    },
    /// The session has ended: closed, given up or dropped.
    Ended,
}
