//! The frames of one open connection.

use std::task::{Context, Poll};

use crate::{
    error::Error,
    frame::{OpCode, RawFrame},
};

/// Bytes that a connection has received and written so far, wrapping. Returned by
/// [`Transport::progress`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read from the stream, including incomplete frames.
    pub received: usize,
    /// Bytes that the stream has taken.
    pub written: usize,
}

/// Frames in and out of one connection, without blocking. Only the session polls it.
///
/// **Wakers.** Receiving ([`poll_receive`](Self::poll_receive)) has one waker, sending
/// ([`poll_ready`](Self::poll_ready), [`poll_flush`](Self::poll_flush),
/// [`poll_close`](Self::poll_close)) has another. The waker of the latest call counts. A pending
/// receive must not block sending, and a pending send must not block receiving.
///
/// **Cancel safety.** A pending call has taken nothing and lost nothing: the next call continues.
///
/// **Memory.** A data frame above `max_payload` is refused before any allocation for
/// it. Otherwise the transport holds at most the received bytes plus 128 KiB. Control frames have their
/// own limit of 125 bytes.
pub trait Transport: Send {
    /// The next frame (a whole message if [`Duties::unit`](crate::Duties) is `Messages`), or
    /// `Ok(None)` if the stream has ended between two frames.
    ///
    /// # Errors
    /// [`TooBig`](crate::ErrorKind::TooBig) for a data frame announced above `max_payload`,
    /// [`Protocol`](crate::ErrorKind::Protocol) for one that breaks RFC 6455 section 5,
    /// [`Io`](crate::ErrorKind::Io) if reading failed or ended inside a frame.
    ///
    /// After `TooBig` or `Protocol` the session sends a Close and receives until the end. From
    /// then on the transport discards input, or yields frames if it still can, and returns
    /// `Ok(None)` at the end of the stream. The peer therefore sees the Close and not a reset.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        max_payload: usize,
    ) -> Poll<Result<Option<RawFrame>, Error>>;

    /// The next frame, if it is completely in memory. Never reads. Default: `None`.
    ///
    /// The session calls this method first, to distinguish a single message, whose answer is written at once, from
    /// one of many messages, whose answers are written together. With the default every message counts as
    /// single.
    fn try_receive_buffered(&mut self, max_payload: usize) -> Option<Result<RawFrame, Error>> {
        let _ = max_payload;
        None
    }

    /// Borrows the payload of the next frame, if it is a whole Text in memory, without reserved bits, of at most
    /// `max_payload` and [`Utf8Bytes::IN_PLACE`](crate::Utf8Bytes::IN_PLACE) bytes. Such a text needs no allocation. Never
    /// reads. A `None` consumes nothing. Default: `None`.
    ///
    /// The session calls this method before [`try_receive_buffered`](Self::try_receive_buffered), and not inside
    /// a fragmented message. The method is an optimisation and may skip any frame.
    fn try_receive_short_text(&mut self, max_payload: usize) -> Option<&[u8]> {
        let _ = max_payload;
        None
    }

    /// Enables incremental UTF-8 validation: from now on the transport may refuse an invalid text at the bytes
    /// that prove it, inside an incomplete frame (RFC 6455 section 8.1), with
    /// [`Error::not_utf8`](crate::Error::not_utf8). Frames with reserved bits, and their continuations, belong to an
    /// extension and must not be checked.
    ///
    /// Sessions call it once, before they receive; raw sessions do not. Default: no effect; the session checks
    /// texts frame by frame.
    fn check_text_early(&mut self) {}

    /// Bytes received and written so far, including incomplete frames. Does no I/O. Default: `None`, unknown.
    ///
    /// The session calls it before it declares a silent peer dead: a peer in the middle of a long frame cannot answer a
    /// ping (RFC 6455 section 5.4), nor can a peer that is still reading earlier data. With the default,
    /// whole frames are the only signs of life.
    fn progress(&self) -> Option<Progress> {
        None
    }

    /// Ready when [`start_send`](Self::start_send) may be called once, that is, when less than the transport's
    /// high-water mark (about 32 KiB) is unwritten. Writes if necessary.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) if writing failed.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;

    /// Takes one frame and encodes it; writes nothing. Call after [`poll_ready`](Self::poll_ready)
    /// was ready. A call without it is accepted too and may exceed the mark, such
    /// as the Close for a dead peer.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) or
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if the frame cannot be sent; no part of it is sent.
    fn start_send(&mut self, frame: RawFrame) -> Result<(), Error>;

    /// [`poll_ready`](Self::poll_ready) and [`start_send`](Self::start_send) in one call, for a whole message, Text or
    /// Binary, without reserved bits. Copies the payload. Returns whether the transport accepted it. The transport refuses if
    /// it would have to write first, or if it cannot send the message; `start_send` then reports the error.
    /// Default: refuses.
    fn try_send(&mut self, opcode: OpCode, payload: &[u8]) -> bool {
        let _ = (opcode, payload);
        false
    }

    /// Ready when all accepted frames are written.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) if writing failed.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;

    /// Flushes, then ends the sending direction of the stream. Sends no Close frame.
    ///
    /// A session calls it once, without waiting, before it drops the transport. The transport does the work that needs no
    /// waiting.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) if writing failed.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;
}
