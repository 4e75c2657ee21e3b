//! A runtime in virtual time: tasks run on the test's thread, and time passes when none of them can.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    mem,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use drivetrain_engine::{Instant, Runtime, Timer};

use super::lock;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Default)]
pub(crate) struct TestRuntime {
    tasks: Mutex<Vec<(Task, Arc<Woken>)>>,
    polls: AtomicUsize,
    clock: Arc<Mutex<Clock>>,
}

#[derive(Default)]
struct Clock {
    now: Duration,
    timers: BTreeMap<(Duration, u64), Waker>,
    next: u64,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

impl Woken {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    fn take(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}

impl TestRuntime {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Runs a future and all tasks until the future is ready.
    pub(crate) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let woken = Woken::new();
        let waker = Waker::from(woken.clone());
        loop {
            if woken.take() {
                if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    return value;
                }
            } else if !self.poll_tasks() {
                assert!(self.advance(Duration::MAX), "nothing can happen any more");
            }
        }
    }

    /// Runs a future and all tasks until the future is ready, and then the tasks until none can go on. Time stands still.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.poll_now(pin!(future))
            .expect("it waits for what cannot happen while time stands still")
    }

    /// Polls this future, and all tasks, until it is ready or nothing can go on at this moment.
    pub(crate) fn poll_now<T>(&self, mut future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        let woken = Woken::new();
        let waker = Waker::from(woken.clone());
        self.settle();
        while woken.take() {
            let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
            self.settle();
            if let Poll::Ready(value) = polled {
                return Some(value);
            }
        }
        None
    }

    /// Polls this future once, and then all tasks until none makes progress.
    pub(crate) fn poll_once<T>(&self, future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        let polled = future.poll(&mut Context::from_waker(Waker::noop()));
        self.settle();
        polled
    }

    /// Runs all tasks until none makes progress at this moment.
    pub(crate) fn settle(&self) {
        while self.poll_tasks() {}
    }

    /// The same, and all that is due until this much later.
    pub(crate) fn pass(&self, time: Duration) {
        let until = self.elapsed() + time;
        self.settle();
        while self.advance(until) {
            self.settle();
        }
        lock(&self.clock).now = until;
    }

    /// How much time has passed.
    pub(crate) fn elapsed(&self) -> Duration {
        lock(&self.clock).now
    }

    /// How many tasks are left.
    pub(crate) fn tasks(&self) -> usize {
        lock(&self.tasks).len()
    }

    /// How often a task was polled.
    pub(crate) fn polls(&self) -> usize {
        self.polls.load(Ordering::Relaxed)
    }

    /// Drops all tasks, as a runtime does that shuts down.
    pub(crate) fn shut_down(&self) {
        let tasks = mem::take(&mut *lock(&self.tasks));
        drop(tasks);
    }

    /// Polls the tasks that were woken. Returns whether there was one.
    fn poll_tasks(&self) -> bool {
        let mut tasks = mem::take(&mut *lock(&self.tasks));
        let mut any = false;
        tasks.retain_mut(|(task, woken)| {
            if !woken.take() {
                return true;
            }
            any = true;
            self.polls.fetch_add(1, Ordering::Relaxed);
            let waker = Waker::from(woken.clone());
            task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending()
        });
        let mut left = lock(&self.tasks);
        tasks.append(&mut left);
        *left = tasks;
        any
    }

    /// Advances to the next timer, if it is due by then. Returns whether there is one.
    fn advance(&self, until: Duration) -> bool {
        let waker = {
            let mut clock = lock(&self.clock);
            let Some(entry) = clock.timers.first_entry() else { return false };
            if entry.key().0 > until {
                return false;
            }
            let ((due, _), waker) = entry.remove_entry();
            clock.now = clock.now.max(due);
            waker
        };
        waker.wake();
        true
    }
}

impl fmt::Debug for TestRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TestRuntime")
    }
}

impl Runtime for TestRuntime {
    fn spawn(&self, task: Task) {
        lock(&self.tasks).push((task, Woken::new()));
    }

    fn now(&self) -> Instant {
        Instant::from_origin(self.elapsed())
    }

    fn timer(&self, deadline: Instant) -> Box<dyn Timer> {
        Box::new(TestTimer { clock: self.clock.clone(), due: deadline.since_origin(), key: None })
    }

    fn random(&self) -> u32 {
        0
    }
}

struct TestTimer {
    clock: Arc<Mutex<Clock>>,
    due: Duration,
    key: Option<(Duration, u64)>,
}

impl TestTimer {
    fn forget(&mut self) {
        if let Some(key) = self.key.take() {
            lock(&self.clock).timers.remove(&key);
        }
    }
}

impl Timer for TestTimer {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.forget();
        let mut clock = lock(&self.clock);
        if clock.now >= self.due {
            return Poll::Ready(());
        }
        clock.next += 1;
        let key = (self.due, clock.next);
        clock.timers.insert(key, cx.waker().clone());
        self.key = Some(key);
        Poll::Pending
    }

    fn reset(&mut self, deadline: Instant) {
        self.forget();
        self.due = deadline.since_origin();
    }
}

impl Drop for TestTimer {
    fn drop(&mut self) {
        self.forget();
    }
}
