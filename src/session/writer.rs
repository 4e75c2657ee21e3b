//! A message that goes out as it is written.

use std::{
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use drivetrain_engine::{Error, ErrorKind, OpCode, Result, Utf8Check};
use futures_io::AsyncWrite;

use super::{halves::Live, kind::MessageKind, outbox::FRAGMENT, reader::io_error, shared::Shared};

/// A message that is sent as it is written, in fragments: an [`AsyncWrite`]. Made by
/// [`send_stream`](crate::Session::send_stream).
///
/// Each 64 KiB, or what there is when it is flushed, becomes a fragment; control frames go between.
/// [`finish`](Self::finish) or closing it ends the message. Writing waits while the outgoing capacity is
/// used up, so that the memory it takes is bounded: the capacity and a fragment. Meanwhile all other
/// messages of the session wait: a task that holds a writer and sends a message waits for itself.
///
/// It keeps the session alive as a half does. The message counts as sent when it is ended, and not before:
///
/// - A writer that is dropped before that cannot take back what has gone out. The session then ends, with
///   what was accepted, a Close 1011 and an error that says why: the peer never takes what it has for the
///   whole. If nothing had gone out yet, nothing is sent at all, and the session goes on.
/// - A session that closes meanwhile, whoever closes it, sends no more of the message than was accepted, and
///   its Close. Writing fails then with [`Closed`](crate::ErrorKind::Closed).
///
/// As for tokio's `AsyncWrite`: `tokio_util::compat` makes one of it.
///
/// # Example
/// ```no_run
/// # async fn example(
/// #     session: drivetrain::Session,
/// #     mut chunks: impl Iterator<Item = drivetrain::Bytes>,
/// # ) -> drivetrain::Result<()> {
/// use drivetrain::MessageKind;
///
/// let mut writer = session.send_stream(MessageKind::Binary).await?;
/// while let Some(chunk) = chunks.next() {
///     writer.write_chunk(chunk).await?;
/// }
/// writer.finish().await?;
/// # Ok(()) }
/// ```
pub struct MessageWriter {
    live: Arc<Live>,
    kind: MessageKind,
    /// What is not a fragment yet.
    buffer: BytesMut,
    utf8: Utf8Check,
    size: u64,
    fragment: usize,
    begun: bool,
    finished: bool,
}

impl MessageWriter {
    pub(super) fn new(live: Arc<Live>, kind: MessageKind) -> Self {
        let fragment = FRAGMENT.min(live.shared().config.limits.max_frame_size);
        Self {
            live,
            kind,
            buffer: BytesMut::new(),
            utf8: Utf8Check::new(),
            size: 0,
            fragment,
            begun: false,
            finished: false,
        }
    }

    /// What the message is.
    pub fn kind(&self) -> MessageKind {
        self.kind
    }

    /// Writes a chunk, without a copy if it is long.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if a text would not be UTF-8 with it or the message has ended;
    /// [`ErrorKind::TooBig`] if the message would be larger than
    /// [`max_stream_size`](crate::WebSockets::max_stream_size): nothing of the chunk was taken, the message can go
    /// on. [`ErrorKind::Closed`] with the outcome, or the error that ended the session.
    ///
    /// # Cancel safety
    /// Dropped while pending, nothing of the chunk was taken.
    pub async fn write_chunk(&mut self, chunk: impl Into<Bytes>) -> Result<()> {
        let mut chunk = chunk.into();
        poll_fn(|cx| self.poll_write_chunk(cx, &mut chunk)).await
    }

    /// Ends the message. It is accepted then as by [`send`](crate::Session::send): what is not written yet is
    /// soon, or by [`flush`](crate::Session::flush). Once it has ended, this does nothing.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if a text ends inside a character: the message can go on.
    /// [`ErrorKind::Closed`] with the outcome, or the error that ended the session.
    ///
    /// # Cancel safety
    /// Dropped while pending, the message has not ended; calling it again goes on.
    pub async fn finish(&mut self) -> Result<()> {
        poll_fn(|cx| self.poll_finish(cx)).await
    }

    fn shared(&self) -> &Shared {
        self.live.shared()
    }

    fn poll_write_chunk(&mut self, cx: &mut Context<'_>, chunk: &mut Bytes) -> Poll<Result<()>> {
        self.check(chunk.len())?;
        let mut utf8 = self.utf8;
        if self.kind == MessageKind::Text && utf8.push(chunk).is_err() {
            return Poll::Ready(Err(not_utf8()));
        }
        let size = chunk.len();
        if self.buffer.len() + size <= self.fragment {
            self.buffer.extend_from_slice(chunk);
        } else {
            ready!(self.poll_give(cx))?;
            let Self { live, kind, begun, .. } = self;
            let take = || (opcode(*kind, begun), std::mem::take(chunk));
            ready!(live.shared().poll_send_part(cx, size, false, take))?;
        }
        self.utf8 = utf8;
        self.size += size as u64;
        Poll::Ready(Ok(()))
    }

    /// How many of the bytes were taken.
    fn poll_write_some(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.check(1)?;
        if self.buffer.len() == self.fragment {
            ready!(self.poll_give(cx))?;
        }
        let left = self.shared().config.max_stream_size - self.size;
        let room = self.fragment - self.buffer.len();
        let mut taken = bytes.len().min(room).min(usize::try_from(left).unwrap_or(usize::MAX));
        if self.kind == MessageKind::Text {
            match self.utf8.push(&bytes[..taken]) {
                Ok(()) => {}
                Err(0) => return Poll::Ready(Err(not_utf8())),
                Err(valid) => taken = valid,
            }
        }
        self.buffer.extend_from_slice(&bytes[..taken]);
        self.size += taken as u64;
        if self.buffer.len() == self.fragment {
            // If there is no room for it, or an error, the next call says so.
            let _ = self.poll_give(cx);
        }
        Poll::Ready(Ok(taken))
    }

    /// Whether more may be written.
    fn check(&self, more: usize) -> Result<()> {
        if self.finished {
            return Err(Error::new(ErrorKind::InvalidInput, "the message has ended"));
        }
        let limit = self.shared().config.max_stream_size;
        if self.size.saturating_add(more as u64) > limit {
            return Err(Error::new(
                ErrorKind::TooBig,
                format!("a streamed message of more than {limit} bytes is above the limit"),
            ));
        }
        self.shared().with(|state| state.check_open())?
    }

    /// Ready when what was written is accepted as a fragment.
    fn poll_give(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.buffer.is_empty() { Poll::Ready(Ok(())) } else { self.poll_buffer(cx, false) }
    }

    fn poll_buffer(&mut self, cx: &mut Context<'_>, last: bool) -> Poll<Result<()>> {
        let Self { live, kind, begun, buffer, .. } = self;
        let size = buffer.len();
        let take = || (opcode(*kind, begun), buffer.split().freeze());
        live.shared().poll_send_part(cx, size, last, take)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.finished {
            return Poll::Ready(Ok(()));
        }
        if !self.utf8.is_complete() {
            let message = "a text ends inside a character: write the rest of it first";
            return Poll::Ready(Err(Error::new(ErrorKind::InvalidInput, message)));
        }
        ready!(self.poll_buffer(cx, true))?;
        self.finished = true;
        Poll::Ready(Ok(()))
    }

    fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if !self.finished {
            ready!(self.poll_give(cx))?;
        }
        self.shared().poll_flush(cx)
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(self.poll_finish(cx))?;
        self.shared().poll_flush(cx)
    }
}

