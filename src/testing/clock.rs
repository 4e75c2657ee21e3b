//! A runtime with time that only the test moves.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use drivetrain_engine::{Instant, Runtime, Timer};
use drivetrain_session::wake_all;

use super::worker::{Turn, Worker, lock};

/// A single-threaded executor with a clock that only [`advance`](Self::advance) moves.
///
/// A clone is the same runtime. Tasks run inside [`block_on`](Self::block_on),
/// [`advance`](Self::advance) and [`settle`](Self::settle).
#[derive(Clone, Default)]
pub struct TestRuntime(Arc<Inner>);

#[derive(Default)]
struct Inner {
    now: Mutex<Duration>,
    ready: Mutex<VecDeque<Arc<TestTask>>>,
    timers: Mutex<Vec<Arc<TimerState>>>,
    tasks: AtomicUsize,
    turn: Turn,
    /// Number of events on this runtime, by any poller.
    activity: AtomicU64,
    /// For a mock's clock: polls idle tasks on a thread, and has no randomness.
    worker: Option<Worker>,
    /// Number of running `block_on` calls. They poll the tasks, and the worker thread rests.
    blocking: AtomicUsize,
}

type TaskFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

struct TestTask {
    future: Mutex<Option<TaskFuture>>,
    runtime: Weak<Inner>,
    queued: AtomicBool,
}

#[derive(Default)]
struct TimerState {
    deadline: Mutex<Duration>,
    waker: Mutex<Option<Waker>>,
    /// The timer woke a task that has not polled it since.
    is_unseen: AtomicBool,
}

impl TestRuntime {
    /// A new runtime at the origin of its clock.
    pub fn new() -> Self {
        Self::default()
    }

    /// A runtime with a worker thread, which polls tasks while no caller does.
    pub(super) fn with_worker() -> Self {
        Self(Arc::new(Inner { worker: Some(Worker::default()), ..Inner::default() }))
    }

    /// Runs a future and all tasks until the future completes. Time stands still.
    ///
    /// # Panics
    /// If the future can finish only after the clock moves.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let _blocking = Blocking::begin(&self.0);
        let mut future = pin!(future);
        let woken = Arc::new(Flag(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&woken));
        loop {
            if woken.0.swap(false, Ordering::AcqRel) {
                if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    self.settle();
                    return value;
                }
            } else if !self.run_one() && !woken.0.load(Ordering::Acquire) {
                panic!("the future waits for something that cannot happen while time stands still");
            }
        }
    }

    /// Lets tasks run, then polls a future until it is pending without a wake-up; `None` if it is pending.
    pub fn poll_now<T>(&self, future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        let mut future = future;
        let woken = Arc::new(Flag(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&woken));
        self.settle();
        while woken.0.swap(false, Ordering::AcqRel) {
            if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Some(value);
            }
            self.settle();
        }
        None
    }

    /// Runs all tasks until each one is pending.
    pub fn settle(&self) {
        while self.run_one() {}
    }

    /// Moves the clock, and runs the tasks at each timer on the way.
    pub fn advance(&self, duration: Duration) {
        self.settle();
        let until = self.elapsed().saturating_add(duration);
        while self.step(until) {
            self.settle();
        }
        self.settle();
    }

    /// Moves the clock to the next timer, or to `until` without an earlier timer, and wakes the waiting tasks.
    /// Returns whether there was a timer.
    pub(super) fn step(&self, until: Duration) -> bool {
        let next = self.next_alarm().filter(|&deadline| deadline <= until);
        let now = {
            let mut now = lock(&self.0.now);
            *now = next.unwrap_or(until).max(*now);
            *now
        };
        let due: Vec<_> =
            lock(&self.0.timers).iter().filter_map(|timer| timer.take_waker(now)).collect();
        wake_all(due);
        next.is_some()
    }

    /// The time since the clock began.
    pub(super) fn elapsed(&self) -> Duration {
        *lock(&self.0.now)
    }

    /// Changes with each event on this runtime.
    pub(super) fn activity(&self) -> u64 {
        self.0.activity.load(Ordering::Acquire)
    }

    /// Records an event.
    pub(super) fn note_activity(&self) {
        self.0.note_activity();
    }

    /// Whether a timer woke a task that has not polled the timer since.
    pub(super) fn is_unseen(&self) -> bool {
        let timers = lock(&self.0.timers);
        timers
            .iter()
            .any(|timer| Arc::strong_count(timer) > 1 && timer.is_unseen.load(Ordering::Acquire))
    }

    /// Number of unfinished tasks.
    pub fn tasks(&self) -> usize {
        self.0.tasks.load(Ordering::Acquire)
    }

    /// The earliest deadline of a waiting task.
    fn next_alarm(&self) -> Option<Duration> {
        let mut timers = lock(&self.0.timers);
        // The list holds the only reference: no task has the timer any more.
        timers.retain(|timer| Arc::strong_count(timer) > 1);
        timers.iter().filter(|timer| timer.is_awaited()).map(|timer| *lock(&timer.deadline)).min()
    }

    fn run_one(&self) -> bool {
        self.0.run_one()
    }
}

