//! What the lock keeps from being done at once.

use std::task::Waker;

use drivetrain_engine::Transport;

use super::{extensions::Extensions, trace::Notes};

/// What is to be done when the lock is free again.
#[derive(Default)]
pub(super) struct AfterUnlock {
    pub(super) wake: Vec<Waker>,
    pub(super) wake_keeper: bool,
    pub(super) notes: Option<Box<Notes>>,
    /// What the session leaves at its end, code of others: dropping the transport closes the socket.
    pub(super) dropped: Option<Dropped>,
}

type Dropped = (Box<dyn Transport>, Option<Box<Extensions>>);

impl AfterUnlock {
    /// Whether there is nothing, as after most messages.
    pub(super) fn is_empty(&self) -> bool {
        let Self { wake, wake_keeper, notes, dropped } = self;
        // Without a branch each: it is asked after each message.
        (wake.is_empty() & notes.is_none() & dropped.is_none()) && !*wake_keeper
    }
}
