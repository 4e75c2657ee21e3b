//! A server's frames as bytes (RFC 6455 section 5.2): the smallest reader that breaks no rule, for what a test
//! sends as bytes, so that garbage is judged as on a socket.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use drivetrain_engine::{Error, ErrorKind, OpCode, RawFrame, Result, Rsv};

/// Bytes in, frames out.
#[derive(Default)]
pub(super) struct FrameReader {
    buffer: BytesMut,
    /// A violation occurred; further input is discarded.
    is_broken: bool,
}

struct FrameHead {
    fin: bool,
    rsv: Rsv,
    opcode: OpCode,
    length: usize,
    size: usize,
}

impl FrameReader {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if !self.is_broken {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Whether the bytes so far end inside a frame.
    pub(super) fn is_inside(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Discards all further input.
    pub(super) fn close(&mut self) {
        self.is_broken = true;
        self.buffer.clear();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_broken
    }

    /// The next whole frame, or the violation; `None` if the frame is incomplete.
    pub(super) fn next(&mut self, max_payload: usize) -> Option<Result<RawFrame>> {
        let frame = self.read(max_payload).transpose()?;
        if frame.is_err() {
            self.close();
        }
        Some(frame)
    }

    fn read(&mut self, max_payload: usize) -> Result<Option<RawFrame>> {
        let Some(FrameHead { fin, rsv, opcode, length, size }) = head(&self.buffer)? else {
            return Ok(None);
        };
        if !opcode.is_control() && length > max_payload {
            let message = format!("a frame of {length} bytes is above the limit of {max_payload}");
            return Err(Error::new(ErrorKind::TooBig, message));
        }
        if self.buffer.len() - size < length {
            return Ok(None);
        }
        self.buffer.advance(size);
        let payload = self.buffer.split_to(length).freeze();
        Ok(Some(RawFrame { fin, rsv, opcode, payload }))
    }
}

fn head(bytes: &[u8]) -> Result<Option<FrameHead>> {
    let &[first, ref rest @ ..] = bytes else { return Ok(None) };
    let opcode = match first & 0x0f {
        0 => OpCode::Continuation,
        1 => OpCode::Text,
        2 => OpCode::Binary,
        8 => OpCode::Close,
        9 => OpCode::Ping,
        10 => OpCode::Pong,
        other => return Err(violation(format!("a frame has the reserved opcode {other}"))),
    };
    let &[second, ref rest @ ..] = rest else { return Ok(None) };
    if second & 0x80 != 0 {
        return Err(violation("the server masked a frame"));
    }
    let short = usize::from(second & 0x7f);
    if opcode.is_control() && short > 125 {
        return Err(violation("a control frame has more than 125 bytes"));
    }
    let (length, width, least) = match (short, rest) {
        (126, &[a, b, ..]) => (u64::from(u16::from_be_bytes([a, b])), 2, 126),
        (127, &[a, b, c, d, e, f, g, h, ..]) => {
            (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 8, 1 << 16)
        }
        (126 | 127, _) => return Ok(None),
        (short, _) => (short as u64, 0, 0),
    };
    if length < least || length > i64::MAX as u64 {
        return Err(violation("a frame's length is not written in the shortest way"));
    }
    let rsv = Rsv::new(first & 0x40 != 0, first & 0x20 != 0, first & 0x10 != 0);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    Ok(Some(FrameHead { fin: first & 0x80 != 0, rsv, opcode, length, size: 2 + width }))
}

/// A frame as a server writes it.
pub(super) fn encode(frame: &RawFrame) -> Bytes {
    let RawFrame { fin, rsv, opcode, payload } = frame;
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    let mut bytes = BytesMut::with_capacity(10 + payload.len());
    bytes.put_u8(
        bit(*fin, 0x80)
            | bit(rsv.contains(Rsv::RSV1), 0x40)
            | bit(rsv.contains(Rsv::RSV2), 0x20)
            | bit(rsv.contains(Rsv::RSV3), 0x10)
            | match opcode {
                OpCode::Continuation => 0,
                OpCode::Text => 1,
                OpCode::Binary => 2,
                OpCode::Close => 8,
                OpCode::Ping => 9,
                OpCode::Pong => 10,
            },
    );
    match payload.len() {
        length @ 0..=125 => bytes.put_u8(length as u8),
        length @ 126..=0xffff => {
            bytes.put_u8(126);
            bytes.put_u16(length as u16);
        }
        length => {
            bytes.put_u8(127);
            bytes.put_u64(length as u64);
        }
    }
    bytes.put_slice(payload);
    bytes.freeze()
}

fn violation(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Protocol, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_whatever_the_cuts() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let frame =
                RawFrame { rsv: Rsv::RSV2, ..RawFrame::new(OpCode::Binary, vec![7; length]) };
            let bytes = encode(&frame);
            for cut in [1, 2, 3, bytes.len()] {
                let mut wire = FrameReader::default();
                let mut chunks = bytes.chunks(bytes.len().div_ceil(cut)).peekable();
                while let Some(chunk) = chunks.next() {
                    wire.push(chunk);
                    let read = wire.next(usize::MAX).map(|frame| frame.expect("valid"));
                    assert_eq!(read, chunks.peek().is_none().then(|| frame.clone()), "{length}");
                }
                assert!(!wire.is_inside());
            }
        }
    }

    #[test]
    fn a_broken_rule_ends_the_reading() {
        let cases: [(&[u8], ErrorKind); 9] = [
            (&[0x83, 0], ErrorKind::Protocol),
            (&[0x8b], ErrorKind::Protocol),
            (&[0x81, 0x80], ErrorKind::Protocol),
            (&[0x89, 126, 0, 126], ErrorKind::Protocol),
            (&[0x88, 127], ErrorKind::Protocol),
            (&[0x82, 126, 0, 125], ErrorKind::Protocol),
            (&[0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], ErrorKind::Protocol),
            (&[0x82, 127, 0x80, 0, 0, 0, 0, 1, 0, 0], ErrorKind::Protocol),
            (&[0x82, 101], ErrorKind::TooBig),
        ];
        for (bytes, kind) in cases {
            let mut wire = FrameReader::default();
            wire.push(bytes);
            let error = wire.next(100).map(|frame| frame.expect_err("broken"));
            assert_eq!(error.map(|error| error.kind()), Some(kind), "{bytes:x?}");
            wire.push(&[0x81, 0]);
            assert!(wire.next(100).is_none(), "input after a violation is discarded: {bytes:x?}");
        }
    }
}
