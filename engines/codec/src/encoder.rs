//! Frames in, bytes out.

use std::fmt;

use drivetrain_engine::{Error, ErrorKind, OpCode, RawFrame, Role};

use crate::{
    head::{self, LARGEST_CONTROL},
    mask::{self, Masks},
    write_buffer::WriteBuffer,
};

#[cfg(test)]
mod tests;

/// The head of a client's frame with a payload of at most 125 bytes.
const SHORT_HEAD: usize = 6;

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
    buffer: WriteBuffer,
}

impl Encoder {
    /// Of what this end sends.
    pub fn new(role: Role) -> Self {
        let masks = matches!(role, Role::Client).then(Masks::new);
        Self { masks, buffer: WriteBuffer::default() }
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

    /// Encodes a client's whole message behind those that wait, if it is Text or Binary of at most 125 bytes, as
    /// most are. Returns whether it did: any other is for [`encode`](Self::encode).
    #[inline]
    pub fn encode_message(&mut self, opcode: OpCode, payload: &[u8]) -> bool {
        let first = match opcode {
            OpCode::Text => 0x81,
            OpCode::Binary => 0x82,
            _ => return false,
        };
        payload.len() < 126 && self.encode_short(first, payload)
    }

    /// A client's frame with a head of six bytes.
    #[inline]
    fn encode_short(&mut self, first: u8, payload: &[u8]) -> bool {
        self.try_encode_short(first, payload) || self.prepare_and_encode_short(first, payload)
    }

    /// The same, if a mask is drawn and there is room: most often, and so without a call.
    #[inline(always)]
    fn try_encode_short(&mut self, first: u8, payload: &[u8]) -> bool {
        let size = SHORT_HEAD + payload.len();
        let Some(mask) = self.masks.as_mut().and_then(Masks::drawn) else { return false };
        let Some((head, body)) =
            self.buffer.take_room(size).and_then(<[u8]>::split_first_chunk_mut::<SHORT_HEAD>)
        else {
            return false;
        };
        head[0] = first;
        head[1] = 0x80 | payload.len() as u8;
        head[2..].copy_from_slice(&mask);
        mask::copy(payload, body, mask);
        true
    }

    /// Draws masks, and makes room; a server has no masks.
    #[cold]
    #[inline(never)]
    fn prepare_and_encode_short(&mut self, first: u8, payload: &[u8]) -> bool {
        let Some(masks) = &mut self.masks else { return false };
        masks.refill();
        self.buffer.make_room(SHORT_HEAD + payload.len());
        self.try_encode_short(first, payload)
    }

    /// Encodes any frame.
    fn encode_any(&mut self, frame: &RawFrame) -> Result<(), Error> {
        check(frame)?;
        let size = head::size(frame.payload.len(), self.masks.is_some());
        self.encode_behind(size, &frame.payload, |to, mask| {
            head::write(to, frame, mask);
            Ok(())
        })
    }

    /// Encodes a frame behind those that wait, with a head that somebody else writes into so many bytes: it is
    /// given the mask that the payload gets, which is `None` for a server.
    ///
    /// # Errors
    /// Those of `write`; then nothing is encoded.
    pub fn encode_behind(
        &mut self,
        head: usize,
        payload: &[u8],
        write: impl FnOnce(&mut [u8], Option<[u8; 4]>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mask = self.masks.as_mut().map(Masks::draw);
        let size = head + payload.len();
        let (head, body) = self.buffer.make_room(size).split_at_mut(head);
        write(head, mask)?;
        match mask {
            Some(mask) => mask::copy(payload, body, mask),
            None => body.copy_from_slice(payload),
        }
        self.buffer.filled(size);
        Ok(())
    }

    /// Whether frames are masked, as a client's are.
    pub fn is_masking(&self) -> bool {
        self.masks.is_some()
    }

    /// Notes that `count` of the [waiting](Self::waiting) bytes were written.
    #[inline]
    pub fn written(&mut self, count: usize) {
        self.buffer.written(count);
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
