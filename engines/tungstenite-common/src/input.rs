//! What was received and is not yet delivered.

use std::{fmt, io::Cursor};

use bytes::{Buf, Bytes, BytesMut};
use drivetrain_codec::mask;
use drivetrain_engine::{Error, ErrorKind, OpCode, RawFrame, Role, Rsv};
use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode as NativeOpCode},
};

/// What the first read is offered; the offer doubles whenever a read fills it.
const FIRST_READ: usize = 4 << 10;

/// How much memory is prepared for a large frame beyond what has arrived of it.
const STEP: usize = 64 << 10;

/// An idle connection keeps at most this, or the read buffer that was asked for.
const KEPT: usize = 64 << 10;

/// What may be held beyond the bytes received ([`Transport`](drivetrain_engine::Transport)).
const SLACK: usize = 128 << 10;

/// Payloads up to this size are copied out, larger ones are slices of the buffer.
pub(crate) const COPIED: usize = 512;

/// A buffer that is always initialised over its whole length, so that reading is safe code and yet
/// zero-fills only when the buffer is new or moves, not on each read. `buffer[start..end]` was received
/// and not yet delivered; behind `end` is room.
pub(crate) struct Input {
    role: Role,
    buffer: BytesMut,
    start: usize,
    end: usize,
    /// What the incomplete frame at `start` takes as a whole; 0 if its header is incomplete too.
    needed: usize,
    /// What an empty buffer offers to a read.
    size: usize,
    max_size: usize,
    /// Bytes in front of `buffer` that were split off, in the same allocation.
    offset: usize,
    /// The most that was ever initialised in this allocation, hence is resident.
    held: usize,
}

impl Input {
    pub(crate) fn new(role: Role, leftover: &[u8], max_size: usize) -> Self {
        Self {
            role,
            buffer: BytesMut::from(leftover),
            start: 0,
            end: leftover.len(),
            needed: 0,
            size: FIRST_READ.min(max_size),
            max_size,
            offset: 0,
            held: leftover.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
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
        let received = &self.buffer[self.start..self.end];
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
        let received = self.buffer.get(self.start..self.end)?;
        let &[first, length @ 0..126, ref rest @ ..] = received else { return None };
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
        self.start += 2 + length;
        self.needed = 0;
        Some(RawFrame { fin: first & 0x80 != 0, rsv, opcode, payload })
    }

    /// Takes the frame at `start`.
    ///
    /// Small payloads are copied: it costs what a slice costs (`docs/adr`), the buffer is never given
    /// away and so never zero-filled again, and an application that keeps 32 bytes does not keep the
    /// whole buffer.
    fn take_payload(&mut self, head: usize, length: usize, mask: Option<[u8; 4]>) -> Bytes {
        let from = self.start + head;
        let to = from + length;
        self.needed = 0;
        if let Some(mask) = mask {
            mask::apply(&mut self.buffer[from..to], mask);
        }
        if length <= COPIED {
            self.start = to;
            return Bytes::copy_from_slice(&self.buffer[from..to]);
        }
        let mut payload = self.buffer.split_to(to).freeze();
        payload.advance(from);
        self.offset += to;
        self.start = 0;
        self.end -= to;
        payload
    }

    /// Throws away what was received.
    pub(crate) fn discard(&mut self) {
        (self.start, self.end, self.needed) = (0, 0, 0);
    }

    /// Room for the next read; never empty.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        let pending = self.end - self.start;
        if pending == 0 {
            (self.start, self.end) = (0, 0);
        }
        let missing = self.needed.saturating_sub(pending).min(STEP);
        // A quarter: less would make reads short, more would move and zero-fill more often.
        let least = missing.max(self.size / 4).max(1);
        if self.buffer.len() - self.end < least && self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, pending);
        }
        if self.buffer.len() - self.end < least {
            self.grow(self.size.max(self.end + least));
        }
        &mut self.buffer[self.end..]
    }

    fn grow(&mut self, len: usize) {
        if len > self.buffer.capacity() {
            // It moves: to the front of its allocation if no slice of that is alive, or to another.
            self.offset = 0;
        }
        self.buffer.resize(len, 0);
        self.held = self.held.max(self.offset + len);
    }

    /// Notes that a read put `count` bytes into the room.
    pub(crate) fn received(&mut self, count: usize) {
        let room = self.buffer.len() - self.end;
        if count >= room {
            self.size = self.size.saturating_mul(2).min(self.max_size);
        }
        // A stream that lies about its count gets no panic out of us.
        self.end += count.min(room);
    }

    /// Gives back memory that earlier frames needed and this one does not; called when the stream has
    /// nothing more for now.
    pub(crate) fn release(&mut self) {
        let pending = self.end - self.start;
        let allowed = if pending == 0 { KEPT } else { pending.saturating_add(SLACK) };
        if self.held > allowed.max(self.max_size) {
            self.buffer = BytesMut::from(&self.buffer[self.start..self.end]);
            (self.start, self.end) = (0, pending);
            (self.offset, self.held) = (0, pending);
        }
    }

    #[cfg(test)]
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.buffer.len(), self.buffer.capacity())
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes received", self.end - self.start)
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
