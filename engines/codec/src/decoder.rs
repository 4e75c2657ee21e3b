//! Bytes in, frames out.

use std::fmt;

use bytes::Bytes;
use drivetrain_engine::{Error, ErrorKind, OpCode, RawFrame, Role, Rsv};

use crate::{
    ReadBuffer,
    head::{self, Head},
    mask,
};

mod early;
#[cfg(test)]
mod tests;

use early::Early;

/// What a read is offered at most, unless something else is asked for.
const MAX_READ: usize = 64 << 10;

/// The head of most frames: a server's, with a payload below 126 bytes.
const SHORT_HEAD: usize = 2;

/// Payloads up to this size are copied out, larger ones are slices of the buffer.
const COPIED: usize = 1 << 10;

/// Short payloads that came together share a block of at most so many bytes, or of so many times their own.
const SHARED: usize = 1 << 10;
const SHARERS: usize = 8;

/// The first byte of a whole message in one frame.
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;

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
/// A payload that the caller keeps keeps at most 1 KiB alive, or eight times its own size, if it is of at most 1 KiB,
/// and up to a read's buffer if it is longer.
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
    buffer: ReadBuffer,
    /// What the next frame takes as a whole, if it is incomplete; 0 if its head is incomplete too.
    needed: usize,
    /// A copy of the payloads of short frames that are still in the buffer: that of the next one is at
    /// `shared_from` here, and is the next frame if so much was taken from the buffer.
    shared: Bytes,
    shared_from: usize,
    shared_at: usize,
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
        Self {
            role,
            failed: false,
            buffer: ReadBuffer::new(bytes),
            needed: 0,
            shared: Bytes::new(),
            shared_from: 0,
            shared_at: 0,
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
        self.buffer.is_empty()
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

    /// The payload of the next frame, where it lies, if it is a server's whole Text of at most `max_payload` bytes, and
    /// of 125, all of it here at once, and nothing wrong with it. Any other is for [`decode`](Self::decode). It is not
    /// checked for UTF-8.
    #[inline]
    pub fn decode_text_in_place(&mut self, max_payload: usize) -> Option<&[u8]> {
        let frame = self.short_text(max_payload)?;
        self.needed = 0;
        Some(self.buffer.take(SHORT_HEAD, frame))
    }

    /// Decodes the next frame if it is what most are: a server's [plain](plain) message that is short, all of it here
    /// at once.
    #[inline]
    fn decode_short(&mut self, max_payload: usize) -> Option<RawFrame> {
        let received = self.buffer.bytes();
        let (head, frame) = plain(received)?;
        let opcode = if received[0] == TEXT { OpCode::Text } else { OpCode::Binary };
        if frame - head > max_payload || !self.takes_plain() {
            return None;
        }
        let payload = self.take_short(head, frame);
        Some(RawFrame { fin: true, rsv: Rsv::NONE, opcode, payload })
    }

    /// How long the next frame is, if it is a whole Text with a head of two bytes.
    #[inline]
    fn short_text(&self, max_payload: usize) -> Option<usize> {
        let received = self.buffer.bytes();
        let &[TEXT, length @ 0..126, ..] = received else { return None };
        let length = usize::from(length);
        let size = SHORT_HEAD + length;
        (size <= received.len() && length <= max_payload && self.takes_plain()).then_some(size)
    }

    /// Whether the next frame may be a server's of which nothing was looked at yet.
    #[inline]
    fn takes_plain(&self) -> bool {
        self.needed == 0 && self.role == Role::Client && !self.failed
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
        let received = self.buffer.bytes();
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
        let frame = self.needed;
        if let Some(mask) = mask {
            mask::apply(&mut self.buffer.bytes_mut()[size..frame], mask);
        }
        let payload = match length {
            // Behind it may be what is still masked: nothing to share.
            0..=COPIED if mask.is_some() => self.copy(size, frame),
            0..=COPIED => self.take_short(size, frame),
            _ => {
                self.needed = 0;
                self.buffer.split(size, frame)
            }
        };
        Ok(Some(RawFrame { fin, rsv, opcode, payload }))
    }

    /// Takes the next frame, of so many bytes of which so many are its head, for its payload, which is short.
    ///
    /// It is copied: the buffer is never given away and so never zero-filled again, and who keeps 32 bytes does
    /// not keep a buffer of 64 KiB. Those that came together are slices of one block, which costs a third of an
    /// allocation for each.
    #[inline]
    fn take_short(&mut self, head: usize, frame: usize) -> Bytes {
        let from = self.shared_from;
        let until = from + frame - head;
        if self.buffer.position() != self.shared_at || until > self.shared.len() {
            return self.share(head, frame);
        }
        self.needed = 0;
        self.buffer.skip(frame);
        self.next_shared(until);
        self.shared.slice(from..until)
    }

    /// Notes that the payload of the next frame was copied with those before it, behind `until`.
    #[inline]
    fn next_shared(&mut self, until: usize) {
        self.shared_at = self.buffer.position();
        self.shared_from = aligned(until);
    }

    /// Takes a short payload that was not copied with an earlier one.
    #[inline(never)]
    fn share(&mut self, head: usize, frame: usize) -> Bytes {
        self.shared = Bytes::new();
        let received = self.buffer.bytes();
        let (payload, mut rest) = (&received[head..frame], &received[frame..]);
        let length = payload.len();
        let size = may_keep(length);
        if joins(rest, length, size).is_none() {
            return self.copy(head, frame);
        }
        let mut block = Vec::with_capacity(size);
        block.extend_from_slice(payload);
        while let Some((payload, frame)) = joins(rest, block.len(), size) {
            block.resize(aligned(block.len()), 0);
            block.extend_from_slice(payload);
            rest = &rest[frame..];
        }
        self.needed = 0;
        self.buffer.skip(frame);
        self.shared = block.into();
        self.next_shared(length);
        self.shared.slice(..length)
    }

    fn copy(&mut self, head: usize, frame: usize) -> Bytes {
        self.needed = 0;
        Bytes::copy_from_slice(self.buffer.take(head, frame))
    }

    /// Throws away what was received and not yet decoded.
    pub fn discard(&mut self) {
        self.shared = Bytes::new();
        self.buffer.clear();
        self.needed = 0;
    }

    /// Takes bytes that were read elsewhere.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.feed(bytes, self.needed);
    }

    /// Room for the next read; never empty. Say how much came with [`received`](Self::received).
    pub fn room(&mut self) -> &mut [u8] {
        self.buffer.room(self.needed)
    }

    /// Notes that a read put `count` bytes into the [`room`](Self::room).
    pub fn received(&mut self, count: usize) {
        self.buffer.received(count);
    }

    /// Gives back memory that is not needed while nothing comes: call it when a read has to wait. A quiet
    /// connection keeps 4 KiB at most, and what it has received of a frame.
    pub fn quiet(&mut self) {
        self.shared = Bytes::new();
        self.buffer.quiet(self.needed);
    }
}

