//! A WebSocket's stream of an HTTP/2 connection.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use futures_io::{AsyncRead, AsyncWrite};
use h2::{Reason, RecvStream, SendStream};
use tokio::{runtime::Handle, time::timeout};

use super::connections::Http2Connection;

/// How long the peer may take to end a stream that was ended here, and to take what is queued.
const LINGER: Duration = Duration::from_secs(2);

/// The most that waits for the peer's window.
const QUEUED: usize = 64 << 10;

/// The stream, with its connection.
///
/// One that is dropped before the peer has ended it is reset. A reset overtakes what a proxy has not passed on
/// yet, and the Close would be lost. So after a shutdown the peer's end is awaited, as a client awaits that of
/// a TCP connection (RFC 6455 section 7.1.1).
pub(crate) struct Socket {
    /// Until it is dropped.
    stream: Option<Http2Stream>,
    connection: Arc<Http2Connection>,
    handle: Handle,
}

/// Both directions of a stream.
struct Http2Stream {
    send: SendStream<Bytes>,
    recv: RecvStream,
    chunk: Bytes,
    is_shut: bool,
    is_ended: bool,
}

impl Socket {
    pub(super) fn new(
        send: SendStream<Bytes>,
        recv: RecvStream,
        connection: Arc<Http2Connection>,
        handle: &Handle,
    ) -> Self {
        let stream =
            Http2Stream { send, recv, chunk: Bytes::new(), is_shut: false, is_ended: false };
        Self { stream: Some(stream), connection, handle: handle.clone() }
    }

    fn stream(&mut self) -> io::Result<&mut Http2Stream> {
        self.stream.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let Some(stream) = self.stream.take() else { return };
        if stream.is_ended {
            return;
        }
        let connection = Arc::clone(&self.connection);
        self.handle.spawn(async move {
            stream.end().await;
            drop(connection);
        });
    }
}

impl Http2Stream {
    /// Lets the peer end a stream that was shut down, and take what is queued of one that was not. What is left is
    /// reset, with what the peer's window keeps back.
    async fn end(self) {
        let Self { mut send, mut recv, is_shut, .. } = self;
        let is_done = if is_shut {
            timeout(LINGER, drained(&mut recv)).await.is_ok()
        } else {
            drop(recv);
            timeout(LINGER, taken(&mut send)).await.is_ok()
        };
        if !is_done {
            send.send_reset(Reason::CANCEL);
        }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.chunk.is_empty() && !self.is_ended {
            match ready!(self.recv.poll_data(cx)) {
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(error)) => return Poll::Ready(self.failed(error)),
                None => self.is_ended = true,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// A stream that the peer needs no more has ended.
    fn failed(&mut self, error: h2::Error) -> io::Result<()> {
        self.is_ended = true;
        match error.reason() {
            Some(Reason::NO_ERROR | Reason::CANCEL) => Ok(()),
            _ => Err(broken(error)),
        }
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Asked for even if it is not needed: nobody else tells that the stream was reset.
        if let Poll::Ready(reset) = self.send.poll_reset(cx) {
            return Poll::Ready(Err(match reset {
                Ok(reason) => broken(reason.into()),
                Err(error) => broken(error),
            }));
        }
        self.send.reserve_capacity(1);
        while self.send.capacity() == 0 {
            match ready!(self.send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Everything came, up to the peer's end.
async fn drained(recv: &mut RecvStream) {
    while let Some(Ok(chunk)) = poll_fn(|cx| recv.poll_data(cx)).await {
        // It fails where the stream is over.
        let _ = recv.flow_control().release_capacity(chunk.len());
    }
}

/// The peer's window has room for all that is queued, or the stream is over.
async fn taken(send: &mut SendStream<Bytes>) {
    send.reserve_capacity(1);
    while send.capacity() == 0 {
        let Some(Ok(_)) = poll_fn(|cx| send.poll_capacity(cx)).await else { return };
    }
}

fn broken(error: h2::Error) -> io::Error {
    if error.is_io() {
        if let Some(error) = error.into_io() {
            return error;
        }
        return io::ErrorKind::BrokenPipe.into();
    }
    let kind = match error.reason() {
        Some(Reason::STREAM_CLOSED) => io::ErrorKind::BrokenPipe,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let stream = self.stream()?;
        ready!(stream.poll_chunk(cx))?;
        let count = stream.chunk.len().min(buf.len());
        buf[..count].copy_from_slice(&stream.chunk[..count]);
        stream.chunk.advance(count);
        // It fails where the stream is over.
        let _ = stream.recv.flow_control().release_capacity(count);
        Poll::Ready(Ok(count))
    }
}

/// What fails where nothing is handed over is that the peer has left, perhaps with all that it wanted, as haproxy does
/// after a Close: as with TCP that is for who reads or writes next.
impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let stream = self.stream()?;
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(stream.poll_room(cx))?;
        let chunk = &buf[..buf.len().min(QUEUED)];
        stream.send.send_data(Bytes::copy_from_slice(chunk), false).map_err(broken)?;
        Poll::Ready(Ok(chunk.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.stream()?;
        if !std::mem::replace(&mut stream.is_shut, true) {
            let _ = stream.send.send_data(Bytes::new(), true);
        }
        Poll::Ready(Ok(()))
    }
}
