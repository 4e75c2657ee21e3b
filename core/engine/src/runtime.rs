//! Tasks and time for sessions.

use std::{
    fmt,
    future::Future,
    hash::{BuildHasher as _, RandomState},
    ops,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

/// The services that a session needs from its engine's runtime: a task, a clock, a timer.
///
/// [`Engine::runtime`](crate::Engine::runtime) returns it, and checks that
/// the required runtime exists.
pub trait Runtime: Send + Sync + fmt::Debug + 'static {
    /// Runs a future to completion, independent of the caller. Must not panic when the runtime is
    /// shutting down; the future may then be dropped.
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send + 'static>>);

    /// The current time. Never goes back. A session reads it under its lock: it must be short, and must not use a session.
    fn now(&self) -> Instant;

    /// A timer that is ready at `deadline`.
    fn timer(&self, deadline: Instant) -> Box<dyn Timer>;

    /// A random number for jitter, so that many clients do not act in step: the first ping of a
    /// session, the delay before reconnecting. Zero means no jitter. The number may be predictable.
    ///
    /// A test's runtime returns the test's number. Default: a new number each time.
    fn random(&self) -> u32 {
        // Each state has its own keys, so an empty input has a new hash.
        RandomState::new().hash_one(()) as u32
    }
}

/// A timer with a movable deadline.
pub trait Timer: Send {
    /// Ready from the deadline until [`reset`](Self::reset).
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Moves the deadline; the timer is armed again. The waker of the latest poll stays registered
    /// only after the next [`poll`](Self::poll).
    fn reset(&mut self, deadline: Instant);
}

/// A moment on a [`Runtime`]'s clock: the time since the clock's origin.
///
/// `std`'s `Instant` cannot be constructed, so a test's or a browser's clock could not return one.
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

    /// The moment this much later, or the latest possible moment.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}
