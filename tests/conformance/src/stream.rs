//! A stream for every engine, independent of its runtime.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    thread,
};

use futures_io::{AsyncRead, AsyncWrite};

use crate::random::Random;

/// Buffer size in each direction.
const CAPACITY: usize = 64 * 1024;

/// A connected stream that needs no runtime and counts writes.
///
/// Two threads move the bytes to and from a TCP socket. On tokio, adapt it with
/// `tokio_util::compat`.
pub struct CountedStream {
    shared: Arc<Shared>,
    hesitation: Option<Random>,
}

/// The number of writes of a [`CountedStream`], also after the stream is dropped.
#[derive(Clone)]
pub struct Writes(Arc<Shared>);

struct Shared {
    pipes: Mutex<Pipes>,
    changed: Condvar,
}

#[derive(Default)]
struct Pipes {
    writes: usize,
    outgoing: VecDeque<u8>,
    /// The writing end is closed.
    closed: bool,
    writer: Option<Waker>,
    incoming: VecDeque<u8>,
    /// The reading end is closed.
    ended: bool,
    reader: Option<Waker>,
    error: Option<io::ErrorKind>,
    /// The engine has dropped the stream.
    dropped: bool,
}

impl CountedStream {
    /// Connects to a server.
    ///
    /// # Errors
    /// Errors of the system.
    pub fn connect(addr: SocketAddr) -> io::Result<Self> {
        let socket = Arc::new(TcpStream::connect(addr)?);
        socket.set_nodelay(true)?;
        let shared = Arc::new(Shared { pipes: Mutex::default(), changed: Condvar::new() });
        for carry in [carry_out, carry_in] {
            let (shared, socket) = (Arc::clone(&shared), Arc::clone(&socket));
            thread::Builder::new().spawn(move || carry(&shared, &socket))?;
        }
        Ok(Self { shared, hesitation: None })
    }

    /// Makes the stream pend at random, and read and write partially, to find data that
    /// is lost in such cases.
    #[must_use]
    pub fn hesitating(mut self, seed: u64) -> Self {
        self.hesitation = Some(Random::new(seed));
        self
    }

    /// The counter of writes.
    pub fn writes(&self) -> Writes {
        Writes(Arc::clone(&self.shared))
    }

    /// Number of bytes for this call; pending at random.
    fn poll_mood(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        let Some(random) = &mut self.hesitation else { return Poll::Ready(CAPACITY) };
        if random.one_in(3) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(1 + random.below(4096))
    }
}

impl Writes {
    /// Number of writes so far. A vectored write counts once.
    pub fn count(&self) -> usize {
        self.0.lock().writes
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pipes> {
        self.pipes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while `waits` holds.
    fn wait(&self, waits: impl Fn(&Pipes) -> bool) -> MutexGuard<'_, Pipes> {
        self.changed
            .wait_while(self.lock(), |pipes| waits(pipes))
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn carry_out(shared: &Shared, socket: &TcpStream) {
    loop {
        let mut pipes =
            shared.wait(|pipes| pipes.outgoing.is_empty() && !pipes.closed && !pipes.dropped);
        let bytes: Vec<u8> = pipes.outgoing.drain(..).collect();
        let (is_last, dropped) = (bytes.is_empty(), pipes.dropped);
        let waker = pipes.writer.take();
        drop(pipes);
        if let Some(waker) = waker {
            waker.wake();
        }
        if is_last {
            // The stream has already ended.
            let _ = socket.shutdown(Shutdown::Write);
            if !dropped {
                drop(shared.wait(|pipes| !pipes.dropped));
            }
            let _ = socket.shutdown(Shutdown::Both);
            return;
        }
        if let Err(error) = { socket }.write_all(&bytes) {
            shared.lock().error = Some(error.kind());
        }
    }
}

fn carry_in(shared: &Shared, socket: &TcpStream) {
    let mut buffer = [0; 16 * 1024];
    loop {
        let read = { socket }.read(&mut buffer);
        let mut pipes = shared.wait(|pipes| pipes.incoming.len() >= CAPACITY && !pipes.dropped);
        match read {
            Ok(count) => {
                pipes.incoming.extend(&buffer[..count]);
                pipes.ended = count == 0;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                pipes.error = Some(error.kind());
                pipes.ended = true;
            }
        }
        let (waker, is_over) = (pipes.reader.take(), pipes.ended || pipes.dropped);
        drop(pipes);
        if let Some(waker) = waker {
            waker.wake();
        }
        if is_over {
            return;
        }
    }
}

impl AsyncRead for CountedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let most = ready!(self.poll_mood(cx)).min(buffer.len());
        let mut pipes = self.shared.lock();
        if pipes.incoming.is_empty() && !pipes.ended {
            pipes.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if let (true, Some(error)) = (pipes.incoming.is_empty(), pipes.error) {
            return Poll::Ready(Err(error.into()));
        }
        let count = pipes.incoming.read(&mut buffer[..most])?;
        drop(pipes);
        self.shared.changed.notify_all();
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for CountedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let most = ready!(self.poll_mood(cx));
        let mut pipes = self.shared.lock();
        if let Some(error) = pipes.error {
            return Poll::Ready(Err(error.into()));
        }
        let room = CAPACITY.saturating_sub(pipes.outgoing.len());
        if room == 0 {
            pipes.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let before = pipes.outgoing.len();
        let bytes = slices.iter().flat_map(|slice| slice.iter());
        pipes.outgoing.extend(bytes.take(room.min(most)));
        pipes.writes += 1;
        let count = pipes.outgoing.len() - before;
        drop(pipes);
        self.shared.changed.notify_all();
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
        Poll::Ready(Ok(()))
    }
}

impl Drop for CountedStream {
    fn drop(&mut self) {
        self.shared.lock().dropped = true;
        self.shared.changed.notify_all();
    }
}

impl fmt::Debug for CountedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CountedStream").field("writes", &self.writes().count()).finish()
    }
}

impl fmt::Debug for Writes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Writes").field(&self.count()).finish()
    }
}
