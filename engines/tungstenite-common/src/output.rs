//! What was encoded and is not yet written.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use drivetrain_codec::mask::{self, Masks};
use drivetrain_engine::{Error, ErrorKind, OpCode, RawFrame, Role, Rsv};
use futures_io::AsyncWrite;
use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode as NativeOpCode},
};

/// An empty buffer that has grown beyond this is given back.
const KEPT: usize = 256 << 10;

/// Frames are encoded behind `end`, with header, copy and mask in one pass, and written from `written`
/// on. The vector stays initialised over its whole length, so that a frame that fits is not zero-filled.
pub(crate) struct Output {
    /// What frames are masked with; `None` for a server.
    masks: Option<Masks>,
    buffer: Vec<u8>,
    written: usize,
    end: usize,
    /// From how many waiting bytes on it is full.
    mark: usize,
}

impl Output {
    pub(crate) fn new(role: Role, mark: usize) -> Self {
        let masks = matches!(role, Role::Client).then(Masks::new);
        Self { masks, buffer: Vec::new(), written: 0, end: 0, mark }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.written == self.end
    }

    pub(crate) fn is_full(&self) -> bool {
        self.end - self.written >= self.mark
    }

    /// Encodes a frame.
    pub(crate) fn push(&mut self, frame: &RawFrame) -> Result<(), Error> {
        let RawFrame { fin, opcode, payload, .. } = frame;
        if opcode.is_control() && (!fin || payload.len() > 125) {
            let message = "a control frame has at most 125 bytes and is never fragmented";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        // A server masks none (RFC 6455 section 5.1).
        match self.masks.as_mut().map(Masks::draw) {
            Some(mask) if payload.len() < 126 => {
                self.push_short(frame, mask);
                Ok(())
            }
            mask => self.push_any(frame, mask),
        }
    }

    /// Encodes a client's frame with a head of six bytes, as most are: the library would write that head
    /// in three pieces, for more than the payload costs.
    fn push_short(&mut self, frame: &RawFrame, mask: [u8; 4]) {
        const HEAD: usize = 6;
        let RawFrame { fin, rsv, opcode, payload } = frame;
        let flag = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        let first = u8::from(native(*opcode))
            | flag(*fin, 0x80)
            | flag(rsv.contains(Rsv::RSV1), 0x40)
            | flag(rsv.contains(Rsv::RSV2), 0x20)
            | flag(rsv.contains(Rsv::RSV3), 0x10);
        let size = HEAD + payload.len();
        let (head, body) = self.room(size).split_at_mut(HEAD);
        let [a, b, c, d] = mask;
        head.copy_from_slice(&[first, 0x80 | payload.len() as u8, a, b, c, d]);
        mask::copy(payload, body, mask);
        self.end += size;
    }

    fn push_any(&mut self, frame: &RawFrame, mask: Option<[u8; 4]>) -> Result<(), Error> {
        let RawFrame { fin, rsv, opcode, payload } = frame;
        let header = FrameHeader {
            is_final: *fin,
            rsv1: rsv.contains(Rsv::RSV1),
            rsv2: rsv.contains(Rsv::RSV2),
            rsv3: rsv.contains(Rsv::RSV3),
            opcode: native(*opcode),
            mask,
        };
        let length = payload.len() as u64;
        let head = header.len(length);
        let room = self.room(head + payload.len());
        let (head, body) = room.split_at_mut(head);
        header.format(length, &mut &mut *head).map_err(|error| {
            // Cannot happen: the header has the room that it asked for.
            Error::new(ErrorKind::Other, "a frame header was not encoded").with_source(error)
        })?;
        match mask {
            Some(mask) => mask::copy(payload, body, mask),
            None => body.copy_from_slice(payload),
        }
        self.end += head.len() + payload.len();
        Ok(())
    }

    /// Exactly so many bytes behind `end`.
    fn room(&mut self, size: usize) -> &mut [u8] {
        let waiting = self.end - self.written;
        if self.buffer.len() - self.end < size && self.written > waiting {
            // Moves no more than was written since the last time, so it is paid for.
            self.buffer.copy_within(self.written..self.end, 0);
            (self.written, self.end) = (0, waiting);
        }
        let until = self.end + size;
        if self.buffer.len() < until {
            self.buffer.resize(until, 0);
        }
        &mut self.buffer[self.end..until]
    }

    /// Writes once. Call it only if there is something to write.
    pub(crate) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let waiting = &self.buffer[self.written..self.end];
        match ready!(Pin::new(stream).poll_write(cx, waiting)) {
            Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => self.written += count.min(waiting.len()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
        if self.is_empty() {
            (self.written, self.end) = (0, 0);
            if self.buffer.len() > KEPT {
                self.buffer = Vec::new();
            }
        }
        Poll::Ready(Ok(()))
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes to write", self.end - self.written)
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
