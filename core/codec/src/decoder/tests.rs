//! Lengths, splits, violations, limits, memory.

use std::collections::VecDeque;

use drivetrain_engine::{CloseCode, Rsv};

use super::*;
use crate::{
    read_buffer::FIRST_READ,
    testing::{MIB, Random, payload, wire},
};

const ROLES: [(Role, Option<[u8; 4]>); 2] =
    [(Role::Client, None), (Role::Server, Some([9, 8, 7, 6]))];

fn fed(role: Role, bytes: &[u8]) -> Decoder {
    let mut decoder = Decoder::new(role);
    decoder.feed(bytes);
    decoder
}

fn frame(decoder: &mut Decoder) -> RawFrame {
    decoder.decode(usize::MAX).expect("nothing wrong").expect("a whole frame")
}

#[test]
fn every_length_is_read_by_both_ends() {
    for (role, mask) in ROLES {
        for length in [0, 1, 125, 126, 127, COPIED, COPIED + 1, 65_535, 65_536, 3 * MIB] {
            let mut decoder = fed(role, &wire(0x82, &payload(length), mask));
            let expected = RawFrame::new(OpCode::Binary, payload(length));
            assert_eq!(frame(&mut decoder), expected, "{role:?}: {length}");
            assert_eq!(decoder.decode(usize::MAX).expect("nothing wrong"), None);
            assert!(decoder.is_empty());
        }
    }
}

#[test]
fn bytes_may_be_split_anywhere() {
    for (role, mask) in ROLES {
        let mut bytes = wire(0x01, &payload(5), mask);
        bytes.extend(wire(0x89, b"ping", mask));
        bytes.extend(wire(0x80, &payload(300), mask));
        bytes.extend(wire(0x81, b"", mask));
        for at in 0..=bytes.len() {
            let mut decoder = Decoder::new(role);
            let mut frames = Vec::new();
            for part in [&bytes[..at], &bytes[at..]] {
                decoder.feed(part);
                while let Some(frame) = decoder.decode(1000).expect("nothing wrong") {
                    frames.push(frame);
                }
                decoder.quiet();
            }
            let expected = [
                RawFrame::new(OpCode::Text, payload(5)).not_final(),
                RawFrame::new(OpCode::Ping, "ping"),
                RawFrame::new(OpCode::Continuation, payload(300)),
                RawFrame::new(OpCode::Text, ""),
            ];
            assert_eq!(frames, expected, "{role:?} split at {at}");
        }
        let mut decoder = Decoder::new(role);
        let mut count = 0;
        for byte in bytes {
            decoder.feed(&[byte]);
            count += usize::from(decoder.decode(1000).expect("nothing wrong").is_some());
        }
        assert_eq!(count, 4, "{role:?} byte by byte");
    }
}

/// Most frames take a shorter way through the code than others: both must give the same result.
#[test]
fn the_short_way_finds_what_the_long_way_finds() {
    for first in 0..=u8::MAX {
        for length in [0, 1, 7, 124, 125] {
            let read = |role, mask: Option<[u8; 4]>| {
                let mut decoder = fed(role, &wire(first, &payload(length), mask));
                decoder.feed(&wire(0x82, b"next", mask));
                [decoder.decode(MIB), decoder.decode(MIB)]
                    .map(|result| result.map_err(|error| (error.kind(), error.to_string())))
            };
            let short = read(Role::Client, None);
            assert_eq!(short, read(Role::Server, Some([1, 2, 3, 4])), "{first:#x}, {length}");
        }
    }
}

/// What the long way makes of one frame, alone in a decoder.
fn the_long_way(role: Role, wire: &[u8], limit: usize) -> Result<Option<RawFrame>, String> {
    fed(role, wire).decode_any(limit).map_err(|error| error.to_string())
}

