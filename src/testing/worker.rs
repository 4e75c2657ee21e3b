//! Polling of a test runtime's tasks: one thread at a time, and a worker thread while no caller polls.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, Builder, ThreadId},
};

/// The right to poll tasks. Only the owner polls.
#[derive(Default)]
pub(super) struct Turn {
    runner: Mutex<Option<ThreadId>>,
    free: Condvar,
}

/// Returns the right to poll.
pub(super) struct Taken<'a>(&'a Turn);

impl Turn {
    /// Waits for the right to poll; `None` for a task that asks while it is polled.
    pub(super) fn take(&self) -> Option<Taken<'_>> {
        let me = thread::current().id();
        let mut runner = lock(&self.runner);
        loop {
            match *runner {
                None => break,
                Some(other) if other == me => return None,
                Some(_) => runner = self.free.wait(runner).unwrap_or_else(PoisonError::into_inner),
            }
        }
        *runner = Some(me);
        Some(Taken(self))
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *lock(&self.0.runner) = None;
        self.0.free.notify_one();
    }
}

/// The thread that polls woken tasks while no caller polls. It starts with the first task and ends with this value.
#[derive(Default)]
pub(super) struct Worker(Arc<WorkerShared>);

#[derive(Default)]
struct WorkerShared {
    work: Mutex<Work>,
    changed: Condvar,
}

#[derive(Default)]
struct Work {
    is_started: bool,
    is_over: bool,
    is_there: bool,
}

impl Worker {
    /// Starts the thread, once; `run` polls what can be polled and says whether the runtime is still there.
    pub(super) fn start(&self, run: impl Fn() -> bool + Send + 'static) {
        if std::mem::replace(&mut lock(&self.0.work).is_started, true) {
            return;
        }
        let shared = Arc::clone(&self.0);
        // Without threads, as on wasm32, tasks run in the calls on the clock and on the mock.
        let _ = Builder::new().name("drivetrain-mock".into()).spawn(move || {
            while shared.wait() {
                // The panic hook has reported the panic; other tasks continue.
                if let Ok(false) = catch_unwind(AssertUnwindSafe(&run)) {
                    return;
                }
            }
        });
    }

    /// Announces a task to poll.
    pub(super) fn notify(&self) {
        lock(&self.0.work).is_there = true;
        self.0.changed.notify_one();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        lock(&self.0.work).is_over = true;
        self.0.changed.notify_one();
    }
}

impl WorkerShared {
    fn wait(&self) -> bool {
        let mut work = lock(&self.work);
        while !work.is_there && !work.is_over {
            work = self.changed.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
        work.is_there = false;
        !work.is_over
    }
}

/// The state stays usable after a panic of the test.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
