//! Who is woken when the transport can go on.
//!
//! The transport sees one waker per direction, always the same, made here; it wakes whoever waits. So
//! the application and the keeper may both poll without stealing each other's wake-ups. A `wake` takes
//! only the small locks in here, never the session's: it may be called from inside a poll.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use std::task::{Wake, Waker};

use super::burst::Burst;

/// The keeper task as others see it: its waker, and what it is asked for.
///
/// Who asks, asks first and then wakes; the keeper registers first and then looks. Both go through the waker's lock: so
/// one of them sees the other, which the atomics alone would not make sure.
#[derive(Debug)]
pub(super) struct Keeper {
    waker: Mutex<Option<Waker>>,
    /// There is something to look at beside the burst.
    looks: AtomicBool,
    pub(super) burst: Burst,
}

impl Default for Keeper {
    fn default() -> Self {
        Self { waker: Mutex::default(), looks: AtomicBool::new(true), burst: Burst::default() }
    }
}

impl Keeper {
    /// Makes this task the keeper; called by it at the start of each poll.
    pub(super) fn register(&self, waker: &Waker) {
        let mut slot = relock(&self.waker);
        if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }

    /// Has the keeper look at the session.
    pub(super) fn wake(&self) {
        self.ask_to_look();
        self.wake_task();
    }

    /// The keeper is to look at the session when it is woken.
    pub(super) fn ask_to_look(&self) {
        self.looks.store(true, Ordering::Release);
    }

    /// Whether it was asked to look at the session since this was called last.
    pub(super) fn take_looks(&self) -> bool {
        self.looks.swap(false, Ordering::AcqRel)
    }

    /// Wakes the task, for the burst or what else it was asked for.
    pub(super) fn wake_task(&self) {
        let waker = relock(&self.waker).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The receiving direction: the waker that the transport sees.
#[derive(Debug)]
pub(super) struct Receiving {
    keeper: Arc<Keeper>,
    app: Mutex<App>,
    /// Counts the wakes, under `app`'s lock, so that one between a poll and the registration is seen.
    wakes: AtomicU64,
    /// The keeper has a grace timer running, or reads: it need not be told that something came in.
    armed: AtomicBool,
    /// The keeper wants to be woken as soon as there is something to read.
    keeper_reads: AtomicBool,
}

/// The application's `receive`.
#[derive(Debug, Default)]
struct App {
    /// Kept between waits, so that waiting again costs no clone.
    waker: Option<Waker>,
    waiting: bool,
}

impl Receiving {
    pub(super) fn new(keeper: Arc<Keeper>) -> Self {
        Self {
            keeper,
            app: Mutex::default(),
            wakes: AtomicU64::new(0),
            // The keeper begins with a grace timer: the application may never receive.
            armed: AtomicBool::new(true),
            keeper_reads: AtomicBool::new(false),
        }
    }

    /// The number of wakes so far: to be read before the transport is polled.
    pub(super) fn wakes(&self) -> u64 {
        self.wakes.load(Ordering::Acquire)
    }

    /// The application waits, after a poll that was pending. Returns whether it was woken since `wakes`
    /// was read, so that it must not wait.
    pub(super) fn wait(&self, waker: &Waker, wakes: u64) -> bool {
        let mut app = relock(&self.app);
        if self.wakes.load(Ordering::Acquire) != wakes {
            return true;
        }
        if !app.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            app.waker = Some(waker.clone());
        }
        app.waiting = true;
        false
    }

    /// Whether the application waits.
    pub(super) fn app_waits(&self) -> bool {
        relock(&self.app).waiting
    }

    /// The waker of the application, if it waits; it does no longer.
    pub(super) fn take_app(&self) -> Option<Waker> {
        let mut app = relock(&self.app);
        std::mem::take(&mut app.waiting).then(|| app.waker.clone()).flatten()
    }

    /// The application takes what came in without waiting: the keeper shall look after it in a while.
    /// Returns whether the keeper has to be woken for that.
    pub(super) fn arm(&self) -> bool {
        !self.armed.load(Ordering::Relaxed) && !self.armed.swap(true, Ordering::AcqRel)
    }

    /// The keeper stops looking after the application: the next sign of life wakes it again.
    pub(super) fn disarm(&self) {
        self.armed.store(false, Ordering::Release);
    }

    /// The keeper looks after the application.
    pub(super) fn rearm(&self) {
        self.armed.store(true, Ordering::Release);
    }

    /// Whether the keeper was asked to look after the application.
    pub(super) fn is_armed(&self) -> bool {
        self.armed.load(Ordering::Acquire)
    }

    /// Whether the keeper wants to be woken whenever there is something to read.
    pub(super) fn set_keeper_reads(&self, reads: bool) {
        self.keeper_reads.store(reads, Ordering::Release);
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
            std::mem::take(&mut app.waiting).then(|| app.waker.clone()).flatten()
        };
        if let Some(app) = app {
            app.wake();
        }
        if self.keeper_reads.load(Ordering::Acquire) || self.arm() {
            self.keeper.wake();
        }
    }
}

/// The sending direction: the waker that the transport sees. Only a full socket makes it wait, and then
/// the keeper goes on writing and wakes the senders when there is room.
#[derive(Debug)]
pub(super) struct Sending(pub(super) Arc<Keeper>);

impl Wake for Sending {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake();
    }
}

/// Nothing in here can be left half changed by a panic.
fn relock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
