//! Sending a message as a stream.

use std::{
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use drivetrain_engine::{Error, ErrorKind, OpCode, Result, Unit, Utf8Check};
use futures_io::AsyncWrite;

use crate::{
    halves::{Live, Outgoing},
    kind::MessageKind,
    shared::{Shared, Waits},
    streaming::reader::io_error,
    waiters::Place,
};

/// The most bytes that wait for more of a fragment.
const BUFFER: usize = 64 << 10;

/// A message that is sent in fragments while it is written: an [`AsyncWrite`]. Made by
/// [`send_stream`](crate::Session::send_stream).
///
/// A fragment has at most 64 KiB, less with a smaller `max_fragment_size`, and ends at a flush. Control frames go in
/// between. After a flush the peer can read everything written before, also with extensions that retain a tail, such as permessage-deflate.
/// [`finish`](Self::finish) or closing it ends the message. Writing waits while the outgoing capacity is
/// used up, so the memory is bounded by the capacity and a fragment. Meanwhile all other
/// messages of the session wait: a task that holds a writer and sends a message waits for itself.
///
/// A writer keeps the session alive, as a half does. The message counts as sent at its end:
///
/// - A writer that is dropped earlier cannot take back sent fragments. The session then ends, with
///   the accepted data, a Close 1011 and an error: the peer never takes a part for the whole. If no fragment
///   was sent yet, nothing is sent, and the session stays open.
/// - A session that closes meanwhile sends the accepted part of the message, and
///   its Close. Writing then fails with [`Closed`](drivetrain_engine::ErrorKind::Closed).
///
/// `tokio_util::compat` adapts it to tokio's `AsyncWrite`.
///
/// # Example
/// ```no_run
/// # async fn example(
/// #     session: drivetrain_session::Session,
/// #     mut chunks: impl Iterator<Item = bytes::Bytes>,
/// # ) -> drivetrain_engine::Result<()> {
/// use drivetrain_session::MessageKind;
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
    /// Bytes of the next fragment.
    buffer: BytesMut,
    utf8: Utf8Check,
    size: u64,
    fragment: usize,
    begun: bool,
    finished: bool,
    place: Place,
}

impl Outgoing {
    /// Begins a message that is sent in fragments while it is written (RFC 6455 section 5.4), and never held as
    /// a whole: an `AsyncWrite`. See [`MessageWriter`].
    ///
    /// Earlier messages go first. Until the writer ends the message or is dropped, every other
    /// message and the next call wait; Ping, Pong and Close do not.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] on an engine that sends no fragments, and those of [`send`](Self::send), except
    /// errors of a frame.
    ///
    /// # Cancel safety
    /// Dropped while pending, nothing was begun.
    pub async fn send_stream(&self, kind: MessageKind) -> Result<MessageWriter> {
        let shared = self.shared();
        shared.config.check_fragments(shared.facts.whole_messages)?;
        let mut waits = Waits::new(shared);
        poll_fn(|cx| waits.poll_begin_stream(cx)).await?;
        Ok(MessageWriter::new(Arc::clone(&self.live), kind))
    }
}

impl MessageWriter {
    pub(crate) fn new(live: Arc<Live>, kind: MessageKind) -> Self {
        // A transport of whole messages has no streams.
        let fragment = live.shared().config.fragment_size(Unit::Frames).min(BUFFER);
        Self {
            live,
            kind,
            buffer: BytesMut::new(),
            utf8: Utf8Check::new(),
            size: 0,
            fragment,
            begun: false,
            finished: false,
            place: Place::default(),
        }
    }

    /// The kind of the message.
    pub fn kind(&self) -> MessageKind {
        self.kind
    }

    /// Writes a chunk, without a copy if it is long.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if a text would not be UTF-8 with it or the message has ended;
    /// [`ErrorKind::TooBig`] if the message would be larger than
    /// `max_stream_size`: no part of the chunk was accepted, and the message can
    /// continue. [`ErrorKind::Closed`] with the outcome, or the error that ended the session.
    ///
    /// # Cancel safety
    /// Dropped while pending, no part of the chunk was accepted.
    pub async fn write_chunk(&mut self, chunk: impl Into<Bytes>) -> Result<()> {
        let mut chunk = chunk.into();
        poll_fn(|cx| self.poll_write_chunk(cx, &mut chunk)).await
    }

