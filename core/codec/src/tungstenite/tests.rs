//! The framing with tungstenite's heads: its options, and that it sends and receives the frames that the native codec
//! does.

use drivetrain_engine::{ErrorKind, NativeSetting, RawFrame};

use super::*;
use crate::{
    decoder::Decoder,
    encoder::Encoder,
    mask,
    testing::{payload, wire},
};

fn native() -> WebSocketConfig {
    WebSocketConfig::default()
}

fn sizes(framing: &TungsteniteFraming) -> (usize, usize) {
    (framing.buffers.read_size(), framing.buffers.write_mark())
}

fn limits(framing: &TungsteniteFraming) -> (Option<usize>, Option<usize>) {
    let settings = framing.settings();
    (settings.max_frame_size, settings.max_message_size)
}

fn refusal(framing: TungsteniteFraming) -> String {
    let error = framing.check().expect_err("must be refused");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    error.to_string()
}

#[test]
fn a_native_field_equal_to_its_default_is_unset() {
    let framing = TungsteniteFraming::new().preconfigured(native());
    assert_eq!(framing, TungsteniteFraming::new());
    assert_eq!(sizes(&framing), (64 << 10, 32 << 10));
    assert_eq!(limits(&framing), (None, None));
}

#[test]
fn native_fields_are_taken_over() {
    let config = native()
        .read_buffer_size(1000)
        .write_buffer_size(2000)
        .max_frame_size(Some(3000))
        .max_message_size(None);
    let framing = TungsteniteFraming::new().preconfigured(config);
    assert_eq!(sizes(&framing), (1000, 2000));
    assert_eq!(limits(&framing), (Some(3000), Some(usize::MAX)));
    assert!(framing.check().is_ok());
}

#[test]
fn the_later_call_wins() {
    let (new, config) = (TungsteniteFraming::new, native().read_buffer_size(1000));
    assert_eq!(sizes(&new().read_buffer_size(5).preconfigured(config)).0, 1000);
    assert_eq!(sizes(&new().preconfigured(config).read_buffer_size(5)).0, 5);
}

#[test]
fn an_option_that_cannot_be_honoured_is_refused_by_name() {
    let framing = TungsteniteFraming::new();
    for (config, name) in [
        (native().max_write_buffer_size(1 << 20), "max_write_buffer_size"),
        (native().accept_unmasked_frames(true), "accept_unmasked_frames"),
        (native().read_buffer_size(0), "read_buffer_size"),
        (native().write_buffer_size(0), "write_buffer_size"),
        (native().max_frame_size(Some(0)), "max_frame_size"),
        (native().max_message_size(Some(0)), "max_message_size"),
    ] {
        let message = refusal(framing.clone().preconfigured(config));
        assert!(message.contains(name), "{message}");
    }
    assert!(refusal(framing.clone().read_buffer_size(0)).contains("read_buffer_size"));
    assert!(refusal(framing.write_buffer_size(0)).contains("write_buffer_size"));
}

#[test]
fn settings_say_which_value_is_effective_and_which_is_a_default() {
    let rows = TungsteniteFraming::new().read_buffer_size(8192).settings().native;
    assert_eq!(rows[0], NativeSetting::new("read_buffer_size", "8192 bytes"));
    assert_eq!(rows[1].value, "32768 bytes");
    assert!(rows[1].is_default && !rows[0].is_default);
}

/// The frames of these bytes, or the violation among them.
type Decoded = Vec<std::result::Result<RawFrame, (ErrorKind, String)>>;

fn decoded(mut decoder: Decoder, bytes: &[u8], portion: usize) -> Decoded {
    let mut found = Vec::new();
    for portion in bytes.chunks(portion) {
        decoder.feed(portion);
        loop {
            match decoder.decode(100_000) {
                Ok(Some(frame)) => found.push(Ok(frame)),
                Ok(None) => break,
                Err(error) => found.push(Err((error.kind(), error.to_string()))),
            }
        }
    }
    found
}

#[test]
fn every_head_is_read_as_the_native_codec_reads_it() {
    let keys = [(Role::Client, None), (Role::Server, Some([1, 2, 3, 4]))];
    for (role, key) in keys {
        let decoded = |with: fn(Decoder) -> Decoder, bytes: &[u8], portion| {
            decoded(with(Decoder::new(role)), bytes, portion)
        };
        let both = |bytes: &[u8]| {
            let portions = if bytes.len() < 1000 { &[1, usize::MAX][..] } else { &[usize::MAX] };
            for &portion in portions {
                let native = decoded(|decoder| decoder, bytes, portion);
                let library = decoded(|decoder| decoder.with_heads(&FrameHeaders), bytes, portion);
                assert_eq!(native, library, "{:?}", &bytes[..bytes.len().min(14)]);
            }
        };
        for first in 0..=u8::MAX {
            for length in [0, 1, 125, 126, 300, 65_535, 65_536, 100_001] {
                let frame = wire(first, &payload(length), key);
                both(&[&frame[..], &wire(0x82, b"next", key)].concat());
                if first & 0x0f > 2 {
                    break; // refused, or of a control frame: the length is not reached
                }
            }
            // The wrong end's, lengths that are not minimal, and the top bit of a length.
            for second in [0x80, 0, 126, 127, 0xfe, 0xff] {
                for fill in [0, 0xff] {
                    both(&[&[first, second][..], &[fill; 12]].concat());
                }
            }
        }
    }
}

#[test]
fn every_head_is_written_as_the_native_codec_writes_it() {
    for role in [Role::Client, Role::Server] {
        for length in [0, 1, 125, 126, 300, 65_535, 65_536] {
            for opcode in [OpCode::Continuation, OpCode::Text, OpCode::Binary] {
                for (fin, rsv) in [(true, Rsv::NONE), (false, Rsv::RSV1), (true, Rsv::RSV2)] {
                    let frame = RawFrame { fin, rsv, opcode, payload: payload(length).into() };
                    let unmasked = |mut encoder: Encoder| {
                        encoder.encode(&frame).expect("encodes");
                        let mut bytes = encoder.waiting().to_vec();
                        let size = bytes.len() - length;
                        let mut key = [0; 4];
                        if role == Role::Client {
                            key.copy_from_slice(&bytes[size - 4..size]);
                            bytes[size - 4..size].fill(0);
                        }
                        mask::apply(&mut bytes[size..], key);
                        bytes
                    };
                    let library = unmasked(Encoder::new(role).with_heads(&FrameHeaders));
                    assert_eq!(library, unmasked(Encoder::new(role)), "{frame:?}");
                    assert_eq!(library[library.len() - length..], payload(length));
                }
            }
        }
    }
}
