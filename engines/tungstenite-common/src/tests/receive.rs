//! Receiving: lengths, splits, violations, limits, memory, the end.

use std::{collections::VecDeque, io};

use bytes::Bytes;
use drivetrain_engine::{CloseCode, ErrorKind, OpCode, RawFrame, Role, Rsv, Transport};

use super::*;
use crate::input::COPIED;

const MIB: usize = 1 << 20;

#[test]
fn every_length_encoding_is_read() {
    for length in [0, 1, 125, 126, 127, COPIED, COPIED + 1, 65_535, 65_536, 3 * MIB] {
        let mut framer = client(wire(0x82, &payload(length), None));
        assert_eq!(frame(&mut framer), RawFrame::new(OpCode::Binary, payload(length)), "{length}");
        assert_eq!(receive(&mut framer).expect("a clean end"), None);
        assert_eq!(receive(&mut framer).expect("again"), None);
    }
}

#[test]
fn a_frame_may_be_split_at_every_byte() {
    for role in [Role::Client, Role::Server] {
        let mask = (role == Role::Server).then_some([9, 8, 7, 6]);
        let mut bytes = wire(0x01, &payload(5), mask);
        bytes.extend(wire(0x89, b"ping", mask));
        bytes.extend(wire(0x80, &payload(300), mask));
        for at in 0..=bytes.len() {
            let (one, two) = bytes.split_at(at);
            let steps = [one, two].into_iter().filter(|part| !part.is_empty());
            let steps = steps.flat_map(|part| [Step::Bytes(part.to_vec()), Step::Wait]);
            let mut framer = framer(role, steps);
            let begin = RawFrame::new(OpCode::Text, payload(5)).not_final();
            assert_eq!(frame(&mut framer), begin, "{role:?} split at {at}");
            assert_eq!(frame(&mut framer), RawFrame::new(OpCode::Ping, "ping"));
            assert_eq!(frame(&mut framer), RawFrame::new(OpCode::Continuation, payload(300)));
            assert_eq!(receive(&mut framer).expect("a clean end"), None);
        }
    }
}

/// A server's short frames are parsed by ourselves, a client's by the library: both must find the same.
#[test]
fn short_frames_are_what_the_library_finds() {
    for first in 0..=u8::MAX {
        for length in [0, 1, 7, 124, 125] {
            let read = |role, mask: Option<[u8; 4]>| {
                let mut bytes = wire(first, &payload(length), mask);
                bytes.extend(wire(0x82, b"next", mask));
                let mut framer = framer(role, [Step::Bytes(bytes)]);
                let results = [receive(&mut framer), receive(&mut framer)];
                results.map(|result| result.map_err(|error| (error.kind(), error.to_string())))
            };
            let ours = read(Role::Client, None);
            assert_eq!(ours, read(Role::Server, Some([1, 2, 3, 4])), "{first:#x}, {length} bytes");
        }
    }
}

#[test]
fn reserved_bits_are_passed_through() {
    let mut framer = client([0xC2, 0, 0xA2, 0, 0x92, 0]);
    for rsv in [Rsv::RSV1, Rsv::RSV2, Rsv::RSV3] {
        assert_eq!(frame(&mut framer).rsv, rsv);
        let sent = RawFrame { rsv, ..RawFrame::new(OpCode::Text, "") };
        framer.start_send(sent).expect("taken");
    }
    wait(|cx| framer.poll_flush(cx)).expect("written");
    let firsts: Vec<u8> = framer.stream().written.chunks(6).map(|frame| frame[0]).collect();
    assert_eq!(firsts, [0xC1, 0xA1, 0x91]);
}

#[test]
fn violations_are_refused_as_soon_as_the_header_is_complete() {
    let long = |code: u8, length: u64, bytes: usize| {
        [&[0x82, code][..], &length.to_be_bytes()[8 - bytes..]].concat()
    };
    for (header, what) in [
        (vec![0x83, 0], "opcode 3"),
        (vec![0x87, 0], "opcode 7"),
        (vec![0x8B, 0], "opcode 11"),
        (vec![0x8F, 0], "opcode 15"),
        (vec![0x09, 0], "a fragmented ping"),
        (vec![0x08, 0], "a fragmented close"),
        (vec![0x89, 126, 0, 126], "a ping of 126 bytes"),
        (vec![0x82, 0x81, 1, 2, 3, 4], "a masked frame"),
        (long(126, 125, 2), "125 in two bytes"),
        (long(126, 0, 2), "0 in two bytes"),
        (long(127, 125, 8), "125 in eight bytes"),
        (long(127, 65_535, 8), "65535 in eight bytes"),
        (long(127, 1 << 63, 8), "the top bit"),
        (long(127, u64::MAX, 8), "all bits"),
    ] {
        let mut framer = framer(Role::Client, [Step::Bytes(header), Step::Wait]);
        let Poll::Ready(Err(error)) = framer.poll_receive(&mut cx(), usize::MAX) else {
            panic!("{what} was not refused");
        };
        assert_eq!(error.kind(), ErrorKind::Protocol, "{what}: {error}");
        assert_eq!(error.close_code(), Some(CloseCode::PROTOCOL_ERROR), "{what}");
    }
    let mut server = framer(Role::Server, [Step::Bytes(vec![0x82, 1])]);
    assert_eq!(receive(&mut server).expect_err("unmasked").kind(), ErrorKind::Protocol);
}

