//! Frames and messages on a connection.

use std::io;

use super::conn::Conn;
use super::wire::{self, Head, LengthEncoding, WireFrame, invalid, opcode};

/// The echo server writes its output once it holds this many bytes.
pub(super) const FLUSH_THRESHOLD: usize = 64 * 1024;

/// What [`Conn::receive_message`] yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// The client's Close. The handler answers it, or does not.
    Close {
        /// The code, unless the frame was empty.
        code: Option<u16>,
        /// The reason, empty if there is none.
        reason: String,
    },
}

impl Conn {
    /// Writes fed bytes and one unmasked frame.
    pub fn send(&mut self, frame: &WireFrame) -> io::Result<()> {
        self.feed(frame);
        self.flush()
    }

    /// Sends a text message.
    pub fn send_text(&mut self, text: &str) -> io::Result<()> {
        self.send(&WireFrame::text(text))
    }

    /// Sends a binary message.
    pub fn send_binary(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.send(&WireFrame::binary(bytes))
    }

    /// Sends a Close, an empty one if `code` is `None`.
    pub fn send_close(&mut self, code: impl Into<Option<u16>>, reason: &str) -> io::Result<()> {
        self.send(&WireFrame::close(code, reason))
    }

    /// The next frame, legal or not, with its payload unmasked; `None` if the client ended the stream
    /// between two frames. A length no frame may have is `InvalidData`.
    pub fn receive(&mut self) -> io::Result<Option<WireFrame>> {
        let Some(head) = self.await_frame()? else {
            return Ok(None);
        };
        let mut frame = head.frame();
        self.take_payload(&head, &mut frame.payload)?;
        self.closes.1 |= frame.opcode == opcode::CLOSE;
        Ok(Some(frame))
    }

    /// The next whole message. Answers Pings, skips Pongs, but does not answer Close; `None` if the
    /// client ended the stream without one.
    ///
    /// A frame that RFC 6455 forbids a client is answered with Close 1002, text that is not UTF-8 with
    /// 1007, and is `InvalidData` here.
    pub fn receive_message(&mut self) -> io::Result<Option<Message>> {
        while let Some(head) = self.await_legal_length()? {
            if let Err(what) = legal(&head, self.partial.is_some()) {
                return self.refuse(1002, what);
            }
            if head.is_control() {
                let mut payload = Vec::new();
                self.take_payload(&head, &mut payload)?;
                match head.opcode {
                    opcode::PING => self.send(&WireFrame::pong(payload))?,
                    opcode::CLOSE => return self.closed(&payload),
                    _ => {}
                }
                continue;
            }
            let (first, mut payload) = self.partial.take().unwrap_or((head.opcode, Vec::new()));
            self.take_payload(&head, &mut payload)?;
            if !head.fin {
                self.partial = Some((first, payload));
            } else if first == opcode::BINARY {
                return Ok(Some(Message::Binary(payload)));
            } else if let Ok(text) = String::from_utf8(payload) {
                return Ok(Some(Message::Text(text)));
            } else {
                return self.refuse(1007, "the text is not UTF-8");
            }
        }
        Ok(None)
    }

    fn closed(&mut self, payload: &[u8]) -> io::Result<Option<Message>> {
        let (code, reason) = match payload {
            [] => (None, &[][..]),
            [a, b, reason @ ..] => (Some(u16::from_be_bytes([*a, *b])), reason),
            _ => return self.refuse(1002, "the Close frame has one byte"),
        };
        if !matches!(code, None | Some(1000..=1003 | 1007..=1014 | 3000..=4999)) {
            return self.refuse(1002, "the close code must not travel");
        }
        match String::from_utf8(reason.to_vec()) {
            Ok(reason) => Ok(Some(Message::Close { code, reason })),
            Err(_) => self.refuse(1007, "the close reason is not UTF-8"),
        }
    }

    fn refuse<T>(&mut self, code: u16, what: &str) -> io::Result<T> {
        self.send_close(code, what)?;
        Err(invalid(what))
    }

