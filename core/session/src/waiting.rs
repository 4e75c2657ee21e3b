//! The wakers that the transport sees, one per direction.
//!
//! Both stay the same for the life of the session, and wake the application or the session task. So both may poll the
//! transport without stealing each other's wake-ups. `wake` takes only the small locks of this file, never the session's,
//! because the transport may call it from inside a poll. Such a wake-up is delivered after the poll, when the session's
//! lock is released: the application's waker is user code.

use std::sync::{Arc, PoisonError, atomic::Ordering};
use std::task::{Wake, Waker};

use super::{
    outbound::pending_flush::PendingFlush,
    panics::Panics,
    sync::{AtomicBool, AtomicU8, AtomicU64, Mutex, MutexGuard},
    waiters::PollWaker,
};

/// The transport is being polled, under the session's lock.
const POLLED: u8 = 1;
/// It has woken its reader, or its writer, during that poll.
pub(super) const READER: u8 = 2;
pub(super) const WRITER: u8 = 4;

/// The session task as others see it: its waker, and the requests to it.
///
/// Requesters set the flag, then wake; the task registers its waker, then checks the flag. Both take the waker's lock, so
/// that one of them sees the other, which the atomics alone do not guarantee.
#[derive(Debug)]
pub(super) struct TaskHandle {
    waker: Mutex<Option<Waker>>,
    /// The task is to step, for another reason than a pending flush.
    requested: AtomicBool,
    pub(super) pending_flush: PendingFlush,
    /// Whether the transport is being polled, and which wakers it has called since.
    polled: AtomicU8,
}

impl Default for TaskHandle {
    fn default() -> Self {
        Self {
            waker: Mutex::default(),
            requested: AtomicBool::new(true),
            pending_flush: PendingFlush::default(),
            polled: AtomicU8::new(0),
        }
    }
}

impl TaskHandle {
    /// Registers the waker of the session task, at the start of each of its polls.
    pub(super) fn register(&self, waker: &Waker) {
        let is_known = |known: &Waker| known.will_wake(waker);
        if relock(&self.waker).as_ref().is_some_and(is_known) {
            return;
        }
        // Without the lock, as the clone and the drop may be user code.
        let waker = waker.clone();
        let before = relock(&self.waker).replace(waker);
        drop(before);
    }

    /// Begins a poll of the transport: wake-ups in it are deferred.
    pub(super) fn begin_poll(&self) {
        self.polled.swap(POLLED, Ordering::AcqRel);
    }

    /// Ends the poll. Returns the wakers that were called: [`READER`], [`WRITER`].
    pub(super) fn end_poll(&self) -> u8 {
        self.polled.swap(0, Ordering::AcqRel) & !POLLED
    }

    /// Leaves a wake-up to the poll in progress. Returns whether there is one.
    fn defer(&self, who: u8) -> bool {
        let mut seen = self.polled.load(Ordering::Acquire);
        while seen & POLLED != 0 {
            let woken = seen | who;
            match self.polled.compare_exchange(seen, woken, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Has the session task step.
    pub(super) fn request_step(&self) {
        self.request();
        self.wake_task();
    }

    /// The session task is to step when it is woken.
    pub(super) fn request(&self) {
        self.requested.store(true, Ordering::Release);
    }

    /// Whether a step was requested since the last call.
    pub(super) fn take_request(&self) -> bool {
        self.requested.swap(false, Ordering::AcqRel)
    }

    /// Wakes the task, for a pending flush or another request. Until its next poll it is not to be woken again.
    pub(super) fn wake_task(&self) {
        let waker = relock(&self.waker).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The receiving direction: the waker that the transport sees.
#[derive(Debug)]
pub(super) struct Receiving {
    task: Arc<TaskHandle>,
    /// The waker of the application's pending `receive`.
    app: Mutex<Option<Waker>>,
    /// Counts wake-ups under `app`'s lock, so that one between a poll and the registration is seen.
    wakes: AtomicU64,
    /// The session task reads, or its grace timer runs: input need not wake it.
    watched: AtomicBool,
    /// Input wakes the session task at once.
    task_reads: AtomicBool,
}

impl Receiving {
    pub(super) fn new(task: Arc<TaskHandle>) -> Self {
        Self {
            task,
            app: Mutex::default(),
            wakes: AtomicU64::new(0),
            // The session task begins with a grace timer: the application may never receive.
            watched: AtomicBool::new(true),
            task_reads: AtomicBool::new(false),
        }
    }

    /// The number of wake-ups so far. Read it before the transport is polled.
    pub(super) fn wakes(&self) -> u64 {
        self.wakes.load(Ordering::Acquire)
    }

    /// Registers the application's waker after a poll that was pending. Returns the waker that it replaces.
    ///
    /// # Errors
    /// A wake-up came since `wakes` was read: poll again.
    pub(super) fn wait(&self, waker: &mut PollWaker, wakes: u64) -> Result<Option<Waker>, Woken> {
        let mut app = relock(&self.app);
        if self.wakes.load(Ordering::Acquire) != wakes {
            return Err(Woken);
        }
        Ok(std::mem::replace(&mut *app, waker.take()))
    }

    /// Whether the application waits.
    pub(super) fn app_waits(&self) -> bool {
        relock(&self.app).is_some()
    }

    /// Takes the application's waker, if it waits.
    pub(super) fn take_app(&self) -> Option<Waker> {
        relock(&self.app).take()
    }

    /// The application received without waiting: the session task has to check later whether it still does. Returns
    /// whether the task has to be woken for that.
    pub(super) fn watch(&self) -> bool {
        !self.watched.load(Ordering::Relaxed) && !self.watched.swap(true, Ordering::AcqRel)
    }

    /// The session task stops watching the application: the next input wakes it again.
    pub(super) fn unwatch(&self) {
        self.watched.store(false, Ordering::Release);
    }

    /// The session task watches the application.
    pub(super) fn watch_again(&self) {
        self.watched.store(true, Ordering::Release);
    }

    /// Whether the session task watches the application.
    pub(super) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Acquire)
    }

    /// Sets whether input wakes the session task at once.
    pub(super) fn set_task_reads(&self, reads: bool) {
        self.task_reads.store(reads, Ordering::Release);
    }
}

/// A wake-up came while the application was about to wait.
pub(super) struct Woken;

impl Receiving {
    /// Wakes the application if it waits, and the session task if it reads or has to begin watching.
    pub(super) fn tell(&self) {
        let app = self.take_app();
        self.tell_of_input(app);
    }

    #[inline]
    fn tell_of_input(&self, app: Option<Waker>) {
        if self.task_reads.load(Ordering::Acquire) || self.watch() {
            self.tell_both(app);
        } else if let Some(app) = app {
            app.wake();
        }
    }

    #[inline(never)]
    fn tell_both(&self, app: Option<Waker>) {
        let mut panics = Panics::default();
        if let Some(app) = app {
            panics.catch(|| app.wake());
        }
        panics.catch(|| self.task.request_step());
        panics.resume();
    }
}

impl Wake for Receiving {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let app = {
            let mut app = relock(&self.app);
            self.wakes.fetch_add(1, Ordering::AcqRel);
            if self.task.defer(READER) {
                return;
            }
            app.take()
        };
        self.tell_of_input(app);
    }
}

/// The sending direction: the waker that the transport sees. Only a full socket makes writing wait. Then the session task
/// continues to write, and wakes senders when there is room.
impl Wake for TaskHandle {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.request();
        if !self.defer(WRITER) {
            self.wake_task();
        }
    }
}

/// A poisoned lock is taken: no panic leaves the data of this file half changed.
fn relock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