    /// Ends the message, which is then accepted as by [`send`](crate::Session::send): unwritten data is written
    /// soon, or at [`flush`](crate::Session::flush). A second call does nothing.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if a text ends inside a character: the message can continue.
    /// [`ErrorKind::Closed`] with the outcome, or the error that ended the session.
    ///
    /// # Cancel safety
    /// Dropped while pending, the message has not ended; another call continues.
    pub async fn finish(&mut self) -> Result<()> {
        poll_fn(|cx| self.poll_finish(cx)).await
    }

    fn shared(&self) -> &Shared {
        self.live.shared()
    }

    fn poll_write_chunk(&mut self, cx: &mut Context<'_>, chunk: &mut Bytes) -> Poll<Result<()>> {
        ready!(self.poll_check(cx, chunk.len()))?;
        let mut utf8 = self.utf8;
        if self.kind == MessageKind::Text && utf8.push(chunk).is_err() {
            return Poll::Ready(Err(not_utf8()));
        }
        let size = chunk.len();
        if self.buffer.len() + size <= self.fragment {
            self.buffer.extend_from_slice(chunk);
        } else {
            ready!(self.poll_give(cx))?;
            let Self { live, kind, begun, place, .. } = self;
            let take = || (opcode(*kind, begun), std::mem::take(chunk));
            ready!(live.shared().poll_send_fragment(cx, size, false, place, take))?;
        }
        self.utf8 = utf8;
        self.size += size as u64;
        Poll::Ready(Ok(()))
    }

    /// Number of accepted bytes.
    fn poll_write_some(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(self.poll_check(cx, 1))?;
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
            // Without room, or after an error, the next call reports it.
            let _ = self.poll_give(cx);
        }
        Poll::Ready(Ok(taken))
    }

    /// Whether the writer accepts more.
    fn poll_check(&self, cx: &mut Context<'_>, more: usize) -> Poll<Result<()>> {
        if self.finished {
            let message = "the message has ended";
            return Poll::Ready(Err(Error::new(ErrorKind::InvalidInput, message)));
        }
        let limit = self.shared().config.max_stream_size;
        if self.size.saturating_add(more as u64) > limit {
            let message =
                format!("the message is larger than max_stream_size, which is {limit} bytes");
            return Poll::Ready(Err(Error::new(ErrorKind::TooBig, message)));
        }
        self.shared().poll_open(cx)
    }

    /// Ready when the written bytes are accepted as a fragment.
    fn poll_give(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.buffer.is_empty() { Poll::Ready(Ok(())) } else { self.poll_buffer(cx, false) }
    }

    fn poll_buffer(&mut self, cx: &mut Context<'_>, last: bool) -> Poll<Result<()>> {
        let Self { live, kind, begun, buffer, place, .. } = self;
        let size = buffer.len();
        let take = || (opcode(*kind, begun), buffer.split().freeze());
        live.shared().poll_send_fragment(cx, size, last, place, take)
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
        let Self { live, place, .. } = self;
        live.shared().poll_flush(cx, place)
    }

    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(self.poll_finish(cx))?;
        let Self { live, place, .. } = self;
        live.shared().poll_flush(cx, place)
    }
}

/// The opcode of the next fragment.
fn opcode(kind: MessageKind, begun: &mut bool) -> OpCode {
    if std::mem::replace(begun, true) { OpCode::Continuation } else { kind.opcode() }
}

/// Closing ends the message, and flushes; a dropped writer that was not closed ends the session, see
/// [`MessageWriter`]. An error's [`get_ref`](io::Error::get_ref) is drivetrain's; `?` to
/// [`Error`](drivetrain_engine::Error) unwraps it.
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
        let Self { live, place, .. } = self;
        live.shared().leave(place);
        if !self.finished {
            self.shared().with(|state| state.drop_writer(self.begun));
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
