//! Bytes in, messages out.

use std::fmt;

use bytes::{Bytes, BytesMut};
use drivetrain_engine::{
    CloseReason, Error, ErrorKind, Frame, Limits, OpCode, RawFrame, Role, Utf8Bytes, Utf8Check,
};

use crate::decoder::Decoder;

#[cfg(test)]
mod tests;

/// Reads messages and control frames out of bytes that come in any portions: a [`Decoder`] that also knows the
/// order of fragments, checks texts and what a Close says, and limits messages.
///
/// No extension is applied: reserved bits are refused. It does not answer Pings, nor a Close.
///
/// ```
/// use drivetrain_codec::MessageDecoder;
/// use drivetrain_engine::{Frame, Limits, Role};
///
/// let mut decoder = MessageDecoder::new(Role::Client, Limits::default());
/// decoder.feed(b"\x01\x03hel\x89\x00\x80\x02lo");
/// assert_eq!(decoder.decode()?, Some(Frame::Ping("".into())));
/// assert_eq!(decoder.decode()?, Some(Frame::from("hello")));
/// assert_eq!(decoder.decode()?, None);
/// # Ok::<(), drivetrain_engine::Error>(())
/// ```
pub struct MessageDecoder {
    frames: Decoder,
    limits: Limits,
    partial: Option<Partial>,
    /// A rule was broken, or the Close has come: there are no more messages.
    ended: bool,
}

/// A message whose last frame has not arrived.
struct Partial {
    /// Of a text only.
    check: Option<Utf8Check>,
    payload: BytesMut,
}

impl MessageDecoder {
    /// Of what the other end of this role sends.
    pub fn new(role: Role, limits: Limits) -> Self {
        let mut frames = Decoder::new(role);
        frames.check_text_early();
        Self { frames, limits, partial: None, ended: false }
    }

    /// Takes bytes that were read elsewhere.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.frames.feed(bytes);
    }

    /// Room for the next read; never empty. Say how much came with [`received`](Self::received).
    pub fn room(&mut self) -> &mut [u8] {
        self.frames.room()
    }

    /// Notes that a read put `count` bytes into the [`room`](Self::room).
    pub fn received(&mut self, count: usize) {
        self.frames.received(count);
    }

    /// The next message or control frame, if all of it was received. After an error, and after a Close, there are
    /// no more.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] or [`ErrorKind::TooBig`], with the close code to send.
    pub fn decode(&mut self) -> Result<Option<Frame>, Error> {
        if self.ended {
            self.frames.discard();
            return Ok(None);
        }
        let frame = self.next();
        self.ended = matches!(frame, Err(_) | Ok(Some(Frame::Close(_))));
        frame
    }

    fn next(&mut self) -> Result<Option<Frame>, Error> {
        loop {
            let held = self.partial.as_ref().map_or(0, |partial| partial.payload.len());
            let left = self.limits.max_message_size.saturating_sub(held);
            let max_payload = self.limits.max_frame_size.min(left);
            let Some(frame) = self.frames.decode(max_payload)? else { return Ok(None) };
            if !frame.rsv.is_none() {
                return Err(refuse("a frame has reserved bits set that no extension uses"));
            }
            let message = match frame.opcode {
                OpCode::Ping => Some(Frame::Ping(frame.payload)),
                OpCode::Pong => Some(Frame::Pong(frame.payload)),
                OpCode::Close => {
                    CloseReason::from_payload(&frame.payload).map(Frame::Close).map(Some)?
                }
                _ => self.take(frame)?,
            };
            if message.is_some() {
                return Ok(message);
            }
        }
    }

    /// Takes a data frame; returns the message if this is its last frame.
    fn take(&mut self, frame: RawFrame) -> Result<Option<Frame>, Error> {
        let RawFrame { fin, opcode, payload, .. } = frame;
        match (opcode, &self.partial) {
            (OpCode::Continuation, None) => {
                return Err(refuse("a continuation frame has no message to continue"));
            }
            (OpCode::Text | OpCode::Binary, Some(_)) => {
                return Err(refuse("a new message begins before the fragmented one has ended"));
            }
            (_, None) if fin => return message(opcode == OpCode::Text, payload).map(Some),
            _ => {}
        }
        let partial = self.partial.get_or_insert_with(|| Partial {
            check: (opcode == OpCode::Text).then(Utf8Check::new),
            payload: BytesMut::new(),
        });
        partial.payload.extend_from_slice(&payload);
        if let Some(check) = &mut partial.check {
            if check.push(&payload).is_err() || (fin && !check.is_complete()) {
                return Err(Error::not_utf8());
            }
        }
        match self.partial.take_if(|_| fin) {
            Some(whole) => message(whole.check.is_some(), whole.payload.freeze()).map(Some),
            None => Ok(None),
        }
    }
}

fn message(is_text: bool, payload: Bytes) -> Result<Frame, Error> {
    if is_text {
        return Utf8Bytes::try_from(payload).map(Frame::Text).map_err(|_| Error::not_utf8());
    }
    Ok(Frame::Binary(payload))
}

impl fmt::Debug for MessageDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageDecoder")
            .field("frames", &self.frames)
            .field("limits", &self.limits)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

#[cold]
fn refuse(message: &'static str) -> Error {
    Error::new(ErrorKind::Protocol, message)
}
