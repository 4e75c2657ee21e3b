//! A flush that the session task was asked for, as seen without the session's lock.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU32 as StdAtomicU32, Ordering},
};

use crate::sync::AtomicU32;

/// The number of this thread, from 1: [`ThreadId`](std::thread::ThreadId) is no number on stable Rust.
fn this_thread() -> u32 {
    static LATEST: StdAtomicU32 = StdAtomicU32::new(0);
    thread_local! {
        static NUMBER: Cell<u32> = const { Cell::new(0) };
    }
    NUMBER.with(|number| {
        if number.get() == 0 {
            number.set(LATEST.fetch_add(1, Ordering::Relaxed) + 1);
        }
        number.get()
    })
}

/// Accepted messages that are not yet written. Changed only under the session's lock.
///
/// The session task writes them if no other task does. On another thread than the sender's, it may run during the burst,
/// or after the sender has written it. It checks here first, because the sender needs the lock.
#[derive(Debug, Default)]
pub(crate) struct PendingFlush {
    /// The thread that asked for the flush; zero if there is none to do.
    sender: AtomicU32,
}

impl PendingFlush {
    /// Asks the session task to flush. Wake it afterwards.
    #[inline]
    pub(crate) fn request(&self) {
        self.sender.store(this_thread(), Ordering::Release);
    }

    /// Everything is written, or the session task writes it now.
    #[inline]
    pub(crate) fn done(&self) {
        self.sender.store(0, Ordering::Release);
    }

    /// Whether a flush is requested from the session task and still pending.
    #[inline]
    pub(crate) fn is_requested(&self) -> bool {
        self.sender.load(Ordering::Acquire) != 0
    }

    /// Whether another thread asked for the flush.
    pub(crate) fn is_requested_elsewhere(&self) -> bool {
        let sender = self.sender.load(Ordering::Acquire);
        sender != 0 && sender != this_thread()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_thread_is_told_from_this_one() {
        let pending_flush = PendingFlush::default();
        assert!(!pending_flush.is_requested() && !pending_flush.is_requested_elsewhere());
        pending_flush.request();
        assert!(pending_flush.is_requested() && !pending_flush.is_requested_elsewhere());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert!(pending_flush.is_requested_elsewhere());
                pending_flush.done();
                assert!(!pending_flush.is_requested_elsewhere());
                pending_flush.request();
            });
        });
        assert!(pending_flush.is_requested_elsewhere());
    }
}
