//! A byte stream for libraries over tokio's traits.

use std::{
    fmt, io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use drivetrain_engine::{BoxStream, Error, Progress, Result};
use futures_io::{AsyncRead as _, AsyncWrite as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The bounds of the space that one read is offered. The space is zero-filled, and a library may offer all that a
/// frame announces.
const READ_AT_LEAST: usize = 2 << 10;
const READ_AT_MOST: usize = 64 << 10;

/// The most bytes that one write joins.
const WRITE_AT_MOST: usize = 64 << 10;

/// The most bytes that one poll drains.
const DRAIN_AT_MOST: usize = 256 << 10;

/// A [`BoxStream`] with tokio's traits, for a [`Framing`](drivetrain_engine::Framing) by a library that takes nothing
/// else. It needs no runtime.
///
/// - Bytes that were read ahead come first.
/// - A read is offered 2 KiB to 64 KiB, by need, whatever the library reserves.
/// - A vectored write is one write of the stream.
/// - A failed write looks like a successful one to the library, so that the library continues to read:
///   [`StreamMonitor::check`] has the error.
pub struct TokioStream {
    stream: BoxStream,
    read_ahead: Bytes,
    offer: usize,
    joined: Vec<u8>,
    state: Arc<State>,
}

/// Watches a [`TokioStream`] that its library owns.
#[derive(Clone)]
pub struct StreamMonitor(Arc<State>);

#[derive(Default)]
struct State {
    received: AtomicUsize,
    written: AtomicUsize,
    failed: Mutex<Option<Error>>,
}

impl TokioStream {
    /// The stream and its monitor; `read_ahead` comes before the bytes of `stream`.
    pub fn new(stream: BoxStream, read_ahead: Bytes) -> (Self, StreamMonitor) {
        let state = Arc::<State>::default();
        let monitor = StreamMonitor(Arc::clone(&state));
        (Self { stream, read_ahead, offer: READ_AT_LEAST, joined: Vec::new(), state }, monitor)
    }

    /// Reads and drops bytes until the stream ends: after a violation the peer must not see a reset. It yields after
    /// 256 KiB.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](drivetrain_engine::ErrorKind::Io) if reading failed.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let mut dropped = [0; 8 << 10];
        for _ in 0..DRAIN_AT_MOST / dropped.len() {
            let mut buffer = ReadBuf::new(&mut dropped);
            ready!(Pin::new(&mut *self).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The result of a write of `length` bytes, for the library.
    fn written(&self, length: usize, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        written.map(|written| match written {
            Ok(count) => {
                self.state.written.fetch_add(count, Relaxed);
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                self.state.fail(error);
                Ok(length)
            }
        })
    }
}

impl State {
    fn fail(&self, error: io::Error) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.get_or_insert_with(|| error.into());
    }

    fn failed(&self) -> Option<Error> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl StreamMonitor {
    /// The bytes so far, for [`Transport::progress`](drivetrain_engine::Transport::progress).
    pub fn progress(&self) -> Progress {
        let (received, written) = (self.0.received.load(Relaxed), self.0.written.load(Relaxed));
        Progress { received, written }
    }

    /// Whether writing has worked so far: call it after each write of the library.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](drivetrain_engine::ErrorKind::Io), the first error of a write.
    pub fn check(&self) -> Result<()> {
        self.0.failed().map_or(Ok(()), Err)
    }
}

impl AsyncRead for TokioStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let count = if this.read_ahead.is_empty() {
            let offered = this.offer.min(buffer.remaining());
            let room = buffer.initialize_unfilled_to(offered);
            let count = ready!(Pin::new(&mut this.stream).poll_read(cx, room))?;
            buffer.advance(count);
            match count {
                count if 2 * count > this.offer => this.offer = (2 * this.offer).min(READ_AT_MOST),
                count if 8 * count < this.offer => this.offer = (this.offer / 2).max(READ_AT_LEAST),
                _ => {}
            }
            count
        } else {
            let count = this.read_ahead.len().min(buffer.remaining());
            buffer.put_slice(&this.read_ahead.split_to(count));
            if this.read_ahead.is_empty() {
                this.read_ahead = Bytes::new(); // an empty slice would keep its memory
            }
            count
        };
        this.state.received.fetch_add(count, Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TokioStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.state.failed().is_some() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(bytes.len(), written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut slices = slices.iter().filter(|slice| !slice.is_empty());
        let Some(first) = slices.next() else { return Poll::Ready(Ok(0)) };
        let mut joined = std::mem::take(&mut self.joined);
        for slice in slices {
            let behind = joined.len().max(first.len());
            if behind + slice.len() > WRITE_AT_MOST {
                break;
            }
            if joined.is_empty() {
                joined.extend_from_slice(first);
            }
            joined.extend_from_slice(slice);
        }
        let written = self.as_mut().poll_write(cx, if joined.is_empty() { first } else { &joined });
        joined.clear();
        self.joined = joined;
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.state.failed().is_some() {
            return Poll::Ready(Ok(()));
        }
        let flushed = Pin::new(&mut self.stream).poll_flush(cx).map_ok(|()| 0);
        self.written(0, flushed).map_ok(drop)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

impl fmt::Debug for TokioStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokioStream").field("offer", &self.offer).finish_non_exhaustive()
    }
}

impl fmt::Debug for StreamMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Progress { received, written } = self.progress();
        write!(f, "StreamMonitor({received} bytes received, {written} bytes written)")
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Reads zeros for ever and notes the most that it was offered; takes `takes` bytes, then fails.
    struct Zeros {
        offered: Arc<AtomicUsize>,
        writes: Arc<Mutex<Vec<Vec<u8>>>>,
        takes: usize,
    }

    impl futures_io::AsyncRead for Zeros {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            room: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            self.offered.fetch_max(room.len(), Relaxed);
            Poll::Ready(Ok(room.len()))
        }
    }

    impl futures_io::AsyncWrite for Zeros {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            if self.takes == 0 {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let count = bytes.len().min(self.takes);
            self.takes -= count;
            self.writes.lock().expect("no panic").push(bytes[..count].to_vec());
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    type Writes = Arc<Mutex<Vec<Vec<u8>>>>;

    fn stream(takes: usize) -> (TokioStream, StreamMonitor, Arc<AtomicUsize>, Writes) {
        let (offered, writes) = (Arc::default(), Arc::default());
        let zeros = Zeros { offered: Arc::clone(&offered), writes: Arc::clone(&writes), takes };
        let (stream, monitor) = TokioStream::new(Box::new(zeros), Bytes::from_static(b"ahead"));
        (stream, monitor, offered, writes)
    }

    fn read(stream: &mut TokioStream, room: usize) -> Vec<u8> {
        let mut room = vec![1; room];
        let mut buffer = ReadBuf::new(&mut room);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(Pin::new(stream).poll_read(&mut cx, &mut buffer), Poll::Ready(Ok(()))));
        buffer.filled().to_vec()
    }

    fn write(stream: &mut TokioStream, slices: &[&[u8]]) -> usize {
        let slices: Vec<_> = slices.iter().map(|slice| io::IoSlice::new(slice)).collect();
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(stream).poll_write_vectored(&mut cx, &slices) {
            Poll::Ready(Ok(count)) => count,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn bytes_that_were_read_ahead_come_first_and_reads_grow_by_need() {
        let (mut stream, monitor, offered, _) = stream(0);
        assert_eq!(read(&mut stream, 3), b"ahe");
        assert_eq!(read(&mut stream, 1 << 20), b"ad");
        assert_eq!(read(&mut stream, 1 << 20).len(), READ_AT_LEAST);
        for _ in 0..20 {
            read(&mut stream, 1 << 20);
        }
        assert_eq!(offered.load(Relaxed), READ_AT_MOST);
        for _ in 0..20 {
            assert_eq!(read(&mut stream, 10).len(), 10);
        }
        let received = monitor.progress().received;
        assert_eq!(read(&mut stream, 1 << 20).len(), READ_AT_LEAST, "and shrink");
        assert_eq!(monitor.progress().received, received + READ_AT_LEAST);
    }

    #[test]
    fn an_offer_doubles_above_a_half_and_is_halved_below_an_eighth() {
        const OFFER: usize = 4 * READ_AT_LEAST;
        for (count, next) in [
            (OFFER / 2 + 1, 2 * OFFER),
            (OFFER / 2, OFFER),
            (OFFER / 8, OFFER),
            (OFFER / 8 - 1, OFFER / 2),
        ] {
            let (mut stream, ..) = stream(0);
            assert_eq!(read(&mut stream, 5), b"ahead");
            assert_eq!(read(&mut stream, OFFER).len(), OFFER / 4);
            assert_eq!(read(&mut stream, OFFER).len(), OFFER / 2);
            assert_eq!(read(&mut stream, count).len(), count);
            assert_eq!(read(&mut stream, 1 << 20).len(), next, "{count}");
        }
    }

    #[test]
    fn one_poll_drains_a_bounded_amount() {
        let (mut stream, monitor, _, _) = stream(0);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(stream.poll_drain(&mut cx).is_pending());
        assert!(monitor.progress().received <= DRAIN_AT_MOST);
    }

    #[test]
    fn a_vectored_write_is_one_write() {
        let (mut stream, monitor, _, writes) = stream(1 << 20);
        assert_eq!(write(&mut stream, &[b"", b"a", b"", b"bc", b"d"]), 4);
        assert_eq!(write(&mut stream, &[b"alone", b""]), 5);
        assert_eq!(write(&mut stream, &[&[7; WRITE_AT_MOST], b"behind"]), WRITE_AT_MOST);
        assert_eq!(write(&mut stream, &[b"", b""]), 0);
        assert_eq!(write(&mut stream, &[&[7; WRITE_AT_MOST - 1], b"1"]), WRITE_AT_MOST);
        assert_eq!(write(&mut stream, &[&[7; 1000], &[8; 1000]]), 2000);
        let writes = writes.lock().expect("no panic");
        assert_eq!(writes[..2], [&b"abcd"[..], b"alone"]);
        assert_eq!(writes[2].len(), WRITE_AT_MOST);
        assert_eq!(monitor.progress().written, 9 + 2 * WRITE_AT_MOST + 2000);
    }

    #[test]
    fn a_failed_write_is_the_monitors_to_tell_and_reading_goes_on() {
        let (mut stream, monitor, _, _) = stream(3);
        assert_eq!(write(&mut stream, &[b"abc"]), 3);
        assert!(monitor.check().is_ok());
        for _ in 0..2 {
            assert_eq!(write(&mut stream, &[b"def"]), 3, "the library sees no failure");
            let error = monitor.check().expect_err("it failed");
            assert_eq!(error.kind(), drivetrain_engine::ErrorKind::Io);
        }
        assert_eq!(monitor.progress().written, 3);
        assert_eq!(read(&mut stream, 5), b"ahead");
    }
}
