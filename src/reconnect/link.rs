//! What whoever receives, the senders and the observers of a reconnecting session share.

use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use drivetrain_engine::{CloseReason, Error, ErrorKind, Outcome, Result};

use super::{State, attempt::Progress};
use crate::Outgoing;

/// The lock is held for looking and changing only: no user's code runs and nothing is dropped or woken
/// under it.
pub(super) struct Link(Mutex<Inner>);

/// What is behind the lock.
pub(super) struct Inner {
    phase: Phase,
    state: State,
    /// Counts the changes of the state.
    changes: u64,
    /// The application wants the end.
    closing: bool,
    /// Of the latest connection.
    outcome: Outcome,
    /// Whoever receives, waiting for the try.
    receiver: Option<Waker>,
    /// Whoever waits for a change.
    waiting: BTreeMap<u64, Waker>,
    places: u64,
}

pub(super) enum Phase {
    /// Messages are accepted.
    Open(Outgoing),
    /// There is no connection. The try, if there is one and it is not being polled just now.
    Down(Option<Progress>),
    /// There will be none any more.
    Ended,
}

impl Link {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Inner {
            phase: Phase::Down(None),
            state: State::Disconnected,
            changes: 0,
            closing: false,
            outcome: Outcome::default(),
            receiver: None,
            waiting: BTreeMap::new(),
            places: 0,
        }))
    }

    pub(super) fn state(&self) -> State {
        self.lock().state
    }

    /// How the latest connection ended.
    pub(super) fn outcome(&self) -> Outcome {
        self.lock().outcome.clone()
    }

    /// Whether the application wants the end.
    pub(super) fn is_closing(&self) -> bool {
        self.lock().closing
    }

    /// The half that accepts messages, and the change since which it does.
    ///
    /// # Errors
    /// There is none at the moment, or there will be none any more.
    pub(super) fn outgoing(&self) -> Result<(Outgoing, u64)> {
        let inner = self.lock();
        match &inner.phase {
            Phase::Open(outgoing) => Ok((outgoing.clone(), inner.changes)),
            Phase::Down(_) => Err(Error::new(
                ErrorKind::Connect,
                "there is no connection at the moment: receive() makes a new one",
            )),
            Phase::Ended => Err(inner.ended()),
        }
    }

    /// The same, but waits while there is none, or the one of the change that is `lost`.
    pub(super) async fn wait_for_outgoing(&self, lost: Option<u64>) -> Result<(Outgoing, u64)> {
        self.until(|inner| match &inner.phase {
            Phase::Open(outgoing) if Some(inner.changes) != lost => {
                Some(Ok((outgoing.clone(), inner.changes)))
            }
            Phase::Ended => Some(Err(inner.ended())),
            Phase::Open(_) | Phase::Down(_) => None,
        })
        .await
    }

    /// Waits until a change lets `ready` give something.
    pub(super) fn until<'a, T>(
        &'a self,
        mut ready: impl FnMut(&Inner) -> Option<T> + 'a,
    ) -> impl Future<Output = T> + 'a {
        let mut place = Place { link: self, number: None };
        poll_fn(move |cx| place.poll(cx, &mut ready))
    }

    /// Gives what `ready` gives, or waits for a change in a place that [`leave`](Self::leave) frees.
    pub(super) fn poll_until<T>(
        &self,
        cx: &mut Context<'_>,
        place: &mut Option<u64>,
        ready: impl FnOnce(&Inner) -> Option<T>,
    ) -> Poll<T> {
        let waker = cx.waker().clone();
        let mut inner = self.lock();
        if let Some(value) = ready(&inner) {
            return Poll::Ready(value);
        }
        let number = *place.get_or_insert_with(|| {
            inner.places += 1;
            inner.places
        });
        let before = inner.waiting.insert(number, waker);
        drop(inner);
        drop(before);
        Poll::Pending
    }

    /// Nobody waits in this place any more.
    pub(super) fn leave(&self, place: Option<u64>) {
        let waker = place.and_then(|number| self.lock().waiting.remove(&number));
        drop(waker);
    }

    /// Goes on to this phase, unless the session has ended meanwhile: then what is given is dropped.
    /// Returns whether it did.
    pub(super) fn advance(&self, phase: Phase, state: State, outcome: Option<Outcome>) -> bool {
        let mut inner = self.lock();
        if let Some(outcome) = outcome {
            inner.outcome = outcome;
        }
        if matches!(inner.phase, Phase::Ended) {
            drop(inner);
            drop(phase);
            return false;
        }
        let before = mem::replace(&mut inner.phase, phase);
        let wakers = inner.change(state);
        drop(inner);
        drop(before);
        wakers.into_iter().for_each(Waker::wake);
        true
    }

    /// The try, to be polled; `None` if there is none or the session has ended.
    pub(super) fn take_attempt(&self) -> Option<Progress> {
        match &mut self.lock().phase {
            Phase::Down(attempt) => attempt.take(),
            Phase::Open(_) | Phase::Ended => None,
        }
    }

    /// Puts the try back, which waits. Returns whether it is still wanted; if not it is dropped.
    pub(super) fn put_attempt(&self, attempt: Progress, cx: &Context<'_>) -> bool {
        let waker = cx.waker().clone();
        let mut inner = self.lock();
        let Phase::Down(place) = &mut inner.phase else {
            drop(inner);
            drop(attempt);
            return false;
        };
        *place = Some(attempt);
        let before = inner.receiver.replace(waker);
        drop(inner);
        drop(before);
        true
    }

    /// Whether the session has ended.
    pub(super) fn is_ended(&self) -> bool {
        matches!(self.lock().phase, Phase::Ended)
    }

    /// The application wants the end: at once if there is no connection, or else when it has closed.
    ///
    /// # Errors
    /// As for [`Outgoing::close`].
    pub(super) fn close(&self, reason: CloseReason) -> Result<Option<Outgoing>> {
        let open = {
            let mut inner = self.lock();
            inner.closing = true;
            match &inner.phase {
                Phase::Open(outgoing) => Some(outgoing.clone()),
                Phase::Down(_) | Phase::Ended => None,
            }
        };
        // It may have opened in between: then this is its end too, and nobody else closes it.
        let open = open.or_else(|| self.end());
        if let Some(outgoing) = &open {
            outgoing.start_close(reason)?;
        }
        Ok(open)
    }

    /// Ends the session: a try is given up. Returns the half that has accepted messages until now.
    pub(super) fn end(&self) -> Option<Outgoing> {
        let mut inner = self.lock();
        let before = mem::replace(&mut inner.phase, Phase::Ended);
        if matches!(before, Phase::Ended) {
            return None;
        }
        let mut wakers = inner.change(State::Ended);
        wakers.extend(inner.receiver.take());
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
        match before {
            Phase::Open(outgoing) => Some(outgoing),
            Phase::Down(_) | Phase::Ended => None,
        }
    }

    /// Nothing in here can be left half changed by a panic.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    fn change(&mut self, state: State) -> Vec<Waker> {
        self.state = state;
        self.changes += 1;
        mem::take(&mut self.waiting).into_values().collect()
    }

    fn ended(&self) -> Error {
        let message = format!("the session has ended for good: {}", self.outcome);
        Error::new(ErrorKind::Closed, message).with_outcome(self.outcome.clone())
    }
}

/// Whoever waits.
struct Place<'a> {
    link: &'a Link,
    number: Option<u64>,
}

impl Place<'_> {
    /// A method, so that a closure captures the whole place and not a copy of its number.
    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        ready: impl FnOnce(&Inner) -> Option<T>,
    ) -> Poll<T> {
        self.link.poll_until(cx, &mut self.number, ready)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.link.leave(self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    /// Whoever waits again and again while nothing changes takes one place at a time.
    #[test]
    fn who_no_longer_waits_is_forgotten() {
        let link = Link::new();
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..10 {
            let mut waiting = pin!(link.until(|_| None::<()>));
            assert!(waiting.as_mut().poll(&mut cx).is_pending());
            assert!(waiting.as_mut().poll(&mut cx).is_pending());
            assert_eq!(link.lock().waiting.len(), 1);
        }
        assert!(link.lock().waiting.is_empty());
    }
}
