//! Sockets, tasks and time of async-std and smol, which share the reactor of async-io.

use std::{
    fmt,
    future::Future,
    io::{self, Read, Write},
    marker::PhantomData,
    net::{Shutdown, SocketAddr, TcpStream},
    pin::Pin,
    sync::OnceLock,
    task::{Context, Poll, ready},
    time::{Duration, Instant as StdInstant},
};

use async_io::{Async, IoSafe};
use drivetrain_engine::{Instant, Runtime, Timer};
use futures_io::{AsyncRead, AsyncWrite};
use socket2::{SockRef, Socket};

use crate::{executor::Executor, stream::ConnectedStream, timer_queue::QueuedTimer};

/// Connects a socket that does not block.
pub(crate) async fn connect(socket: Socket, address: SocketAddr) -> io::Result<ConnectedStream> {
    match socket.connect(&address.into()) {
        Err(error) if !is_in_progress(&error) => return Err(error),
        _ => {}
    }
    let stream = Async::new_nonblocking(TcpStream::from(socket))?;
    stream.writable().await?;
    if let Some(error) = stream.get_ref().take_error()? {
        return Err(error);
    }
    let ends = (stream.get_ref().local_addr()?, stream.get_ref().peer_addr()?);
    Ok(ConnectedStream::socket(ReactorSocket(stream), Some(ends)))
}

/// Connects to the Unix socket with this path.
#[cfg(unix)]
pub(crate) async fn connect_unix(path: &std::path::Path) -> io::Result<ConnectedStream> {
    let stream = Async::<std::os::unix::net::UnixStream>::connect(path).await?;
    Ok(ConnectedStream::socket(ReactorSocket(stream), None))
}

/// Connecting continues in the background.
fn is_in_progress(error: &io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(libc::EINPROGRESS) {
        return true;
    }
    error.kind() == io::ErrorKind::WouldBlock
}

/// A socket whose close ends its writing direction; async-io's own only flushes.
pub(crate) struct ReactorSocket<T>(pub(crate) Async<T>);

impl<T: IoSafe + Read> AsyncRead for ReactorSocket<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<T: IoSafe + Write> AsyncWrite for ReactorSocket<T>
where
    for<'a> SockRef<'a>: From<&'a T>,
{
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.0).poll_flush(cx))?;
        Poll::Ready(match SockRef::from(self.0.get_ref()).shutdown(Shutdown::Write) {
            // The peer was faster.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        })
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

impl<R: Executor> fmt::Debug for Tasks<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(R::NAME)
    }
}

/// The executor of tasks.
pub(crate) trait Spawn: Executor {
    /// Runs a task to its end, even if its owner is gone.
    fn spawn(task: impl Future<Output = ()> + Send + 'static);
}

impl<R: Spawn> Runtime for Tasks<R> {
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send + 'static>>) {
        R::spawn(future);
    }

    fn now(&self) -> Instant {
        Instant::from_origin(StdInstant::now().saturating_duration_since(origin()))
    }

    fn timer(&self, deadline: Instant) -> Box<dyn Timer> {
        Box::new(QueuedTimer::at(moment(deadline)))
    }
}

impl Timer for QueuedTimer {
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

    type Runtime = Tasks<crate::async_std::AsyncStdExecutor>;

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
