//! Bytes in, frames out.

use std::{fmt, ops::Range};

use bytes::{Buf, Bytes, BytesMut};
use drivetrain_engine::{Error, ErrorKind, OpCode, RawFrame, Role, Rsv};

use crate::{
    head::{self, Head},
    mask,
};

mod early;
#[cfg(test)]
mod tests;

use early::Early;

/// What the first read is offered; the offer doubles whenever a read fills it.
const FIRST_READ: usize = 2 << 10;

/// What a read is offered at most, unless something else is asked for.
const MAX_READ: usize = 64 << 10;

/// How much memory is prepared for a large frame beyond what has arrived of it.
const STEP: usize = 64 << 10;

/// A quiet decoder keeps at most this beyond what it has received.
const KEPT: usize = 4 << 10;

/// The head of most frames: a server's, with a payload below 126 bytes.
const SHORT_HEAD: usize = 2;

/// Payloads up to this size are copied out, larger ones are slices of the buffer.
const COPIED: usize = 1 << 10;

/// Short payloads that came together share a block of at most so many bytes.
const SHARED: usize = 1 << 10;

/// In a block each payload begins at a multiple of this: the standard library checks a text by words only from
/// such an address on, and else byte by byte.
const ALIGNED: usize = align_of::<usize>();

/// Reads frames out of bytes that come in any portions.
///
/// Refused are: reserved opcodes, control frames that are fragmented or above 125 bytes, lengths that are not
/// minimal or have the top bit set, a mask where there must be none and none where there must be one, and data
/// frames announced above a limit. Reserved bits are passed through, for extensions; the order of fragments
/// and UTF-8 are the concern of who makes messages of frames: [`MessageDecoder`](crate::MessageDecoder), or a
/// session.
///
/// It holds what was received and not yet decoded, and at most 128 KiB beyond that, whatever a frame announces.
/// A payload that the caller keeps keeps at most 1 KiB alive if it is short, and up to a read's buffer if
/// it is longer than 1 KiB.
///
/// ```
/// use drivetrain_codec::Decoder;
/// use drivetrain_engine::{ErrorKind, Role};
///
/// let mut decoder = Decoder::new(Role::Client);
/// decoder.feed(b"\x81\x05hel");
/// assert_eq!(decoder.decode(100)?, None);
/// decoder.feed(b"lo");
/// assert_eq!(decoder.decode(100)?.expect("a frame").payload, "hello");
///
/// decoder.feed(b"\x82\x7f\x00\x00\x01\x00\x00\x00\x00\x00");
/// assert_eq!(decoder.decode(100).unwrap_err().kind(), ErrorKind::TooBig, "before it has come");
/// # Ok::<(), drivetrain_engine::Error>(())
/// ```
pub struct Decoder {
    role: Role,
    /// The peer broke a rule: what it sends from then on is thrown away.
    failed: bool,
    /// Initialised over its whole length, so that reading is safe code and yet zero-fills only when the
    /// buffer is new or moves. `buffer[start..end]` was received and not yet decoded; behind it is room.
    buffer: BytesMut,
    start: usize,
    end: usize,
    /// What the incomplete frame at `start` takes as a whole; 0 if its head is incomplete too.
    needed: usize,
    /// A copy of the payloads of short frames that are still in the buffer: that of the next one is at
    /// `shared_from` here and at `shared_at` in the buffer.
    shared: Bytes,
    shared_from: usize,
    shared_at: usize,
    /// What an empty buffer offers to a read.
    size: usize,
    max_size: usize,
    /// What was received since it was last quiet.
    since_quiet: usize,
    /// Bytes in front of `buffer` that were split off, in the same allocation.
    offset: usize,
    /// The most that was ever initialised in this allocation, hence is resident.
    held: usize,
    /// Texts are checked as they come.
    early: Option<Early>,
}

impl Decoder {
    /// Of what the other end of this role sends.
    pub fn new(role: Role) -> Self {
        Self::with_max_read(role, MAX_READ)
    }

    /// The same, with the most that [`room`](Self::room) offers to one read. Default: 64 KiB. Zero counts as
    /// one.
    pub fn with_max_read(role: Role, bytes: usize) -> Self {
        let max_size = bytes.max(1);
        Self {
            role,
            failed: false,
            buffer: BytesMut::new(),
            start: 0,
            end: 0,
            needed: 0,
            shared: Bytes::new(),
            shared_from: 0,
            shared_at: 0,
            size: FIRST_READ.min(max_size),
            max_size,
            since_quiet: 0,
            offset: 0,
            held: 0,
            early: None,
        }
    }

