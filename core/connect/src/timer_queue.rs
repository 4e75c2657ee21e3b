//! The shared timer queue: the deadlines of all sessions on one timer of async-io.
//!
//! async-io interrupts its reactor's wait whenever a timer is set, even if that timer is the last to fire. Here only a
//! deadline before all others sets the timer.

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
pub(crate) struct QueuedTimer {
    at: Instant,
    /// Its number in the queue, once it waited.
    number: Option<u64>,
}

impl QueuedTimer {
    pub(crate) fn at(at: Instant) -> Self {
        Self { at, number: None }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.at {
            self.forget();
            return Poll::Ready(());
        }
        self.number = Some(TimerQueue::shared().wait(self.at, self.number, cx.waker()));
        Poll::Pending
    }

    pub(crate) fn set_at(&mut self, at: Instant) {
        *self = Self::at(at); // the one before waits no longer
    }

    /// Waits no longer.
    fn forget(&mut self) {
        if let Some(number) = self.number.take() {
            let waker = TimerQueue::shared().lock().wakers.remove(&(self.at, number));
            drop(waker); // without the lock: a task's last waker may drop the task
        }
    }
}

impl Drop for QueuedTimer {
    fn drop(&mut self) {
        self.forget();
    }
}

/// The queue of the process; its timer wakes it.
struct TimerQueue(Mutex<Queue>);

/// The timers that wait, by their deadlines.
struct Queue {
    wakers: BTreeMap<(Instant, u64), Waker>,
    latest: u64,
    timer: Timer,
    /// The moment that the timer is set to, unless it has fired since. It may be before all deadlines.
    fires_at: Option<Instant>,
}

impl TimerQueue {
    fn new() -> Arc<Self> {
        let (wakers, timer) = (BTreeMap::new(), Timer::never());
        Arc::new(Self(Mutex::new(Queue { wakers, latest: 0, timer, fires_at: None })))
    }

    fn shared() -> &'static Arc<Self> {
        static SHARED: OnceLock<Arc<TimerQueue>> = OnceLock::new();
        SHARED.get_or_init(Self::new)
    }

    /// Nothing in here can be left half changed by a panic.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has this waker woken at a moment, instead of what was left under the number. Returns the new number.
    fn wait(self: &Arc<Self>, at: Instant, number: Option<u64>, waker: &Waker) -> u64 {
        let waker = waker.clone();
        let mut queue = self.lock();
        let number = number.unwrap_or_else(|| {
            queue.latest += 1;
            queue.latest
        });
        let replaced = queue.wakers.insert((at, number), waker);
        let due = queue.set_timer(self);
        drop(queue);
        drop(replaced);
        wake(due);
        number
    }
}

impl Wake for TimerQueue {
    fn wake(self: Arc<Self>) {
        let mut queue = self.lock();
        let mut due = queue.take_due();
        due.extend(queue.set_timer(&self));
        drop(queue);
        wake(due);
    }
}

impl Queue {
    /// Takes out the wakers whose moment has come, after the timer has fired.
    fn take_due(&mut self) -> Vec<Waker> {
        self.fires_at = None;
        let later = self.wakers.split_off(&(Instant::now(), u64::MAX));
        mem::replace(&mut self.wakers, later).into_values().collect()
    }

