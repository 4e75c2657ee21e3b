//! Frames in, events out: limits for frames, UTF-8 and the rules of RFC 6455 section 5.4: pure.

use std::fmt;

use bytes::Bytes;
use drivetrain_engine::{
    CloseReason, Duties, Error, ErrorKind, Frame, Limits, OpCode, RawFrame, Result, Unit,
    Utf8Bytes, Utf8Check,
};

use super::kind::MessageKind;

/// Sees to it that frames are messages, and refuses what breaks a rule.
#[derive(Debug)]
pub(super) struct Assembler {
    limits: Limits,
    duties: Duties,
    open: Option<Open>,
}

/// A message of which more is to come.
#[derive(Debug)]
struct Open {
    text: bool,
    utf8: Utf8Check,
}

/// A fragment of a message.
#[derive(PartialEq, Eq)]
pub(super) struct Part {
    /// The message's kind, if this is its first fragment.
    pub(super) start: Option<MessageKind>,
    pub(super) payload: Bytes,
    /// Whether the message ends with it.
    pub(super) last: bool,
}

/// What a frame came to.
#[derive(PartialEq, Eq)]
pub(super) enum Event {
    /// A part of a message in several.
    Part(Part),
    /// A whole message.
    Message(Frame),
    /// A ping to answer.
    Ping(Bytes),
    /// A pong.
    Pong(Bytes),
    /// The peer's Close.
    Close(Option<CloseReason>),
}

impl Assembler {
    pub(super) fn new(limits: Limits, duties: Duties) -> Self {
        Self { limits, duties, open: None }
    }

    /// The largest data frame that may come next, when so much of its message is held. What is handed on
    /// in fragments is not held.
    #[inline]
    pub(super) fn max_payload(&self, held: usize) -> usize {
        match self.duties.unit {
            Unit::Messages => self.limits.max_message_size,
            _ => self.limits.max_frame_size.min(self.limits.max_message_size.saturating_sub(held)),
        }
    }

    /// The largest message that is held as a whole.
    pub(super) fn max_message_size(&self) -> usize {
        self.limits.max_message_size
    }

    /// Whether more is to come of a message.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Takes the next frame, when so much of its message is held.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] or [`ErrorKind::TooBig`], with the close code to send.
    #[inline]
    pub(super) fn accept(&mut self, frame: RawFrame, held: usize) -> Result<Event> {
        match self.accept_whole(frame, held) {
            Ok(message) => message.map(Event::Message),
            Err(frame) => self.accept_part(frame, held),
        }
    }

    /// Takes a frame that is a whole message, as most are; gives any other back.
    #[inline]
    pub(super) fn accept_whole(
        &self,
        frame: RawFrame,
        held: usize,
    ) -> Result<Result<Frame>, RawFrame> {
        let is_short = frame.payload.len() <= self.max_payload(held);
        if frame.fin && frame.rsv.is_none() && self.open.is_none() && is_short {
            match frame.opcode {
                OpCode::Text => return Ok(message(MessageKind::Text, frame.payload)),
                OpCode::Binary => return Ok(message(MessageKind::Binary, frame.payload)),
                _ => {}
            }
        }
        Err(frame)
    }

    /// Takes any frame: what is here is not a message in one frame, as most are, or breaks a rule.
    fn accept_part(&mut self, frame: RawFrame, held: usize) -> Result<Event> {
        if !frame.rsv.is_none() {
            return Err(violation("a frame has reserved bits set that no extension uses"));
        }
        if frame.opcode.is_control() {
            return control(frame);
        }
        if frame.payload.len() > self.max_payload(held) {
            return Err(self.too_big(frame.payload.len(), held));
        }
        let start = match (frame.opcode, &self.open) {
            (OpCode::Continuation, None) => {
                return Err(violation("a continuation frame has no message to go on with"));
            }
            (OpCode::Continuation, Some(_)) => None,
            (_, Some(_)) => {
                return Err(violation("a new message begins before the fragmented one has ended"));
            }
            (OpCode::Text, None) => Some(MessageKind::Text),
            (_, None) => Some(MessageKind::Binary),
        };
        let mut open = self.open.take().unwrap_or_else(|| Open::new(start));
        open.check(&frame.payload, frame.fin)?;
        if !frame.fin {
            self.open = Some(open);
        }
        Ok(Event::Part(Part { start, payload: frame.payload, last: frame.fin }))
    }