#[test]
fn frames_among_others_are_what_the_long_way_makes_of_each_alone() {
    const LIMIT: usize = 1050;
    for (seed, (role, masked)) in (1..=40).flat_map(|seed| ROLES.map(|role| (seed, role))) {
        let mut random = Random(0xA076_1D64_78BD_642F ^ seed);
        let mut frames = Vec::new();
        for _ in 0..200 {
            let first = [0x81, 0x81, 0x81, 0x82, 0x01, 0x80, 0xC1, 0x89, 0x88][random.below(9)];
            let most = if first & 8 != 0 { 126 } else { [20, 126, 300, 1050][random.below(4)] };
            let mask = masked.map(|_| (random.0 as u32).to_be_bytes());
            frames.push(wire(first, &payload(random.below(most)), mask));
        }
        // One of them breaks a rule, or the limit.
        let bad = [wire(0x83, b"", masked), wire(0x81, &payload(LIMIT + 1), masked)];
        frames.insert(random.below(190) + 9, bad[random.below(2)].clone());
        let wire = frames.concat();
        let mut expected = frames.iter().map(|wire| the_long_way(role, wire, LIMIT));
        let (mut decoder, mut at) = (Decoder::new(role), 0);
        loop {
            let found = match random.below(2) {
                0 => decoder.decode_text_in_place(LIMIT).map(|text| {
                    Ok(Some(RawFrame::new(OpCode::Text, Bytes::copy_from_slice(text))))
                }),
                _ => None,
            };
            let found =
                found.unwrap_or_else(|| decoder.decode(LIMIT).map_err(|error| error.to_string()));
            if found == Ok(None) {
                let most = [3, 40, 2000][random.below(3)];
                let count = (1 + random.below(most)).min(wire.len() - at);
                assert!(count > 0, "all of it was fed");
                decoder.feed(&wire[at..at + count]);
                at += count;
                continue;
            }
            assert_eq!(Some(&found), expected.next().as_ref(), "{role:?}, seed {seed}");
            if found.is_err() {
                break;
            }
        }
        decoder.feed(&wire);
        assert_eq!(decoder.decode_text_in_place(LIMIT), None, "nothing follows a violation");
        assert_eq!(decoder.decode(LIMIT).expect("said once"), None);
    }
}

#[test]
fn a_short_text_is_shown_in_place_and_any_other_frame_is_left_alone() {
    for (role, mask) in ROLES {
        for length in [0, 1, 3, 4, 7, 8, 15, 16, 31, 32, 33, 124, 125] {
            let mut decoder = fed(role, &wire(0x81, &payload(length), mask).repeat(3));
            decoder.feed(&[0x82]);
            let place = decoder.buffer.bytes().as_ptr_range();
            for _ in 0..3 {
                let text = decoder.decode_text_in_place(length).expect("it is short");
                assert_eq!(text, payload(length), "{role:?}, {length}");
                assert!(length == 0 || place.contains(&text.as_ptr()), "where it lies");
            }
            assert_eq!(decoder.decode_text_in_place(length), None, "{role:?}, half a head");
        }
        let frames = [
            (wire(0x82, b"binary", mask), 125),
            (wire(0x01, b"a fragment", mask), 125),
            (wire(0xC1, b"compressed", mask), 125),
            (wire(0x80, b"a last fragment", mask), 125),
            (wire(0x89, b"ping", mask), 125),
            (wire(0x81, b"above the limit", mask), 14),
            (wire(0x81, &payload(126), mask), 1000),
        ];
        for (bytes, limit) in frames {
            let mut decoder = fed(role, &bytes);
            assert_eq!(decoder.decode_text_in_place(limit), None, "{role:?}, {bytes:x?}");
            let frame = decoder.decode(1000).map_err(|error| error.to_string());
            assert_eq!(frame, the_long_way(role, &bytes, 1000), "{role:?}, {bytes:x?}");
        }
        let bytes = wire(0x81, b"text", mask);
        for cut in 0..bytes.len() {
            let mut decoder = fed(role, &bytes[..cut]);
            assert_eq!(decoder.decode_text_in_place(125), None, "{role:?}, {cut} bytes");
            decoder.feed(&bytes[cut..]);
            assert_eq!(decoder.decode_text_in_place(125), Some(&b"text"[..]), "{role:?}, {cut}");
            // Of a frame that was looked at, the text may have been checked already in part.
            let mut decoder = fed(role, &bytes[..cut]);
            decoder.decode(125).expect("nothing wrong");
            decoder.feed(&bytes[cut..]);
            let head = bytes.len() - 4;
            let shown = decoder.decode_text_in_place(125).is_some();
            assert_eq!(shown, cut < head, "{role:?}, {cut} bytes looked at");
        }
        // The wrong side of the mask.
        let mask = match mask {
            Some(_) => None,
            None => Some([1, 2, 3, 4]),
        };
        let mut decoder = fed(role, &wire(0x81, b"text", mask));
        assert_eq!(decoder.decode_text_in_place(125), None);
        decoder.decode(125).expect_err("refused");
    }
}