    /// From now on a text that can no longer become UTF-8 is refused by [`decode`](Self::decode) with the bytes
    /// that show it, though its frame be incomplete or its message fragmented. A complete message is still the
    /// caller's to check, and one with reserved bits the extension's. Default: nothing is checked.
    pub fn check_text_early(&mut self) {
        self.early.get_or_insert_default();
    }

    /// Whether everything that was received has been decoded.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The next frame, unmasked, if all of it was received.
    ///
    /// After an error everything that is received is thrown away: there are no more frames.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] for a frame that breaks RFC 6455 section 5, [`ErrorKind::TooBig`] for a data frame
    /// announced above `max_payload`: as soon as its head is here, before anything is prepared for it.
    #[inline]
    pub fn decode(&mut self, max_payload: usize) -> Result<Option<RawFrame>, Error> {
        match self.decode_short(max_payload) {
            Some(frame) => Ok(Some(frame)),
            None if self.is_empty() => Ok(None),
            None => self.decode_any(max_payload),
        }
    }

    /// Decodes the frame at `start` if it is what most are: a server's message in one frame with a head of two
    /// bytes, all of it here at once, and nothing wrong with it.
    #[inline]
    fn decode_short(&mut self, max_payload: usize) -> Option<RawFrame> {
        let &[first, length @ 0..126, ..] = self.buffer.get(self.start..self.end)? else {
            return None;
        };
        let opcode = match first {
            0x81 => OpCode::Text,
            0x82 => OpCode::Binary,
            _ => return None,
        };
        let length = usize::from(length);
        let from = self.start + SHORT_HEAD;
        let to = from + length;
        if to > self.end
            || length > max_payload
            || self.needed != 0
            || self.role != Role::Client
            || self.failed
        {
            return None;
        }
        let payload = self.take_short(from..to);
        Some(RawFrame { fin: true, rsv: Rsv::NONE, opcode, payload })
    }

    fn decode_any(&mut self, max_payload: usize) -> Result<Option<RawFrame>, Error> {
        if self.failed {
            self.discard();
            return Ok(None);
        }
        let frame = self.decode_frame(max_payload);
        self.failed = frame.is_err();
        frame
    }

    fn decode_frame(&mut self, max_payload: usize) -> Result<Option<RawFrame>, Error> {
        let received = &self.buffer[self.start..self.end];
        let Some(head) = head::read(received, self.role)? else {
            self.needed = 0;
            return Ok(None);
        };
        let Head { fin, rsv, opcode, mask, length, size } = head;
        let length = match usize::try_from(length) {
            // Control frames are small by themselves, and a Close must arrive under any limit.
            Ok(length) if length <= max_payload || opcode.is_control() => length,
            _ => return Err(too_big(length, max_payload)),
        };
        self.needed = size.saturating_add(length);
        if let Some(early) = &mut self.early {
            early.look(&head, &received[size..self.needed.min(received.len())])?;
        }
        if received.len() < self.needed {
            return Ok(None);
        }
        let range = self.start + size..self.start + self.needed;
        if let Some(mask) = mask {
            mask::apply(&mut self.buffer[range.clone()], mask);
        }
        let payload = match length {
            // Behind it may be what is still masked: nothing to share.
            0..=COPIED if mask.is_some() => self.copy(range),
            0..=COPIED => self.take_short(range),
            _ => self.split(range),
        };
        Ok(Some(RawFrame { fin, rsv, opcode, payload }))
    }

    /// Takes a short payload, and everything before it.
    ///
    /// It is copied: the buffer is never given away and so never zero-filled again, and who keeps 32 bytes does
    /// not keep a buffer of 64 KiB. Those that came together are slices of one block, which costs a third of an
    /// allocation for each.
    #[inline]
    fn take_short(&mut self, range: Range<usize>) -> Bytes {
        let from = self.shared_from;
        let until = from + range.len();
        if range.start != self.shared_at || until > self.shared.len() {
            return self.share(range);
        }
        self.needed = 0;
        self.start = range.end;
        self.shared_at = range.end + SHORT_HEAD;
        self.shared_from = until.next_multiple_of(ALIGNED);
        self.shared.slice(from..until)
    }

    /// Takes a short payload that was not copied with an earlier one.
    #[inline(never)]
    fn share(&mut self, range: Range<usize>) -> Bytes {
        self.unshare();
        let mut next = self.after(range.end);
        if next.is_empty() || range.len() > SHARED / 2 {
            return self.copy(range);
        }
        let mut block = Vec::with_capacity(SHARED);
        block.extend_from_slice(&self.buffer[range.clone()]);
        while !next.is_empty() {
            block.resize(block.len().next_multiple_of(ALIGNED), 0);
            if block.len() + next.len() > SHARED {
                break;
            }
            block.extend_from_slice(&self.buffer[next.clone()]);
            next = self.after(next.end);
        }
        self.needed = 0;
        self.start = range.end;
        self.shared = block.into();
        self.shared_at = range.end + SHORT_HEAD;
        self.shared_from = range.len().next_multiple_of(ALIGNED);
        self.shared.slice(..range.len())
    }

