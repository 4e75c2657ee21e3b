//! The tasks that wait for a session, in order. A waiter that is dropped is forgotten. Pure.

use std::{
    collections::BTreeMap,
    ops::Range,
    task::{Context, Waker},
};

use super::deferred::DeferredWork;

/// The waker of a poll. It is cloned before the lock is taken, and dropped after it is released if nobody waits: both may
/// be user code, which may use the session.
#[derive(Debug)]
pub(super) struct PollWaker(Option<Waker>);

impl PollWaker {
    #[inline]
    pub(super) fn of(cx: &Context<'_>) -> Self {
        Self(Some(cx.waker().clone()))
    }

    fn is_like(&self, known: &Waker) -> bool {
        self.0.as_ref().is_some_and(|waker| waker.will_wake(known))
    }

    /// Takes it for the one that the poll waits for.
    #[inline]
    pub(super) fn take(&mut self) -> Option<Waker> {
        self.0.take()
    }
}

/// The event that a task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// Its turn and room for a message. Waiters are served one after the other.
    Room,
    /// Its turn and room for a control frame.
    ControlRoom,
    /// Room for a fragment of the streamed message.
    FragmentRoom,
    /// Everything is written.
    Flush,
    /// A pong.
    Pong,
    /// The end.
    End,
}

/// The place of a waiter in the order, if it waits. Give it back with [`Waiters::leave`].
#[derive(Debug, Default)]
pub(super) struct Place(u64);

/// All waiters of a session.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    /// By event, then in order. `None`: it was woken and has not come since.
    waiting: BTreeMap<u64, Option<Waker>>,
    latest: u64,
}

const KIND: u32 = 60;

impl For {
    fn range(self) -> Range<u64> {
        let kind = self as u64;
        (kind << KIND) + 1..(kind + 1) << KIND
    }
}

impl Place {
    /// Whether this is a place.
    #[inline]
    pub(super) fn is_taken(&self) -> bool {
        self.0 != 0
    }

    pub(super) fn is(&self, what: For) -> bool {
        what.range().contains(&self.0)
    }
}

impl Waiters {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether a waiter for this event waits, or was woken and has not come.
    pub(super) fn has(&self, what: For) -> bool {
        self.waiting.range(what.range()).next().is_some()
    }

    /// Takes a place, or keeps the one for the same event. Leave a place for another event first.
    pub(super) fn wait(
        &mut self,
        place: &mut Place,
        what: For,
        waker: &mut PollWaker,
        deferred: &mut DeferredWork,
    ) {
        debug_assert!(!place.is_taken() || place.is(what), "a place for something else");
        if !place.is(what) {
            self.latest += 1;
            *place = Place(what.range().start + self.latest);
        }
        match self.waiting.get(&place.0) {
            Some(Some(known)) if waker.is_like(known) => {}
            _ => deferred.forget(self.waiting.insert(place.0, waker.take()).flatten()),
        }
    }

    /// Frees a place. Returns its reason.
    pub(super) fn leave(&mut self, place: &mut Place, deferred: &mut DeferredWork) -> Option<For> {
        let key = std::mem::take(place).0;
        deferred.forget(self.waiting.remove(&key).flatten());
        let all = [For::Room, For::ControlRoom, For::FragmentRoom, For::Flush, For::Pong, For::End];
        all.into_iter().find(|what| what.range().contains(&key))
    }

    /// Whether no waiter is before this one. One without a place comes last.
    pub(super) fn is_turn(&self, place: &Place, what: For) -> bool {
        let first = self.waiting.range(what.range()).next();
        first.is_none_or(|(&first, _)| place.is(what) && place.0 <= first)
    }

    /// Wakes the first waiter: it is its turn from then on.
    pub(super) fn wake_first(&mut self, what: For, deferred: &mut DeferredWork) {
        let first = self.waiting.range_mut(what.range()).next();
        if let Some(waker) = first.and_then(|(_, waker)| waker.take()) {
            deferred.wake(waker);
        }
    }

    /// The first waiter, if it was woken and has not come while others wait.
    pub(super) fn awaited(&self, what: For) -> Option<u64> {
        let mut waiting = self.waiting.range(what.range());
        let (&first, waker) = waiting.next()?;
        (waker.is_none() && waiting.next().is_some()).then_some(first)
    }

    /// Passes over the first waiter, which has not come. When it comes, it is the first again.
    pub(super) fn pass(&mut self, first: u64) {
        self.waiting.remove(&first);
    }

    /// Wakes and forgets all waiters for this event.
    pub(super) fn wake_all(&mut self, what: For, deferred: &mut DeferredWork) {
        while let Some((&key, _)) = self.waiting.range(what.range()).next() {
            if let Some(waker) = self.waiting.remove(&key).flatten() {
                deferred.wake(waker);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(waiters: &mut Waiters, place: &mut Place, what: For) {
        let mut waker = PollWaker(Some(Waker::noop().clone()));
        waiters.wait(place, what, &mut waker, &mut DeferredWork::default());
    }

    #[test]
    fn the_first_in_the_row_comes_first_and_one_that_does_not_come_is_passed() {
        let mut waiters = Waiters::default();
        let mut deferred = DeferredWork::default();
        let mut places = [Place::default(), Place::default(), Place::default()];
        for place in &mut places {
            assert!(waiters.is_turn(place, For::Room) != waiters.has(For::Room));
            wait(&mut waiters, place, For::Room);
        }
        let turns = |waiters: &Waiters, places: &[Place; 3]| {
            places.each_ref().map(|place| waiters.is_turn(place, For::Room))
        };
        assert_eq!(turns(&waiters, &places), [true, false, false]);
        assert_eq!(waiters.awaited(For::Room), None);
        waiters.wake_first(For::Room, &mut deferred);
        let first = waiters.awaited(For::Room).expect("it was woken");
        assert_eq!(turns(&waiters, &places), [true, false, false]);
        waiters.pass(first);
        assert_eq!(turns(&waiters, &places), [true, true, false], "a newcomer has no turn");
        wait(&mut waiters, &mut places[0], For::Room);
        assert_eq!(turns(&waiters, &places), [true, false, false], "it keeps its place");
        assert_eq!(waiters.leave(&mut places[0], &mut deferred), Some(For::Room));
        assert_eq!(turns(&waiters, &places)[1..], [true, false]);
        assert!(!waiters.is_turn(&Place::default(), For::Room), "a newcomer");
    }

    #[test]
    fn each_kind_waits_by_itself_and_who_leaves_is_forgotten() {
        let mut waiters = Waiters::default();
        let mut deferred = DeferredWork::default();
        let (mut end, mut flush, mut again) = Default::default();
        wait(&mut waiters, &mut end, For::End);
        wait(&mut waiters, &mut flush, For::Flush);
        waiters.wake_all(For::Flush, &mut deferred);
        assert!(waiters.has(For::End) && !waiters.has(For::Flush));
        wait(&mut waiters, &mut again, For::Flush);
        assert_eq!(waiters.leave(&mut flush, &mut deferred), Some(For::Flush));
        assert!(waiters.has(For::Flush), "another's place is its own");
        waiters.leave(&mut end, &mut deferred);
        waiters.leave(&mut again, &mut deferred);
        assert!(waiters.is_empty() && !end.is_taken());
        assert_eq!(waiters.leave(&mut end, &mut deferred), None);
    }
}
