//! Frames in, events out: fragments, limits, UTF-8 and the rules of RFC 6455 section 5.4: pure.

use bytes::{Bytes, BytesMut};
use drivetrain_engine::{
    CloseCode, CloseReason, Duties, Error, ErrorKind, Frame, Limits, OpCode, RawFrame, Result,
    Unit, Utf8Bytes,
};

/// Puts messages together from frames and refuses what breaks a rule.
#[derive(Debug)]
pub(super) struct Assembler {
    limits: Limits,
    duties: Duties,
    partial: Option<Partial>,
}

/// A message of which more is to come.
#[derive(Debug)]
struct Partial {
    text: bool,
    payload: BytesMut,
    /// How much of a text's payload is known to be whole characters.
    valid: usize,
}

/// What a frame came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A part of a message; more is to come.
    Fragment,
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
        Self { limits, duties, partial: None }
    }

    /// The largest data frame that may come next.
    pub(super) fn max_payload(&self) -> usize {
        match self.duties.unit {
            Unit::Messages => self.limits.max_message_size,
            _ => {
                let held = self.partial.as_ref().map_or(0, |partial| partial.payload.len());
                self.limits.max_frame_size.min(self.limits.max_message_size.saturating_sub(held))
            }
        }
    }

    /// Whether the next data frame begins a message.
    #[inline]
    pub(super) fn is_between_messages(&self) -> bool {
        self.partial.is_none()
    }

    /// Takes a frame that is a whole message; gives any other back.
    #[inline]
    pub(super) fn accept_whole(&self, frame: RawFrame) -> Result<Result<Frame>, RawFrame> {
        let is_short = frame.payload.len() <= self.max_payload();
        if frame.fin && frame.rsv.is_none() && self.partial.is_none() && is_short {
            match frame.opcode {
                OpCode::Text => return Ok(message(true, frame.payload)),
                OpCode::Binary => return Ok(message(false, frame.payload)),
                _ => {}
            }
        }
        Err(frame)
    }

    /// Takes the next frame.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] or [`ErrorKind::TooBig`], with the close code to send.
    pub(super) fn accept(&mut self, frame: RawFrame) -> Result<Event> {
        match self.accept_whole(frame) {
            Ok(message) => message.map(Event::Message),
            Err(frame) => self.accept_part(frame),
        }
    }

    /// Takes any frame: what is here is not a message in one frame, as most are, or breaks a rule.
    fn accept_part(&mut self, frame: RawFrame) -> Result<Event> {
        if !frame.rsv.is_none() {
            return Err(violation("a frame has reserved bits set that no extension uses"));
        }
        if frame.opcode.is_control() {
            return control(frame);
        }
        if frame.payload.len() > self.max_payload() {
            return Err(self.too_big(frame.payload.len()));
        }
        match (frame.opcode, &mut self.partial) {
            (OpCode::Continuation, None) => {
                Err(violation("a continuation frame has no message to go on with"))
            }
            (OpCode::Continuation, Some(partial)) => {
                partial.push(&frame.payload, frame.fin)?;
                if !frame.fin {
                    return Ok(Event::Fragment);
                }
                let partial = self.partial.take().unwrap_or_else(|| Partial::new(false));
                partial.into_message().map(Event::Message)
            }
            (_, Some(_)) => {
                Err(violation("a new message begins before the fragmented one has ended"))
            }
            (opcode, None) if frame.fin => {
                message(opcode == OpCode::Text, frame.payload).map(Event::Message)
            }
            (opcode, None) => {
                let mut partial = Partial::new(opcode == OpCode::Text);
                partial.push(&frame.payload, false)?;
                self.partial = Some(partial);
                Ok(Event::Fragment)
            }
        }
    }

    fn too_big(&self, size: usize) -> Error {
        let held = self.partial.as_ref().map_or(0, |partial| partial.payload.len());
        let Limits { max_frame_size, max_message_size } = self.limits;
        let message = if size > max_frame_size && self.duties.unit == Unit::Frames {
            format!("a frame of {size} bytes is above the limit of {max_frame_size}")
        } else {
            format!("a message of at least {} bytes is above {max_message_size}", held + size)
        };
        Error::new(ErrorKind::TooBig, message)
    }
}

