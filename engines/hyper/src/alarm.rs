//! Deadlines of all sessions on one timer of async-io's.
//!
//! async-io interrupts its reactor's wait whenever a timer is set, though it be the last to ring: a few system calls for
//! each ping of many idle sessions. Here only a deadline before all others sets the timer.

use std::{
    collections::BTreeMap,
    future::Future as _,
    mem,
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll, Wake, Waker},
    time::Instant,
};

use async_io::Timer;

/// Ready at a moment, and from then on.
#[derive(Debug)]
pub(crate) struct Alarm {
    at: Instant,
    /// Its number among the sleepers, once it waited.
    number: Option<u64>,
}

impl Alarm {
    pub(crate) fn at(at: Instant) -> Self {
        Self { at, number: None }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.at {
            self.forget();
            return Poll::Ready(());
        }
        self.number = Some(Bell::shared().wait(self.at, self.number, cx.waker()));
        Poll::Pending
    }

    pub(crate) fn set_at(&mut self, at: Instant) {
        *self = Self::at(at); // the one before waits no longer
    }

    /// Waits no longer.
    fn forget(&mut self) {
        if let Some(number) = self.number.take() {
            let waker = Bell::shared().sleepers().wakers.remove(&(self.at, number));
            drop(waker); // without the lock: a task's last waker may drop the task
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.forget();
    }
}

/// What async-io's timer wakes.
struct Bell(Mutex<Sleepers>);

/// Whoever waits, by when.
struct Sleepers {
    wakers: BTreeMap<(Instant, u64), Waker>,
    latest: u64,
    timer: Timer,
    /// What the timer is set to, unless it has rung since. It may be before all that wait.
    rings_at: Option<Instant>,
}

impl Bell {
    fn new() -> Arc<Self> {
        let (wakers, timer) = (BTreeMap::new(), Timer::never());
        Arc::new(Self(Mutex::new(Sleepers { wakers, latest: 0, timer, rings_at: None })))
    }

    fn shared() -> &'static Arc<Self> {
        static SHARED: OnceLock<Arc<Bell>> = OnceLock::new();
        SHARED.get_or_init(Self::new)
    }

    /// Nothing in here can be left half changed by a panic.
    fn sleepers(&self) -> MutexGuard<'_, Sleepers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has this waker woken at a moment, instead of what was left under the number. Returns the new number.
    fn wait(self: &Arc<Self>, at: Instant, number: Option<u64>, waker: &Waker) -> u64 {
        let waker = waker.clone();
        let mut sleepers = self.sleepers();
        let number = number.unwrap_or_else(|| {
            sleepers.latest += 1;
            sleepers.latest
        });
        let replaced = sleepers.wakers.insert((at, number), waker);
        let due = sleepers.set_timer(self);
        drop(sleepers);
        drop(replaced);
        wake(due);
        number
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        let mut sleepers = self.sleepers();
        let mut due = sleepers.ring();
        due.extend(sleepers.set_timer(&self));
        drop(sleepers);
        wake(due);
    }
}

impl Sleepers {
    /// The timer has rung. Returns those whose moment has come.
    fn ring(&mut self) -> Vec<Waker> {
        self.rings_at = None;
        let later = self.wakers.split_off(&(Instant::now(), u64::MAX));
        mem::replace(&mut self.wakers, later).into_values().collect()
    }

    /// Sets the timer for the first of them, if it would ring later. Returns who is due meanwhile.
    fn set_timer(&mut self, bell: &Arc<Bell>) -> Vec<Waker> {
        let mut due = Vec::new();
        while let Some((&(first, _), _)) = self.wakers.first_key_value() {
            if self.rings_at.is_some_and(|at| at <= first) {
                break;
            }
            self.timer.set_at(first);
            self.rings_at = Some(first);
            let waker = Waker::from(Arc::clone(bell));
            if Pin::new(&mut self.timer).poll(&mut Context::from_waker(&waker)).is_pending() {
                break;
            }
            due.extend(self.ring());
        }
        due
    }
}