    fn too_big(&self, size: usize, held: usize) -> Error {
        let Limits { max_frame_size, max_message_size } = self.limits;
        let message = if size > max_frame_size && self.duties.unit == Unit::Frames {
            format!("a frame of {size} bytes is above the limit of {max_frame_size}")
        } else {
            format!("a message of at least {} bytes is above {max_message_size}", held + size)
        };
        Error::new(ErrorKind::TooBig, message)
    }
}

impl Open {
    fn new(start: Option<MessageKind>) -> Self {
        Self { text: start == Some(MessageKind::Text), utf8: Utf8Check::new() }
    }

    /// A text that can no longer become UTF-8 is refused at once, not at its end.
    fn check(&mut self, payload: &[u8], last: bool) -> Result<()> {
        if self.text && (self.utf8.push(payload).is_err() || (last && !self.utf8.is_complete())) {
            return Err(Error::not_utf8());
        }
        Ok(())
    }
}

/// A whole message.
#[inline]
pub(super) fn message(kind: MessageKind, payload: Bytes) -> Result<Frame> {
    match kind {
        MessageKind::Text => {
            Utf8Bytes::try_from(payload).map(Frame::Text).map_err(|_| Error::not_utf8())
        }
        MessageKind::Binary => Ok(Frame::Binary(payload)),
    }
}

/// A whole text that its transport lends.
///
/// # Errors
/// [`Error::not_utf8`] if it is not.
#[inline]
pub(super) fn borrowed_text(payload: &[u8]) -> Result<Frame> {
    Utf8Bytes::try_from(payload).map(Frame::Text).map_err(|_| Error::not_utf8())
}

fn control(frame: RawFrame) -> Result<Event> {
    if !frame.fin {
        return Err(violation("a control frame is fragmented"));
    }
    if frame.payload.len() > 125 {
        return Err(violation("a control frame has more than 125 bytes"));
    }
    match frame.opcode {
        OpCode::Ping => Ok(Event::Ping(frame.payload)),
        OpCode::Close => CloseReason::from_payload(&frame.payload).map(Event::Close),
        _ => Ok(Event::Pong(frame.payload)),
    }
}