    /// Where the payload of the next frame is, if that is a short one; else nowhere.
    #[inline]
    fn after(&self, at: usize) -> Range<usize> {
        let from = at + SHORT_HEAD;
        match self.buffer.get(at..self.end) {
            Some(&[0x81 | 0x82, length @ 1..126, ..]) if from + usize::from(length) <= self.end => {
                from..from + usize::from(length)
            }
            _ => from..from,
        }
    }

    fn copy(&mut self, range: Range<usize>) -> Bytes {
        self.needed = 0;
        self.start = range.end;
        Bytes::copy_from_slice(&self.buffer[range])
    }

    /// Takes a payload out of the buffer, with everything before it.
    fn split(&mut self, range: Range<usize>) -> Bytes {
        self.needed = 0;
        self.unshare();
        let mut payload = self.buffer.split_to(range.end).freeze();
        payload.advance(range.start);
        self.offset += range.end;
        self.start = 0;
        self.end -= range.end;
        payload
    }

    /// The buffer moves, or is new: nothing in it is where it was copied from.
    fn unshare(&mut self) {
        self.shared = Bytes::new();
        self.shared_from = usize::MAX - u16::MAX as usize;
    }

    /// Throws away what was received and not yet decoded.
    pub fn discard(&mut self) {
        self.unshare();
        (self.start, self.end, self.needed) = (0, 0, 0);
    }

    /// Takes bytes that were read elsewhere.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.room();
            let (taken, rest) = bytes.split_at(bytes.len().min(room.len()));
            room[..taken.len()].copy_from_slice(taken);
            self.received(taken.len());
            bytes = rest;
        }
    }

    /// Room for the next read; never empty. Say how much came with [`received`](Self::received).
    pub fn room(&mut self) -> &mut [u8] {
        let pending = self.end - self.start;
        if pending == 0 && self.end > 0 {
            self.unshare();
            (self.start, self.end) = (0, 0);
        }
        let missing = self.needed.saturating_sub(pending).min(STEP);
        // A quarter: less would make reads short, more would move and zero-fill more often.
        let least = missing.max(self.size / 4).max(1);
        if self.buffer.len() - self.end < least {
            self.make_room(pending, least);
        }
        &mut self.buffer[self.end..]
    }

    fn make_room(&mut self, pending: usize, least: usize) {
        self.unshare();
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, pending);
        }
        if self.buffer.len() - self.end < least {
            let len = self.size.max(self.end + least);
            if len > self.buffer.capacity() {
                // It moves: to the front of its allocation if no slice of that is alive, or to another.
                self.offset = 0;
            }
            self.buffer.resize(len, 0);
            self.held = self.held.max(self.offset + len);
        }
    }

    /// Notes that a read put `count` bytes into the [`room`](Self::room).
    pub fn received(&mut self, count: usize) {
        let room = self.buffer.len() - self.end;
        if count >= room {
            self.size = self.size.saturating_mul(2).min(self.max_size);
        }
        // A stream that lies about its count gets no panic out of us.
        let count = count.min(room);
        self.end += count;
        self.since_quiet = self.since_quiet.saturating_add(count);
    }

    /// Gives back memory that is not needed while nothing comes: call it when a read has to wait. A quiet
    /// connection keeps 4 KiB at most, and what it has received of a frame.
    pub fn quiet(&mut self) {
        if self.since_quiet < self.size / 4 {
            self.size = (self.size / 2).max(FIRST_READ.min(self.max_size));
        }
        self.since_quiet = 0;
        self.unshare();
        let pending = self.end - self.start;
        let missing = self.needed.saturating_sub(pending).min(STEP);
        let allowed = if pending == 0 { KEPT } else { pending + missing + KEPT };
        if self.held > allowed {
            self.buffer = BytesMut::from(&self.buffer[self.start..self.end]);
            (self.start, self.end) = (0, pending);
            (self.offset, self.held) = (0, pending);
        }
    }

    /// The bytes that are initialised, and those that are allocated.
    #[cfg(test)]
    fn sizes(&self) -> (usize, usize) {
        (self.buffer.len(), self.buffer.capacity())
    }
}

impl fmt::Debug for Decoder {
    /// Lengths only: payloads do not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Decoder({} bytes received)", self.end - self.start)
    }
}

#[cold]
fn too_big(length: u64, max_payload: usize) -> Error {
    let message =
        format!("the peer announced a frame of {length} bytes, the limit is {max_payload}");
    Error::new(ErrorKind::TooBig, message)
}
