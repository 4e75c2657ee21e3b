//! A session from outside, without keeping it.

use std::{
    fmt,
    future::{Future, poll_fn},
    sync::{Arc, Weak},
};

use drivetrain_engine::{CloseReason, RawFrame};

use super::{
    lane::{Lane, Overflow, Pushed},
    raw::remote::RawRemote,
    shared::{Shared, Waits},
    stats::SessionStats,
};

/// A session for those who do not own it, such as a registry: it can be closed and asked how it is, and ends when its halves
/// are gone all the same. A cheap clone. Made by [`Session::handle`](super::Session::handle) and
/// [`RawSession::handle`](super::RawSession::handle).
#[derive(Clone)]
pub struct SessionHandle(Of);

#[derive(Clone)]
enum Of {
    Session(Weak<Shared>),
    Raw(Arc<RawRemote>),
}

impl SessionHandle {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Of::Session(Arc::downgrade(shared)))
    }

    pub(super) fn of_raw(remote: Arc<RawRemote>) -> Self {
        Self(Of::Raw(remote))
    }

    /// Closes the session after everything that was accepted, without waiting for its end. Returns whether it was open; a
    /// code that must not travel closes nothing.
    pub fn close(&self, reason: CloseReason) -> bool {
        if !reason.code().may_travel() {
            return false;
        }
        if let Of::Raw(remote) = &self.0 {
            return remote.close(reason);
        }
        let Some(shared) = self.shared() else { return false };
        let was_open = shared.with(|state| state.is_open());
        if was_open {
            shared.close(reason);
        }
        was_open
    }

    /// Waits until the session has ended; a raw session ends when it is dropped. The future does not keep the session
    /// alive.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let shared = self.shared();
        let remote = match &self.0 {
            Of::Session(_) => None,
            Of::Raw(remote) => Some(Arc::clone(remote)),
        };
        async move {
            if let Some(remote) = remote {
                poll_fn(|cx| remote.poll_ended(cx.waker())).await;
            }
            if let Some(shared) = shared {
                let mut waits = Waits::new(&shared);
                poll_fn(|cx| waits.poll_closed(cx)).await;
            }
        }
    }

    /// Whether messages can be sent.
    pub fn is_open(&self) -> bool {
        match &self.0 {
            Of::Session(_) => {
                self.shared().is_some_and(|shared| shared.with(|state| state.is_open()))
            }
            Of::Raw(remote) => remote.is_open(),
        }
    }

    /// What the session has carried so far; `None` once it is gone, and for a raw session.
    pub fn stats(&self) -> Option<SessionStats> {
        self.shared().map(|shared| shared.stats())
    }

    /// Sends a message without waiting: it is given to the transport, or else queued, as long as the messages of its lane
    /// that wait have at most `limit` bytes; one message is always taken. The session's `outgoing_capacity` does not limit
    /// it. Messages of one lane stay in order, also among those that the application sends. A raw session takes none:
    /// [`Pushed::Closed`].
    pub fn push(
        &self,
        message: &RawFrame,
        lane: &Lane,
        limit: usize,
        overflow: Overflow,
    ) -> Pushed {
        let Some(shared) = self.shared() else { return Pushed::Closed };
        shared.push_message(message.opcode, &message.payload, lane, limit, overflow)
    }

    /// Gives up a peer that reads too slowly: everything that waits is dropped, the Close goes out, nothing follows it, and
    /// the session ends with an error for its owner. The peer has `close_timeout` to answer.
    pub fn disconnect_lagging(&self, reason: &CloseReason) {
        if let Some(shared) = self.shared().filter(|_| reason.code().may_travel()) {
            shared.with(|state| state.disconnect_lagging(reason));
        }
    }

    /// Whether both are of the same session.
    pub fn is_of(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Of::Session(one), Of::Session(other)) => Weak::ptr_eq(one, other),
            (Of::Raw(one), Of::Raw(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    fn shared(&self) -> Option<Arc<Shared>> {
        match &self.0 {
            Of::Session(shared) => shared.upgrade(),
            Of::Raw(_) => None,
        }
    }
}

impl fmt::Debug for SessionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionHandle").field("open", &self.is_open()).finish()
    }
}
