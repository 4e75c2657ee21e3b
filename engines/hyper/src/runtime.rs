//! Tasks and time of async-std and smol: what is the same for both.

use std::{
    fmt,
    future::Future,
    io,
    marker::PhantomData,
    net::SocketAddr,
    pin::Pin,
    sync::OnceLock,
    task::{Context, Poll},
    time::{Duration, Instant as StdInstant},
};

use drivetrain_engine::{Instant, Runtime, Timer};

use crate::alarm::Alarm;

/// A runtime over futures-io: [`OnAsyncStd`](crate::OnAsyncStd) or [`OnSmol`](crate::OnSmol).
///
/// It is this crate's to implement, in one small file per runtime.
pub trait Flavour: sealed::Flavour {}

pub(crate) mod sealed {
    use super::{Future, SocketAddr, io};

    pub trait Flavour: Send + Sync + 'static {
        /// The name of the runtime.
        const NAME: &'static str;

        /// The addresses of a host, in the resolver's order (RFC 6724).
        fn resolve(
            host: &str,
            port: u16,
        ) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;

        /// Runs a task to its end, whoever is still there.
        fn spawn(task: impl Future<Output = ()> + Send + 'static);
    }
}

/// The [`Runtime`] of sessions. Sockets and timers are driven by async-io's own thread, so that there is
/// no "outside the runtime"; tasks run on the runtime's global executor.
pub(crate) struct Tasks<R>(PhantomData<fn() -> R>);

impl<R> Tasks<R> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<R: Flavour> fmt::Debug for Tasks<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(R::NAME)
    }
}

impl<R: Flavour> Runtime for Tasks<R> {
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send + 'static>>) {
        R::spawn(future);
    }

    fn now(&self) -> Instant {
        Instant::from_origin(StdInstant::now().saturating_duration_since(origin()))
    }

    fn timer(&self, deadline: Instant) -> Box<dyn Timer> {
        Box::new(Alarm::at(moment(deadline)))
    }
}

impl Timer for Alarm {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Self::poll(self, cx)
    }

    fn reset(&mut self, deadline: Instant) {
        self.set_at(moment(deadline));
    }
}

/// One origin for the process, so that moments of different sessions compare.
fn origin() -> StdInstant {
    static ORIGIN: OnceLock<StdInstant> = OnceLock::new();
    *ORIGIN.get_or_init(StdInstant::now)
}

fn moment(instant: Instant) -> StdInstant {
    /// "Never", on every platform's clock.
    const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);
    origin().checked_add(instant.since_origin().min(FAR)).unwrap_or_else(StdInstant::now)
}

#[cfg(all(test, feature = "async-std"))]
mod tests {
    use std::task::Waker;

    use drivetrain_engine::Runtime as _;

    use super::{Context, Duration, Instant, Tasks};

    type Runtime = Tasks<crate::OnAsyncStd>;

    #[test]
    fn a_timer_stays_ready_until_it_is_reset() {
        let runtime = Runtime::new();
        let cx = &mut Context::from_waker(Waker::noop());
        let mut timer = runtime.timer(runtime.now());
        assert!(timer.poll(cx).is_ready());
        assert!(timer.poll(cx).is_ready());
        timer.reset(runtime.now() + Duration::from_secs(60));
        assert!(timer.poll(cx).is_pending());
        timer.reset(runtime.now());
        assert!(timer.poll(cx).is_ready());
    }

    #[test]
    fn the_latest_moment_is_never() {
        let runtime = Runtime::new();
        let mut timer = runtime.timer(Instant::default() + Duration::MAX);
        assert!(timer.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
}
