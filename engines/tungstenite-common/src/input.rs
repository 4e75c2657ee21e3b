//! What was received and is not yet delivered.

use std::{fmt, io::Cursor};

use bytes::Bytes;
use drivetrain_codec::{ReadBuffer, mask};
use drivetrain_engine::{Error, ErrorKind, OpCode, RawFrame, Role, Rsv};
use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode as NativeOpCode},
};

/// Payloads up to this size are copied out, larger ones are slices of the buffer.
pub(crate) const COPIED: usize = 512;

/// The head of most frames: a server's, with a payload below 126 bytes.
const SHORT_HEAD: usize = 2;

/// Finds frames in what a stream has brought.
pub(crate) struct Input {
    role: Role,
    buffer: ReadBuffer,
    /// What the next frame takes as a whole, if it is incomplete; 0 if its header is incomplete too.
    needed: usize,
}

impl Input {
    pub(crate) fn new(role: Role, leftover: &[u8], max_read: usize) -> Self {
        let mut buffer = ReadBuffer::new(max_read);
        buffer.feed(leftover, 0);
        Self { role, buffer, needed: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Takes the next frame if all of it is here. What its header tells is checked as soon as the
    /// header is complete, before anything is prepared for the payload.
    pub(crate) fn take_frame(&mut self, max_payload: usize) -> Result<Option<RawFrame>, Error> {
        if self.is_empty() {
            return Ok(None);
        }
        if let Some(frame) = self.take_short(max_payload) {
            return Ok(Some(frame));
        }
        let received = self.buffer.bytes();
        let mut cursor = Cursor::new(received);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|error| {
            // The only error there is on a slice: a reserved opcode.
            Error::new(ErrorKind::Protocol, format!("the peer sent a bad frame: {error}"))
                .with_source(error)
        })?;
        let Some((header, length)) = parsed else {
            self.needed = 0;
            return Ok(None);
        };
        // A complete header has at least two bytes and at most 14.
        let head = cursor.position() as usize;
        let opcode = check(&header, received[1] & 0x7f, length, self.role)?;
        let length = match usize::try_from(length) {
            // Control frames are small by themselves, and a Close must arrive under any limit.
            Ok(length) if length <= max_payload || opcode.is_control() => length,
            _ => return Err(too_big(length, max_payload)),
        };
        self.needed = head.saturating_add(length);
        if received.len() < self.needed {
            return Ok(None);
        }
        let rsv = Rsv::new(header.rsv1, header.rsv2, header.rsv3);
        let payload = self.take_payload(head, length, header.mask);
        Ok(Some(RawFrame { fin: header.is_final, rsv, opcode, payload }))
    }

    /// Takes the frame at `start` if it is what most are: a server's data frame with a head of two bytes,
    /// all of it here, and nothing wrong with it. Any other is left to the library's parser, which costs
    /// more than the rest of receiving.
    fn take_short(&mut self, max_payload: usize) -> Option<RawFrame> {
        let &[first, length @ 0..126, ref rest @ ..] = self.buffer.bytes() else { return None };
        let opcode = match first & 0x0f {
            0 => OpCode::Continuation,
            1 => OpCode::Text,
            2 => OpCode::Binary,
            _ => return None,
        };
        let length = usize::from(length);
        if length > max_payload || self.role != Role::Client {
            return None;
        }
        let payload = Bytes::copy_from_slice(rest.get(..length)?);
        let rsv = Rsv::new(first & 0x40 != 0, first & 0x20 != 0, first & 0x10 != 0);
        self.buffer.skip(SHORT_HEAD + length);
        self.needed = 0;
        Some(RawFrame { fin: first & 0x80 != 0, rsv, opcode, payload })
    }

    /// Takes the next frame if it is a server's whole short Text and nothing is wrong with it. Its payload
    /// stays where it is.
    #[inline]
    pub(crate) fn take_text_in_place(&mut self, max_payload: usize) -> Option<&[u8]> {
        let &[0x81, length @ 0..126, ref rest @ ..] = self.buffer.bytes() else { return None };
        let length = usize::from(length);
        if length > max_payload || length > rest.len() || self.role != Role::Client {
            return None;
        }
        self.needed = 0;
        Some(self.buffer.take(SHORT_HEAD, SHORT_HEAD + length))
    }

    /// Takes the next frame.
    ///
    /// Small payloads are copied: it costs what a slice costs (`docs/adr`), the buffer is never given
    /// away and so never zero-filled again, and an application that keeps 32 bytes does not keep the
    /// whole buffer.
    fn take_payload(&mut self, head: usize, length: usize, mask: Option<[u8; 4]>) -> Bytes {
        let frame = head + length;
        self.needed = 0;
        if let Some(mask) = mask {
            mask::apply(&mut self.buffer.bytes_mut()[head..frame], mask);
        }
        match length {
            0..=COPIED => Bytes::copy_from_slice(self.buffer.take(head, frame)),
            _ => self.buffer.split(head, frame),
        }
    }

    /// Throws away what was received.
    pub(crate) fn discard(&mut self) {
        self.buffer.clear();
        self.needed = 0;
    }

    /// Room for the next read; never empty.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        self.buffer.room(self.needed)
    }

    /// Notes that a read put `count` bytes into the room.
    pub(crate) fn received(&mut self, count: usize) {
        self.buffer.received(count);
    }

    /// Gives back memory that is not needed while nothing comes.
    pub(crate) fn quiet(&mut self) {
        self.buffer.quiet(self.needed);
    }

    #[cfg(test)]
    pub(crate) fn sizes(&self) -> (usize, usize) {
        self.buffer.sizes()
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.buffer.fmt(f)
    }
}

/// What RFC 6455 section 5.2 and 5.5 ask of a header and tungstenite does not check.
fn check(header: &FrameHeader, length_code: u8, length: u64, role: Role) -> Result<OpCode, Error> {
    let refuse = |message: &'static str| Err(Error::new(ErrorKind::Protocol, message));
    let opcode = match header.opcode {
        NativeOpCode::Data(Data::Continue) => OpCode::Continuation,
        NativeOpCode::Data(Data::Text) => OpCode::Text,
        NativeOpCode::Data(Data::Binary) => OpCode::Binary,
        NativeOpCode::Control(Control::Close) => OpCode::Close,
        NativeOpCode::Control(Control::Ping) => OpCode::Ping,
        NativeOpCode::Control(Control::Pong) => OpCode::Pong,
        NativeOpCode::Data(Data::Reserved(_)) | NativeOpCode::Control(Control::Reserved(_)) => {
            return refuse("the peer sent a frame with a reserved opcode");
        }
    };
    if length > i64::MAX as u64 {
        return refuse("the peer announced a payload with the top bit of its length set");
    }
    let minimal = match length_code {
        126 => 126,
        127 => 1 << 16,
        _ => 0,
    };
    if length < minimal {
        return refuse("the peer did not use the shortest encoding of a payload's length");
    }
    if opcode.is_control() && !header.is_final {
        return refuse("the peer fragmented a control frame");
    }
    if opcode.is_control() && length > 125 {
        return refuse("the peer sent a control frame with more than 125 bytes");
    }
    match (role, header.mask.is_some()) {
        (Role::Client, true) => refuse("the server masked a frame"),
        (Role::Server, false) => refuse("the client did not mask a frame"),
        _ => Ok(opcode),
    }
}

#[cold]
fn too_big(length: u64, max_payload: usize) -> Error {
    let message =
        format!("the peer announced a frame of {length} bytes, the limit is {max_payload}");
    Error::new(ErrorKind::TooBig, message)
}
