//! Masks, lengths, partial writes, memory.

use drivetrain_engine::{OpCode, Rsv};

use super::*;
use crate::{
    decoder::Decoder,
    testing::{payload, wire},
};

fn encoded(role: Role, frame: &RawFrame) -> Vec<u8> {
    let mut encoder = Encoder::new(role);
    encoder.encode(frame).expect("it may be sent");
    encoder.waiting().to_vec()
}

const OPCODES: [OpCode; 6] =
    [OpCode::Continuation, OpCode::Text, OpCode::Binary, OpCode::Close, OpCode::Ping, OpCode::Pong];

#[test]
fn a_client_masks_and_a_server_does_not() {
    for length in [0, 1, 15, 16, 17, 125, 126, 65_535, 65_536] {
        let frame = RawFrame::new(OpCode::Binary, payload(length));
        assert_eq!(encoded(Role::Server, &frame), wire(0x82, &payload(length), None), "{length}");
        let masked = encoded(Role::Client, &frame);
        let at = masked.len() - length - 4;
        let mask = [masked[at], masked[at + 1], masked[at + 2], masked[at + 3]];
        assert_eq!(masked, wire(0x82, &payload(length), Some(mask)), "{length}");
    }
}

#[test]
fn every_head_is_read_back() {
    for (role, peer) in [(Role::Client, Role::Server), (Role::Server, Role::Client)] {
        let mut encoder = Encoder::new(role);
        let mut decoder = Decoder::new(peer);
        for bits in 0..16 {
            let rsv = Rsv::new(bits & 4 != 0, bits & 2 != 0, bits & 1 != 0);
            for opcode in OPCODES {
                for length in [0, 125, 126, 65_536] {
                    let fin = bits & 8 == 0;
                    let frame = RawFrame { fin, rsv, opcode, payload: payload(length).into() };
                    let may_be = !opcode.is_control() || (fin && length <= 125);
                    assert_eq!(encoder.encode(&frame).is_ok(), may_be, "{frame:?}");
                    decoder.feed(encoder.waiting());
                    encoder.written(encoder.len());
                    let back = decoder.decode(usize::MAX).expect("nothing wrong");
                    assert_eq!(back, may_be.then_some(frame), "{role:?}");
                }
            }
        }
    }
}

#[test]
fn a_short_message_is_encoded_as_any_frame_by_both_ends() {
    for (role, peer, head) in [(Role::Client, Role::Server, 6), (Role::Server, Role::Client, 2)] {
        let mut encoder = Encoder::new(role);
        let mut decoder = Decoder::new(peer);
        for length in (0..=125).chain((0..=125).rev()) {
            for (opcode, first) in [(OpCode::Text, 0x81), (OpCode::Binary, 0x82)] {
                let waited = encoder.len();
                assert!(encoder.encode_message(opcode, &payload(length)), "{role:?}, {length}");
                let frame = &encoder.waiting()[waited..];
                assert_eq!(frame.len(), head + length);
                let mask = frame[..head].last_chunk().copied().filter(|_| head == 6);
                assert_eq!(frame, wire(first, &payload(length), mask), "{role:?}");
                // Now and then some are written, and the next are encoded behind the others.
                if length % 7 == 0 {
                    decoder.feed(&encoder.waiting()[..waited]);
                    encoder.written(waited);
                }
            }
        }
        decoder.feed(encoder.waiting());
        for length in (0..=125).chain((0..=125).rev()) {
            for opcode in [OpCode::Text, OpCode::Binary] {
                let frame = decoder.decode(1000).expect("nothing wrong");
                assert_eq!(frame, Some(RawFrame::new(opcode, payload(length))), "{role:?}");
            }
        }
        assert!(decoder.is_empty());
    }
}

#[test]
fn what_is_no_short_message_is_left_to_the_long_way() {
    for role in [Role::Client, Role::Server] {
        let mut encoder = Encoder::new(role);
        assert!(!encoder.encode_message(OpCode::Text, &payload(126)));
        for opcode in [OpCode::Continuation, OpCode::Close, OpCode::Ping, OpCode::Pong] {
            assert!(!encoder.encode_message(opcode, b""), "{opcode:?}");
        }
        assert!(encoder.is_empty(), "{role:?}");
    }
}

