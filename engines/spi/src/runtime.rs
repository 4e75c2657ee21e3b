//! Tasks and time, as far as sessions need them.

use std::{
    fmt,
    future::Future,
    hash::{BuildHasher as _, RandomState},
    ops,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

/// What a session needs from the runtime of its engine: a task, a clock, a timer.
///
/// An engine gives it in [`Engine::runtime`](crate::Engine::runtime), where it also finds out whether
/// the runtime it needs is there.
pub trait Runtime: Send + Sync + fmt::Debug + 'static {
    /// Runs a future to its end, independent of the caller. It must not panic when the runtime is
    /// shutting down; the future may then be dropped.
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send + 'static>>);

    /// The present moment. Never goes back.
    fn now(&self) -> Instant;

    /// A timer that is ready at `deadline`.
    fn timer(&self, deadline: Instant) -> Box<dyn Timer>;

    /// Any number, for what is spread in time so that many clients do not do it in step: the first ping of a
    /// session, the pause before connecting again. Zero is the time as it was set. It may be easy to guess.
    ///
    /// A test's runtime gives what its test wants. Default: another one each time.
    fn random(&self) -> u32 {
        // Each state has keys of its own, so that nothing has its own hash.
        RandomState::new().hash_one(()) as u32
    }
}

/// A timer that can be set anew without being made anew.
pub trait Timer: Send {
    /// Ready at the deadline and from then on until [`reset`](Self::reset).
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Moves the deadline; the timer is armed again. The waker of the latest poll stays registered
    /// only after the next [`poll`](Self::poll).
    fn reset(&mut self, deadline: Instant);
}

/// A moment on a [`Runtime`]'s clock: the time since an origin of the clock's own choosing.
///
/// `std`'s `Instant` cannot be made up, so that a test's clock and a browser's could not give one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(Duration);

impl Instant {
    /// The moment this long after the clock's origin.
    pub const fn from_origin(since: Duration) -> Self {
        Self(since)
    }

    /// The time since the clock's origin.
    pub const fn since_origin(self) -> Duration {
        self.0
    }

    /// The time from `earlier` to this moment; zero if `earlier` is later.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl ops::Add<Duration> for Instant {
    type Output = Self;

    /// The moment this much later; the latest possible one if there is none.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}
