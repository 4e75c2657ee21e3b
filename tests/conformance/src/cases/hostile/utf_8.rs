//! Text and reasons that are not UTF-8, cut at every place in every way; and text that is.

use drivetrain::ErrorKind;

use super::{
    bytes::{Bytes, Limits, of, two, unfinished, whole},
    table::{End, Row, row},
};
use crate::peer::{WireFrame, opcode};

const REFUSED: End = End::refused(ErrorKind::Protocol, 1007);

/// Byte sequences that are not UTF-8 (RFC 3629 sections 3 and 4).
const NOT_UTF_8: [(&str, &[u8]); 11] = [
    ("a_lone_continuation", &[0x80]),
    ("a_byte_that_never_occurs", &[0xFF]),
    ("a_missing_continuation", &[0xE2, 0x28, 0xA1]),
    ("a_character_of_three_bytes_cut_short", &[0xE2, 0x82]),
    ("a_character_of_four_bytes_cut_short", &[0xF0, 0x9F, 0x98]),
    ("two_bytes_for_a_slash", &[0xC0, 0xAF]),
    ("three_bytes_for_a_slash", &[0xE0, 0x80, 0xAF]),
    ("four_bytes_for_a_slash", &[0xF0, 0x80, 0x80, 0xAF]),
    ("a_surrogate", &[0xED, 0xA0, 0x80]),
    ("a_character_above_the_last", &[0xF4, 0x90, 0x80, 0x80]),
    ("five_bytes_for_a_character", &[0xF8, 0x88, 0x80, 0x80, 0x80]),
];

pub(super) fn rows() -> Vec<Row> {
    let mut rows = whole_messages();
    for (name, bytes) in NOT_UTF_8 {
        for (place, before, after) in
            [("first", "", "z"), ("between", "aκ€", "😀z"), ("last", "κ", "")]
        {
            let bytes = [before.as_bytes(), bytes, after.as_bytes()].concat();
            let peers = (0..=bytes.len()).flat_map(|at| split(&bytes, at)).collect();
            rows.push(row(format!("hostile::text_with_{name}_{place}"), REFUSED, of(peers)));
        }
        let close = WireFrame::new(opcode::CLOSE, [&[0x0F, 0xA0], &b"a"[..], bytes].concat());
        let close = close.encode(None);
        let peers = (1..close.len()).map(|at| two(&close, at)).collect();
        rows.push(row(format!("hostile::a_close_reason_with_{name}"), REFUSED, of(peers)));
    }
    const GOOD: &str = "aκ€😀z";
    let close = WireFrame::close(4000, GOOD).encode(None);
    let mut peers = Vec::new();
    for at in 0..=GOOD.len() {
        for mut segments in split(GOOD.as_bytes(), at) {
            segments.extend(two(&close, 1 + at));
            peers.push(segments);
        }
    }
    let good = Bytes { texts: vec![GOOD], ..of(peers) };
    rows.push(row("hostile::text_that_is_utf_8_split_anywhere", End::clean(4000), good));
    rows
}

/// Messages in one segment, with low limits at our end.
fn whole_messages() -> Vec<Row> {
    let text = |payload: &[u8]| WireFrame::text(payload).encode(None);
    let part = |payload: &[u8]| WireFrame { fin: false, ..WireFrame::text(payload) }.encode(None);
    let last = |payload: &[u8]| WireFrame::continuation(payload, true).encode(None);
    let halves = [part(&[0xE2, 0x82]), last(b"x")].concat();
    let ends = [unfinished("a"), last(&[0xE2, 0x82])].concat();
    let close = WireFrame::new(opcode::CLOSE, [0x03, 0xE8, b'a', 0xFF]).encode(None);
    [
        ("limits::text_that_is_not_utf_8", text(&[b'a', 0xFF])),
        ("limits::text_with_a_surrogate", text(&[0xED, 0xA0, 0x80])),
        ("limits::text_that_ends_within_a_character", text(&[0xE2, 0x82])),
        ("limits::text_that_is_not_utf_8_across_fragments", halves),
        ("limits::fragments_that_end_within_a_character", ends),
        ("limits::a_close_reason_that_is_not_utf_8", close),
    ]
    .map(|(name, peer)| row(name, REFUSED, Bytes { limits: Limits::Low, ..whole([peer]) }))
    .into()
}

/// A text as one frame in two segments, as two fragments in one, and as two fragments in two.
fn split(bytes: &[u8], at: usize) -> [Vec<Vec<u8>>; 3] {
    let whole = WireFrame::text(bytes).encode(None);
    let first = WireFrame { fin: false, ..WireFrame::text(&bytes[..at]) }.encode(None);
    let second = WireFrame::continuation(&bytes[at..], true).encode(None);
    [two(&whole, 2 + at), vec![[&first[..], &second].concat()], vec![first, second]]
}
