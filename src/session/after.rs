//! What the lock keeps from being done at once.

use std::task::Waker;

use drivetrain_engine::Transport;

use super::trace::Notes;

/// What is to be done when the lock is free again.
#[derive(Default)]
pub(super) struct AfterUnlock {
    pub(super) wake: Vec<Waker>,
    pub(super) wake_keeper: bool,
    pub(super) notes: Option<Box<Notes>>,
    /// Dropping it closes the socket.
    pub(super) dropped: Option<Box<dyn Transport>>,
}

impl AfterUnlock {
    /// What is to be done, if anything: after most messages there is nothing.
    pub(super) fn take(&mut self) -> Option<Self> {
        let Self { wake, wake_keeper, notes, dropped } = self;
        let is_empty = wake.is_empty() && !*wake_keeper && notes.is_none() && dropped.is_none();
        (!is_empty).then(|| std::mem::take(self))
    }
}