#[test]
fn a_frame_above_the_limit_is_refused_before_memory_is_taken() {
    let mut header = vec![0x82, 127];
    header.extend((1_u64 << 40).to_be_bytes());
    let mut framer = framer(Role::Client, [Step::Bytes(header), Step::Wait]);
    let Poll::Ready(Err(error)) = framer.poll_receive(&mut cx(), 1000) else {
        panic!("was not refused");
    };
    assert_eq!(error.kind(), ErrorKind::TooBig);
    assert_eq!(
        error.to_string(),
        "the peer announced a frame of 1099511627776 bytes, the limit is 1000"
    );
    assert!(framer.input().sizes().1 <= 4096, "{:?}", framer.input().sizes());
}

#[test]
fn the_limit_itself_passes_and_control_frames_are_not_limited() {
    let mut bytes = wire(0x82, &payload(10), None);
    bytes.extend(wire(0x88, &payload(20), None));
    bytes.extend(wire(0x82, &payload(11), None));
    let mut framer = client(bytes);
    for expected in [10, 20] {
        let frame = wait(|cx| framer.poll_receive(cx, 10)).expect("receives").expect("a frame");
        assert_eq!(frame.payload.len(), expected);
    }
    let error = wait(|cx| framer.poll_receive(cx, 10)).expect_err("11 bytes");
    assert_eq!(error.kind(), ErrorKind::TooBig);
}

#[test]
fn memory_follows_what_was_received_not_what_was_announced() {
    let mut header = vec![0x82, 127];
    header.extend((1_u64 << 30).to_be_bytes());
    let script = [Step::Bytes(header), Step::Wait]
        .into_iter()
        .chain((0..300).flat_map(|_| [Step::Bytes(payload(10_000)), Step::Wait]));
    let mut framer = framer(Role::Client, script);
    for step in 0..=300 {
        assert!(framer.poll_receive(&mut cx(), 2 << 30).is_pending());
        let received = 10 + step * 10_000;
        let (initialised, capacity) = framer.input().sizes();
        assert!(initialised <= received + 128 * 1024, "{initialised} for {received}");
        assert!(capacity <= 2 * (received + 128 * 1024), "{capacity} for {received}");
    }
    assert_eq!(receive(&mut framer).expect_err("cut off").kind(), ErrorKind::Io);
}

#[test]
fn an_idle_connection_gives_large_buffers_back() {
    let big = wire(0x82, &payload(4 * MIB), None);
    let next = [vec![0x82, 127], (1_u64 << 30).to_be_bytes().to_vec()].concat();
    let script = [Step::Bytes([big.clone(), next].concat()), Step::Wait];
    let mut framer = framer(Role::Client, script);
    drop(frame(&mut framer));
    assert!(framer.poll_receive(&mut cx(), 2 << 30).is_pending());
    assert!(framer.input().sizes().1 < 128 * 1024, "{:?}", framer.input().sizes());

    let mut framer = client(big);
    drop(frame(&mut framer));
    framer.stream().script.push_back(Step::Wait);
    assert!(framer.poll_receive(&mut cx(), MIB).is_pending());
    assert_eq!(framer.input().sizes().1, 0);

    for _ in 0..10 {
        framer.start_send(RawFrame::new(OpCode::Binary, payload(65_536))).expect("taken");
    }
    wait(|cx| framer.poll_flush(cx)).expect("written");
    assert_eq!(framer.output().capacity(), 0);
}

#[test]
fn reads_start_small_and_grow_when_they_are_filled() {
    let ping = wire(0x82, &payload(32), None);
    let mut quiet = framer(Role::Client, [Step::Bytes(ping.clone()), Step::Wait]);
    frame(&mut quiet);
    assert_eq!(quiet.input().sizes().0, 2 << 10);
    let mut flooded = client(ping.repeat(10_000));
    for _ in 0..10_000 {
        frame(&mut flooded);
    }
    assert_eq!(flooded.input().sizes().0, 64 << 10);
}

#[test]
fn the_end_of_the_stream_inside_a_frame_is_an_error() {
    let bytes = wire(0x82, &payload(300), None);
    for cut in 1..bytes.len() {
        let mut framer = client(&bytes[..cut]);
        for _ in 0..2 {
            let error = receive(&mut framer).expect_err("cut off");
            assert_eq!(error.kind(), ErrorKind::Io, "cut at {cut}");
            assert!(error.to_string().contains("in the middle of a frame"), "{error}");
        }
    }
}

