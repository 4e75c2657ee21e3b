//! The clock of a mock: a test moves it, under whatever executor it runs.

use std::{
    future::{Future, poll_fn},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use drivetrain_engine::{Instant, Runtime};

use super::TestRuntime;

/// So many times in a row nothing may happen until everything counts as done.
const QUIET: u32 = 8;
/// Something that goes on for ever does not keep the clock for ever.
const MOST_TURNS: u32 = 20_000;
/// After so many turns, who was woken by a timer on another thread gets a millisecond each.
const BUSY_TURNS: u32 = 64;
const MOST_SLEEPS: u32 = 100;

/// A clock that stands still until a test moves it, and the tasks of the sessions that run on it.
///
/// A clone is the same clock. [`MockEngine::clock`](super::MockEngine::clock) gives the one of an engine;
/// [`MockEngine::with_clock`](super::MockEngine::with_clock) puts several engines on one.
///
/// **Executors.** It needs none in particular: `#[tokio::test]`, `smol::block_on`, `pollster` and the rest will
/// do. The small tasks of sessions and of scripted peers are polled by whoever calls [`advance`](Self::advance),
/// [`settle`](Self::settle) or [`block_on`](Self::block_on), and by a thread of the clock's own while nobody does,
/// one thread at a time.
///
/// **Exactness.** `advance` stops at every timer on the way, lets everything run that it wakes, and goes on when
/// nothing happens any more. For the tasks of this clock that is exact. Futures of the test itself get their turn
/// by yielding to its executor: exact on one thread (`#[tokio::test]` as it is), provided that they are polled at
/// all: spawn them, or `join!` them with `advance`. On several threads it waits, up to 100 ms, until everybody
/// who was woken by a timer has looked at it; what is computed after that is not waited for.
///
/// Nothing is left to chance on this clock: first pings come after the whole interval, and pauses before
/// connecting again have no random part.
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

    /// How far the clock has been moved.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Moves the clock, stopping at each timer on the way; when it returns, what was due has run.
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

    /// Lets everything run until it waits. Time stands still.
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

    /// Waits until the clock has been moved this far, such as in the handler of a mock.
    ///
    /// # Cancel safety
    /// Safe.
    pub fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + use<> {
        let mut timer = self.0.timer(self.0.now() + duration);
        poll_fn(move |cx| timer.poll(cx))
    }

    /// Runs a future to its end on this thread, for tests without an executor: everything runs on this thread, so
    /// that each run is like the other. Time stands still but for [`advance`](Self::advance).
    ///
    /// # Panics
    /// If the future waits for something that cannot happen: nothing but the future itself and the tasks of this
    /// clock can wake it, so that a test which would hang fails instead.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.0.block_on(future)
    }

    /// How many tasks of sessions and of peers there are: none when all sessions have ended.
    pub fn tasks(&self) -> usize {
        self.0.tasks()
    }

    /// The present moment, as sessions see it.
    pub fn now(&self) -> Instant {
        self.0.now()
    }

    pub(super) fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(self.0.clone())
    }

    /// Polls tasks until each one waits; those of the test's executor do not get their turn.
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

/// Lets everything else that is ready run once.
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
    // There are no others on wasm32, and no sleeping.
    if !cfg!(target_family = "wasm") {
        std::thread::sleep(Duration::from_millis(1));
    }
}
