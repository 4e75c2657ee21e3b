//! What ends a connection that a library owns from outside.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// Ends a connection whose stream asks it before each call, whatever the library waits for.
#[derive(Clone, Default)]
pub(crate) struct Cut(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    is_cut: bool,
    /// The task of the connection.
    owner: Option<Waker>,
    written: u64,
    is_blocked: bool,
}

impl Cut {
    /// Ends the connection: the library's next call on it fails.
    pub(crate) fn end(&self) {
        let owner = {
            let mut state = self.lock();
            state.is_cut = true;
            state.owner.take()
        };
        if let Some(owner) = owner {
            owner.wake();
        }
    }

    /// How much had been written when the peer ceased to take any more; `None` while nothing waits for the peer.
    pub(crate) fn blocked_at(&self) -> Option<u64> {
        let state = self.lock();
        state.is_blocked.then_some(state.written)
    }

    /// Fails if the connection was ended; if not, its end will wake the task.
    pub(crate) fn check(&self, cx: &Context<'_>) -> io::Result<()> {
        let waker = cx.waker().clone();
        let mut state = self.lock();
        if state.is_cut {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let before = state.owner.replace(waker);
        drop(state);
        drop(before);
        Ok(())
    }

    /// Notes the result of a write.
    pub(crate) fn note(&self, written: &Poll<io::Result<usize>>) {
        let mut state = self.lock();
        state.is_blocked = written.is_pending();
        if let Poll::Ready(Ok(written)) = written {
            state.written += *written as u64;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of anyone else's runs under it, so that it is whole even if it were poisoned.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
