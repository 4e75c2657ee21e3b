//! The close of a raw session from outside.
//!
//! A raw session has no task and no lock: whoever polls it sends the Close that was asked for. A session that is dropped
//! before that leaves its connection to the [`RawFarewell`], if there is one.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Waker},
};

use drivetrain_engine::CloseReason;

use super::wire::RawWire;

/// What a raw session and its handles share.
#[derive(Default)]
pub(crate) struct RawRemote {
    /// A Close is asked for. Written under the lock of `state`, and read without the lock in each poll.
    asked: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    phase: Phase,
    reason: Option<CloseReason>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Tasks that wait for the end.
    waiting: Vec<Waker>,
    /// A [`RawFarewell`] sends what the session leaves behind.
    is_kept: bool,
    left: Option<Box<RawWire>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    /// A Close was sent, received or asked for, or the input has ended.
    Closing,
    /// The session is dropped.
    Ended,
}

/// The direction that a task waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Direction {
    In,
    Out,
}

impl RawRemote {
    pub(crate) fn is_open(&self) -> bool {
        self.lock().phase == Phase::Open
    }

    /// Asks for a Close. Returns whether the session was open.
    pub(crate) fn close(&self, reason: CloseReason) -> bool {
        let wakers = {
            let mut state = self.lock();
            if state.phase != Phase::Open {
                return false;
            }
            state.phase = Phase::Closing;
            state.reason = Some(reason);
            self.asked.store(true, Ordering::Release);
            [state.reader.take(), state.writer.take()]
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
        true
    }

    /// Ready when the session is dropped.
    pub(crate) fn poll_ended(&self, waker: &Waker) -> Poll<()> {
        let waker = waker.clone();
        let mut state = self.lock();
        if state.phase == Phase::Ended {
            return Poll::Ready(());
        }
        if !state.waiting.iter().any(|known| known.will_wake(&waker)) {
            state.waiting.push(waker);
        }
        Poll::Pending
    }

    /// The reason of the Close that was asked for.
    pub(super) fn asked(&self) -> Option<CloseReason> {
        match self.asked.load(Ordering::Acquire) {
            true => self.lock().reason.clone(),
            false => None,
        }
    }

    /// A Close was sent or received, or the input has ended.
    pub(super) fn closes(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Closing;
        }
    }

    /// The task that waits in this direction is woken by [`close`](Self::close). Returns whether a Close was asked for
    /// already.
    pub(super) fn wait(&self, direction: Direction, waker: &Waker) -> bool {
        let waker = waker.clone();
        // What is replaced is dropped after the lock.
        let _before = {
            let mut state = self.lock();
            if state.reason.is_some() {
                return true;
            }
            match direction {
                Direction::In => state.reader.replace(waker),
                Direction::Out => state.writer.replace(waker),
            }
        };
        false
    }

    /// The task that reads has written the Close: a task that writes may have lost its wake-up to it.
    pub(super) fn wake_writer(&self) {
        let writer = self.lock().writer.take();
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    /// The session is dropped.
    pub(super) fn ended(&self, wire: Option<Box<RawWire>>) {
        let (_wakers, _unkept, waiting) = {
            let mut state = self.lock();
            state.phase = Phase::Ended;
            let unkept = match state.is_kept && state.reason.is_some() {
                true => {
                    state.left = wire;
                    None
                }
                false => wire,
            };
            ((state.reader.take(), state.writer.take()), unkept, std::mem::take(&mut state.waiting))
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The Close that a raw session leaves unsent when it is dropped after a [`SessionHandle`](crate::SessionHandle) has asked
/// for one. Made by [`RawSession::farewell`](super::RawSession::farewell).
pub struct RawFarewell(Arc<RawRemote>);

impl RawFarewell {
    pub(super) fn new(remote: &Arc<RawRemote>) -> Self {
        remote.lock().is_kept = true;
        Self(Arc::clone(remote))
    }

    /// Sends the Close, and waits for the peer's, at most `close_timeout`. It does nothing if the session still exists, or
    /// if no Close is left to send.
    ///
    /// # Cancel safety
    /// Dropped while pending, the connection ends.
    pub async fn finish(self) {
        let left = {
            let mut state = self.0.lock();
            (state.left.take(), state.reason.clone())
        };
        if let (Some(mut wire), Some(reason)) = left {
            wire.close(&reason).await;
        }
    }
}

impl Drop for RawFarewell {
    fn drop(&mut self) {
        let left = {
            let mut state = self.0.lock();
            state.is_kept = false;
            state.left.take()
        };
        drop(left);
    }
}

impl fmt::Debug for RawFarewell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawFarewell")
            .field("has_ended", &(self.0.lock().phase == Phase::Ended))
            .finish()
    }
}
