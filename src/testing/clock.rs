//! A runtime whose time stands still until the test moves it.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    hash::{BuildHasher as _, RandomState},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use drivetrain_engine::{Connection, Engine, Instant, Runtime, Timer};

use super::worker::{Turn, Worker, lock};
use crate::{
    Session, WebSockets,
    options::{Effective, SessionOptions},
    session::Stagger,
    trace,
};

/// A single-threaded executor with a clock that moves only when [`advance`](Self::advance) moves it.
///
/// A clone is the same runtime. Tasks run inside [`block_on`](Self::block_on),
/// [`advance`](Self::advance) and [`settle`](Self::settle).
#[derive(Clone, Default)]
pub struct TestRuntime(Arc<Inner>);

#[derive(Default)]
struct Inner {
    now: Mutex<Duration>,
    ready: Mutex<VecDeque<Arc<Task>>>,
    timers: Mutex<Vec<Arc<Alarm>>>,
    tasks: AtomicUsize,
    turn: Turn,
    /// Grows with everything that happens on this runtime, whoever polls it.
    activity: AtomicU64,
    /// For a mock's clock: polls what nobody else polls, and leaves nothing to chance.
    worker: Option<Worker>,
    /// How many `block_on` are going on: meanwhile tasks are theirs, and the worker's thread rests.
    blocking: AtomicUsize,
}

type TaskFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Task {
    future: Mutex<Option<TaskFuture>>,
    runtime: Weak<Inner>,
    queued: AtomicBool,
}

#[derive(Default)]
struct Alarm {
    deadline: Mutex<Duration>,
    waker: Mutex<Option<Waker>>,
    /// It woke somebody who has not looked at it since.
    is_unseen: AtomicBool,
}

impl TestRuntime {
    /// A runtime at the origin of its clock.
    pub fn new() -> Self {
        Self::default()
    }

    /// One whose tasks are polled by a thread of its own whenever nobody else polls them.
    pub(super) fn with_worker() -> Self {
        Self(Arc::new(Inner { worker: Some(Worker::default()), ..Inner::default() }))
    }

    /// Opens a session on a connection, with the options of the plugin, as a client would; but the first
    /// ping comes after the whole interval. The plugin's extensions that the connection says were agreed on are
    /// applied.
    ///
    /// # Panics
    /// If the connection has extensions that the plugin does not offer, or lacks one that is required.
    pub fn session(&self, connection: Connection, plugin: WebSockets) -> Session {
        let engine = super::pipe_engine::PipeEngine(self.clone());
        let effective = Effective::new(&engine, &plugin, &SessionOptions::default(), None);
        let extensions = effective.extensions.negotiated(&connection);
        let extensions =
            extensions.expect("what the connection says that was agreed on is offered");
        let span = trace::session(engine.name(), &Default::default(), &connection);
        let runtime = Arc::new(self.clone());
        Session::open(connection, extensions, runtime, effective.session, Stagger::default(), span)
    }

    /// Runs a future to its end, and tasks beside it. Time stands still.
    ///
    /// # Panics
    /// If the future waits for something that cannot happen without time moving on.
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

    /// Polls a future once after letting tasks run, and again as long as it is woken; `None` if it waits.
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

    /// Lets all tasks run until each one waits.
    pub fn settle(&self) {
        while self.run_one() {}
    }

    /// Moves the clock, stopping at each timer on the way to let the tasks run.
    pub fn advance(&self, duration: Duration) {
        self.settle();
        let until = self.elapsed().saturating_add(duration);
        while self.step(until) {
            self.settle();
        }
        self.settle();
    }

    /// Moves the clock to the next timer, or to `until` if there is none before, and wakes who waits for it.
    /// Returns whether there was one.
    pub(super) fn step(&self, until: Duration) -> bool {
        let next = self.next_alarm().filter(|&deadline| deadline <= until);
        let now = {
            let mut now = lock(&self.0.now);
            *now = next.unwrap_or(until).max(*now);
            *now
        };
        let due: Vec<_> = lock(&self.0.timers).iter().filter_map(|alarm| alarm.ring(now)).collect();
        due.into_iter().for_each(Waker::wake);
        next.is_some()
    }

    /// The time since the clock began.
    pub(super) fn elapsed(&self) -> Duration {
        *lock(&self.0.now)
    }

