//! A stream whose failed writes leave the answer to be read.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};

use super::Chunk;

/// A stream for one of hyper's connections, on which what the server has said is read before writing fails.
///
/// A socket that can be written no more may still have an answer to read, which the server sent before it reset the
/// connection (RFC 9112 section 9.6), and hyper reads nothing more once writing has failed. So a write that fails is
/// pending until reading has ended, and fails then. That is for streams that end for reading too when they cannot be
/// written, as sockets do.
///
/// What is read is copied once, through at most 16 KiB. For the frames of a WebSocket, take the stream back with
/// [`into_inner`](Self::into_inner).
pub struct ReadFirst<T> {
    stream: T,
    /// hyper's cursor does not tell how much a stream has put there.
    chunk: Chunk,
    writing: Writing,
}

impl<T> ReadFirst<T> {
    /// Nothing of the stream is touched.
    pub fn new(stream: T) -> Self {
        Self { stream, chunk: Chunk::default(), writing: Writing::default() }
    }

    /// The stream, whose writes fail at once again.
    pub fn into_inner(self) -> T {
        self.stream
    }
}

/// Writing, whose failure is told once reading has ended.
#[derive(Debug, Default)]
pub(crate) struct Writing {
    failure: Option<io::Error>,
    has_read_all: bool,
    writer: Option<Waker>,
}

impl Writing {
    /// Writes so, unless that has failed before.
    pub(crate) fn poll<R>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut Context<'_>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        let failure = match self.failure.take() {
            Some(failure) => failure,
            None => match write(cx) {
                Poll::Ready(Err(failure)) => failure,
                written => return written,
            },
        };
        if self.has_read_all {
            return Poll::Ready(Err(failure));
        }
        self.failure = Some(failure);
        self.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether it has failed, and reading has not ended.
    pub(crate) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Reading has ended.
    pub(crate) fn read_all(&mut self) {
        self.has_read_all = true;
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }
}

impl<T> fmt::Debug for ReadFirst<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadFirst").field("writing", &self.writing).finish_non_exhaustive()
    }
}

impl<T: Read + Unpin> Read for ReadFirst<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut room = ReadBuf::new(this.chunk.room(buf.remaining()));
        let result = ready!(Pin::new(&mut this.stream).poll_read(cx, room.unfilled()));
        let read = room.filled().len();
        if result.is_err() || (buf.remaining() > 0 && read == 0) {
            this.writing.read_all();
        }
        this.chunk.take(read, |bytes| buf.put_slice(bytes));
        Poll::Ready(result)
    }
}

impl<T: Write + Unpin> Write for ReadFirst<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { stream, writing, .. } = &mut *self;
        writing.poll(cx, |cx| Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, writing, .. } = &mut *self;
        writing.poll(cx, |cx| Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { stream, writing, .. } = &mut *self;
        writing.poll(cx, |cx| Pin::new(stream).poll_write_vectored(cx, bufs))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Future as _, poll_fn},
        pin::pin,
        task::Waker,
    };

    use drivetrain_engine::Body;
    use http::Request;
    use hyper::body::Bytes;

    use super::*;

    const TOO_LARGE: &[u8] = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n";

    /// A socket on which the server has said this, and reset the connection once this much was written.
    struct Reset {
        said: &'static [u8],
        takes: usize,
        is_error: bool,
    }

    impl Read for Reset {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            mut buf: ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            if self.takes > 0 {
                return Poll::Pending;
            }
            if self.said.is_empty() && self.is_error {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            buf.put_slice(self.said);
            self.said = &[];
            Poll::Ready(Ok(()))
        }
    }

    impl Write for Reset {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = self.takes.min(buf.len());
            self.takes -= taken;
            Poll::Ready(if taken > 0 { Ok(taken) } else { Err(io::ErrorKind::BrokenPipe.into()) })
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// The result of an upload to a server that resets, and whether the connection has ended after it.
    fn uploaded<T>(stream: T) -> (hyper::Result<http::StatusCode>, bool)
    where
        T: Read + Write + Unpin + Send + 'static,
    {
        let uploaded = async {
            let handshake = super::super::builder(Default::default()).handshake::<_, Body>(stream);
            let (mut sender, connection) = handshake.await.expect("it is in memory");
            let body = Body::from(Bytes::from(vec![7; 1 << 20]));
            let mut answer = pin!(sender.send_request(Request::new(body)));
            let mut connection = pin!(connection);
            let mut is_over = false;
            let answer = poll_fn(|cx| {
                is_over = is_over || connection.as_mut().poll(cx).is_ready();
                answer.as_mut().poll(cx)
            });
            let status = answer.await.map(|response| response.status());
            let cx = &mut Context::from_waker(Waker::noop());
            let is_over = is_over || (0..9).any(|_| connection.as_mut().poll(cx).is_ready());
            (status, is_over)
        };
        let mut uploaded = pin!(uploaded);
        let cx = &mut Context::from_waker(Waker::noop());
        for _ in 0..100 {
            if let Poll::Ready(uploaded) = uploaded.as_mut().poll(cx) {
                return uploaded;
            }
        }
        panic!("it hangs")
    }

    #[test]
    fn an_answer_is_read_though_writing_fails() {
        for is_error in [true, false] {
            let reset = || Reset { said: TOO_LARGE, takes: 10_000, is_error };
            let (status, is_over) = uploaded(ReadFirst::new(reset()));
            assert_eq!(status.expect("an answer"), http::StatusCode::PAYLOAD_TOO_LARGE);
            assert!(is_over, "it holds its stream for ever");
            assert!(uploaded(reset()).0.is_err(), "it is not needed");
        }
    }

    #[test]
    fn without_an_answer_it_fails_at_the_end() {
        for is_error in [true, false] {
            let reset = Reset { said: &[], takes: 10_000, is_error };
            let (status, is_over) = uploaded(ReadFirst::new(reset));
            assert!(status.is_err() && is_over, "{status:?} {is_over}");
        }
    }

    #[test]
    fn writing_fails_when_reading_has_ended() {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut stream = ReadFirst::new(Reset { said: b"said", takes: 0, is_error: false });
        assert!(Pin::new(&mut stream).poll_write(cx, b"x").is_pending());
        let read = |stream: &mut ReadFirst<Reset>| {
            let cx = &mut Context::from_waker(Waker::noop());
            let mut buf = [0; 9];
            let mut buf = ReadBuf::new(&mut buf);
            assert!(Pin::new(stream).poll_read(cx, buf.unfilled()).is_ready());
            buf.filled().len()
        };
        assert_eq!(read(&mut stream), 4);
        assert!(Pin::new(&mut stream).poll_flush(cx).is_pending(), "what failed stays so");
        assert_eq!(read(&mut stream), 0);
        let Poll::Ready(Err(error)) = Pin::new(&mut stream).poll_flush(cx) else {
            panic!("it does not end")
        };
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn the_stream_comes_back_as_it_is() {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut stream = ReadFirst::new(Reset { said: &[], takes: 0, is_error: true });
        assert!(Pin::new(&mut stream).poll_write(cx, b"x").is_pending());
        let mut stream = stream.into_inner();
        assert!(matches!(Pin::new(&mut stream).poll_write(cx, b"x"), Poll::Ready(Err(_))));
    }
}
