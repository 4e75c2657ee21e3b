//! What the keeper may know of a burst without the session's lock.

use std::{
    ptr,
    sync::atomic::{AtomicUsize, Ordering},
};

thread_local! {
    /// Lies elsewhere on each thread.
    static HERE: u8 = const { 0 };
}

/// A number of this thread, never zero.
fn here() -> usize {
    HERE.with(|here| ptr::from_ref(here).addr())
}

/// Messages that were accepted and are not written yet. Changed under the session's lock only.
///
/// The keeper writes them when nobody else does. On another thread than the sender's it comes while they are sent, or
/// when they are written already: it looks here first, as the lock is the sender's.
#[derive(Debug, Default)]
pub(super) struct Burst {
    /// By whom the keeper was asked; zero if it was not, or need not come any more.
    sender: AtomicUsize,
}

impl Burst {
    /// Asks for the keeper, who has to be woken after it.
    #[inline]
    pub(super) fn arm(&self) {
        self.sender.store(here(), Ordering::Release);
    }

    /// All is written, or the keeper writes it now.
    #[inline]
    pub(super) fn disarm(&self) {
        self.sender.store(0, Ordering::Release);
    }

    /// Whether the keeper was asked to write, and nobody has since.
    #[inline]
    pub(super) fn is_armed(&self) -> bool {
        self.sender.load(Ordering::Acquire) != 0
    }

    /// The same, and another thread is sending.
    pub(super) fn is_armed_elsewhere(&self) -> bool {
        let sender = self.sender.load(Ordering::Acquire);
        sender != 0 && sender != here()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_thread_is_told_from_this_one() {
        let burst = Burst::default();
        assert!(!burst.is_armed() && !burst.is_armed_elsewhere());
        burst.arm();
        assert!(burst.is_armed() && !burst.is_armed_elsewhere());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert!(burst.is_armed_elsewhere());
                burst.disarm();
                assert!(!burst.is_armed_elsewhere());
                burst.arm();
            });
        });
        assert!(burst.is_armed_elsewhere());
    }
}
