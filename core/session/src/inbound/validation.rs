//! Validates frames: limits, incremental UTF-8, and the rules of RFC 6455 section 5.4. Pure.

use std::fmt;

use bytes::Bytes;
use drivetrain_engine::{
    CloseReason, Duties, Error, ErrorKind, Frame, Limits, OpCode, RawFrame, Result, Unit,
    Utf8Bytes, Utf8Check,
};

use crate::kind::MessageKind;

/// The options that limit incoming messages.
pub(crate) const MAX_FRAME_SIZE: &str = "max_frame_size";
pub(crate) const MAX_MESSAGE_SIZE: &str = "max_message_size";

/// Checks that frames form messages, and refuses those that break a rule.
#[derive(Debug)]
pub(crate) struct Validator {
    limits: Limits,
    duties: Duties,
    open: Option<Open>,
}

/// A message whose last fragment has not come.
#[derive(Debug)]
struct Open {
    text: bool,
    utf8: Utf8Check,
}

/// A fragment of a message.
#[derive(PartialEq, Eq)]
pub(crate) struct Fragment {
    /// The kind of the message, on its first fragment.
    pub(crate) start: Option<MessageKind>,
    pub(crate) payload: Bytes,
    /// Whether this is the last fragment.
    pub(crate) last: bool,
}

/// The result of a frame.
#[derive(PartialEq, Eq)]
pub(crate) enum Event {
    /// A fragment of a message.
    Fragment(Fragment),
    /// A whole message.
    Message(Frame),
    /// A ping to answer.
    Ping(Bytes),
    /// A pong.
    Pong(Bytes),
    /// The peer's Close.
    Close(Option<CloseReason>),
}

impl Validator {
    pub(crate) fn new(limits: Limits, duties: Duties) -> Self {
        Self { limits, duties, open: None }
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// The largest data frame that may come next; `held` bytes of its message are held. Fragments that are handed on are
    /// not held.
    #[inline]
    pub(crate) fn max_payload(&self, held: usize) -> usize {
        match self.duties.unit {
            Unit::Messages => self.limits.max_message_size,
            _ => self.limits.max_frame_size.min(self.limits.max_message_size.saturating_sub(held)),
        }
    }

    /// The limit of a whole message.
    pub(crate) fn max_message_size(&self) -> usize {
        self.limits.max_message_size
    }

    /// Whether a message is unfinished.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Validates the next frame; `held` bytes of its message are held.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] or [`ErrorKind::TooBig`], with the close code to send.
    #[inline]
    pub(crate) fn accept(&mut self, frame: RawFrame, held: usize) -> Result<Event> {
        match self.accept_whole(frame, held) {
            Ok(message) => message.map(Event::Message),
            Err(frame) => self.accept_fragment(frame, held),
        }
    }

    /// Validates a frame that is a whole message, as most are. Gives any other frame back.
    #[inline]
    pub(crate) fn accept_whole(
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

    /// Validates any frame. Off the fast path: it is no whole message, or breaks a rule.
    fn accept_fragment(&mut self, frame: RawFrame, held: usize) -> Result<Event> {
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
                return Err(violation("a continuation frame has no message to continue"));
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
        Ok(Event::Fragment(Fragment { start, payload: frame.payload, last: frame.fin }))
    }

    /// The option behind [`max_payload`](Self::max_payload).
    pub(crate) fn limiting_option(&self, held: usize) -> &'static str {
        let Limits { max_frame_size, max_message_size } = self.limits;
        let is_frames = self.duties.unit == Unit::Frames
            && max_frame_size < max_message_size.saturating_sub(held);
        if is_frames { MAX_FRAME_SIZE } else { MAX_MESSAGE_SIZE }
    }

    fn too_big(&self, size: usize, held: usize) -> Error {
        let Limits { max_frame_size, max_message_size } = self.limits;
        match self.limiting_option(held) {
            MAX_FRAME_SIZE => above("frame", size, MAX_FRAME_SIZE, max_frame_size),
            _ => above("message", held.saturating_add(size), MAX_MESSAGE_SIZE, max_message_size),
        }
    }
}

impl Open {
    fn new(start: Option<MessageKind>) -> Self {
        Self { text: start == Some(MessageKind::Text), utf8: Utf8Check::new() }
    }

