//! Tasks and time of tokio.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use drivetrain_engine::{Error, ErrorKind, Instant, Result, Runtime, Timer};
use tokio::{runtime::Handle, time};

/// The [`Runtime`] of engines on tokio: the one that was current when the value was made.
///
/// Its clock is tokio's, so that it stands still where tokio's time is paused. It needs tokio's timers:
/// a runtime made without `enable_time` panics at the first timer, as tokio itself does.
#[derive(Clone)]
pub struct Tokio {
    handle: Handle,
}

impl Tokio {
    /// The current tokio runtime, for [`Engine::runtime`](drivetrain_engine::Engine::runtime) of the
    /// engine of this name.
    ///
    /// # Errors
    /// [`ErrorKind::Other`] outside a tokio runtime; the error names the engine.
    pub fn current(engine: &'static str) -> Result<Arc<dyn Runtime>> {
        Ok(Arc::new(Self { handle: current(engine)? }))
    }
}

impl fmt::Debug for Tokio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokio")
    }
}

impl Runtime for Tokio {
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send + 'static>>) {
        self.handle.spawn(future);
    }

    fn now(&self) -> Instant {
        Instant::from_origin(time::Instant::now().saturating_duration_since(origin()))
    }

    fn timer(&self, deadline: Instant) -> Box<dyn Timer> {
        let _entered = self.handle.enter();
        Box::new(Sleep(Box::pin(time::sleep_until(moment(deadline)))))
    }
}

/// The handle of the current runtime, or the error that says one is needed.
pub(crate) fn current(engine: &'static str) -> Result<Handle> {
    Handle::try_current().map_err(|error| {
        Error::new(
            ErrorKind::Other,
            format!(
                "engine `{engine}` needs a tokio runtime: call it from within one, such as under \
                 #[tokio::main]"
            ),
        )
        .with_engine(engine)
        .with_source(error)
    })
}

/// A future that is polled and dropped inside a runtime, wherever its owner does that: what reqwest
/// and hyper do there (timers, tasks) would panic elsewhere.
pub(crate) struct Within<F> {
    handle: Handle,
    future: Option<Pin<Box<F>>>,
}

impl<F> Within<F> {
    pub(crate) fn new(handle: Handle, future: F) -> Self {
        Self { handle, future: Some(Box::pin(future)) }
    }
}

impl<F: Future> Future for Within<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let _entered = this.handle.enter();
        match &mut this.future {
            Some(future) => future.as_mut().poll(cx),
            // Only `drop` takes it.
            None => Poll::Pending,
        }
    }
}

impl<F> Drop for Within<F> {
    fn drop(&mut self) {
        let _entered = self.handle.enter();
        self.future = None;
    }
}

struct Sleep(Pin<Box<time::Sleep>>);

impl Timer for Sleep {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }

    fn reset(&mut self, deadline: Instant) {
        self.0.as_mut().reset(moment(deadline));
    }
}

/// One origin for the process, so that moments of different sessions compare. It lies in the past:
/// a paused clock stands at the start of its runtime, which may be before the first use of this.
fn origin() -> time::Instant {
    static ORIGIN: OnceLock<time::Instant> = OnceLock::new();
    const BACK: [Duration; 3] =
        [Duration::from_secs(86_400), Duration::from_secs(600), Duration::from_secs(10)];
    *ORIGIN.get_or_init(|| {
        let now = std::time::Instant::now();
        // An `Instant` counts from the machine's start where it cannot be earlier than that.
        let earlier = BACK.into_iter().find_map(|back| now.checked_sub(back));
        time::Instant::from_std(earlier.unwrap_or(now))
    })
}

fn moment(instant: Instant) -> time::Instant {
    /// As far as tokio itself goes for "never".
    const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);
    origin().checked_add(instant.since_origin()).unwrap_or_else(|| origin() + FAR)
}