#[test]
fn a_read_error_comes_after_the_frames_before_it() {
    let bytes = [wire(0x81, b"one", None), wire(0x81, b"two", None)].concat();
    let script = [
        Step::Fail(io::ErrorKind::Interrupted),
        Step::Bytes(bytes),
        Step::Fail(io::ErrorKind::ConnectionReset),
    ];
    let mut framer = framer(Role::Client, script);
    assert_eq!(frame(&mut framer).payload, "one");
    assert_eq!(frame(&mut framer).payload, "two");
    assert_eq!(receive(&mut framer).expect_err("reset").kind(), ErrorKind::Io);
}

#[test]
fn leftover_is_received_first_and_buffered_frames_need_no_read() {
    let bytes = [wire(0x81, b"one", None), wire(0x81, b"two", None)].concat();
    let (left, rest) = bytes.split_at(7);
    let stream = Scripted {
        script: [Step::Bytes(rest.to_vec()), Step::Wait].into_iter().collect(),
        ..Scripted::default()
    };
    let leftover = Bytes::copy_from_slice(left);
    let mut framer = Framer::with_leftover(stream, leftover, Role::Client, &Options::default());
    let one = framer.try_receive_buffered(100).expect("buffered").expect("a frame");
    assert_eq!(one.payload, "one");
    assert!(framer.try_receive_buffered(100).is_none(), "half a frame, and no read");
    assert_eq!(frame(&mut framer).payload, "two");
}

#[test]
fn a_retained_slice_stays_as_it_was() {
    let sizes = [COPIED - 1, COPIED + 1, 5000, 40_000, 200_000];
    let bytes: Vec<u8> =
        (0..50).flat_map(|turn| wire(0x82, &payload(sizes[turn % 5]), None)).collect();
    let mut framer = client(bytes);
    let retained: Vec<RawFrame> = (0..50).map(|_| frame(&mut framer)).collect();
    for (turn, frame) in retained.iter().enumerate() {
        assert_eq!(frame.payload, payload(sizes[turn % 5]), "frame {turn}");
    }
}

#[test]
fn a_huge_frame_does_not_keep_the_thread() {
    let mut framer = client(wire(0x82, &payload(8 * MIB), None));
    assert!(framer.poll_receive(&mut cx(), usize::MAX).is_pending());
    assert_eq!(frame(&mut framer).payload.len(), 8 * MIB);
}

#[test]
fn debug_shows_lengths_only() {
    let mut framer = client([0x81, 3, b'a']);
    assert!(framer.poll_receive(&mut cx(), 0).is_ready(), "too big");
    framer.start_send(RawFrame::new(OpCode::Text, "secret")).expect("taken");
    let shown = format!("{framer:?}");
    assert!(shown.contains("3 bytes received") && shown.contains("12 bytes to write"), "{shown}");
}

/// A small generator for tests (xorshift64): the same numbers on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

#[test]
fn thousands_of_frames_survive_any_chunking() {
    for seed in 1..=6 {
        let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ seed);
        let role = if seed % 2 == 0 { Role::Client } else { Role::Server };
        let bounds = [2, 40, 130, 700, 20_000, 150_000];
        let frames: Vec<RawFrame> = (0..2000)
            .map(|_| {
                let bound = bounds[random.below(100) * random.below(100) / 1800];
                RawFrame::new(OpCode::Binary, payload(random.below(bound)))
            })
            .collect();
        let mut bytes = Vec::new();
        for frame in &frames {
            let mask = (role == Role::Server).then(|| (random.0 as u32).to_ne_bytes());
            bytes.extend(wire(0x82, &frame.payload, mask));
        }
        let mut script = Vec::new();
        while !bytes.is_empty() {
            let bound = [3, 100, 5000, 100_000][random.below(4)];
            let rest = bytes.split_off(bytes.len().min(1 + random.below(bound)));
            script.push(Step::Bytes(std::mem::replace(&mut bytes, rest)));
            if random.below(3) == 0 {
                script.push(Step::Wait);
            }
        }
        let mut framer = framer(role, script);
        let mut retained = VecDeque::new();
        for (number, expected) in frames.iter().enumerate() {
            let received = match framer.try_receive_buffered(MIB) {
                Some(received) => received.expect("a frame"),
                None => frame(&mut framer),
            };
            assert_eq!(&received, expected, "seed {seed}, frame {number}");
            retained.push_back((number, received));
            if retained.len() > random.below(40) {
                let (number, received) = retained.pop_front().expect("one at least");
                assert_eq!(received, frames[number], "seed {seed}, retained {number}");
            }
        }
        assert_eq!(receive(&mut framer).expect("a clean end"), None);
    }
}
