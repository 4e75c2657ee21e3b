//! The frames of one open connection.

use std::task::{Context, Poll};

use crate::{Error, RawFrame};

/// Frames in and out of one connection, without blocking; the session polls it, nobody else does.
///
/// **Wakers.** Receiving ([`poll_receive`](Self::poll_receive)) has one waker, sending
/// ([`poll_ready`](Self::poll_ready), [`poll_flush`](Self::poll_flush),
/// [`poll_close`](Self::poll_close)) has another; each is the one of the latest call. A pending
/// receive must not keep sending from making progress, nor the other way round.
///
/// **Cancel safety.** A call that is pending has taken nothing and lost nothing: calling again goes on.
///
/// **Memory.** A data frame announced above `max_payload` is refused before anything is allocated for
/// it; below it, what is held stays within the bytes received plus 128 KiB. Control frames have their
/// own limit of 125 bytes.
pub trait Transport: Send {
    /// The next frame (a whole message where [`Duties::unit`](crate::Duties) says `Messages`), or
    /// `Ok(None)` when the stream has ended between two frames.
    ///
    /// # Errors
    /// [`TooBig`](crate::ErrorKind::TooBig) for a data frame announced above `max_payload`,
    /// [`Protocol`](crate::ErrorKind::Protocol) for one that breaks RFC 6455 section 5,
    /// [`Io`](crate::ErrorKind::Io) if reading failed or ended inside a frame.
    ///
    /// After `TooBig` or `Protocol` the session sends a Close and goes on receiving until the end: from
    /// then on the transport throws away what it reads, or yields frames if it still can, and returns
    /// `Ok(None)` at the end of the stream. So the peer sees the Close and not a reset connection.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        max_payload: usize,
    ) -> Poll<Result<Option<RawFrame>, Error>>;

    /// The next frame if it is already in memory as a whole. Never reads. Default: `None`.
    ///
    /// The session asks here first, to tell a message that came by itself, which is answered at once, from
    /// one of many that came together, whose answers go out together. With the default each is one that
    /// came by itself.
    fn try_receive_buffered(&mut self, max_payload: usize) -> Option<Result<RawFrame, Error>> {
        let _ = max_payload;
        None
    }

    /// The session checks texts: from now on one that can no longer become UTF-8 may be refused with the bytes
    /// that show it, though its frame be incomplete (RFC 6455 section 8.1), with
    /// [`Error::not_utf8`](crate::Error::not_utf8). Frames with reserved bits, and what continues them, are an
    /// extension's: they are not to be checked.
    ///
    /// Sessions call it once, before they receive; raw sessions do not. Default: nothing, and texts are checked
    /// frame by frame above.
    fn check_text_early(&mut self) {}

    /// Ready when [`start_send`](Self::start_send) may be called once: when less than the transport's
    /// high-water mark (about 32 KiB) is waiting to be written; writes if it must.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) if writing failed.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;

    /// Takes one frame and encodes it; writes nothing. Call after [`poll_ready`](Self::poll_ready)
    /// was ready; a further call without it is taken too and may exceed the mark, such
    /// as the Close for a dead peer.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) or
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if the frame cannot be sent; nothing of it is.
    fn start_send(&mut self, frame: RawFrame) -> Result<(), Error>;

    /// Ready when everything that was taken is written.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) if writing failed.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;

    /// Flushes, then ends the sending direction of the stream. No Close frame is sent by itself.
    ///
    /// A session calls it once, without waiting for it, before it drops the transport: what needs no
    /// waiting is done.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) if writing failed.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;
}
