//! The transport: bytes of a stream in, frames out, and the other way round.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use drivetrain_engine::{Error, OpCode, RawFrame, Role, Transport, Utf8Bytes};
use futures_io::{AsyncRead, AsyncWrite};

use crate::{Options, input::Input, output::Output};

/// After so many reads for one frame the task yields: a fast peer with a huge frame would otherwise
/// keep the thread, and the session's lock with it, for as long as the frame lasts.
const READS_PER_POLL: usize = 16;

/// The frames of an upgraded stream: a [`Transport`] that yields them as they are on the wire and does
/// nothing by itself ([`Duties::frames`](drivetrain_engine::Duties::frames)).
///
/// Beyond what tungstenite's header codec refuses (reserved opcodes) it refuses lengths that are not
/// minimal or have the top bit set, control frames that are fragmented or above 125 bytes, and a mask
/// where there must be none, or none where there must be one. Reserved bits are passed through.
pub struct Framer<S> {
    stream: S,
    input: Input,
    output: Output,
    /// The stream has ended; it is not read again.
    ended: bool,
    /// The peer broke a rule: what it sends from then on is read and thrown away.
    failed: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Framer<S> {
    /// Frames over a stream of which nothing has been read since the handshake.
    pub fn new(stream: S, role: Role, options: &Options) -> Self {
        Self::with_leftover(stream, Bytes::new(), role, options)
    }

    /// The same, with what was read past the end of the handshake.
    pub fn with_leftover(stream: S, leftover: Bytes, role: Role, options: &Options) -> Self {
        Self {
            stream,
            input: Input::new(role, &leftover, options.read_size()),
            output: Output::new(role, options.write_mark()),
            ended: false,
            failed: false,
        }
    }

    /// The next frame that is here as a whole, or the violation in it; after one, nothing.
    fn take_frame(&mut self, max_payload: usize) -> Option<Result<RawFrame, Error>> {
        if self.failed {
            self.input.discard();
            return None;
        }
        let frame = self.input.take_frame(max_payload);
        self.failed = frame.is_err();
        frame.transpose()
    }

    #[cfg(test)]
    pub(crate) fn input(&self) -> &Input {
        &self.input
    }

    #[cfg(test)]
    pub(crate) fn output(&self) -> &Output {
        &self.output
    }

    #[cfg(test)]
    pub(crate) fn stream(&mut self) -> &mut S {
        &mut self.stream
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Transport for Framer<S> {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        max_payload: usize,
    ) -> Poll<Result<Option<RawFrame>, Error>> {
        let mut reads = 0;
        loop {
            if let Some(frame) = self.take_frame(max_payload).transpose()? {
                return Poll::Ready(Ok(Some(frame)));
            }
            if self.ended {
                return Poll::Ready(match self.input.is_empty() {
                    true => Ok(None),
                    false => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                });
            }
            if reads == READS_PER_POLL {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            reads += 1;
            match Pin::new(&mut self.stream).poll_read(cx, self.input.room()) {
                Poll::Ready(Ok(0)) => self.ended = true,
                Poll::Ready(Ok(count)) => self.input.received(count),
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => {
                    self.input.quiet();
                    self.output.quiet();
                    return Poll::Pending;
                }
            }
        }
    }

    fn try_receive_buffered(&mut self, max_payload: usize) -> Option<Result<RawFrame, Error>> {
        self.take_frame(max_payload)
    }

    fn try_receive_short_text(&mut self, max_payload: usize) -> Option<&[u8]> {
        let most = max_payload.min(Utf8Bytes::IN_PLACE);
        if self.failed { None } else { self.input.take_text_in_place(most) }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while self.output.is_full() {
            ready!(self.output.poll_write(&mut self.stream, cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn start_send(&mut self, frame: RawFrame) -> Result<(), Error> {
        self.output.push(&frame)
    }

    fn try_send(&mut self, opcode: OpCode, payload: &[u8]) -> bool {
        !self.output.is_full() && self.output.push_message(opcode, payload)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while !self.output.is_empty() {
            ready!(self.output.poll_write(&mut self.stream, cx))?;
        }
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
            .field("input", &self.input)
            .field("output", &self.output)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}
