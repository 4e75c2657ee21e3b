//! The state of a reconnecting session, for those who only watch.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;

use super::link::Link;

/// Where a reconnecting session is, as whoever receives has seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// A try is being made; its number, 0 for the first connection.
    #[non_exhaustive]
    Connecting {
        /// The number of the try.
        attempt: u32,
    },
    /// There is a connection, and messages are accepted.
    Connected,
    /// The connection has ended, or a try has failed; what is next is known when the session is received
    /// from again.
    Disconnected,
    /// The next try is waited for.
    #[non_exhaustive]
    Waiting {
        /// The number of the try.
        attempt: u32,
        /// How many there are at most; `None` is no limit.
        of: Option<u32>,
        /// How long it is waited for.
        delay: Duration,
    },
    /// The session has ended for good: it was closed, or given up, or dropped.
    Ended,
}

/// The states of a session one after the other: a [`Stream`], made by
/// [`Sender::states`](super::Sender::states). It begins with the state of the moment and ends after
/// [`State::Ended`]. Who is slow sees only the latest: nothing is queued.
pub struct States {
    link: Arc<Link>,
    /// The change that was seen last.
    seen: u64,
    place: Option<u64>,
    ended: bool,
}

impl States {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self { link, seen: 0, place: None, ended: false }
    }

    /// The state, as soon as it is another one than that before; `None` after [`State::Ended`].
    ///
    /// # Cancel safety
    /// Safe: a dropped future loses nothing.
    pub async fn next(&mut self) -> Option<State> {
        poll_fn(|cx| self.poll_state(cx)).await
    }

    fn poll_state(&mut self, cx: &mut Context<'_>) -> Poll<Option<State>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let seen = &mut self.seen;
        let state = self.link.poll_until(cx, &mut self.place, |inner| {
            let changes = inner.changes();
            (changes != std::mem::replace(seen, changes)).then(|| inner.state())
        });
        state.map(|state| {
            self.ended = state == State::Ended;
            Some(state)
        })
    }
}

impl Stream for States {
    type Item = State;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<State>> {
        self.poll_state(cx)
    }
}

impl Drop for States {
    fn drop(&mut self) {
        self.link.leave(self.place);
    }
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("States").field("now", &self.link.state()).finish_non_exhaustive()
    }
}