impl Inner {
    /// Polls the oldest ready task; `false` without one, and inside a task.
    fn run_one(&self) -> bool {
        let Some(_turn) = self.turn.take() else { return false };
        let Some(task) = lock(&self.ready).pop_front() else { return false };
        task.queued.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(&task));
        let Some(mut future) = lock(&task.future).take() else { return true };
        // A task that panics is removed like a finished one.
        let ended = Ended(&self.tasks);
        if future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            std::mem::forget(ended);
            *lock(&task.future) = Some(future);
        }
        true
    }

    fn note_activity(&self) {
        self.activity.fetch_add(1, Ordering::AcqRel);
    }
}

/// A running `block_on`.
struct Blocking<'a>(&'a Inner);

impl<'a> Blocking<'a> {
    fn begin(inner: &'a Inner) -> Self {
        inner.blocking.fetch_add(1, Ordering::AcqRel);
        // The worker's thread may be in the middle of a task.
        drop(inner.turn.take());
        Self(inner)
    }
}

impl Drop for Blocking<'_> {
    fn drop(&mut self) {
        self.0.blocking.fetch_sub(1, Ordering::AcqRel);
        if let Some(worker) = &self.0.worker {
            worker.notify();
        }
    }
}

struct Ended<'a>(&'a AtomicUsize);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Runtime for TestRuntime {
    fn spawn(&self, future: TaskFuture) {
        self.0.tasks.fetch_add(1, Ordering::AcqRel);
        let runtime = Arc::downgrade(&self.0);
        if let Some(worker) = &self.0.worker {
            let runtime = Weak::clone(&runtime);
            worker.start(move || {
                let Some(runtime) = runtime.upgrade() else { return false };
                while runtime.blocking.load(Ordering::Acquire) == 0 && runtime.run_one() {}
                true
            });
        }
        let future = Mutex::new(Some(future));
        Arc::new(TestTask { future, runtime, queued: AtomicBool::new(false) }).wake();
    }

    fn now(&self) -> Instant {
        Instant::from_origin(*lock(&self.0.now))
    }

    fn timer(&self, deadline: Instant) -> Box<dyn Timer> {
        let timer = Arc::new(TimerState::default());
        *lock(&timer.deadline) = deadline.since_origin();
        lock(&self.0.timers).push(Arc::clone(&timer));
        self.0.note_activity();
        Box::new(TestTimer { timer, runtime: Arc::downgrade(&self.0) })
    }

    fn random(&self) -> u32 {
        0
    }
}

impl fmt::Debug for TestRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestRuntime")
            .field("now", &*lock(&self.0.now))
            .field("tasks", &self.tasks())
            .finish()
    }
}

struct TestTimer {
    timer: Arc<TimerState>,
    /// A pending task does not keep its runtime alive.
    runtime: Weak<Inner>,
}

impl Timer for TestTimer {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.timer.is_unseen.swap(false, Ordering::AcqRel) {
            self.note_activity();
        }
        // Register first: a clock that moves later wakes the task, and an earlier move is seen below.
        let waker = cx.waker().clone();
        let before = lock(&self.timer.waker).replace(waker);
        drop(before);
        let now = self.runtime.upgrade().map(|runtime| *lock(&runtime.now));
        if now.is_none_or(|now| *lock(&self.timer.deadline) > now) {
            return Poll::Pending;
        }
        let waker = lock(&self.timer.waker).take();
        drop(waker);
        Poll::Ready(())
    }

    fn reset(&mut self, deadline: Instant) {
        self.timer.is_unseen.store(false, Ordering::Release);
        self.note_activity();
        *lock(&self.timer.deadline) = deadline.since_origin();
    }
}

impl TimerState {
    fn is_awaited(&self) -> bool {
        lock(&self.waker).is_some()
    }

    /// The waker of a due timer.
    fn take_waker(&self, now: Duration) -> Option<Waker> {
        if *lock(&self.deadline) > now {
            return None;
        }
        let waker = lock(&self.waker).take();
        self.is_unseen.fetch_or(waker.is_some(), Ordering::AcqRel);
        waker
    }
}

impl TestTimer {
    /// Polling a timer early is not activity.
    fn note_activity(&self) {
        if let Some(runtime) = self.runtime.upgrade() {
            runtime.note_activity();
        }
    }
}

impl Wake for TestTask {
    fn wake(self: Arc<Self>) {
        let Some(runtime) = self.runtime.upgrade() else { return };
        if self.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        runtime.note_activity();
        lock(&runtime.ready).push_back(self);
        if let Some(worker) = &runtime.worker {
            worker.notify();
        }
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}
