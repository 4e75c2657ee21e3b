//! What was encoded and is not yet written.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use drivetrain_codec::Encoder;
use drivetrain_engine::{Error, ErrorKind, OpCode, RawFrame, Role, Rsv};
use futures_io::AsyncWrite;
use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode as NativeOpCode},
};

/// The longest payload of a frame whose head gives its length in one byte.
const SHORT: usize = 125;

/// Encodes frames, and writes them.
pub(crate) struct Output {
    encoder: Encoder,
    /// From how many waiting bytes on it is full.
    mark: usize,
}

impl Output {
    pub(crate) fn new(role: Role, mark: usize) -> Self {
        Self { encoder: Encoder::new(role), mark }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.encoder.is_empty()
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.encoder.len() >= self.mark
    }

    /// Encodes a frame: one with a short head by our own codec, as the library would write that head in three
    /// pieces, for more than the payload costs.
    pub(crate) fn push(&mut self, frame: &RawFrame) -> Result<(), Error> {
        match frame.payload.len() {
            0..=SHORT => self.encoder.encode(frame),
            _ if frame.opcode.is_control() => self.encoder.encode(frame), // refused
            _ => self.push_long(frame),
        }
    }

    /// Encodes a whole message if it is short and this is a client. Returns whether it did.
    #[inline]
    pub(crate) fn push_message(&mut self, opcode: OpCode, payload: &[u8]) -> bool {
        self.encoder.encode_message(opcode, payload)
    }

    fn push_long(&mut self, frame: &RawFrame) -> Result<(), Error> {
        let RawFrame { fin, rsv, opcode, payload } = frame;
        let header = |mask| FrameHeader {
            is_final: *fin,
            rsv1: rsv.contains(Rsv::RSV1),
            rsv2: rsv.contains(Rsv::RSV2),
            rsv3: rsv.contains(Rsv::RSV3),
            opcode: native(*opcode),
            mask,
        };
        let length = payload.len() as u64;
        let size = header(self.encoder.is_masking().then_some([0; 4])).len(length);
        self.encoder.encode_behind(size, payload, |mut to, mask| {
            header(mask).format(length, &mut to).map_err(|error| {
                // Cannot happen: the header has the room that it asked for.
                Error::new(ErrorKind::Other, "a frame header was not encoded").with_source(error)
            })
        })
    }

    /// Writes once. Call it only if there is something to write.
    pub(crate) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(Pin::new(stream).poll_write(cx, self.encoder.waiting())) {
            Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => self.encoder.written(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
        Poll::Ready(Ok(()))
    }

    /// Gives back memory that is not needed while nothing is sent.
    pub(crate) fn quiet(&mut self) {
        self.encoder.quiet();
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.encoder.capacity()
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.encoder.fmt(f)
    }
}

fn native(opcode: OpCode) -> NativeOpCode {
    match opcode {
        OpCode::Continuation => NativeOpCode::Data(Data::Continue),
        OpCode::Text => NativeOpCode::Data(Data::Text),
        OpCode::Binary => NativeOpCode::Data(Data::Binary),
        OpCode::Close => NativeOpCode::Control(Control::Close),
        OpCode::Ping => NativeOpCode::Control(Control::Ping),
        OpCode::Pong => NativeOpCode::Control(Control::Pong),
    }
}