impl Partial {
    fn new(text: bool) -> Self {
        Self { text, payload: BytesMut::new(), valid: 0 }
    }

    /// Adds a fragment; a text that can no longer become UTF-8 is refused at once, not at its end.
    fn push(&mut self, payload: &[u8], last: bool) -> Result<()> {
        self.payload.extend_from_slice(payload);
        if !self.text {
            return Ok(());
        }
        match std::str::from_utf8(&self.payload[self.valid..]) {
            Ok(_) => self.valid = self.payload.len(),
            Err(error) if error.error_len().is_none() && !last => self.valid += error.valid_up_to(),
            Err(_) => return Err(not_utf8()),
        }
        Ok(())
    }

    fn into_message(self) -> Result<Frame> {
        message(self.text, self.payload.freeze())
    }
}

#[inline]
fn message(text: bool, payload: Bytes) -> Result<Frame> {
    if text {
        return Utf8Bytes::try_from(payload).map(Frame::Text).map_err(|_| not_utf8());
    }
    Ok(Frame::Binary(payload))
}

/// A whole message that its transport lends.
///
/// # Errors
/// [`ErrorKind::Protocol`] for a text that is not UTF-8, with the close code to send.
#[inline]
pub(super) fn borrowed_message(text: bool, payload: &[u8]) -> Result<Frame> {
    if text {
        return Utf8Bytes::try_from(payload).map(Frame::Text).map_err(|_| not_utf8());
    }
    Ok(Frame::Binary(Bytes::copy_from_slice(payload)))
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

fn not_utf8() -> Error {
    violation("a text message is not UTF-8").with_close_code(CloseCode::INVALID_PAYLOAD)
}

#[cfg(test)]
mod tests {
    use drivetrain_engine::Rsv;

    use super::*;

    fn assembler(max_frame_size: usize, max_message_size: usize) -> Assembler {
        Assembler::new(Limits { max_frame_size, max_message_size }, Duties::frames())
    }

    fn frame(opcode: OpCode, payload: &[u8], fin: bool) -> RawFrame {
        RawFrame { fin, ..RawFrame::new(opcode, Bytes::copy_from_slice(payload)) }
    }

    #[test]
    fn fragments_become_one_message_with_control_frames_between() {
        let mut assembler = assembler(100, 100);
        let mut take = |frame| assembler.accept(frame).expect("valid");
        assert_eq!(take(frame(OpCode::Text, b"h\xc3", false)), Event::Fragment);
        assert_eq!(take(frame(OpCode::Ping, b"?", true)), Event::Ping(Bytes::from_static(b"?")));
        assert_eq!(take(frame(OpCode::Continuation, b"", false)), Event::Fragment);
        let last = take(frame(OpCode::Continuation, b"\xa9!", true));
        assert_eq!(last, Event::Message(Frame::from("hé!")));
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
                .find_map(|frame| assembler.accept(frame.clone()).err())
                .unwrap_or_else(|| panic!("{frames:?} was accepted"));
            assert_eq!(error.close_code(), Some(code), "{frames:?}");
        }
    }

    #[test]
    fn the_limits_hold_for_frames_and_for_messages() {
        let mut assembler = assembler(4, 6);
        assert_eq!(assembler.max_payload(), 4);
        assert!(assembler.accept(frame(OpCode::Binary, &[0; 4], false)).is_ok());
        assert_eq!(assembler.max_payload(), 2);
        let error = assembler.accept(frame(OpCode::Continuation, &[0; 3], true)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooBig);
        assert_eq!(error.close_code(), Some(CloseCode::TOO_BIG));
    }

    #[test]
    fn a_text_split_at_every_byte_is_one_text() {
        let text = "grüße 🦀 ひ";
        let mut assembler = assembler(100, 100);
        let bytes = text.as_bytes();
        for (i, byte) in bytes.iter().enumerate() {
            let opcode = if i == 0 { OpCode::Text } else { OpCode::Continuation };
            let last = i + 1 == bytes.len();
            let event = assembler.accept(frame(opcode, &[*byte], last)).expect("valid");
            if last {
                assert_eq!(event, Event::Message(Frame::from(text)));
            }
        }
    }
}