#[test]
fn reserved_bits_are_passed_through() {
    for (role, mask) in ROLES {
        for (bit, rsv) in [(0x40, Rsv::RSV1), (0x20, Rsv::RSV2), (0x10, Rsv::RSV3)] {
            for length in [0, 125, 126] {
                let mut decoder = fed(role, &wire(0x82 | bit, &payload(length), mask));
                assert_eq!(frame(&mut decoder).rsv, rsv);
            }
        }
        let mut decoder = fed(role, &wire(0xF2, b"", mask));
        assert_eq!(frame(&mut decoder).rsv, Rsv::RSV1 | Rsv::RSV2 | Rsv::RSV3);
    }
}

#[test]
fn violations_are_refused_as_soon_as_they_can_be_seen() {
    let long = |code: u8, length: u64, bytes: usize| {
        [&[0x82, code][..], &length.to_be_bytes()[8 - bytes..]].concat()
    };
    let cases = [
        (vec![0x83, 0], "opcode 3"),
        (vec![0x87, 0], "opcode 7"),
        (vec![0x8B, 0], "opcode 11"),
        (vec![0x8F, 0], "opcode 15"),
        (vec![0x09, 0], "a fragmented ping"),
        (vec![0x08, 0], "a fragmented close"),
        (vec![0x0A, 0], "a fragmented pong"),
        (vec![0x89, 126], "a long ping"),
        (vec![0x88, 127], "a very long close"),
        (long(126, 125, 2), "125 in two bytes"),
        (long(126, 0, 2), "0 in two bytes"),
        (long(127, 125, 8), "125 in eight bytes"),
        (long(127, 65_535, 8), "65535 in eight bytes"),
        (long(127, 1 << 63, 8), "the top bit"),
        (long(127, u64::MAX, 8), "all bits"),
    ];
    for role in [Role::Client, Role::Server] {
        for (head, what) in &cases {
            let mut head = head.clone();
            if role == Role::Server {
                head[1] |= 0x80;
            }
            let refused = |bytes: &[u8]| fed(role, bytes).decode(usize::MAX);
            let error = refused(&head).expect_err(what);
            assert_eq!(error.kind(), ErrorKind::Protocol, "{role:?}, {what}: {error}");
            assert_eq!(error.close_code(), Some(CloseCode::PROTOCOL_ERROR), "{what}");
            let last = head.pop();
            assert!(refused(&head).expect("not yet").is_none(), "{what}, without {last:?}");
        }
    }
    let longest = fed(Role::Client, &long(127, i64::MAX as u64, 8)).decode(1000);
    assert_eq!(longest.expect_err("above the limit").kind(), ErrorKind::TooBig, "no violation");
    for (role, second) in [(Role::Client, 0x80), (Role::Server, 0x00)] {
        let error = fed(role, &[0x82, second]).decode(usize::MAX).expect_err("a mask");
        assert_eq!(error.kind(), ErrorKind::Protocol, "{role:?}");
    }
}

#[test]
fn after_a_violation_nothing_is_decoded() {
    for (role, mask) in ROLES {
        let good = wire(0x82, b"good", mask);
        let mut decoder = fed(role, &[&good[..], &wire(0x83, b"", mask), &good].concat());
        assert_eq!(frame(&mut decoder).payload, "good");
        decoder.decode(usize::MAX).expect_err("a reserved opcode");
        for _ in 0..3 {
            assert_eq!(decoder.decode(usize::MAX).expect("said once"), None);
            assert!(decoder.is_empty());
            decoder.feed(&good);
        }
    }
}

