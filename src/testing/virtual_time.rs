//! The clock of a mock. A test moves the clock under any executor.

use std::{
    future::{Future, poll_fn},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use drivetrain_engine::{Instant, Runtime};

use super::TestRuntime;

/// Number of idle turns in a row after which all tasks count as idle.
const QUIET: u32 = 8;
/// Upper bound on turns, in case a task never becomes idle.
const MOST_TURNS: u32 = 20_000;
/// After this many turns, each turn gives a millisecond to tasks on other threads that a timer woke.
const BUSY_TURNS: u32 = 64;
const MOST_SLEEPS: u32 = 100;

/// A clock that only the test moves, and the tasks of its sessions.
///
/// A clone is the same clock. [`MockEngine::clock`](super::MockEngine::clock) returns the clock of an engine;
/// [`MockEngine::with_clock`](super::MockEngine::with_clock) puts several engines on one.
///
/// **Executors.** Any executor works: `#[tokio::test]`, `smol::block_on`, `pollster` and others. Callers of
/// [`advance`](Self::advance), [`settle`](Self::settle) and [`block_on`](Self::block_on) poll the small tasks of sessions
/// and scripted peers. A thread of the clock polls them at other times. One thread polls at a time.
///
/// **Exactness.** `advance` stops at every timer on the way, runs the woken tasks, and continues when all tasks are idle.
/// This is exact for the tasks of this clock. Futures of the test run when `advance` yields to their executor. This is exact
/// on one thread (`#[tokio::test]` by default), if the futures are polled at all: spawn them, or `join!` them with `advance`.
/// On several threads, `advance` waits up to 100 ms until each woken task has polled its timer, and does not wait for later
/// work.
///
/// This clock has no randomness: first pings come after the whole interval, and delays before reconnecting have no random
/// part.
///
/// ```
/// use std::time::Duration;
/// use drivetrain::testing::Clock;
///
/// let clock = Clock::new();
/// clock.block_on(async {
///     clock.advance(Duration::from_secs(3600)).await;
/// });
/// assert_eq!(clock.elapsed(), Duration::from_secs(3600));
/// ```
#[derive(Clone, Debug)]
pub struct Clock(TestRuntime);

impl Clock {
    /// A clock that has not moved yet.
    pub fn new() -> Self {
        Self(TestRuntime::with_worker())
    }

    /// The time that the clock has moved.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Moves the clock, stopping at each timer. When `advance` returns, all due tasks have run.
    ///
    /// # Cancel safety
    /// Dropped while pending, the clock has moved part of the way.
    pub async fn advance(&self, duration: Duration) {
        self.settle().await;
        let until = self.elapsed().saturating_add(duration);
        while self.0.step(until) {
            self.settle().await;
        }
        self.settle().await;
    }

    /// Runs all tasks until each one is pending. Time stands still.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn settle(&self) {
        let (mut quiet, mut sleeps) = (0, 0);
        for turn in 0..MOST_TURNS {
            self.0.settle();
            let before = self.0.activity();
            yield_now().await;
            let is_unseen = self.0.is_unseen();
            if is_unseen && turn > BUSY_TURNS && sleeps < MOST_SLEEPS {
                sleeps += 1;
                wait_for_others();
            }
            let happened = self.0.activity() != before;
            let is_awaited = is_unseen && sleeps < MOST_SLEEPS;
            quiet = if happened || is_awaited { 0 } else { quiet + 1 };
            if quiet == QUIET {
                return;
            }
        }
    }

    /// Waits until the clock has moved this far, for example in the handler of a mock.
    ///
    /// # Cancel safety
    /// Safe.
    pub fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + use<> {
        let mut timer = self.0.timer(self.0.now() + duration);
        poll_fn(move |cx| timer.poll(cx))
    }

    /// Runs a future to completion, for tests without an executor. Everything runs on this thread, so each run is the
    /// same. Only [`advance`](Self::advance) moves time.
    ///
    /// # Panics
    /// If nothing can wake the future: only the future itself and the tasks of this clock can. A test that would hang
    /// therefore fails.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.0.block_on(future)
    }

    /// Number of session tasks and peer tasks: zero when all sessions have ended.
    pub fn tasks(&self) -> usize {
        self.0.tasks()
    }

    /// The current time, as sessions see it.
    pub fn now(&self) -> Instant {
        self.0.now()
    }

    pub(super) fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(self.0.clone())
    }

    /// Polls tasks until each one is pending, except those of the test's executor.
    pub(super) fn settle_tasks(&self) {
        self.0.settle();
    }

    pub(super) fn note_activity(&self) {
        self.0.note_activity();
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// Yields once to the executor's other ready tasks.
async fn yield_now() {
    let mut has_yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn wait_for_others() {
    // wasm32 has no other threads and cannot sleep.
    if !cfg!(target_family = "wasm") {
        std::thread::sleep(Duration::from_millis(1));
    }
}
