//! State shared by the receiver, senders and observers.

use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use drivetrain_engine::{CloseReason, Error, ErrorKind, Outcome, Result};
use drivetrain_session::{Outgoing, wake_all};

use super::{State, attempt::RunningAttempt};

/// The lock protects short reads and writes only. No user code, drop or wake-up runs under it.
pub(super) struct Link(Mutex<Inner>);

/// The state behind the lock.
pub(super) struct Inner {
    phase: LinkPhase,
    state: State,
    /// Number of state changes.
    changes: u64,
    /// The application has closed the session.
    closing: bool,
    /// The outcome of the latest connection.
    outcome: Outcome,
    /// The receiver, while it waits for an attempt.
    receiver: Option<Waker>,
    /// Tasks that wait for a change.
    waiting: BTreeMap<u64, Waker>,
    places: u64,
}

pub(super) enum LinkPhase {
    /// The connection accepts messages.
    Open(Outgoing),
    /// No connection. Holds the attempt, unless the receiver is polling it.
    Down(Option<RunningAttempt>),
    /// No further connection.
    Ended,
}

impl Link {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Inner {
            phase: LinkPhase::Down(None),
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

    /// Whether the application has closed the session.
    pub(super) fn is_closing(&self) -> bool {
        self.lock().closing
    }

    /// The sending half of the open connection, and the change that opened it.
    ///
    /// # Errors
    /// [`ErrorKind::Connect`] without a connection, [`ErrorKind::Closed`] after the end.
    pub(super) fn outgoing(&self) -> Result<(Outgoing, u64)> {
        let inner = self.lock();
        match &inner.phase {
            LinkPhase::Open(outgoing) => Ok((outgoing.clone(), inner.changes)),
            LinkPhase::Down(_) => Err(Error::new(
                ErrorKind::Connect,
                "there is no connection: receive() makes a new one",
            )),
            LinkPhase::Ended => Err(inner.ended()),
        }
    }

    /// Like [`outgoing`](Self::outgoing), but waits for a connection other than the `lost` one.
    pub(super) async fn wait_for_outgoing(&self, lost: Option<u64>) -> Result<(Outgoing, u64)> {
        self.until(|inner| match &inner.phase {
            LinkPhase::Open(outgoing) if Some(inner.changes) != lost => {
                Some(Ok((outgoing.clone(), inner.changes)))
            }
            LinkPhase::Ended => Some(Err(inner.ended())),
            LinkPhase::Open(_) | LinkPhase::Down(_) => None,
        })
        .await
    }

