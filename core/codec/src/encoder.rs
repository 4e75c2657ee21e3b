//! Frames in, bytes out.

use std::fmt;

use drivetrain_engine::{Error, ErrorKind, OpCode, RawFrame, Role};

use crate::{
    head::{self, HeadCodec, LARGEST_CONTROL},
    mask::{self, Masks},
    write_buffer::WriteBuffer,
};

#[cfg(test)]
mod tests;

/// The head of a frame with a payload of at most 125 bytes: a server's, and a client's.
const SHORT_HEAD: usize = 2;
const MASKED_HEAD: usize = SHORT_HEAD + 4;

/// Writes frames as bytes: head, copy and mask in one pass, into one buffer that its owner writes out.
///
/// A client's frames are masked, each with a mask of its own from a cryptographically strong source; a server's
/// are not (RFC 6455 section 5.1).
///
/// ```
/// use drivetrain_codec::Encoder;
/// use drivetrain_engine::{OpCode, RawFrame, Role};
///
/// let mut encoder = Encoder::new(Role::Server);
/// encoder.encode(&RawFrame::new(OpCode::Text, "hi"))?;
/// assert_eq!(encoder.waiting(), b"\x81\x02hi");
/// encoder.written(4);
/// assert!(encoder.is_empty());
/// # Ok::<(), drivetrain_engine::Error>(())
/// ```
pub struct Encoder {
    /// What frames are masked with; `None` for a server.
    masks: Option<Masks>,
    /// A library's codec for heads.
    heads: Option<&'static dyn HeadCodec>,
    buffer: WriteBuffer,
}

impl Encoder {
    /// Of what this end sends.
    pub fn new(role: Role) -> Self {
        let masks = matches!(role, Role::Client).then(Masks::new);
        Self { masks, heads: None, buffer: WriteBuffer::default() }
    }

    /// Writes heads with a library's codec, but for those of control frames and of payloads of at most 125 bytes.
    /// Default: with this crate's own.
    #[must_use]
    pub fn with_heads(mut self, heads: &'static dyn HeadCodec) -> Self {
        self.heads = Some(heads);
        self
    }

    /// Whether nothing waits to be written.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.buffer.len() == 0
    }

    /// How many bytes wait to be written.
    #[inline]
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// The bytes that wait to be written. Say how many were with [`written`](Self::written).
    #[inline]
    pub fn waiting(&self) -> &[u8] {
        self.buffer.waiting()
    }

    /// Encodes a frame behind those that wait.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a control frame that is fragmented or above 125 bytes; nothing of it is
    /// encoded.
    #[inline]
    pub fn encode(&mut self, frame: &RawFrame) -> Result<(), Error> {
        if frame.payload.len() < 126
            && frame.fin
            && self.encode_short(head::first(frame), &frame.payload)
        {
            return Ok(());
        }
        self.encode_any(frame)
    }

    /// Encodes a whole message behind those that wait, if it is Text or Binary of at most 125 bytes, as most are.
    /// Returns whether it did: any other is for [`encode`](Self::encode).
    #[inline]
    pub fn encode_message(&mut self, opcode: OpCode, payload: &[u8]) -> bool {
        let first = match opcode {
            OpCode::Text => 0x81,
            OpCode::Binary => 0x82,
            _ => return false,
        };
        payload.len() < 126 && self.encode_short(first, payload)
    }

    /// A frame with a payload of at most 125 bytes.
    #[inline]
    fn encode_short(&mut self, first: u8, payload: &[u8]) -> bool {
        self.try_encode_short(first, payload) || self.prepare_and_encode_short(first, payload)
    }

    /// The same, if a mask is drawn and there is room: most often, and so without a call.
    #[inline(always)]
    fn try_encode_short(&mut self, first: u8, payload: &[u8]) -> bool {
        let length = payload.len();
        let Some(masks) = &mut self.masks else {
            let Some((head, body)) = short_room::<SHORT_HEAD>(&mut self.buffer, length) else {
                return false;
            };
            *head = [first, length as u8];
            body.copy_from_slice(payload);
            return true;
        };
        let Some(mask) = masks.drawn() else { return false };
        let Some((head, body)) = short_room::<MASKED_HEAD>(&mut self.buffer, length) else {
            return false;
        };
        head[0] = first;
        head[1] = 0x80 | length as u8;
        head[2..].copy_from_slice(&mask);
        mask::copy(payload, body, mask);
        true
    }

    /// Draws masks, if there are any, and makes room.
    #[cold]
    #[inline(never)]
    fn prepare_and_encode_short(&mut self, first: u8, payload: &[u8]) -> bool {
        if let Some(masks) = &mut self.masks {
            masks.refill();
        }
        self.buffer.make_room(MASKED_HEAD + payload.len());
        self.try_encode_short(first, payload)
    }

    /// Encodes any frame.
    fn encode_any(&mut self, frame: &RawFrame) -> Result<(), Error> {
        check(frame)?;
        let mask = self.masks.as_mut().map(Masks::draw);
        let head = head::size(frame.payload.len(), mask.is_some());
        let size = head + frame.payload.len();
        let (head, body) = self.buffer.make_room(size).split_at_mut(head);
        match self.heads {
            Some(heads) if frame.payload.len() > LARGEST_CONTROL => {
                heads.write(&head::of(frame, mask), head)?;
            }
            _ => head::write(head, frame, mask),
        }
        match mask {
            Some(mask) => mask::copy(&frame.payload, body, mask),
            None => body.copy_from_slice(&frame.payload),
        }
        self.buffer.filled(size);
        Ok(())
    }

    /// Notes that `count` of the [waiting](Self::waiting) bytes were written.
    #[inline]
    pub fn written(&mut self, count: usize) {
        self.buffer.written(count);
    }

    /// How many bytes were written so far, wrapping at 32 bits.
    pub fn total(&self) -> usize {
        self.buffer.total()
    }

    /// Gives back memory that is not needed while nothing is sent: call it now and then. If nothing was written
    /// since the last call, 4 KiB are kept at most, and what waits.
    pub fn quiet(&mut self) {
        self.buffer.quiet();
    }

    /// How much memory is held.
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }
}

/// Room for a head of `HEAD` bytes and a payload of this length, if it is there already.
#[inline(always)]
fn short_room<const HEAD: usize>(
    buffer: &mut WriteBuffer,
    payload: usize,
) -> Option<(&mut [u8; HEAD], &mut [u8])> {
    buffer.take_room(HEAD + payload)?.split_first_chunk_mut()
}

/// Refuses what no frame may be (RFC 6455 section 5.5).
///
/// # Errors
/// [`ErrorKind::InvalidInput`] for a control frame that is fragmented or above 125 bytes.
fn check(frame: &RawFrame) -> Result<(), Error> {
    if frame.opcode.is_control() && (!frame.fin || frame.payload.len() > LARGEST_CONTROL) {
        let message = "a control frame has at most 125 bytes and is never fragmented";
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    Ok(())
}

impl fmt::Debug for Encoder {
    /// Lengths only: payloads do not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Encoder({} bytes to write)", self.len())
    }
}