/// That of the next fragment, which begins the message or goes on with it.
fn opcode(kind: MessageKind, begun: &mut bool) -> OpCode {
    if std::mem::replace(begun, true) { OpCode::Continuation } else { kind.opcode() }
}

/// Closing ends the message, and flushes; a dropped writer that was not closed ends the session, see
/// [`MessageWriter`]. An error's [`get_ref`](io::Error::get_ref) is drivetrain's; `?` to
/// [`drivetrain::Error`](crate::Error) unwraps it.
impl AsyncWrite for MessageWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_some(cx, bytes).map_err(|error| io_error(error, io::ErrorKind::BrokenPipe))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flushed(cx).map_err(|error| io_error(error, io::ErrorKind::BrokenPipe))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_closed(cx).map_err(|error| io_error(error, io::ErrorKind::BrokenPipe))
    }
}

impl Drop for MessageWriter {
    fn drop(&mut self) {
        if !self.finished {
            // A poisoned session has ended, in an error that its next call says.
            let _ = self.shared().with(|state| state.drop_writer(self.begun));
        }
    }
}

impl fmt::Debug for MessageWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageWriter")
            .field("kind", &self.kind)
            .field("written", &self.size)
            .field("finished", &self.finished)
            .finish_non_exhaustive()
    }
}

fn not_utf8() -> Error {
    Error::new(ErrorKind::InvalidInput, "what was written to a text message is not UTF-8")
}