/// How long the head of the frame at the beginning of `bytes` is, and how long all of it, if it is what most are: a
/// server's whole message in one frame without reserved bits, all of it here, its payload short enough to be copied,
/// and nothing wrong with it.
#[inline]
fn plain(bytes: &[u8]) -> Option<(usize, usize)> {
    let (head, length) = match *bytes {
        [TEXT | BINARY, length @ 0..126, ..] => (SHORT_HEAD, usize::from(length)),
        [TEXT | BINARY, 126, high, low, ..] => match u16::from_be_bytes([high, low]) {
            0..126 => return None, // not the shortest encoding
            length => (SHORT_HEAD + 2, usize::from(length)),
        },
        _ => return None,
    };
    let frame = head + length;
    (length <= COPIED && frame <= bytes.len()).then_some((head, frame))
}

/// The payload of the frame at the beginning of `bytes`, and the length of the frame, if it may lie in a block of this
/// size that is filled up to `end`: no payload keeps more alive than it may.
fn joins(bytes: &[u8], end: usize, size: usize) -> Option<(&[u8], usize)> {
    let (head, frame) = plain(bytes).filter(|(head, frame)| frame > head)?;
    let payload = &bytes[head..frame];
    let fits = aligned(end) + payload.len() <= size && size <= may_keep(payload.len());
    fits.then_some((payload, frame))
}

/// Where a payload behind `end` begins in a block.
#[inline]
fn aligned(end: usize) -> usize {
    end.next_multiple_of(ALIGNED)
}

/// How much memory a copied payload may keep alive.
fn may_keep(length: usize) -> usize {
    SHARED.max(length * SHARERS)
}

impl fmt::Debug for Decoder {
    /// Lengths only: payloads do not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Decoder({:?})", self.buffer)
    }
}

#[cold]
fn too_big(length: u64, max_payload: usize) -> Error {
    let message =
        format!("the peer announced a frame of {length} bytes, the limit is {max_payload}");
    Error::new(ErrorKind::TooBig, message)
}