    /// Changes whenever something has happened on this runtime.
    pub(super) fn activity(&self) -> u64 {
        self.0.activity.load(Ordering::Acquire)
    }

    /// Something has happened that concerns it.
    pub(super) fn note_activity(&self) {
        self.0.note_activity();
    }

    /// Whether somebody was woken by a timer and has not looked at it since.
    pub(super) fn is_unseen(&self) -> bool {
        let timers = lock(&self.0.timers);
        timers
            .iter()
            .any(|alarm| Arc::strong_count(alarm) > 1 && alarm.is_unseen.load(Ordering::Acquire))
    }

    /// How many tasks have been spawned and have not ended.
    pub fn tasks(&self) -> usize {
        self.0.tasks.load(Ordering::Acquire)
    }

    /// The earliest deadline that somebody waits for.
    fn next_alarm(&self) -> Option<Duration> {
        let mut timers = lock(&self.0.timers);
        // One reference is this list's: nobody has the timer any more.
        timers.retain(|alarm| Arc::strong_count(alarm) > 1);
        timers.iter().filter(|alarm| alarm.is_awaited()).map(|alarm| *lock(&alarm.deadline)).min()
    }

    fn run_one(&self) -> bool {
        self.0.run_one()
    }
}

impl Inner {
    /// Polls the task that has waited longest; `false` if there is none, and inside a task.
    fn run_one(&self) -> bool {
        let Some(_turn) = self.turn.take() else { return false };
        let Some(task) = lock(&self.ready).pop_front() else { return false };
        task.queued.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(&task));
        let Some(mut future) = lock(&task.future).take() else { return true };
        // One that panics is gone like one that has ended.
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

/// A `block_on` that is going on.
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
        Arc::new(Task { future, runtime, queued: AtomicBool::new(false) }).wake();
    }

    fn now(&self) -> Instant {
        Instant::from_origin(*lock(&self.0.now))
    }

    fn timer(&self, deadline: Instant) -> Box<dyn Timer> {
        let alarm = Arc::new(Alarm::default());
        *lock(&alarm.deadline) = deadline.since_origin();
        lock(&self.0.timers).push(Arc::clone(&alarm));
        self.0.note_activity();
        Box::new(TestTimer { alarm, runtime: Arc::downgrade(&self.0) })
    }

    fn random(&self) -> u32 {
        match self.0.worker {
            Some(_) => 0,
            None => RandomState::new().hash_one(()) as u32,
        }
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
    alarm: Arc<Alarm>,
    /// A task that waits does not keep its runtime.
    runtime: Weak<Inner>,
}

impl Timer for TestTimer {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.alarm.is_unseen.swap(false, Ordering::AcqRel) {
            self.note_activity();
        }
        // Registered first: a clock that moves in between wakes, and one that has moved is seen below.
        *lock(&self.alarm.waker) = Some(cx.waker().clone());
        let now = self.runtime.upgrade().map(|runtime| *lock(&runtime.now));
        if now.is_none_or(|now| *lock(&self.alarm.deadline) > now) {
            return Poll::Pending;
        }
        lock(&self.alarm.waker).take();
        Poll::Ready(())
    }

    fn reset(&mut self, deadline: Instant) {
        self.alarm.is_unseen.store(false, Ordering::Release);
        self.note_activity();
        *lock(&self.alarm.deadline) = deadline.since_origin();
    }
}

impl Alarm {
    fn is_awaited(&self) -> bool {
        lock(&self.waker).is_some()
    }

    /// Who is to be woken, if it is due.
    fn ring(&self, now: Duration) -> Option<Waker> {
        if *lock(&self.deadline) > now {
            return None;
        }
        let waker = lock(&self.waker).take();
        self.is_unseen.fetch_or(waker.is_some(), Ordering::AcqRel);
        waker
    }
}

impl TestTimer {
    /// Looking at a timer that is not due is none: a future does that whenever it is polled.
    fn note_activity(&self) {
        if let Some(runtime) = self.runtime.upgrade() {
            runtime.note_activity();
        }
    }
}

impl Wake for Task {
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

const _: () = {
    const fn engine<E: Engine>() {}
    engine::<super::pipe_engine::PipeEngine>();
};