#[test]
fn a_frame_above_the_limit_is_refused_before_memory_is_taken() {
    let head = [&[0x82, 127][..], &(1_u64 << 40).to_be_bytes()].concat();
    let mut decoder = fed(Role::Client, &head);
    let error = decoder.decode(1000).expect_err("too big");
    assert_eq!(error.kind(), ErrorKind::TooBig);
    let said = "the peer announced a frame of 1099511627776 bytes, the limit is 1000";
    assert_eq!(error.to_string(), said);
    assert!(decoder.buffer.sizes().1 <= 4096, "{:?}", decoder.buffer.sizes());
}

#[test]
fn the_limit_itself_passes_and_control_frames_are_not_limited() {
    for (role, mask) in ROLES {
        for (first, limit) in [(0x82, 10), (0x02, 10), (0x80, 10), (0x82, 126), (0x82, 65_536)] {
            let mut decoder = fed(role, &wire(first, &payload(limit), mask));
            decoder.feed(&wire(0x88, &payload(125), mask));
            decoder.feed(&wire(first, &payload(limit + 1), mask));
            for expected in [limit, 125] {
                let frame = decoder.decode(limit).expect("nothing wrong").expect("a frame");
                assert_eq!(frame.payload.len(), expected, "{role:?}, {first:#x}");
            }
            let error = decoder.decode(limit).expect_err("one byte more");
            assert_eq!(error.kind(), ErrorKind::TooBig, "{role:?}, {first:#x}");
        }
    }
}

#[test]
fn memory_follows_what_was_received_not_what_was_announced() {
    for (role, mask) in ROLES {
        for is_quiet in [false, true] {
            let mut decoder = Decoder::new(role);
            let flag = if mask.is_some() { 0x80 } else { 0 };
            let head = [&[0x82, 127 | flag][..], &(1_u64 << 40).to_be_bytes(), &[1, 2, 3, 4]];
            decoder.feed(&head.concat());
            let mut received = 14;
            for _ in 0..300 {
                assert!(decoder.decode(usize::MAX).expect("nothing wrong").is_none());
                let (initialised, capacity) = decoder.buffer.sizes();
                assert!(initialised <= received + SLACK, "{initialised} for {received}");
                assert!(capacity <= 2 * (received + SLACK), "{capacity} for {received}");
                let count = decoder.room().len().min(10_000);
                decoder.received(count);
                received += count;
                if is_quiet {
                    decoder.quiet();
                }
            }
        }
    }
}

/// What a transport may hold beyond what it received.
const SLACK: usize = 128 << 10;

#[test]
fn a_quiet_decoder_gives_memory_back() {
    let big = wire(0x82, &payload(4 * MIB), None);
    let mut decoder = fed(Role::Client, &big);
    drop(frame(&mut decoder));
    decoder.quiet();
    assert_eq!(decoder.buffer.sizes().1, 0);

    let next = [&[0x82, 127][..], &(1_u64 << 30).to_be_bytes()].concat();
    let mut decoder = fed(Role::Client, &[big, next].concat());
    drop(frame(&mut decoder));
    assert!(decoder.decode(usize::MAX).expect("nothing wrong").is_none());
    decoder.quiet();
    assert!(decoder.buffer.sizes().1 < SLACK, "{:?}", decoder.buffer.sizes());

    let small = wire(0x82, &payload(32), None);
    let mut decoder = fed(Role::Client, &small);
    frame(&mut decoder);
    decoder.quiet();
    assert_eq!(decoder.buffer.sizes().1, FIRST_READ, "as much as the next will need");
    decoder.feed(&small[..9]);
    decoder.quiet();
    decoder.feed(&small[9..]);
    assert_eq!(frame(&mut decoder).payload, payload(32));
}

