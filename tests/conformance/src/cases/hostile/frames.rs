//! Frames that break the protocol: their headers, their order, their lengths, and what they promise.

use drivetrain::ErrorKind;

use super::{
    bytes::{Bytes, Limits, MAX_FRAME, MAX_MESSAGE, Then, of, unfinished, whole},
    table::{End, Row, row},
};
use crate::{
    Deviation,
    peer::{LengthEncoding, WireFrame, frame_header, opcode},
};

const REFUSED: End = End::refused(ErrorKind::Protocol, 1002);
const TOO_BIG: End = End::refused(ErrorKind::TooBig, 1009);

const ABOVE_ONE_GIB: Option<(Deviation, End)> = Some((Deviation::LargestFrame, TOO_BIG));
const TOP_BIT: Option<(Deviation, End)> = Some((Deviation::TopBit, TOO_BIG));

pub(super) fn rows() -> Vec<Row> {
    let parts = [headers(), single(), order(), lengths(), top_bits(), too_big(), promises()];
    parts.into_iter().flatten().collect()
}

/// Every kind of frame with a mask, and with reserved bits.
fn headers() -> Vec<Row> {
    let key = Some([0; 4]);
    let frames = [
        WireFrame::text(""),
        WireFrame::binary("a"),
        WireFrame { fin: false, ..WireFrame::text("a") },
        WireFrame::ping("a"),
        WireFrame::pong(""),
        WireFrame::close(1000, ""),
    ];
    let mut masked: Vec<_> = frames.iter().map(|frame| frame.encode(key)).collect();
    masked.push([unfinished("a"), WireFrame::continuation("b", true).encode(key)].concat());
    let mut reserved = Vec::new();
    for rsv in 1..=7 {
        let with = |frame: &WireFrame| WireFrame { rsv, ..frame.clone() }.encode(None);
        reserved.extend(frames.iter().map(with));
        reserved.push([unfinished("a"), with(&WireFrame::continuation("b", true))].concat());
    }
    vec![
        row("hostile::masked_frames", REFUSED, whole(masked)),
        row("hostile::reserved_bits", REFUSED, whole(reserved)),
    ]
}

/// Frames that are wrong by themselves, one a row.
fn single() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |name: String, frame: Vec<u8>| {
        rows.push(row(name, REFUSED, low(frame)));
    };
    for rsv in [1, 2, 4] {
        let frame = WireFrame { rsv, ..WireFrame::text("a") };
        add(format!("limits::reserved_bit_{rsv}"), frame.encode(None));
    }
    let ping = WireFrame { rsv: 4, ..WireFrame::ping("a") };
    add("limits::a_reserved_bit_on_a_ping".into(), ping.encode(None));
    for code in (3..=7).chain(11..=15) {
        let frame = WireFrame::new(code, "a");
        add(format!("limits::reserved_opcode_{code}"), frame.encode(None));
    }
    for code in [opcode::PING, opcode::PONG, opcode::CLOSE] {
        let frame = WireFrame { fin: false, ..WireFrame::new(code, "") };
        add(format!("limits::a_fragmented_control_frame_{code}"), frame.encode(None));
        let frame = WireFrame::new(code, vec![b'a'; 126]);
        add(format!("limits::a_control_frame_of_126_bytes_{code}"), frame.encode(None));
    }
    let masked = WireFrame::text("a").encode(Some([1, 2, 3, 4]));
    add("limits::a_masked_frame".into(), masked);
    rows
}

/// Fragments where they do not belong; and many that do.
fn order() -> Vec<Row> {
    let next = |fin| WireFrame::continuation("a", fin).encode(None);
    let text = WireFrame::text("b").encode(None);
    let nothing = WireFrame::continuation("", false).encode(None).repeat(100_000);
    let close = WireFrame::close(1000, "").encode(None);
    let many = [unfinished("a"), nothing, next(true), close].concat();
    let many = Bytes { texts: vec!["aa"], ..whole([many]) };
    let (ping, pong) = (WireFrame::ping("1").encode(None), WireFrame::pong("2").encode(None));
    let between = [
        unfinished("a"),
        [ping.clone(), pong.clone()].concat(),
        WireFrame::continuation("", false).encode(None),
        [pong, ping].concat(),
        next(true),
        WireFrame::close(1000, "").encode(None),
    ];
    let between = Bytes { texts: vec!["aa"], pongs: vec!["1", "1"], ..whole([between.concat()]) };
    vec![
        row("limits::a_continuation_of_nothing", REFUSED, low(next(true))),
        row("limits::an_unfinished_continuation_of_nothing", REFUSED, low(next(false))),
        row("limits::a_message_within_a_message", REFUSED, low([unfinished("a"), text].concat())),
        row(
            "limits::fragments_within_fragments",
            REFUSED,
            low([unfinished("a"), unfinished("b")].concat()),
        ),
        row("hostile::control_frames_between_fragments", End::clean(1000), between),
        row("hostile::a_hundred_thousand_empty_fragments", End::clean(1000), many),
    ]
}