/// Wakes all of them, though one may panic.
fn wake(due: Vec<Waker>) {
    for waker in due {
        // A waker is its executor's, and so is what it says before it panics.
        let _ = panic::catch_unwind(AssertUnwindSafe(|| waker.wake()));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            atomic::{AtomicUsize, Ordering::SeqCst},
            mpsc,
        },
        time::Duration,
    };

    use super::*;

    /// Tells its number when it is woken.
    struct Tells(usize, mpsc::Sender<usize>);

    impl Wake for Tells {
        fn wake(self: Arc<Self>) {
            let _ = self.1.send(self.0);
        }
    }

    fn teller(number: usize, to: &mpsc::Sender<usize>) -> Waker {
        Waker::from(Arc::new(Tells(number, to.clone())))
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn alarms_ring_in_the_order_of_their_moments_and_not_before() {
        let (tell, told) = mpsc::channel();
        let start = Instant::now();
        let moment = |number: usize| start + Duration::from_millis(20 * (number as u64 + 1));
        let mut alarms: Vec<_> =
            [2, 0, 3, 1].map(|number| (number, Alarm::at(moment(number)))).into();
        for (number, alarm) in &mut alarms {
            let waker = teller(*number, &tell);
            assert!(alarm.poll(&mut Context::from_waker(&waker)).is_pending());
        }
        for number in 0..4 {
            assert_eq!(told.recv_timeout(LONG), Ok(number));
            assert!(Instant::now() >= moment(number));
            let (_, alarm) = alarms.iter_mut().find(|(known, _)| *known == number).expect("there");
            assert!(alarm.poll(&mut Context::from_waker(Waker::noop())).is_ready());
        }
    }

    #[test]
    fn the_waker_of_the_latest_poll_is_woken_and_a_dropped_alarm_wakes_nobody() {
        let (tell, told) = mpsc::channel();
        let at = Instant::now() + Duration::from_millis(50);
        let mut alarm = Alarm::at(at);
        let mut dropped = Alarm::at(at);
        let mut moved = Alarm::at(at);
        let poll = |alarm: &mut Alarm, number| {
            let waker = teller(number, &tell);
            assert!(alarm.poll(&mut Context::from_waker(&waker)).is_pending());
        };
        poll(&mut alarm, 1);
        poll(&mut dropped, 2);
        poll(&mut moved, 3);
        poll(&mut alarm, 4);
        drop(dropped);
        moved.set_at(at + LONG);
        assert_eq!(told.recv_timeout(LONG), Ok(4));
        // Later ones ring after it, so that nothing else can have been meant.
        let mut last = Alarm::at(Instant::now() + Duration::from_millis(20));
        poll(&mut last, 5);
        assert_eq!(told.recv_timeout(LONG), Ok(5));
    }

    #[test]
    fn a_later_deadline_does_not_set_the_timer() {
        let bell = Bell::new();
        let now = Instant::now();
        let wait = |after: u32| bell.wait(now + LONG * after, None, Waker::noop());
        let rings_at = || bell.sleepers().rings_at.map(|at| at - now);
        let first = wait(3);
        assert_eq!(rings_at(), Some(LONG * 3));
        bell.sleepers().wakers.remove(&(now + LONG * 3, first));
        wait(5);
        assert_eq!(rings_at(), Some(LONG * 3), "it rings early, and is set then");
        wait(2);
        assert_eq!(rings_at(), Some(LONG * 2));
    }

    #[test]
    fn a_waker_that_panics_keeps_none_from_being_woken() {
        struct Panics;
        impl Wake for Panics {
            fn wake(self: Arc<Self>) {
                panic!("as it shall");
            }
        }
        let (tell, told) = mpsc::channel();
        let at = Instant::now() + Duration::from_millis(20);
        let mut alarms = [Alarm::at(at), Alarm::at(at)];
        for (alarm, waker) in
            alarms.iter_mut().zip([Waker::from(Arc::new(Panics)), teller(1, &tell)])
        {
            assert!(alarm.poll(&mut Context::from_waker(&waker)).is_pending());
        }
        assert_eq!(told.recv_timeout(LONG), Ok(1));
    }

    /// A task whose last waker drops it, and with it an alarm.
    #[test]
    fn a_waker_may_drop_an_alarm() {
        static DROPPED: AtomicUsize = AtomicUsize::new(0);
        struct Task {
            _alarm: Alarm,
        }
        impl Wake for Task {
            fn wake(self: Arc<Self>) {}
        }
        impl Drop for Task {
            fn drop(&mut self) {
                DROPPED.fetch_add(1, SeqCst);
            }
        }
        let at = Instant::now() + LONG;
        let mut alarm = Alarm::at(at);
        for _ in 0..2 {
            let mut inner = Alarm::at(at);
            assert!(inner.poll(&mut Context::from_waker(Waker::noop())).is_pending());
            let task = Waker::from(Arc::new(Task { _alarm: inner }));
            assert!(alarm.poll(&mut Context::from_waker(&task)).is_pending());
        }
        assert_eq!(DROPPED.load(SeqCst), 1);
        drop(alarm);
        assert_eq!(DROPPED.load(SeqCst), 2);
    }
}