    /// Incremental UTF-8 validation: an invalid text is refused at once, not at its end.
    fn check(&mut self, payload: &[u8], last: bool) -> Result<()> {
        if self.text && (self.utf8.push(payload).is_err() || (last && !self.utf8.is_complete())) {
            return Err(Error::not_utf8());
        }
        Ok(())
    }
}

/// The error of a frame or message of at least `size` bytes, which is above the limit of an option.
pub(crate) fn above(what: &str, size: usize, option: &str, limit: usize) -> Error {
    let message =
        format!("a {what} of at least {size} bytes is above {option}, which is {limit} bytes");
    Error::new(ErrorKind::TooBig, message)
}

/// A whole message.
#[inline]
pub(crate) fn message(kind: MessageKind, payload: Bytes) -> Result<Frame> {
    match kind {
        MessageKind::Text => {
            Utf8Bytes::try_from(payload).map(Frame::Text).map_err(|_| Error::not_utf8())
        }
        MessageKind::Binary => Ok(Frame::Binary(payload)),
    }
}

/// A whole text, borrowed from the transport.
///
/// # Errors
/// [`Error::not_utf8`] if it is not.
#[inline]
pub(crate) fn borrowed_text(payload: &[u8]) -> Result<Frame> {
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

impl fmt::Debug for Fragment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start, payload, last } = self;
        write!(f, "Fragment(start: {start:?}, last: {last}, {} bytes)", payload.len())
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fragment(part) => part.fmt(f),
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

    fn validator(max_frame_size: usize, max_message_size: usize) -> Validator {
        Validator::new(Limits { max_frame_size, max_message_size }, Duties::frames())
    }

    fn frame(opcode: OpCode, payload: &[u8], fin: bool) -> RawFrame {
        RawFrame { fin, ..RawFrame::new(opcode, Bytes::copy_from_slice(payload)) }
    }

    fn part(start: Option<MessageKind>, payload: &'static [u8], last: bool) -> Event {
        Event::Fragment(Fragment { start, payload: payload.into(), last })
    }

    #[test]
    fn fragments_are_parts_of_one_message_with_control_frames_between() {
        let mut validator = validator(100, 100);
        let mut take = |frame| validator.accept(frame, 0).expect("valid");
        let text = Some(MessageKind::Text);
        assert_eq!(take(frame(OpCode::Text, b"h\xc3", false)), part(text, b"h\xc3", false));
        assert_eq!(take(frame(OpCode::Ping, b"?", true)), Event::Ping(Bytes::from_static(b"?")));
        assert_eq!(take(frame(OpCode::Continuation, b"", false)), part(None, b"", false));
        assert_eq!(take(frame(OpCode::Continuation, b"\xa9!", true)), part(None, b"\xa9!", true));
        assert!(!validator.is_open());
    }

    #[test]
    fn payloads_are_not_printed() {
        for frame in [
            frame(OpCode::Text, b"secret", true),
            frame(OpCode::Text, b"secret", false),
            frame(OpCode::Ping, b"secret", true),
            frame(OpCode::Pong, b"secret", true),
        ] {
            let printed = format!("{:?}", validator(100, 100).accept(frame, 0).expect("valid"));
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
            let mut validator = validator(1000, 1000);
            let error = frames
                .iter()
                .find_map(|frame| validator.accept(frame.clone(), 0).err())
                .unwrap_or_else(|| panic!("{frames:?} was accepted"));
            assert_eq!(error.close_code(), Some(code), "{frames:?}");
        }
    }

    #[test]
    fn the_limits_hold_for_frames_and_for_what_is_held() {
        let mut validator = validator(4, 6);
        assert_eq!(validator.max_payload(0), 4);
        assert!(validator.accept(frame(OpCode::Binary, &[0; 4], false), 0).is_ok());
        assert_eq!(validator.max_payload(4), 2);
        let error = validator.accept(frame(OpCode::Continuation, &[0; 3], true), 4).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooBig);
        assert_eq!(error.close_code(), Some(CloseCode::TOO_BIG));
    }

    #[test]
    fn a_text_split_at_every_byte_is_one_text() {
        let mut validator = validator(100, 100);
        let bytes = "grüße 🦀 ひ".as_bytes();
        for (i, byte) in bytes.iter().enumerate() {
            let opcode = if i == 0 { OpCode::Text } else { OpCode::Continuation };
            validator.accept(frame(opcode, &[*byte], i + 1 == bytes.len()), 0).expect("valid");
        }
        assert!(!validator.is_open());
    }
}