    /// Sets the timer for the first deadline, if it would fire later. Returns the wakers that are due by then.
    fn set_timer(&mut self, shared: &Arc<TimerQueue>) -> Vec<Waker> {
        let mut due = Vec::new();
        while let Some((&(first, _), _)) = self.wakers.first_key_value() {
            if self.fires_at.is_some_and(|at| at <= first) {
                break;
            }
            self.timer.set_at(first);
            self.fires_at = Some(first);
            let waker = Waker::from(Arc::clone(shared));
            if Pin::new(&mut self.timer).poll(&mut Context::from_waker(&waker)).is_pending() {
                break;
            }
            due.extend(self.take_due());
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

    /// How far away moments are. A machine that is too slow to wait for one before it has come tries the next.
    const AWAY: [Duration; 3] =
        [Duration::from_millis(20), Duration::from_millis(500), Duration::from_secs(10)];

    #[test]
    fn timers_fire_in_the_order_of_their_moments_and_not_before() {
        assert!(AWAY.into_iter().any(fire_in_order), "no timer is pending");
    }

    fn fire_in_order(away: Duration) -> bool {
        let (tell, told) = mpsc::channel();
        let start = Instant::now();
        let moment = |number: usize| start + away * (number as u32 + 1);
        let mut timers: Vec<_> =
            [2, 0, 3, 1].map(|number| (number, QueuedTimer::at(moment(number)))).into();
        for (number, timer) in &mut timers {
            let waker = teller(*number, &tell);
            if timer.poll(&mut Context::from_waker(&waker)).is_ready() {
                assert!(Instant::now() >= moment(*number));
                return false;
            }
        }
        for number in 0..4 {
            assert_eq!(told.recv_timeout(LONG), Ok(number));
            assert!(Instant::now() >= moment(number));
            let (_, timer) = timers.iter_mut().find(|(known, _)| *known == number).expect("there");
            assert!(timer.poll(&mut Context::from_waker(Waker::noop())).is_ready());
        }
        true
    }

    #[test]
    fn the_waker_of_the_latest_poll_is_woken_and_a_dropped_timer_wakes_nobody() {
        assert!(AWAY.into_iter().any(only_the_latest_is_woken), "no timer is pending");
    }

    fn only_the_latest_is_woken(away: Duration) -> bool {
        let (tell, told) = mpsc::channel();
        let at = Instant::now() + away;
        let mut timer = QueuedTimer::at(at);
        let mut dropped = QueuedTimer::at(at);
        let mut moved = QueuedTimer::at(at);
        let is_pending = |timer: &mut QueuedTimer, number| {
            let waker = teller(number, &tell);
            timer.poll(&mut Context::from_waker(&waker)).is_pending()
        };
        let are_pending = is_pending(&mut timer, 1)
            && is_pending(&mut dropped, 2)
            && is_pending(&mut moved, 3)
            && is_pending(&mut timer, 4);
        drop(dropped);
        moved.set_at(at + LONG);
        // Those that were changed too late have fired.
        if !are_pending || Instant::now() >= at {
            return false;
        }
        assert_eq!(told.recv_timeout(LONG), Ok(4));
        // Later timers fire after it, so that nothing else can have been meant.
        let mut last = QueuedTimer::at(Instant::now() + away);
        if !is_pending(&mut last, 5) {
            return false;
        }
        assert_eq!(told.recv_timeout(LONG), Ok(5));
        true
    }

    #[test]
    fn a_later_deadline_does_not_set_the_timer() {
        let shared = TimerQueue::new();
        let now = Instant::now();
        let wait = |after: u32| shared.wait(now + LONG * after, None, Waker::noop());
        let fires_at = || shared.lock().fires_at.map(|at| at - now);
        let first = wait(3);
        assert_eq!(fires_at(), Some(LONG * 3));
        shared.lock().wakers.remove(&(now + LONG * 3, first));
        wait(5);
        assert_eq!(fires_at(), Some(LONG * 3), "it fires early, and is set then");
        wait(2);
        assert_eq!(fires_at(), Some(LONG * 2));
    }

    #[test]
    fn a_waker_that_panics_keeps_none_from_being_woken() {
        assert!(AWAY.into_iter().any(both_are_woken), "no timer is pending");
    }

    fn both_are_woken(away: Duration) -> bool {
        struct Panics;
        impl Wake for Panics {
            fn wake(self: Arc<Self>) {
                panic!("as it shall");
            }
        }
        let (tell, told) = mpsc::channel();
        let at = Instant::now() + away;
        let mut timers = [QueuedTimer::at(at), QueuedTimer::at(at)];
        for (timer, waker) in
            timers.iter_mut().zip([Waker::from(Arc::new(Panics)), teller(1, &tell)])
        {
            if timer.poll(&mut Context::from_waker(&waker)).is_ready() {
                return false;
            }
        }
        assert_eq!(told.recv_timeout(LONG), Ok(1));
        true
    }

    /// A task whose last waker drops it, and with it a timer.
    #[test]
    fn a_waker_may_drop_a_timer() {
        static DROPPED: AtomicUsize = AtomicUsize::new(0);
        struct Task {
            _timer: QueuedTimer,
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
        let mut timer = QueuedTimer::at(at);
        for _ in 0..2 {
            let mut inner = QueuedTimer::at(at);
            assert!(inner.poll(&mut Context::from_waker(Waker::noop())).is_pending());
            let task = Waker::from(Arc::new(Task { _timer: inner }));
            assert!(timer.poll(&mut Context::from_waker(&task)).is_pending());
        }
        assert_eq!(DROPPED.load(SeqCst), 1);
        drop(timer);
        assert_eq!(DROPPED.load(SeqCst), 2);
    }
}
