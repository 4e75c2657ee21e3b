//! futures-io as hyper sees it, without `unsafe`.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_io::{AsyncRead, AsyncWrite};
use hyper::rt::ReadBufCursor;

use crate::stream::Stream;

/// hyper's first read buffer has this size too; a larger one only pays off for large bodies.
const CHUNK: usize = 16 * 1024;

/// A stream for hyper.
///
/// hyper's cursor over uninitialised memory can only be filled safely by copying, so bytes go through
/// `chunk`. That costs a copy on HTTP only: a WebSocket takes the stream back out with
/// [`into_inner`](Self::into_inner).
pub(crate) struct ForHyper {
    stream: Stream,
    chunk: Box<[u8]>,
}

impl ForHyper {
    pub(crate) fn new(stream: Stream) -> Self {
        Self { stream, chunk: vec![0; CHUNK].into_boxed_slice() }
    }

    pub(crate) fn into_inner(self) -> Stream {
        self.stream
    }
}

impl hyper::rt::Read for ForHyper {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, chunk } = &mut *self;
        let room = buf.remaining().min(chunk.len());
        let read = ready!(Pin::new(stream).poll_read(cx, &mut chunk[..room]))?;
        buf.put_slice(&chunk[..read]);
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for ForHyper {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}
