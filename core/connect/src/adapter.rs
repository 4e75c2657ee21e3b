//! futures-io as hyper sees it, without `unsafe`.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use futures_io::{AsyncRead, AsyncWrite};
use hyper::rt::ReadBufCursor;

use crate::{
    http1::{Chunk, Writing},
    stream::ConnectedStream,
};

/// A stream for hyper.
///
/// hyper's cursor over uninitialised memory can only be filled safely by copying, so bytes go through
/// `chunk`. That costs a copy on HTTP only: a WebSocket takes the stream back out with
/// [`into_inner`](Self::into_inner).
///
/// What a server has said is read before writing fails, as with [`ReadFirst`](crate::http1::ReadFirst). A stream of the
/// caller's need not end for reading, so that its writes fail at once.
pub(crate) struct ForHyper {
    stream: ConnectedStream,
    chunk: Chunk,
    writing: Writing,
    seen: Arc<Seen>,
}

/// What happened on a connection, for its owner.
#[derive(Default)]
pub(crate) struct Seen {
    received: AtomicBool,
    cannot_write: AtomicBool,
}

impl Seen {
    /// Whether something has come since the last [`forget`](Self::forget).
    pub(crate) fn has_received(&self) -> bool {
        self.received.load(Ordering::Relaxed)
    }

    pub(crate) fn forget(&self) {
        self.received.store(false, Ordering::Relaxed);
    }

    /// Whether the peer takes nothing any more.
    pub(crate) fn cannot_write(&self) -> bool {
        self.cannot_write.load(Ordering::Relaxed)
    }
}

impl ForHyper {
    pub(crate) fn new(stream: ConnectedStream) -> Self {
        let (chunk, writing) = (Chunk::default(), Writing::default());
        Self { stream, chunk, writing, seen: Arc::default() }
    }

    pub(crate) fn seen(&self) -> Arc<Seen> {
        Arc::clone(&self.seen)
    }

    fn write<R>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut ConnectedStream>, &mut Context<'_>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        let Self { stream, writing, seen, .. } = self;
        if !stream.is_socket() {
            return write(Pin::new(stream), cx);
        }
        let written = writing.poll(cx, |cx| write(Pin::new(stream), cx));
        if writing.has_failed() {
            seen.cannot_write.store(true, Ordering::Relaxed);
        }
        written
    }

    pub(crate) fn into_inner(self) -> ConnectedStream {
        self.stream
    }
}

impl hyper::rt::Read for ForHyper {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, chunk, writing, seen } = &mut *self;
        let read = ready!(Pin::new(stream).poll_read(cx, chunk.room(buf.remaining())));
        match read {
            Ok(1..) => seen.received.store(true, Ordering::Relaxed),
            Ok(0) if buf.remaining() == 0 => {}
            _ => writing.read_all(),
        }
        chunk.take(read?, |bytes| buf.put_slice(bytes));
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for ForHyper {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, |stream, cx| stream.poll_write(cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write(cx, |stream, cx| stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_socket()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, |stream, cx| stream.poll_write_vectored(cx, bufs))
    }
}
