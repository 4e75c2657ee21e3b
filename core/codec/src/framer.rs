//! The transport: bytes of a stream in, frames out, and the other way round.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use drivetrain_engine::{Error, OpCode, Progress, RawFrame, Role, Transport, Utf8Bytes};
use futures_io::{AsyncRead, AsyncWrite};

use crate::{buffers::Buffers, decoder::Decoder, encoder::Encoder, head::HeadCodec};

#[cfg(test)]
mod tests;

/// Reads and bytes per poll, after which the task yields: a fast peer with a huge frame would otherwise keep the
/// thread, and the session's lock with it, until the frame is complete.
const READS_PER_POLL: usize = 16;
const BYTES_PER_POLL: usize = 256 << 10;

/// The frames of an upgraded stream, by [`Decoder`] and [`Encoder`]: a [`Transport`] that yields frames as they are
/// on the wire and does nothing by itself ([`Duties::frames`](drivetrain_engine::Duties::frames)).
///
/// It works for both roles, over any stream of futures-io: async-std's and smol's as they are, tokio's through the
/// `compat` module of `tokio-util`.
pub struct Framer<S> {
    stream: S,
    decoder: Decoder,
    encoder: Encoder,
    /// With this many waiting bytes, sending writes first.
    write_mark: u32,
    /// The stream has ended; it is not read again.
    ended: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Framer<S> {
    /// Frames over a stream. `read_ahead` was read past the end of the handshake and comes before the stream's bytes;
    /// `role` is this end's.
    pub fn new(stream: S, read_ahead: &[u8], role: Role, buffers: &Buffers) -> Self {
        let mut decoder = Decoder::with_max_read(role, buffers.read_size());
        decoder.feed(read_ahead);
        Self {
            stream,
            decoder,
            encoder: Encoder::new(role),
            write_mark: u32::try_from(buffers.write_mark()).unwrap_or(u32::MAX),
            ended: false,
        }
    }

    /// Reads and writes heads with a library's codec, where they are not short and plain. Default: with this crate's
    /// own.
    #[must_use]
    pub fn with_heads(mut self, heads: &'static dyn HeadCodec) -> Self {
        self.decoder = self.decoder.with_heads(heads);
        self.encoder = self.encoder.with_heads(heads);
        self
    }

    /// TLS that ends without `close_notify` is an error of this kind wherever it ends (RFC 8446 section 6.1).
    #[cold]
    fn read_error(&self, error: io::Error) -> Error {
        if error.kind() == io::ErrorKind::UnexpectedEof && !self.decoder.is_empty() {
            return Error::inside_frame(error);
        }
        error.into()
    }

    /// Writes until fewer than `mark` bytes wait.
    fn poll_below(&mut self, mark: usize, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.encoder.len() >= mark {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, self.encoder.waiting())) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => self.encoder.written(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Transport for Framer<S> {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        max_payload: usize,
    ) -> Poll<Result<Option<RawFrame>, Error>> {
        let (mut reads, mut bytes) = (0, 0);
        loop {
            if let Some(frame) = self.decoder.decode(max_payload)? {
                return Poll::Ready(Ok(Some(frame)));
            }
            if self.ended {
                return Poll::Ready(match self.decoder.is_empty() {
                    true => Ok(None),
                    false => Err(Error::inside_frame(io::ErrorKind::UnexpectedEof.into())),
                });
            }
            if reads == READS_PER_POLL || bytes >= BYTES_PER_POLL {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            reads += 1;
            match Pin::new(&mut self.stream).poll_read(cx, self.decoder.room()) {
                Poll::Ready(Ok(0)) => self.ended = true,
                Poll::Ready(Ok(count)) => {
                    bytes += count;
                    self.decoder.received(count);
                }
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.read_error(error))),
                Poll::Pending => {
                    self.decoder.quiet();
                    self.encoder.quiet();
                    return Poll::Pending;
                }
            }
        }
    }

    #[inline]
    fn try_receive_buffered(&mut self, max_payload: usize) -> Option<Result<RawFrame, Error>> {
        self.decoder.decode(max_payload).transpose()
    }

    #[inline]
    fn try_receive_short_text(&mut self, max_payload: usize) -> Option<&[u8]> {
        self.decoder.decode_text_in_place(max_payload.min(Utf8Bytes::IN_PLACE))
    }

    fn check_text_early(&mut self) {
        self.decoder.check_text_early();
    }

    fn progress(&self) -> Option<Progress> {
        Some(Progress { received: self.decoder.total(), written: self.encoder.total() })
    }

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.encoder.len() < self.write_mark as usize {
            return Poll::Ready(Ok(()));
        }
        self.poll_below(self.write_mark as usize, cx).map_err(Error::from)
    }

    #[inline]
    fn start_send(&mut self, frame: RawFrame) -> Result<(), Error> {
        self.encoder.encode(&frame)
    }

    #[inline]
    fn try_send(&mut self, opcode: OpCode, payload: &[u8]) -> bool {
        self.encoder.len() < self.write_mark as usize
            && self.encoder.encode_message(opcode, payload)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.poll_below(1, cx))?;
        Pin::new(&mut self.stream).poll_flush(cx).map_err(Error::from)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.stream).poll_close(cx).map_err(Error::from)
    }
}

impl<S> fmt::Debug for Framer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Framer")
            .field("decoder", &self.decoder)
            .field("encoder", &self.encoder)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
