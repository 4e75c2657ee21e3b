//! Bytes in, frames out.

use std::fmt;

use bytes::Bytes;
use drivetrain_engine::{Error, ErrorKind, OpCode, RawFrame, Role, Rsv};

use crate::{
    head::{self, Head, HeadCodec},
    mask,
    read_buffer::ReadBuffer,
};

mod early;
#[cfg(test)]
mod tests;

use early::Early;

/// What a read is offered at most, unless something else is asked for.
const MAX_READ: usize = 64 << 10;

/// The bit in the second byte of a head that says that the frame is masked, and the length of the mask.
const MASKED: u8 = 0x80;
const MASK: usize = 4;

/// The head of a frame with a length of one byte, without a mask and with one, and the most that such a length says.
const SHORT_HEAD: usize = 2;
const MASKED_HEAD: usize = SHORT_HEAD + MASK;
const LONGEST_SHORT: usize = 125;

/// Payloads up to this size are copied out. A larger one is a slice of the buffer, if it is at least a quarter of it.
///
/// This value and the two below bound what a kept payload keeps alive: [`Decoder`] promises it. `.ci/instructions` counts
/// what they cost a message (`receive` and `echo`).
const COPIED: usize = 1 << 10;

/// Short payloads that arrived together share a block of at most this many bytes, or this many times their own length.
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
/// and four times its own size if it is longer.
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
    /// A library's codec for heads.
    heads: Option<&'static dyn HeadCodec>,
    /// The [bit](MASKED) of the other end's frames.
    masked: u8,
    /// The peer broke a rule: what it sends from then on is thrown away.
    failed: bool,
    buffer: ReadBuffer,
    /// What the next frame takes as a whole, if it is incomplete; 0 if its head is incomplete too. Never 0 after a
    /// failure: so one look tells whether the next frame may be taken the short way.
    needed: usize,
    /// A copy, unmasked, of the payloads of short frames that are still in the buffer: that of the next one is at
    /// `shared_from` here, and is the next frame if so much was taken from the buffer.
    shared: Bytes,
    shared_from: u32,
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
            heads: None,
            masked: if role == Role::Server { MASKED } else { 0 },
            failed: false,
            buffer: ReadBuffer::new(bytes),
            needed: 0,
            shared: Bytes::new(),
            shared_from: 0,
            shared_at: 0,
            early: None,
        }
    }

    /// Reads heads with a library's codec, where they are not short and plain. Default: with this crate's own.
    #[must_use]
    pub fn with_heads(mut self, heads: &'static dyn HeadCodec) -> Self {
        self.heads = Some(heads);
        self
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

    /// How many bytes were received so far, wrapping.
    pub fn total(&self) -> usize {
        self.buffer.total()
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

    /// The payload of the next frame, where it lies and unmasked, if it is a whole Text of at most `max_payload` bytes,
    /// and of 125, all of it here at once, and nothing wrong with it. Any other is for [`decode`](Self::decode). It is
    /// not checked for UTF-8.
    #[inline]
    pub fn decode_text_in_place(&mut self, max_payload: usize) -> Option<&[u8]> {
        if self.masked != 0 {
            return self.decode_masked_text(max_payload);
        }
        let (_, payload) = self.take_text::<SHORT_HEAD>(0, max_payload)?;
        Some(payload)
    }

    /// The same of a client's frames: apart, so that those of a server save no registers for the mask's sake.
    #[inline(never)]
    fn decode_masked_text(&mut self, max_payload: usize) -> Option<&[u8]> {
        let (head, payload) = self.take_text::<MASKED_HEAD>(MASKED, max_payload)?;
        mask::apply(payload, mask_of(head));
        Some(payload)
    }

    /// Decodes the next frame if it is what most are: a [plain](plain) message that is short, all of it here at once.
    #[inline]
    fn decode_short(&mut self, max_payload: usize) -> Option<RawFrame> {
        let received = self.buffer.bytes();
        let (head, frame) = plain(received, self.masked)?;
        let opcode = if received[0] == TEXT { OpCode::Text } else { OpCode::Binary };
        if frame - head > max_payload || self.needed != 0 {
            return None;
        }
        let payload = self.take_short(head, frame);
        Some(RawFrame { fin: true, rsv: Rsv::NONE, opcode, payload })
    }

    /// Takes the next frame, a head of so many bytes and a payload, if it is a whole Text of which nothing was looked at
    /// yet, with a length of one byte. `masked` is the [bit](MASKED) of such a head.
    #[inline(always)]
    fn take_text<const HEAD: usize>(
        &mut self,
        masked: u8,
        max_payload: usize,
    ) -> Option<(&mut [u8; HEAD], &mut [u8])> {
        let &[TEXT, second, ..] = self.buffer.bytes() else { return None };
        let length = usize::from(second ^ masked);
        if length > max_payload.min(LONGEST_SHORT) || self.needed != 0 {
            return None;
        }
        self.buffer.take_mut(HEAD + length)?.split_first_chunk_mut()
    }

    fn decode_any(&mut self, max_payload: usize) -> Result<Option<RawFrame>, Error> {
        if self.failed {
            self.discard();
            return Ok(None);
        }
        let frame = self.decode_frame(max_payload);
        if frame.is_err() {
            self.failed = true;
            self.needed = self.needed.max(1);
        }
        frame
    }

    fn decode_frame(&mut self, max_payload: usize) -> Result<Option<RawFrame>, Error> {
        let received = self.buffer.bytes();
        let head = match self.heads {
            None => head::read(received, self.role)?,
            Some(heads) => head::read_with(heads, received, self.role)?,
        };
        let Some(head) = head else {
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
        self.needed = 0;
        let payload = if length <= COPIED {
            self.take_short(size, frame)
        } else {
            if mask.is_some() {
                self.unmask(size, frame);
            }
            self.buffer.split(size, frame)
        };
        Ok(Some(RawFrame { fin, rsv, opcode, payload }))
    }

    /// Unmasks the next frame where it lies: just before it is taken, since nothing notes that it was done.
    #[inline]
    fn unmask(&mut self, head: usize, frame: usize) {
        let (head, payload) = self.buffer.bytes_mut()[..frame].split_at_mut(head);
        mask::apply(payload, mask_of(head));
    }

    /// Takes the next frame, of so many bytes of which so many are its head, for its payload, which is short.
    ///
    /// It is copied: the buffer is never given away and so never zero-filled again, and who keeps 32 bytes does
    /// not keep a buffer of 64 KiB. Those that came together are slices of one block, with one allocation for all.
    #[inline]
    fn take_short(&mut self, head: usize, frame: usize) -> Bytes {
        let from = self.shared_from as usize;
        let until = from + frame - head;
        if self.buffer.position() != self.shared_at || until > self.shared.len() {
            return self.share(head, frame);
        }
        self.buffer.skip(frame);
        self.next_shared(until);
        self.shared.slice(from..until)
    }

    /// Notes that the payload of the next frame was copied with those before it, behind `until`.
    #[inline]
    fn next_shared(&mut self, until: usize) {
        self.shared_at = self.buffer.position();
        self.shared_from = aligned(until) as u32; // a block is of a few KiB
    }

    /// Takes a short payload that was not copied with an earlier one.
    #[inline(never)]
    fn share(&mut self, head: usize, frame: usize) -> Bytes {
        self.shared = Bytes::new();
        let received = self.buffer.bytes();
        let length = frame - head;
        let size = may_keep(length);
        let mut rest = &received[frame..];
        if joins(rest, self.masked, length, size).is_none() {
            if self.masked != 0 {
                self.unmask(head, frame);
            }
            return Bytes::copy_from_slice(self.buffer.take(head, frame));
        }
        let mut block = Vec::with_capacity(size);
        self.push_payload(&mut block, &received[..frame], head);
        while let Some((head, frame)) = joins(rest, self.masked, block.len(), size) {
            block.resize(aligned(block.len()), 0);
            self.push_payload(&mut block, &rest[..frame], head);
            rest = &rest[frame..];
        }
        self.buffer.skip(frame);
        self.shared = block.into();
        self.next_shared(length);
        self.shared.slice(..length)
    }

    /// Copies the payload of a frame to the end of a block, unmasked.
    #[inline]
    fn push_payload(&self, block: &mut Vec<u8>, frame: &[u8], head: usize) {
        let from = block.len();
        let (head, payload) = frame.split_at(head);
        block.extend_from_slice(payload);
        if self.masked != 0 {
            mask::apply(&mut block[from..], mask_of(head));
        }
    }

    /// Throws away what was received and not yet decoded.
    pub fn discard(&mut self) {
        self.shared = Bytes::new();
        self.buffer.clear();
        self.needed = usize::from(self.failed);
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

/// How long the head of the frame at the beginning of `bytes` is, and how long all of it, if it is what most are: a whole
/// message in one frame without reserved bits, masked or not as it must be, all of it here, its payload short enough to be
/// copied, and nothing wrong with it.
#[inline]
fn plain(bytes: &[u8], masked: u8) -> Option<(usize, usize)> {
    let &[TEXT | BINARY, second, ..] = bytes else { return None };
    let (head, length) = match second ^ masked {
        length @ 0..126 => (SHORT_HEAD, usize::from(length)),
        126 => match *bytes {
            [_, _, high, low, ..] => match u16::from_be_bytes([high, low]) {
                0..126 => return None, // not the shortest encoding
                length => (SHORT_HEAD + 2, usize::from(length)),
            },
            _ => return None,
        },
        _ => return None,
    };
    let head = head + mask_size(masked);
    let frame = head + length;
    (length <= COPIED && frame <= bytes.len()).then_some((head, frame))
}

/// The length of the head of the frame at the beginning of `bytes`, and that of all of it, if its payload may lie in a
/// block of this size that is filled up to `end`: no payload keeps more alive than it may.
fn joins(bytes: &[u8], masked: u8, end: usize, size: usize) -> Option<(usize, usize)> {
    let (head, frame) = plain(bytes, masked).filter(|(head, frame)| frame > head)?;
    let length = frame - head;
    let fits = aligned(end) + length <= size && size <= may_keep(length);
    fits.then_some((head, frame))
}

/// How long the mask in a head is.
#[inline]
fn mask_size(masked: u8) -> usize {
    if masked == 0 { 0 } else { MASK }
}

/// The mask at the end of a head.
#[inline]
fn mask_of(head: &[u8]) -> [u8; MASK] {
    head.last_chunk().copied().unwrap_or_default()
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