/// Lengths that are not minimal.
fn lengths() -> Vec<Row> {
    use LengthEncoding::{Sixteen, SixtyFour};

    let mut rows = Vec::new();
    for (encoding, lens) in [(Sixteen, &[0, 1, 125][..]), (SixtyFour, &[0, 1, 125, 126, 65_535])] {
        for &len in lens {
            let encoded = |fin, opcode| {
                let head = frame_header(fin, 0, opcode, false, encoding, len);
                [head, vec![b'a'; len as usize]].concat()
            };
            let mut peers = vec![
                encoded(true, opcode::TEXT),
                encoded(true, opcode::BINARY),
                encoded(false, opcode::BINARY),
                [unfinished("a"), encoded(true, opcode::CONTINUATION)].concat(),
            ];
            if len <= 125 {
                peers.extend([opcode::PING, opcode::PONG].map(|code| encoded(true, code)));
            }
            let name = format!("hostile::a_length_of_{len}_in_{encoding:?}_bits").to_lowercase();
            rows.push(row(name, REFUSED, whole(peers)));
        }
    }
    let close = |encoding| [frame_header(true, 0, 8, false, encoding, 2), vec![3, 232]].concat();
    let closes = whole([Sixteen, SixtyFour].map(close));
    rows.push(row("hostile::a_close_whose_length_is_not_minimal", REFUSED, closes));
    rows
}

/// Lengths with the top bit set.
fn top_bits() -> Vec<Row> {
    let head = |opcode, len| frame_header(true, 0, opcode, false, LengthEncoding::SixtyFour, len);
    let mut rows = vec![row(
        "limits::a_length_with_its_top_bit_set",
        REFUSED,
        low(head(opcode::BINARY, 1 << 63)),
    )];
    for len in [1 << 63, (1 << 63) | 1, (1 << 63) | (1 << 62), u64::MAX] {
        let peer = |opcode| [head(opcode, len), vec![b'a'; 1000]].concat();
        let name = |limits| format!("hostile::a_length_of_{len:x}_{limits}_limits");
        // No limit is for control frames.
        let data = whole([opcode::TEXT, opcode::BINARY].map(peer));
        rows.push(Row { deviation: TOP_BIT, ..row(name("within"), REFUSED, data) });
        let all = whole([opcode::TEXT, opcode::BINARY, opcode::PING, opcode::CLOSE].map(peer));
        rows.push(row(name("without"), REFUSED, Bytes { limits: Limits::Off, ..all }));
    }
    rows
}

/// What is above a limit is refused as soon as it is announced: nothing of the payload follows.
fn too_big() -> Vec<Row> {
    let binary = WireFrame { fin: false, ..WireFrame::binary(vec![0; 900]) };
    let begun = [binary, WireFrame::continuation(vec![0; 900], false)];
    let begun = begun.map(|frame| frame.encode(None)).concat();
    let announced =
        |opcode, len| frame_header(true, 0, opcode, false, LengthEncoding::Minimal, len);
    let rest = announced(opcode::CONTINUATION, (MAX_MESSAGE - 1800) as u64 + 1);
    vec![
        row(
            "limits::a_frame_that_is_too_big",
            TOO_BIG,
            low(announced(opcode::BINARY, MAX_FRAME as u64 + 1)),
        ),
        row("limits::a_frame_that_is_far_too_big", TOO_BIG, low(announced(opcode::TEXT, 1 << 62))),
        row("limits::a_message_that_is_too_big", TOO_BIG, low([begun, rest].concat())),
    ]
}

/// Frames whose header promises more than there is.
fn promises() -> Vec<Row> {
    let head = |opcode, len: u64| {
        frame_header(opcode == opcode::CONTINUATION, 0, opcode, false, LengthEncoding::Minimal, len)
    };
    let promised = |len| {
        let continued = [unfinished("a"), head(opcode::CONTINUATION, len)].concat();
        vec![vec![head(opcode::TEXT, len)], vec![head(opcode::BINARY, len)], vec![continued]]
    };
    let partly = |len| {
        let mut peers = promised(len);
        peers.iter_mut().for_each(|segments| segments.push(vec![b'a'; 1 << 20]));
        peers
    };
    // The peer sends a MiB of it, and ends.
    let unlimited = |name, len| {
        let bytes = Bytes { then: Then::End, limits: Limits::Off, ..of(partly(len)) };
        row(name, End::LOST, bytes)
    };
    let largest = (1 << 63) - 1;
    let deviation = ABOVE_ONE_GIB;
    vec![
        // Nothing of it follows.
        row("hostile::a_promise_of_4_eib_above_the_limit", TOO_BIG, of(promised(1 << 62))),
        row("hostile::a_promise_of_8_eib_above_the_limit", TOO_BIG, of(promised(largest))),
        row("hostile::a_promise_of_4_eib_that_is_partly_kept", TOO_BIG, of(partly(1 << 62))),
        Row { deviation, ..unlimited("hostile::a_promise_of_4_eib_without_limits", 1 << 62) },
        Row { deviation, ..unlimited("hostile::a_promise_of_8_eib_without_limits", largest) },
        unlimited("hostile::a_promise_of_1_gib_without_limits", (1 << 30) - 1),
    ]
}

/// A peer of one segment, with low limits at our end.
fn low(peer: Vec<u8>) -> Bytes {
    Bytes { limits: Limits::Low, ..whole([peer]) }
}
