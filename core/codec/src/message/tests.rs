//! The order of frames, texts, limits, Closes.

use drivetrain_engine::CloseCode;

use super::*;
use crate::testing::{payload, wire};

fn decoder(max_frame_size: usize, max_message_size: usize) -> MessageDecoder {
    MessageDecoder::new(Role::Client, Limits { max_frame_size, max_message_size })
}

/// Everything in these bytes, however they are cut, and the error at the end.
fn read(bytes: &[u8]) -> (Vec<Frame>, Option<CloseCode>) {
    let cut = |size: usize| {
        let mut decoder = decoder(1000, 2000);
        let mut frames = Vec::new();
        for part in bytes.chunks(size) {
            decoder.feed(part);
            loop {
                match decoder.decode() {
                    Ok(None) => break,
                    Ok(Some(frame)) => frames.push(frame),
                    Err(error) => return (frames, error.close_code()),
                }
            }
        }
        (frames, None)
    };
    let whole = cut(usize::MAX);
    for size in 1..20 {
        assert_eq!(cut(size), whole, "{size} bytes at a time");
    }
    whole
}

fn frames(frames: &[(u8, &[u8])]) -> Vec<u8> {
    frames.iter().flat_map(|(first, payload)| wire(*first, payload, None)).collect()
}

#[test]
fn fragments_become_messages_with_control_frames_between() {
    let bytes = frames(&[
        (0x01, b"h\xc3"),
        (0x89, b"?"),
        (0x00, b""),
        (0x80, b"\xa9!"),
        (0x02, b"\xff"),
        (0x8a, b"!"),
        (0x80, b"\xfe"),
        (0x81, b"end"),
        (0x88, &[0x03, 0xe8, b'x']),
        (0x82, b"after the Close"),
    ]);
    let expected = vec![
        Frame::Ping("?".into()),
        Frame::from("hé!"),
        Frame::Pong("!".into()),
        Frame::from(vec![0xff, 0xfe]),
        Frame::from("end"),
        Frame::Close(Some(CloseReason::new(1000, "x").expect("valid"))),
    ];
    assert_eq!(read(&bytes), (expected, None));
}

#[test]
fn violations_are_refused_with_their_code() {
    for (bytes, code) in [
        (frames(&[(0x80, b"")]), CloseCode::PROTOCOL_ERROR),
        (frames(&[(0x01, b""), (0x81, b"")]), CloseCode::PROTOCOL_ERROR),
        (frames(&[(0x02, b""), (0x02, b"")]), CloseCode::PROTOCOL_ERROR),
        (frames(&[(0x81, b""), (0x80, b"")]), CloseCode::PROTOCOL_ERROR),
        (frames(&[(0xc1, b"")]), CloseCode::PROTOCOL_ERROR),
        (frames(&[(0xa9, b"")]), CloseCode::PROTOCOL_ERROR),
        (frames(&[(0x88, b"x")]), CloseCode::PROTOCOL_ERROR),
        (frames(&[(0x88, &[0x03, 0xed])]), CloseCode::PROTOCOL_ERROR),
        (frames(&[(0x88, &[0x03, 0xe8, 0xff])]), CloseCode::INVALID_PAYLOAD),
        (frames(&[(0x81, b"\xff")]), CloseCode::INVALID_PAYLOAD),
        (frames(&[(0x81, b"\xc3")]), CloseCode::INVALID_PAYLOAD),
        (frames(&[(0x01, b"\xc3"), (0x80, b"(")]), CloseCode::INVALID_PAYLOAD),
        (frames(&[(0x01, b"\xc3"), (0x80, b"")]), CloseCode::INVALID_PAYLOAD),
        (frames(&[(0x82, &payload(1001))]), CloseCode::TOO_BIG),
        (
            frames(&[(0x02, &payload(1000)), (0x00, &payload(1000)), (0x80, b"x")]),
            CloseCode::TOO_BIG,
        ),
    ] {
        let (_, error) = read(&bytes);
        assert_eq!(error, Some(code), "{:x?}", &bytes[..bytes.len().min(20)]);
    }
}

#[test]
fn nothing_comes_after_an_error() {
    let mut decoder = decoder(10, 10);
    decoder.feed(&frames(&[(0xc1, b""), (0x81, b"lost")]));
    assert!(decoder.decode().is_err());
    decoder.feed(&frames(&[(0x81, b"lost")]));
    assert_eq!(decoder.decode().expect("said once"), None);
    assert!(format!("{decoder:?}").contains("0 bytes received"));
}

#[test]
fn a_server_reads_masked_messages() {
    let mut decoder = MessageDecoder::new(Role::Server, Limits::default());
    let bytes = wire(0x81, "grüße".as_bytes(), Some([1, 2, 3, 4]));
    for byte in &bytes[..bytes.len() - 1] {
        decoder.room()[0] = *byte;
        decoder.received(1);
        assert_eq!(decoder.decode().expect("nothing wrong"), None);
    }
    decoder.feed(&bytes[bytes.len() - 1..]);
    assert_eq!(decoder.decode().expect("nothing wrong"), Some(Frame::from("grüße")));
}
