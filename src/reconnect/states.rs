//! The state of a reconnecting session, for observers.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;

use super::{link::Link, state::State};

/// A [`Stream`] of a session's states, made by [`Sender::states`](super::Sender::states). It starts with the current
/// state and ends after [`State::Ended`]. A slow observer sees only the latest state: nothing is queued.
pub struct States {
    link: Arc<Link>,
    /// The latest change that the observer has seen.
    seen: u64,
    place: Option<u64>,
    ended: bool,
}

impl States {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self { link, seen: 0, place: None, ended: false }
    }

    /// The next state, as soon as it changes; `None` after [`State::Ended`].
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