#[test]
fn each_frame_has_a_mask_of_its_own() {
    let mut encoder = Encoder::new(Role::Client);
    let mut masks = std::collections::HashSet::new();
    for length in (0..200).map(|turn| turn % 2 * 200) {
        encoder.encode(&RawFrame::new(OpCode::Binary, vec![0; length])).expect("taken");
        let at = if length == 0 { 2 } else { 4 };
        masks.insert(encoder.waiting()[at..at + 4].to_vec());
        encoder.written(encoder.len());
    }
    assert!(masks.len() > 195, "{} of 200 are distinct", masks.len());
}

#[test]
fn a_control_frame_that_cannot_be_is_not_sent() {
    for role in [Role::Client, Role::Server] {
        for bad in [
            RawFrame::new(OpCode::Ping, payload(126)),
            RawFrame::new(OpCode::Close, "").not_final(),
            RawFrame::new(OpCode::Pong, payload(5)).not_final(),
        ] {
            let mut encoder = Encoder::new(role);
            let error = encoder.encode(&bad).expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(encoder.is_empty());
        }
    }
}

/// Writes go `count` bytes at a time, with frames encoded behind what is half written.
fn sent(count: usize, ahead: usize) -> (Vec<u8>, usize) {
    let mut encoder = Encoder::new(Role::Client);
    let (mut bytes, mut most) = (Vec::new(), 0);
    for turn in 0..3000_usize {
        let frame = RawFrame::new(OpCode::Binary, payload(turn % 300));
        encoder.encode(&frame).expect("taken");
        while encoder.len() > ahead {
            let count = count.min(encoder.len());
            bytes.extend_from_slice(&encoder.waiting()[..count]);
            encoder.written(count);
        }
        most = most.max(encoder.capacity());
    }
    bytes.extend_from_slice(encoder.waiting());
    (bytes, most)
}

#[test]
fn partial_writes_lose_nothing_and_a_backlog_stays_as_small_as_it_is() {
    for (count, ahead) in [(1, 0), (7, 100), (1000, 2000), (5000, 1)] {
        let (bytes, most) = sent(count, ahead);
        let mut decoder = Decoder::new(Role::Server);
        decoder.feed(&bytes);
        for turn in 0..3000_usize {
            let frame = decoder.decode(usize::MAX).expect("nothing wrong").expect("a frame");
            assert_eq!(frame.payload, payload(turn % 300), "{turn}, {count} at a time");
        }
        assert!(decoder.is_empty());
        assert!(most <= 16 << 10, "{most} for {ahead} ahead");
    }
}

/// Marks the heads that it writes.
struct Marking;

impl HeadCodec for Marking {
    fn read(&self, _: &[u8]) -> Result<Option<head::Head>, Error> {
        Ok(None)
    }

    fn write(&self, head: &head::Head, to: &mut [u8]) -> Result<(), Error> {
        assert_eq!(head.size, to.len());
        to.fill(0xee);
        Ok(())
    }
}

#[test]
fn a_library_writes_the_heads_that_are_not_short() {
    for (length, is_marked) in [(0, false), (125, false), (126, true), (127, true)] {
        for fin in [true, false] {
            let mut encoder = Encoder::new(Role::Server).with_heads(&Marking);
            let frame = RawFrame { fin, ..RawFrame::new(OpCode::Text, payload(length)) };
            encoder.encode(&frame).expect("taken");
            assert_eq!(encoder.waiting()[0] == 0xee, is_marked, "{length}, {fin}");
        }
    }
}

#[test]
fn capacity_is_what_is_held_and_a_quiet_encoder_gives_it_back() {
    let mut encoder = Encoder::new(Role::Server);
    assert_eq!(encoder.capacity(), 0);
    encoder.encode(&RawFrame::new(OpCode::Binary, payload(5000))).expect("taken");
    assert!(encoder.capacity() >= 5004);
    encoder.written(5004);
    encoder.quiet();
    assert!(encoder.capacity() >= 5004, "it was in use");
    encoder.quiet();
    assert_eq!((encoder.capacity(), encoder.total()), (0, 5004));
}

#[test]
fn debug_shows_lengths_only() {
    let mut encoder = Encoder::new(Role::Client);
    encoder.encode(&RawFrame::new(OpCode::Text, "secret")).expect("taken");
    let shown = format!("{encoder:?} {:?}", encoder.masks);
    assert_eq!(shown, "Encoder(12 bytes to write) Some(Masks { .. })");
}
