//! The codec's messages beside tungstenite's verdict on the same bytes: both take them, and deliver the same, or
//! both refuse them. Where they differ on purpose is listed in [`Difference`], and nothing else may differ.
#![no_main]

mod wire;

use std::io::{self, Read, Write};

use bytes::Bytes;
use drivetrain_codec::MessageDecoder;
use drivetrain_engine::{CloseCode, CloseReason, Error, Frame, Limits, Role};
use libfuzzer_sys::fuzz_target;
use tungstenite::{
    Message, WebSocket,
    protocol::{Role as TheirRole, WebSocketConfig},
};
use wire::Input;

fuzz_target!(|data: &[u8]| {
    if let Some(mut input) = Input::new(data) {
        // tungstenite limits control frames too: not below what these may have.
        input.limit = input.limit.clamp(125, 4096);
        run(&input);
    }
});

/// What we refuse and tungstenite takes.
#[derive(Debug, PartialEq, Eq)]
enum Difference {
    /// A length that is not in its shortest encoding: RFC 6455 section 5.2 demands it, tungstenite does not
    /// look.
    LengthNotMinimal,
    /// A Close whose code must not travel: we answer 1002; tungstenite reports a Close with 1002 in its stead.
    CloseCode,
}

/// What we make of a wire.
struct Ours {
    messages: Vec<Frame>,
    error: Option<Error>,
}

/// What tungstenite makes of it.
struct Theirs {
    messages: Vec<Frame>,
    refuses: bool,
}

fn run(input: &Input) {
    let ours = ours(input);
    let theirs = theirs(input, &input.wire);
    if ours.error.is_none() {
        assert!(!theirs.refuses, "we take what tungstenite refuses");
        assert_eq!(without_bad_gateway(ours.messages), theirs.messages);
        return;
    }
    if theirs.refuses && ours.messages == theirs.messages {
        return;
    }
    // It takes more of the wire, if only to refuse what comes behind.
    assert!(theirs.messages.starts_with(&ours.messages));
    if let Some(difference) = difference(input, &ours) {
        let more = &theirs.messages[ours.messages.len()..];
        if difference == Difference::CloseCode {
            assert!(
                matches!(more, [Frame::Close(Some(reason))] if reason.code() == CloseCode::PROTOCOL_ERROR)
            );
        }
        return;
    }
    // We refuse a frame as soon as it can be seen that it must be refused: tungstenite does when all of it is
    // here.
    let mut longer = input.wire.clone();
    longer.resize(longer.len() + usize::from(u16::MAX) + 14, 0);
    let later = self::theirs(input, &longer);
    assert!(later.refuses, "{:?} is refused too early", ours.error);
    assert_eq!(ours.messages, later.messages);
}

/// The only thing that we take and tungstenite does not: a Close with 1014, which has joined IANA's registry since
/// and may travel. It reports one with 1002 in its stead, as for a code that must not.
fn without_bad_gateway(mut messages: Vec<Frame>) -> Vec<Frame> {
    if let Some(Frame::Close(Some(reason))) = messages.last_mut() {
        if reason.code() == CloseCode::BAD_GATEWAY {
            let instead = CloseReason::new(CloseCode::PROTOCOL_ERROR, "Protocol violation");
            *reason = instead.expect("a code that may travel");
        }
    }
    messages
}

/// Which of the differences it is, if it is one.
fn difference(input: &Input, ours: &Ours) -> Option<Difference> {
    let error = ours.error.as_ref()?.to_string();
    // A control frame is refused by its first two bytes, before its length is here.
    if error.contains("shortest encoding") || error.contains("more than 125 bytes") {
        // Shown by the wire itself, not by what we say.
        let (frames, _) = wire::read(&input.wire, input.server, usize::MAX);
        let whole = [&input.wire[..], &[0; 8]].concat();
        let refused = whole.get(wire::length_of(&frames, input.server)..)?;
        return wire::is_not_minimal(refused).then_some(Difference::LengthNotMinimal);
    }
    error.contains("must not travel").then_some(Difference::CloseCode)
}

fn ours(input: &Input) -> Ours {
    let role = if input.server { Role::Server } else { Role::Client };
    let limits = Limits { max_frame_size: input.limit, max_message_size: 2 * input.limit };
    let mut decoder = MessageDecoder::new(role, limits);
    let mut messages = vec![];
    let mut sizes = input.chunks.iter().cycle();
    let mut rest = &input.wire[..];
    let mut parts = 0;
    while !rest.is_empty() {
        parts += 1;
        let size = match sizes.next() {
            Some(&size) if parts < 500 => usize::from(size).max(1),
            _ => rest.len(),
        };
        let (part, behind) = rest.split_at(size.min(rest.len()));
        decoder.feed(part);
        rest = behind;
        loop {
            match decoder.decode() {
                Ok(None) => break,
                Ok(Some(message)) => {
                    let is_last = matches!(message, Frame::Close(_));
                    messages.push(message);
                    if is_last {
                        return Ours { messages, error: None };
                    }
                }
                Err(error) => return Ours { messages, error: Some(error) },
            }
        }
    }
    Ours { messages, error: None }
}

fn theirs(input: &Input, wire: &[u8]) -> Theirs {
    let role = if input.server { TheirRole::Server } else { TheirRole::Client };
    let config = WebSocketConfig::default()
        .max_frame_size(Some(input.limit))
        .max_message_size(Some(2 * input.limit))
        .read_buffer_size(4096);
    let mut socket = WebSocket::from_raw_socket(Bytewise(wire), role, Some(config));
    let mut messages = vec![];
    loop {
        let message = match socket.read() {
            Ok(message) => message,
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return Theirs { messages, refuses: false };
            }
            Err(_) => return Theirs { messages, refuses: true },
        };
        messages.push(match message {
            Message::Text(text) => Frame::from(text.as_str()),
            Message::Binary(bytes) => Frame::Binary(bytes),
            Message::Ping(bytes) => Frame::Ping(bytes),
            Message::Pong(bytes) => Frame::Pong(bytes),
            Message::Close(close) => {
                let reason = close.map(|close| {
                    let code = u16::from(close.code).to_be_bytes();
                    let payload = Bytes::from([&code, close.reason.as_bytes()].concat());
                    CloseReason::from_payload(&payload).expect("it took it").expect("a code")
                });
                messages.push(Frame::Close(reason));
                return Theirs { messages, refuses: false };
            }
            Message::Frame(frame) => panic!("{frame:?}"),
        });
    }
}

/// A stream that has this to read, and then no more for now.
struct Bytewise<'a>(&'a [u8]);

impl Read for Bytewise<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.0.read(buffer)
    }
}

impl Write for Bytewise<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
