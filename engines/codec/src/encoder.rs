//! Frames in, bytes out.

use std::fmt;

use drivetrain_engine::{Error, ErrorKind, RawFrame, Role};

use crate::{
    head::{self, LARGEST_CONTROL},
    mask::{self, Masks},
};

#[cfg(test)]
mod tests;

/// An empty buffer that has grown beyond this is given back.
const KEPT: usize = 256 << 10;

/// A buffer beyond this is given back when its owner is quiet.
const KEPT_QUIET: usize = 4 << 10;

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
    /// Initialised over its whole length, so that a frame that fits is not zero-filled first.
    /// `buffer[start..end]` waits to be written.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Encoder {
    /// Of what this end sends.
    pub fn new(role: Role) -> Self {
        let masks = matches!(role, Role::Client).then(Masks::new);
        Self { masks, buffer: Vec::new(), start: 0, end: 0 }
    }

    /// Whether nothing waits to be written.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// How many bytes wait to be written.
    #[inline]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// The bytes that wait to be written. Say how many were with [`written`](Self::written).
    #[inline]
    pub fn waiting(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Encodes a frame behind those that wait.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a control frame that is fragmented or above 125 bytes; nothing of it is
    /// encoded.
    #[inline]
    pub fn encode(&mut self, frame: &RawFrame) -> Result<(), Error> {
        const HEAD: usize = 6;
        let length = frame.payload.len();
        let is_plain = frame.fin && frame.rsv.is_none();
        let (true, true, Some(masks)) = (length < 126, is_plain, &mut self.masks) else {
            return self.encode_any(frame);
        };
        // A client's message with a head of six bytes, as most are.
        let [a, b, c, d] = masks.draw();
        let until = self.end + HEAD + length;
        if until > self.buffer.len() {
            self.make_room(HEAD + length);
        }
        let until = self.end + HEAD + length;
        if let Some((head, body)) =
            self.buffer.get_mut(self.end..until).and_then(<[u8]>::split_first_chunk_mut)
        {
            *head = [0x80 | head::code(frame.opcode), 0x80 | length as u8, a, b, c, d];
            mask::copy(&frame.payload, body, [a, b, c, d]);
            self.end = until;
        }
        Ok(())
    }

    /// Encodes any frame.
    fn encode_any(&mut self, frame: &RawFrame) -> Result<(), Error> {
        let payload = &frame.payload;
        if frame.opcode.is_control() && (!frame.fin || payload.len() > LARGEST_CONTROL) {
            let message = "a control frame has at most 125 bytes and is never fragmented";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let mask = self.masks.as_mut().map(Masks::draw);
        let size = head::size(payload.len(), mask.is_some()) + payload.len();
        if self.end + size > self.buffer.len() {
            self.make_room(size);
        }
        let until = self.end + size;
        let body = head::write(&mut self.buffer[self.end..until], frame, mask);
        match mask {
            Some(mask) => mask::copy(payload, body, mask),
            None => body.copy_from_slice(payload),
        }
        self.end = until;
        Ok(())
    }

    /// Sees to it that so many bytes fit behind `end`.
    #[cold]
    fn make_room(&mut self, size: usize) {
        let waiting = self.len();
        if self.start > waiting {
            // Moves no more than was written since the last time, so it is paid for.
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, waiting);
        }
        let until = self.end + size;
        if self.buffer.len() < until {
            // All that is allocated is initialised at once, not again for each frame.
            self.buffer.reserve(until - self.buffer.len());
            self.buffer.resize(self.buffer.capacity(), 0);
        }
    }

    /// Notes that `count` of the [waiting](Self::waiting) bytes were written.
    #[inline]
    pub fn written(&mut self, count: usize) {
        // A stream that lies about its count gets no panic out of us.
        self.start += count.min(self.len());
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > KEPT {
                self.buffer = Vec::new();
            }
        }
    }

    /// Gives back memory that is not needed while nothing is sent: 4 KiB are kept at most, and what waits.
    pub fn quiet(&mut self) {
        if self.is_empty() && self.buffer.len() > KEPT_QUIET {
            self.buffer = Vec::new();
        }
    }

    /// The bytes that are allocated.
    #[cfg(test)]
    fn capacity(&self) -> usize {
        self.buffer.capacity()
    }
}

impl fmt::Debug for Encoder {
    /// Lengths only: payloads do not belong into logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Encoder({} bytes to write)", self.len())
    }
}
