//! Messages that are pushed into a session from outside, such as by a broadcast, and how many bytes of them wait.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// What a message takes beside its payload, so that empty ones are bounded too.
pub(super) const LANE_OVERHEAD: usize = 64;

/// The messages of one source in one session: what waits of them in the session's queue is counted here, for
/// [`SessionHandle::push`](super::SessionHandle::push). A clone is the same lane.
#[derive(Clone, Debug, Default)]
pub struct Lane(Arc<AtomicUsize>);

/// What to do with a message for which the lane has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// It is not queued.
    Refuse,
    /// The oldest messages of the lane are dropped for it, but none that has begun to go out.
    DropOldest,
    /// A message of the lane with the same key is replaced, whether there is room or not; without one, as
    /// [`DropOldest`](Self::DropOldest).
    Replace(u64),
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is queued or written; this many others were dropped or replaced for it.
    Queued {
        /// How many.
        dropped: usize,
    },
    /// There was no room.
    Full,
    /// It is larger than the session's `max_message_size`.
    TooBig,
    /// The session is closing or has ended.
    Closed,
}

impl Lane {
    /// A lane for one source and one session.
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes that wait: payloads and 64 more for each message.
    pub fn waiting(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Counts a message of this many bytes until the returned value is dropped.
    pub(super) fn count(&self, bytes: usize, key: Option<u64>) -> Waiting {
        let bytes = bytes.saturating_add(LANE_OVERHEAD);
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Waiting { lane: self.clone(), bytes, key }
    }
}

/// A message of a lane that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) lane: Lane,
    bytes: usize,
    pub(super) key: Option<u64>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.lane.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