    /// Waits until `ready` returns a value after a change.
    pub(super) fn until<'a, T>(
        &'a self,
        mut ready: impl FnMut(&Inner) -> Option<T> + 'a,
    ) -> impl Future<Output = T> + 'a {
        let mut place = WaitingTask { link: self, number: None };
        poll_fn(move |cx| place.poll(cx, &mut ready))
    }

    /// Returns the value of `ready`, or registers the task in a place that [`leave`](Self::leave) frees.
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

    /// Frees the place of a task that no longer waits.
    pub(super) fn leave(&self, place: Option<u64>) {
        let waker = place.and_then(|number| self.lock().waiting.remove(&number));
        drop(waker);
    }

    /// Enters this phase. If the session has ended meanwhile, drops the arguments and returns false.
    pub(super) fn advance(&self, phase: LinkPhase, state: State, outcome: Option<Outcome>) -> bool {
        let mut inner = self.lock();
        if let Some(outcome) = outcome {
            inner.outcome = outcome;
        }
        if matches!(inner.phase, LinkPhase::Ended) {
            drop(inner);
            drop(phase);
            return false;
        }
        let before = mem::replace(&mut inner.phase, phase);
        let wakers = inner.change(state);
        drop(inner);
        // The old half is dropped even if a waker panics.
        let _before = before;
        wake_all(wakers);
        true
    }

    /// Takes the attempt to poll it; `None` without an attempt or after the end.
    pub(super) fn take_attempt(&self) -> Option<RunningAttempt> {
        match &mut self.lock().phase {
            LinkPhase::Down(attempt) => attempt.take(),
            LinkPhase::Open(_) | LinkPhase::Ended => None,
        }
    }

    /// Puts a pending attempt back. If the session has ended, drops the attempt and returns false.
    pub(super) fn put_attempt(&self, attempt: RunningAttempt, cx: &Context<'_>) -> bool {
        let waker = cx.waker().clone();
        let mut inner = self.lock();
        let LinkPhase::Down(place) = &mut inner.phase else {
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
        matches!(self.lock().phase, LinkPhase::Ended)
    }

    /// Closes the session: at once without a connection, otherwise when the connection has closed.
    ///
    /// # Errors
    /// As for [`Outgoing::close`].
    pub(super) fn close(&self, reason: CloseReason) -> Result<Option<Outgoing>> {
        let open = {
            let mut inner = self.lock();
            inner.closing = true;
            match &inner.phase {
                LinkPhase::Open(outgoing) => Some(outgoing.clone()),
                LinkPhase::Down(_) | LinkPhase::Ended => None,
            }
        };
        // A connection that opened in between must be closed here; no other code closes it.
        let open = open.or_else(|| self.end());
        if let Some(outgoing) = &open {
            outgoing.start_close(reason)?;
        }
        Ok(open)
    }

    /// Ends the session and drops an attempt. Returns the sending half of an open connection.
    pub(super) fn end(&self) -> Option<Outgoing> {
        let mut inner = self.lock();
        let before = mem::replace(&mut inner.phase, LinkPhase::Ended);
        if matches!(before, LinkPhase::Ended) {
            return None;
        }
        let mut wakers = inner.change(State::Ended);
        wakers.extend(inner.receiver.take());
        drop(inner);
        wake_all(wakers);
        match before {
            LinkPhase::Open(outgoing) => Some(outgoing),
            LinkPhase::Down(_) | LinkPhase::Ended => None,
        }
    }

    /// A panic cannot leave the state half changed, so a poisoned lock is usable.
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

/// A waiting task.
struct WaitingTask<'a> {
    link: &'a Link,
    number: Option<u64>,
}

impl WaitingTask<'_> {
    /// A method, so that a closure captures the place and not a copy of its number.
    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        ready: impl FnOnce(&Inner) -> Option<T>,
    ) -> Poll<T> {
        self.link.poll_until(cx, &mut self.number, ready)
    }
}

impl Drop for WaitingTask<'_> {
    fn drop(&mut self) {
        self.link.leave(self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[test]
    fn a_panicking_waker_does_not_stop_other_wake_ups() {
        use std::{
            panic::{AssertUnwindSafe, catch_unwind},
            sync::Arc,
            sync::atomic::{AtomicUsize, Ordering},
            task::Wake,
        };
        struct Panics;
        impl Wake for Panics {
            fn wake(self: Arc<Self>) {
                panic!("as it shall");
            }
        }
        #[derive(Default)]
        struct Counts(AtomicUsize);
        impl Wake for Counts {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let counts = Arc::new(Counts::default());
        let wakers = [Waker::from(Arc::new(Panics)), Waker::from(Arc::clone(&counts))];
        for end in [false, true] {
            let link = Link::new();
            let mut waiting = wakers.each_ref().map(|_| Box::pin(link.until(|_| None::<()>)));
            for (future, waker) in waiting.iter_mut().zip(&wakers) {
                assert!(future.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
            }
            let change = || match end {
                true => drop(link.end()),
                false => drop(link.advance(LinkPhase::Down(None), State::Disconnected, None)),
            };
            assert!(catch_unwind(AssertUnwindSafe(change)).is_err());
        }
        assert_eq!(counts.0.load(Ordering::Relaxed), 2);
    }

    /// A task that waits repeatedly takes one place at a time.
    #[test]
    fn dropped_waiters_are_forgotten() {
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
