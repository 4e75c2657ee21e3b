//! The waker of one poll.

use std::task::{Context, Waker};

/// The waker of a poll. It is cloned before the lock is taken, and dropped after it is released if nobody waits: both may
/// be user code, which may use the session.
#[derive(Debug)]
pub(super) struct PollWaker(Option<Waker>);

impl PollWaker {
    #[inline]
    pub(super) fn of(cx: &Context<'_>) -> Self {
        Self(Some(cx.waker().clone()))
    }

    pub(super) fn is_like(&self, known: &Waker) -> bool {
        self.0.as_ref().is_some_and(|waker| waker.will_wake(known))
    }

    /// Takes it for the one that the poll waits for.
    #[inline]
    pub(super) fn take(&mut self) -> Option<Waker> {
        self.0.take()
    }
}