    /// Waits until a whole frame is buffered; `None` at the end of the stream.
    fn await_frame(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(head) = Head::parse(self.buffered())? {
                if head.payload(self.buffered()).is_some() {
                    return Ok(Some(head));
                }
            }
            if self.buffered().is_empty() {
                if !self.fill()? {
                    return Ok(None);
                }
            } else {
                self.fill_some()?;
            }
        }
    }

    /// As [`await_frame`](Self::await_frame), and answers an illegal length with Close 1002.
    fn await_legal_length(&mut self) -> io::Result<Option<Head>> {
        match self.await_frame() {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.refuse(1002, &error.to_string())
            }
            result => result,
        }
    }

    /// Appends the payload of the buffered frame to `bytes` and takes the frame off the buffer.
    fn take_payload(&mut self, head: &Head, bytes: &mut Vec<u8>) -> io::Result<()> {
        let payload = head.payload(self.buffered()).ok_or(io::ErrorKind::UnexpectedEof)?;
        wire::push_masked(bytes, head.masking, payload);
        self.count(head);
        self.consume(head.total());
        Ok(())
    }

    fn count(&mut self, head: &Head) {
        if !head.is_control() {
            self.uncounted.0 += u64::from(head.fin);
            self.uncounted.1 += head.len as u64;
        }
    }

    /// Waits for the next frame. If it is a whole data message, `fast` handles it without a copy to
    /// a message of its own; else `slow` gets the next message. Ends with the stream, or when one of
    /// them returns `false`.
    pub(super) fn messages(
        &mut self,
        mut fast: impl FnMut(&mut Self, &Head) -> io::Result<()>,
        mut slow: impl FnMut(&mut Self, Message) -> io::Result<bool>,
    ) -> io::Result<()> {
        while let Some(head) = self.await_legal_length()? {
            if self.partial.is_none()
                && head.fin
                && !head.is_control()
                && legal(&head, false).is_ok()
            {
                self.count(&head);
                fast(self, &head)?;
                self.consume(head.total());
                if self.output.len() >= FLUSH_THRESHOLD {
                    self.flush()?;
                }
                continue;
            }
            let Some(message) = self.receive_message()? else { break };
            if !slow(self, message)? {
                break;
            }
        }
        Ok(())
    }

    /// Feeds the buffered data message back. It stays buffered.
    pub(super) fn echo(&mut self, head: &Head) -> io::Result<()> {
        let before = self.output.len();
        let len = head.len as u64;
        wire::push_header(
            &mut self.output,
            true,
            0,
            head.opcode,
            false,
            LengthEncoding::Minimal,
            len,
        );
        let start = self.output.len();
        self.feed_buffered(head.total() - head.len, head.len, head.masking);
        if head.opcode == opcode::TEXT && std::str::from_utf8(&self.output[start..]).is_err() {
            self.output.truncate(before);
            return self.refuse(1007, "the text is not UTF-8");
        }
        Ok(())
    }

    /// Whether the buffered frame's payload is `bytes`.
    pub(super) fn payload_is(&self, head: &Head, bytes: &[u8]) -> bool {
        let mut payload = Vec::new();
        if head.len == bytes.len() {
            wire::push_masked(
                &mut payload,
                head.masking,
                head.payload(self.buffered()).unwrap_or_default(),
            );
        }
        payload == bytes
    }
}

/// Whether a client may send a frame with this head.
fn legal(head: &Head, within_message: bool) -> Result<(), &'static str> {
    match head.opcode {
        _ if head.masking.is_none() => Err("the frame is not masked"),
        _ if head.rsv != 0 => Err("a reserved bit is set"),
        opcode::CONTINUATION if !within_message => Err("there is no message to continue"),
        opcode::TEXT | opcode::BINARY if within_message => Err("the message before has not ended"),
        opcode::CONTINUATION | opcode::TEXT | opcode::BINARY => Ok(()),
        opcode::CLOSE | opcode::PING | opcode::PONG if !head.fin => {
            Err("the control frame is fragmented")
        }
        opcode::CLOSE | opcode::PING | opcode::PONG if head.len > 125 => {
            Err("the control frame is longer than 125 bytes")
        }
        opcode::CLOSE | opcode::PING | opcode::PONG => Ok(()),
        _ => Err("the opcode is reserved"),
    }
}