fn violation(message: &'static str) -> Error {
    Error::new(ErrorKind::Protocol, message)
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start, payload, last } = self;
        write!(f, "Part(start: {start:?}, last: {last}, {} bytes)", payload.len())
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Part(part) => part.fmt(f),
            Self::Message(frame) => frame.fmt(f),
            Self::Ping(payload) => write!(f, "Ping({} bytes)", payload.len()),
            Self::Pong(payload) => write!(f, "Pong({} bytes)", payload.len()),
            Self::Close(reason) => f.debug_tuple("Close").field(reason).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use drivetrain_engine::{CloseCode, Rsv};

    use super::*;

    fn assembler(max_frame_size: usize, max_message_size: usize) -> Assembler {
        Assembler::new(Limits { max_frame_size, max_message_size }, Duties::frames())
    }

    fn frame(opcode: OpCode, payload: &[u8], fin: bool) -> RawFrame {
        RawFrame { fin, ..RawFrame::new(opcode, Bytes::copy_from_slice(payload)) }
    }

    fn part(start: Option<MessageKind>, payload: &'static [u8], last: bool) -> Event {
        Event::Part(Part { start, payload: payload.into(), last })
    }

    #[test]
    fn fragments_are_parts_of_one_message_with_control_frames_between() {
        let mut assembler = assembler(100, 100);
        let mut take = |frame| assembler.accept(frame, 0).expect("valid");
        let text = Some(MessageKind::Text);
        assert_eq!(take(frame(OpCode::Text, b"h\xc3", false)), part(text, b"h\xc3", false));
        assert_eq!(take(frame(OpCode::Ping, b"?", true)), Event::Ping(Bytes::from_static(b"?")));
        assert_eq!(take(frame(OpCode::Continuation, b"", false)), part(None, b"", false));
        assert_eq!(take(frame(OpCode::Continuation, b"\xa9!", true)), part(None, b"\xa9!", true));
        assert!(!assembler.is_open());
    }

    #[test]
    fn payloads_are_not_printed() {
        for frame in [
            frame(OpCode::Text, b"secret", true),
            frame(OpCode::Text, b"secret", false),
            frame(OpCode::Ping, b"secret", true),
            frame(OpCode::Pong, b"secret", true),
        ] {
            let printed = format!("{:?}", assembler(100, 100).accept(frame, 0).expect("valid"));
            assert!(printed.contains("6 bytes") && !printed.contains("secret"), "{printed}");
        }
    }

    #[test]
    fn violations_are_refused_with_their_code() {
        let cases: [(&[RawFrame], CloseCode); 8] = [
            (&[frame(OpCode::Continuation, b"", true)], CloseCode::PROTOCOL_ERROR),
            (
                &[frame(OpCode::Text, b"", false), frame(OpCode::Text, b"", true)],
                CloseCode::PROTOCOL_ERROR,
            ),
            (&[frame(OpCode::Ping, b"", false)], CloseCode::PROTOCOL_ERROR),
            (&[frame(OpCode::Pong, &[0; 126], true)], CloseCode::PROTOCOL_ERROR),
            (
                &[RawFrame { rsv: Rsv::RSV1, ..frame(OpCode::Text, b"", true) }],
                CloseCode::PROTOCOL_ERROR,
            ),
            (&[frame(OpCode::Text, b"\xff", true)], CloseCode::INVALID_PAYLOAD),
            (&[frame(OpCode::Text, b"\xc3", true)], CloseCode::INVALID_PAYLOAD),
            (
                &[frame(OpCode::Text, b"\xc3", false), frame(OpCode::Continuation, b"(", false)],
                CloseCode::INVALID_PAYLOAD,
            ),
        ];
        for (frames, code) in cases {
            let mut assembler = assembler(1000, 1000);
            let error = frames
                .iter()
                .find_map(|frame| assembler.accept(frame.clone(), 0).err())
                .unwrap_or_else(|| panic!("{frames:?} was accepted"));
            assert_eq!(error.close_code(), Some(code), "{frames:?}");
        }
    }

    #[test]
    fn the_limits_hold_for_frames_and_for_what_is_held() {
        let mut assembler = assembler(4, 6);
        assert_eq!(assembler.max_payload(0), 4);
        assert!(assembler.accept(frame(OpCode::Binary, &[0; 4], false), 0).is_ok());
        assert_eq!(assembler.max_payload(4), 2);
        let error = assembler.accept(frame(OpCode::Continuation, &[0; 3], true), 4).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooBig);
        assert_eq!(error.close_code(), Some(CloseCode::TOO_BIG));
    }

    #[test]
    fn a_text_split_at_every_byte_is_one_text() {
        let mut assembler = assembler(100, 100);
        let bytes = "grüße 🦀 ひ".as_bytes();
        for (i, byte) in bytes.iter().enumerate() {
            let opcode = if i == 0 { OpCode::Text } else { OpCode::Continuation };
            assembler.accept(frame(opcode, &[*byte], i + 1 == bytes.len()), 0).expect("valid");
        }
        assert!(!assembler.is_open());
    }
}