#[test]
fn reads_start_small_grow_when_they_are_filled_and_shrink_again() {
    let small = wire(0x82, &payload(32), None);
    let mut decoder = Decoder::with_max_read(Role::Client, 16 << 10);
    assert_eq!(decoder.room().len(), FIRST_READ);
    for _ in 0..10 {
        let room = decoder.room().len();
        decoder.feed(&small.repeat(room.div_ceil(small.len()) + 1));
        while decoder.decode(MIB).expect("nothing wrong").is_some() {}
    }
    assert!(decoder.room().len() > 12 << 10, "{}", decoder.room().len());
    for _ in 0..10 {
        decoder.quiet();
    }
    assert!(decoder.room().len() <= FIRST_READ, "{}", decoder.room().len());
    assert_eq!(Decoder::with_max_read(Role::Client, 0).room().len(), 1, "a read needs room");
}

#[test]
fn who_keeps_a_short_payload_does_not_keep_the_buffer() {
    for (role, mask) in ROLES {
        let bytes = wire(0x82, &payload(32), mask).repeat(1000);
        let mut decoder = fed(role, &bytes);
        let kept: Vec<Bytes> = (0..1000).map(|_| frame(&mut decoder).payload).collect();
        let mut shared = 0;
        for pair in kept.windows(2) {
            let distance = (pair[1].as_ptr() as usize).abs_diff(pair[0].as_ptr() as usize);
            shared += usize::from(distance == 32);
        }
        assert!((900..1000).contains(&shared), "{shared} lie in a block with the one before");
        assert!(kept.iter().all(|payload| payload.as_ptr() as usize % ALIGNED == 0));
        let range = decoder.room().as_ptr_range();
        assert!(kept.iter().all(|payload| !range.contains(&payload.as_ptr())));
        assert!(kept.iter().all(|kept| *kept == payload(32)), "{role:?}");
    }
}

#[test]
fn payloads_of_any_length_share_blocks_that_are_not_too_large_for_them() {
    for (role, mask) in ROLES {
        let mut random = Random(1);
        let random = (0..2000).map(|_| 1 + random.below(COPIED));
        let lengths: Vec<usize> = random.chain([COPIED; 800]).collect();
        let wire: Vec<u8> =
            lengths.iter().flat_map(|&length| wire(0x82, &payload(length), mask)).collect();
        let mut decoder = fed(role, &wire);
        let mut blocks = 0;
        let (mut block, mut end, mut all) = (0..0, 0, Vec::new());
        for length in lengths {
            let kept = frame(&mut decoder).payload;
            assert_eq!(kept, payload(length), "{role:?}");
            let at = kept.as_ptr() as usize;
            // Behind the one before, where the next one of a block lies.
            if at == end && block.contains(&at) {
                assert!(at + length - block.start <= SHARED.max(SHARERS * length), "{length}");
            } else {
                blocks += 1;
                block = at..at + SHARED.max(SHARERS * length);
            }
            end = (at + length).next_multiple_of(ALIGNED);
            all.push(kept); // so that no other block takes its place
        }
        let expected = 100..1200;
        assert!(expected.contains(&blocks), "{role:?}: {blocks} blocks for 2000 payloads and 800");
    }
}

#[test]
fn a_retained_payload_stays_as_it_was() {
    let sizes = [3, COPIED, 100, COPIED + 1, 5000, 30, 40_000, 200_000];
    for (role, mask) in ROLES {
        let count = sizes.len();
        let bytes: Vec<u8> =
            (0..80).flat_map(|turn| wire(0x82, &payload(sizes[turn % count]), mask)).collect();
        let mut decoder = fed(role, &bytes);
        let retained: Vec<RawFrame> = (0..80).map(|_| frame(&mut decoder)).collect();
        for (turn, frame) in retained.iter().enumerate() {
            assert_eq!(frame.payload, payload(sizes[turn % count]), "{role:?}, frame {turn}");
        }
    }
}

