//! A runtime whose time stands still until the test moves it.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use drivetrain_engine::{Connection, Engine, Instant, Runtime, Timer};

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
    tasks: std::sync::atomic::AtomicUsize,
}

type TaskFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Task {
    future: Mutex<Option<TaskFuture>>,
    runtime: Arc<Inner>,
    queued: AtomicBool,
}

#[derive(Default)]
struct Alarm {
    deadline: Mutex<Duration>,
    waker: Mutex<Option<Waker>>,
}

impl TestRuntime {
    /// A runtime at the origin of its clock.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens a session on a connection, with the options of the plugin, as a client would; but the first
    /// ping comes after the whole interval. The plugin's extensions that the connection says were agreed on are
    /// applied.
    ///
    /// # Panics
    /// If the connection has extensions that the plugin does not offer, or lacks one that is required.
    pub fn session(&self, connection: Connection, plugin: WebSockets) -> Session {
        let engine = super::pipe::PipeEngine(self.clone());
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
        let mut future = pin!(future);
        let woken = Arc::new(Flag(AtomicBool::new(true)));
        let waker = Waker::from(Arc::clone(&woken));
        loop {
            if woken.0.swap(false, Ordering::AcqRel) {
                if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    self.settle();
                    return value;
                }
            } else if !self.run_one() {
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
        let until = *lock(&self.0.now) + duration;
        loop {
            let next = self.next_alarm().filter(|&deadline| deadline <= until);
            *lock(&self.0.now) = next.unwrap_or(until);
            for alarm in lock(&self.0.timers).iter() {
                alarm.ring(next.unwrap_or(until));
            }
            self.settle();
            if next.is_none() {
                return;
            }
        }
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
        let Some(task) = lock(&self.0.ready).pop_front() else { return false };
        task.queued.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(&task));
        let mut slot = lock(&task.future);
        let is_done = slot.as_mut().is_some_and(|future| {
            future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
        });
        if is_done {
            *slot = None;
            self.0.tasks.fetch_sub(1, Ordering::AcqRel);
        }
        true
    }
}

impl Runtime for TestRuntime {
    fn spawn(&self, future: TaskFuture) {
        self.0.tasks.fetch_add(1, Ordering::AcqRel);
        let task = Task {
            future: Mutex::new(Some(future)),
            runtime: Arc::clone(&self.0),
            queued: AtomicBool::new(false),
        };
        Arc::new(task).wake();
    }

    fn now(&self) -> Instant {
        Instant::from_origin(*lock(&self.0.now))
    }

    fn timer(&self, deadline: Instant) -> Box<dyn Timer> {
        let alarm = Arc::new(Alarm::default());
        *lock(&alarm.deadline) = deadline.since_origin();
        lock(&self.0.timers).push(Arc::clone(&alarm));
        Box::new(TestTimer { alarm, runtime: Arc::clone(&self.0) })
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
    runtime: Arc<Inner>,
}

impl Timer for TestTimer {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if *lock(&self.alarm.deadline) <= *lock(&self.runtime.now) {
            return Poll::Ready(());
        }
        *lock(&self.alarm.waker) = Some(cx.waker().clone());
        Poll::Pending
    }

    fn reset(&mut self, deadline: Instant) {
        *lock(&self.alarm.deadline) = deadline.since_origin();
    }
}

impl Alarm {
    fn is_awaited(&self) -> bool {
        lock(&self.waker).is_some()
    }

    fn ring(&self, now: Duration) {
        if *lock(&self.deadline) > now {
            return;
        }
        if let Some(waker) = lock(&self.waker).take() {
            waker.wake();
        }
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            let runtime = Arc::clone(&self.runtime);
            lock(&runtime.ready).push_back(self);
        }
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// A test that has panicked may still look at the clock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const _: () = {
    const fn engine<E: Engine>() {}
    engine::<super::pipe::PipeEngine>();
};
