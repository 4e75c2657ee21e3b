//! Reading a message as a stream.

use std::{
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use drivetrain_engine::{Error, ErrorKind, Frame, Result};
use futures_io::{AsyncBufRead, AsyncRead};

use crate::{
    halves::Incoming, inbound::read_ahead::InboundItem, inbound::validation::Fragment,
    kind::MessageKind,
};

/// A message as a stream: an [`AsyncRead`], or chunk by chunk. Made by
/// [`receive_stream`](crate::Session::receive_stream).
///
/// A chunk is the payload of one frame. The session handles control frames in between. Text is validated as
/// UTF-8 incrementally: the chunks so far are the beginning of a text, which may end inside a character until the
/// rest is read. An incomplete message, because the session ended, is an error and never an end.
///
/// If the reader is dropped early, the session discards the rest of the message, and counts one message
/// in [`Outcome::discarded`](drivetrain_engine::Outcome). The next call returns the next message.
///
/// `tokio_util::compat` adapts it to tokio's `AsyncRead`.
///
/// # Example
/// ```no_run
/// # async fn example(mut session: drivetrain_session::Session) -> drivetrain_engine::Result<()> {
/// let Some(mut reader) = session.receive_stream().await? else { return Ok(()) };
/// println!("{:?}", reader.kind());
/// let mut size = 0;
/// while let Some(chunk) = reader.chunk().await? {
///     size += chunk.len();
/// }
/// println!("{size} bytes");
/// # Ok(()) }
/// ```
pub struct MessageReader<'a> {
    incoming: &'a mut Incoming,
    kind: MessageKind,
    /// The received and unread bytes.
    chunk: Bytes,
    size: u64,
    /// `chunk` is the last one.
    is_last: bool,
}

impl Incoming {
    /// The next message, Text or Binary, as a stream that is never held as a whole: an `AsyncRead`;
    /// `None` after the peer's Close, also on later calls. See [`MessageReader`].
    ///
    /// Each frame of a message is read on demand. The incoming capacity bounds unread data, and a peer that sends
    /// more has to wait. A frame is held as a whole: the limits for frames and
    /// for messages apply to each frame, and to the message only
    /// `max_stream_size`.
    ///
    /// # Errors
    /// As for [`receive`](Self::receive).
    ///
    /// # Cancel safety
    /// Safe: a dropped future loses nothing, and neither does a [`receive`](Self::receive) that was dropped
    /// before.
    pub async fn receive_stream(&mut self) -> Result<Option<MessageReader<'_>>> {
        MessageReader::open(self).await
    }
}

impl<'a> MessageReader<'a> {
    /// The next message.
    pub(crate) async fn open(incoming: &'a mut Incoming) -> Result<Option<Self>> {
        let Some((kind, chunk, is_last)) = poll_fn(|cx| poll_start(incoming, cx)).await? else {
            return Ok(None);
        };
        let mut reader = Self { incoming, kind, chunk: Bytes::new(), size: 0, is_last: false };
        reader.take(chunk, is_last);
        Ok(Some(reader))
    }

    /// The kind of the message.
    pub fn kind(&self) -> MessageKind {
        self.kind
    }

    /// The next chunk of the message; `None` at its end, also on later calls. Never empty.
    ///
    /// # Errors
    /// Those of [`receive`](crate::Session::receive), and [`ErrorKind::Closed`] with the outcome if the session
    /// ended cleanly before the message did.
    ///
    /// # Cancel safety
    /// Safe: a dropped future loses nothing.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        poll_fn(|cx| {
            ready!(self.poll_chunk(cx))?;
            let chunk = std::mem::take(&mut self.chunk);
            Poll::Ready(Ok((!chunk.is_empty()).then_some(chunk)))
        })
        .await
    }

    /// Ready with a chunk or at the end.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        while self.chunk.is_empty() && !self.is_last {
            match ready!(self.incoming.poll_fragment(cx))? {
                Some(InboundItem::Fragment(Fragment { start: None, payload, last })) => {
                    self.take(payload, last);
                }
                _ => return Poll::Ready(Err(self.cut())),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, chunk: Bytes, is_last: bool) {
        self.size = self.size.saturating_add(chunk.len() as u64);
        let limit = self.incoming.shared().config.max_stream_size;
        if self.size <= limit {
            (self.chunk, self.is_last) = (chunk, is_last);
            return;
        }
        let message = format!("the message is larger than max_stream_size, which is {limit} bytes");
        let error = Error::new(ErrorKind::TooBig, message);
        self.incoming.refuse(error);
    }

    fn cut(&self) -> Error {
        let outcome = self.incoming.shared().with(|state| state.outcome());
        let message = format!("the session ended before the message did: {outcome}");
        Error::new(ErrorKind::Closed, message).with_outcome(outcome)
    }
}

type Start = (MessageKind, Bytes, bool);

fn poll_start(incoming: &mut Incoming, cx: &mut Context<'_>) -> Poll<Result<Option<Start>>> {
    if let Some((kind, reassembly)) = incoming.shared().with(|state| state.take_reassembled()) {
        return Poll::Ready(Ok(Some((kind, reassembly, false))));
    }
    loop {
        let start = match ready!(incoming.poll_fragment(cx))? {
            Some(InboundItem::Message(Frame::Text(text))) => (MessageKind::Text, text.into(), true),
            Some(InboundItem::Message(frame)) => (MessageKind::Binary, frame.into_bytes(), true),
            Some(InboundItem::Fragment(Fragment { start: Some(kind), payload, last })) => {
                (kind, payload, last)
            }
            // The rest of a message whose reader was leaked, not dropped.
            Some(InboundItem::Fragment(_)) => continue,
            None => return Poll::Ready(Ok(None)),
        };
        return Poll::Ready(Ok(Some(start)));
    }
}

/// An error's [`get_ref`](io::Error::get_ref) is drivetrain's; `?` to
/// [`Error`](drivetrain_engine::Error) unwraps it.
impl AsyncRead for MessageReader<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let chunk = ready!(self.as_mut().poll_fill_buf(cx))?;
        let count = chunk.len().min(buffer.len());
        buffer[..count].copy_from_slice(&chunk[..count]);
        self.consume(count);
        Poll::Ready(Ok(count))
    }
}

/// Takes bytes without a copy.
impl AsyncBufRead for MessageReader<'_> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        ready!(this.poll_chunk(cx))
            .map_err(|error| io_error(error, io::ErrorKind::UnexpectedEof))?;
        Poll::Ready(Ok(&this.chunk))
    }

    fn consume(mut self: Pin<&mut Self>, count: usize) {
        let count = count.min(self.chunk.len());
        self.chunk.advance(count);
    }
}

impl Drop for MessageReader<'_> {
    fn drop(&mut self) {
        let is_unread = self.is_last && !self.chunk.is_empty();
        self.incoming.shared().with(|state| state.drop_reader(is_unread));
    }
}

impl fmt::Debug for MessageReader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageReader")
            .field("kind", &self.kind)
            .field("received", &self.size)
            .field("is_last", &self.is_last)
            .finish_non_exhaustive()
    }
}

/// The error for the I/O traits; `closed` is the kind for a closed session.
pub(crate) fn io_error(error: Error, closed: io::ErrorKind) -> io::Error {
    let kind = match error.kind() {
        ErrorKind::Closed => closed,
        ErrorKind::InvalidInput => io::ErrorKind::InvalidInput,
        ErrorKind::Protocol | ErrorKind::TooBig => io::ErrorKind::InvalidData,
        ErrorKind::Timeout => io::ErrorKind::TimedOut,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}