#[test]
fn thousands_of_frames_survive_any_chunking() {
    for seed in 1..=6 {
        let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ seed);
        let role = if seed % 2 == 0 { Role::Client } else { Role::Server };
        let bounds = [2, 40, 130, 1200, 20_000, 150_000];
        let firsts = [(0x82, OpCode::Binary), (0x81, OpCode::Text), (0x80, OpCode::Continuation)];
        let mut bytes = Vec::new();
        let frames: Vec<RawFrame> = (0..2000)
            .map(|_| {
                let bound = bounds[random.below(100) * random.below(100) / 1800];
                let (first, opcode) = firsts[random.below(3)];
                let frame = RawFrame::new(opcode, payload(random.below(bound)));
                let mask = (role == Role::Server).then(|| (random.0 as u32).to_ne_bytes());
                bytes.extend(wire(first, &frame.payload, mask));
                frame
            })
            .collect();
        let mut decoder = Decoder::new(role);
        let mut retained = VecDeque::new();
        let (mut at, mut number) = (0, 0);
        while number < frames.len() {
            match decoder.decode(MIB).expect("nothing wrong") {
                Some(received) => {
                    assert_eq!(received, frames[number], "seed {seed}, frame {number}");
                    retained.push_back((number, received));
                    number += 1;
                }
                None => {
                    let bound = [3, 100, 5000, 100_000][random.below(4)];
                    let room = decoder.room();
                    let count = (1 + random.below(bound)).min(room.len()).min(bytes.len() - at);
                    room[..count].copy_from_slice(&bytes[at..at + count]);
                    decoder.received(count);
                    at += count;
                    if random.below(3) == 0 {
                        decoder.quiet();
                    }
                }
            }
            if retained.len() > random.below(40) {
                let (number, received) = retained.pop_front().expect("one at least");
                assert_eq!(received, frames[number], "seed {seed}, retained {number}");
            }
        }
        assert!(decoder.is_empty() && at == bytes.len());
    }
}

/// The number of bytes after which a text is refused; `None` if it never is.
fn refused_after(role: Role, bytes: &[u8]) -> Option<usize> {
    let mut decoder = Decoder::new(role);
    decoder.check_text_early();
    (0..bytes.len()).find(|&at| {
        decoder.feed(&bytes[at..at + 1]);
        match decoder.decode(usize::MAX) {
            Ok(_) => false,
            Err(error) => error.close_code() == Some(CloseCode::INVALID_PAYLOAD),
        }
    })
}

#[test]
fn a_text_is_refused_with_the_byte_that_shows_it() {
    for (role, mask) in ROLES {
        let head = if mask.is_some() { 6 } else { 2 };
        let text = |first, text: &[u8]| wire(first, text, mask);
        assert_eq!(refused_after(role, &text(0x81, b"ab\xc3\xff....")), Some(head + 3));
        assert_eq!(refused_after(role, &text(0x01, b"ab\xff")), Some(head + 2));
        let long = [&b"x".repeat(1001)[..], b"\xed\xa0\x80", &b"y".repeat(99)].concat();
        assert_eq!(refused_after(role, &text(0x81, &long)), Some(head + 2 + 1002));
        let two = [text(0x01, b"ab\xe2\x82"), text(0x89, b"\xff"), text(0x80, b"\x82\xff...")];
        let first_two = two[0].len() + two[1].len();
        assert_eq!(refused_after(role, &two.concat()), Some(first_two + head + 1));
        let fine = [text(0x01, b"\xe2\x82"), text(0x00, b""), text(0x80, b"\xac")];
        assert_eq!(refused_after(role, &fine.concat()), None);
        for not_checked in [
            text(0x82, b"\xff\xff"),
            [text(0x02, b"\xff"), text(0x80, b"\xff.")].concat(),
            [text(0x41, b"\xff"), text(0x80, b"\xff.")].concat(),
            [text(0x01, b"a"), text(0x90, b"\xff.")].concat(),
        ] {
            assert_eq!(refused_after(role, &not_checked), None, "{role:?} {not_checked:x?}");
        }
        // What came whole is the caller's to check.
        let mut decoder = fed(role, &text(0x81, b"\xff"));
        decoder.check_text_early();
        assert!(decoder.decode(10).is_ok());
    }
}

#[test]
fn debug_shows_lengths_only() {
    let decoder = fed(Role::Client, b"\x81\x07secret");
    assert_eq!(format!("{decoder:?}"), "Decoder(8 bytes received)");
}
