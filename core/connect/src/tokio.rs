//! tokio's tasks and time.

use std::{
    any::Any,
    fmt,
    future::Future,
    panic::{self, AssertUnwindSafe},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use drivetrain_engine::{Error, ErrorKind, Instant, Result, Runtime, Timer};
use tokio::{runtime::Handle, time};

/// The [`Runtime`] of engines on tokio: the one that was current when the value was made.
///
/// Its clock is tokio's, so that it stands still where tokio's time is paused. It needs tokio's timers.
#[derive(Clone)]
pub struct Tokio {
    handle: Handle,
}

impl Tokio {
    /// The current tokio runtime, for [`Engine::runtime`](drivetrain_engine::Engine::runtime) of the
    /// engine of this name.
    ///
    /// # Errors
    /// [`ErrorKind::Other`] outside a tokio runtime, and in one that was made without timers; the error names
    /// the engine.
    pub fn current(engine: &'static str) -> Result<Arc<dyn Runtime>> {
        let handle = Self::handle(engine)?;
        // Tokio tells of timers that are disabled by a panic alone, already where one is made.
        let made = || drop(time::sleep(Duration::ZERO));
        panic::catch_unwind(made).map_err(|panic| disabled(engine, panic))?;
        Ok(Arc::new(Self { handle }))
    }

    /// The handle of the current tokio runtime.
    ///
    /// # Errors
    /// [`ErrorKind::Other`] outside a tokio runtime; the error names the engine.
    pub fn handle(engine: &'static str) -> Result<Handle> {
        Handle::try_current().map_err(|error| {
            Error::of_engine(
                ErrorKind::Other,
                "needs a tokio runtime: call it from within one, such as under #[tokio::main]",
            )
            .with_engine(engine)
            .with_source(error)
        })
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

/// The error for a panic that says what the runtime was made without; any other panic is passed on.
fn disabled(engine: &'static str, panic: Box<dyn Any + Send>) -> Error {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or(panic.downcast_ref::<String>().map(String::as_str)).unwrap_or_default();
    let what = match text {
        _ if text.contains("timers are disabled") => "timers",
        _ if text.contains("IO is disabled") => "I/O",
        _ => panic::resume_unwind(panic),
    };
    let message = format!("needs a tokio runtime with {what}: call enable_all on its builder");
    Error::of_engine(ErrorKind::Other, message).with_engine(engine)
}

/// A future that is polled and dropped inside a tokio runtime, whatever executor its owner is on: timers and tasks of
/// tokio's would panic elsewhere. The panic of a runtime without timers or I/O becomes an [`ErrorKind::Other`].
pub struct Within<F> {
    engine: &'static str,
    handle: Handle,
    future: Option<Pin<Box<F>>>,
}

impl<F> Within<F> {
    /// The future, in this runtime, for the engine of this name.
    pub fn new(engine: &'static str, handle: Handle, future: F) -> Self {
        Self { engine, handle, future: Some(Box::pin(future)) }
    }
}

impl<F: Future<Output = Result<T>>, T> Future for Within<F> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T>> {
        let this = &mut *self;
        let _entered = this.handle.enter();
        // Only `drop` takes it, and a panic.
        let Some(future) = &mut this.future else { return Poll::Pending };
        match panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(poll) => poll,
            Err(panic) => {
                this.future = None;
                Poll::Ready(Err(disabled(this.engine, panic)))
            }
        }
    }
}

impl<F> fmt::Debug for Within<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Within").field("engine", &self.engine).finish_non_exhaustive()
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
