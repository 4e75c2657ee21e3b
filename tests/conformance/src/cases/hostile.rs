//! Peers that break the protocol, byte by byte: what is on the wire, and what it comes to on every engine.
//!
//! `limits` has the violations that a frame shows by itself, `refusal` the wrong answers to a handshake and
//! `ending` the peers that go silent. Here are those that depend on how bytes are cut and connections end.

use std::{io, sync::Arc, time::Duration};

use drivetrain::{Capability, CloseReason, ErrorKind, WebSockets};
use drivetrain_engine::Capability::{MaxFrameSize, MaxMessageSize};

use super::accept_head;
use crate::{
    case::{Case, case},
    context::{Context, PATIENCE},
    expect::{ends_cleanly, ends_with, fails, reason, text},
    failure::{Failure, Verdict},
    peer::{Conn, LengthEncoding, WireFrame, frame_header, opcode},
    script::{
        Manners::{Polite, Silent},
        Saw, Script,
    },
};

/// Between two segments, so that they are not read as one.
const GAP: Duration = Duration::from_micros(300);
/// Until what was written has been read.
const READ: Duration = Duration::from_millis(50);
/// A time limit that passes.
const SHORT: Duration = Duration::from_millis(400);

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

/// fastwebsockets refuses what is above 1 GiB whatever the limit.
const ABOVE_ONE_GIB: &[(&str, End)] = &[("fastwebsockets", End::refused(ErrorKind::TooBig, 1009))];

/// One peer, or several that are to come to the same.
struct Row {
    name: String,
    /// For each peer the TCP segments that it sends behind the handshake.
    peers: Vec<Vec<Vec<u8>>>,
    then: Then,
    /// Whether the limits are off.
    unlimited: bool,
    /// The texts that the application gets.
    texts: Vec<&'static str>,
    /// The payloads of the pongs that the peer gets.
    pongs: Vec<&'static str>,
    end: End,
    /// Engines where it ends otherwise (`docs/limitations.md`).
    deviations: &'static [(&'static str, End)],
}

/// What the peer does when it has sent everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// It answers as a server should.
    Attend,
    /// It ends its direction, and reads on.
    End,
    /// It resets the connection.
    Reset,
}

/// How the session ends.
#[derive(Clone, Copy, Debug)]
struct End {
    /// Clean if there is none.
    kind: Option<ErrorKind>,
    /// The code of the one Close on the wire.
    sent: Option<u16>,
    /// The code of the peer's Close, or if the peer was refused that of its answer.
    received: Option<u16>,
}

impl End {
    /// The peer closes, and gets its code back.
    const fn clean(code: u16) -> Self {
        Self { kind: None, sent: Some(code), received: Some(code) }
    }

    /// The peer is told that it broke a rule. What it answers is read if it still can be told where its
    /// next frame begins, and only then: RFC 6455 section 7.1.7 asks for neither.
    const fn refused(kind: ErrorKind, code: u16) -> Self {
        Self { kind: Some(kind), sent: Some(code), received: None }
    }

    /// The connection ends.
    const LOST: Self = Self { kind: Some(ErrorKind::Io), sent: None, received: None };
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        case(an_answer_of_one_byte_a_segment_is_good),
        case(an_answer_may_be_split_anywhere),
        case(a_reset_within_the_handshake_is_an_error),
        case(a_reset_instead_of_the_answer_to_our_close_is_not_clean),
        case(a_peer_that_has_ended_its_direction_still_gets_our_close),
        case(a_flood_of_pings_of_a_peer_that_reads_no_pong_is_survived),
        case(a_peer_that_drips_after_our_close_is_given_up),
    ];
    for (name, endless) in ENDLESS {
        let refused = case(move |cx| an_endless_answer_is_refused(cx, endless));
        cases.push(refused.named("hostile", format_args!("{name}_without_end_is_an_error")));
    }
    for (name, line) in HUGE {
        let refused = case(move |cx| a_huge_answer_is_refused(cx, line));
        cases.push(refused.named("hostile", format_args!("{name}_of_a_mib_is_an_error")));
    }
    for row in rows() {
        let row = Arc::new(row);
        let name = row.name.clone();
        let needs: &[_] = if row.unlimited { &[MaxFrameSize, MaxMessageSize] } else { &[] };
        let comes_to = case(move |cx| comes_to(cx, Arc::clone(&row)));
        cases.push(comes_to.named("hostile", name).needs(needs));
    }
    cases.into_iter().map(|case| case.needs(&[Capability::WebSockets])).collect()
}

/// Each of a row's peers.
async fn comes_to(cx: Context, row: Arc<Row>) -> Verdict {
    for (number, segments) in row.peers.iter().enumerate() {
        one_comes_to(&cx, &row, segments.clone())
            .await
            .map_err(|failure| Failure::new(format_args!("peer {number}: {failure}")))?;
    }
    Ok(())
}

async fn one_comes_to(cx: &Context, row: &Row, segments: Vec<Vec<u8>>) -> Verdict {
    let then = row.then;
    let mut peer = cx.peer(Polite, move |conn| {
        // A client that has seen enough does not take the rest.
        let _ = write_segments(conn, &segments);
        match then {
            Then::Attend => Ok(()),
            Then::End => conn.shutdown_write(),
            Then::Reset => {
                conn.pause(READ)?;
                conn.reset()
            }
        }
    });
    let mut plugin = WebSockets::new();
    if row.unlimited {
        plugin = plugin.max_frame_size(usize::MAX).max_message_size(usize::MAX);
    }
    let mut session = cx.client_with(plugin)?.web_socket(peer.url()).connect().await?;
    for expected in &row.texts {
        assert_eq!(text(&mut session).await?, *expected);
    }
    let engine = cx.engine();
    let name = drivetrain_engine::Engine::name(&engine);
    let deviation = row.deviations.iter().find(|(engine, _)| *engine == name);
    let end = deviation.map_or(row.end, |(_, end)| *end);
    let outcome = match end.kind {
        None => ends_cleanly(&mut session).await?,
        Some(kind) => ends_with(&mut session, kind).await?,
    };
    let code = |close| reason(close).map(|(code, _)| code);
    assert_eq!(code(&outcome.sent), end.sent, "{outcome:?}");
    let answered = end.kind.is_some() && code(&outcome.received) == end.sent;
    assert!(answered || code(&outcome.received) == end.received, "{outcome:?}");
    if row.then == Then::Reset {
        return Ok(());
    }
    let (mut frames, last) = to_the_end(&mut peer).await?;
    assert!(matches!(last, Saw::End), "{frames:?}, {last:?}");
    if let Some(code) = end.sent {
        let close = frames.pop().filter(|frame| frame.opcode == opcode::CLOSE);
        let close = close.ok_or_else(|| Failure::new("the last frame is no Close"))?;
        let expected = if code == 1005 { Vec::new() } else { code.to_be_bytes().to_vec() };
        assert_eq!(close.payload.get(..2).unwrap_or_default(), expected);
    }
    assert!(frames.iter().all(|frame| frame.opcode == opcode::PONG), "{frames:?}");
    let pongs: Vec<_> = frames.iter().map(|frame| frame.payload.as_slice()).collect();
    let expected: Vec<_> = row.pongs.iter().map(|payload| payload.as_bytes()).collect();
    assert_eq!(pongs, expected);
    Ok(())
}

/// Every byte of the 101 and of the first frame comes by itself.
async fn an_answer_of_one_byte_a_segment_is_good(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        let answer = answer(conn)?;
        write_segments(conn, &bytewise(&answer))?;
        conn.drain()
    });
    let mut session = cx.client().web_socket(server.ws_url("/")).connect().await?;
    assert_eq!(text(&mut session).await?, "first");
    Ok(())
}

/// In two segments, with the border behind each byte of the 101 and of the first frame.
async fn an_answer_may_be_split_anywhere(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        let answer = answer(conn)?;
        // The number of the connection is the place.
        let (head, tail) = answer.split_at(conn.id().min(answer.len()));
        write_segments(conn, &[head.to_vec(), tail.to_vec()])?;
        conn.drain()
    });
    for at in 1..140 {
        let connect = cx.client().web_socket(server.ws_url("/")).connect();
        let connected = connect.await;
        let mut session =
            connected.map_err(|error| Failure::new(format_args!("split at {at}: {error:?}")))?;
        assert_eq!(text(&mut session).await?, "first", "split at {at}");
    }
    Ok(())
}

/// Before the answer, within its first line, its headers, and the empty line at its end.
async fn a_reset_within_the_handshake_is_an_error(cx: Context) -> Verdict {
    for at in [0, 1, 12, 34, 60, 127, 128] {
        let server = cx.server(move |conn| {
            let answer = answer(conn)?;
            conn.write_all(&answer[..at])?;
            conn.pause(READ)?;
            conn.reset()
        });
        let connect = cx.client().web_socket(server.ws_url("/")).connect();
        let connected = cx.within(PATIENCE, "the handshake ends", connect).await?;
        fails(connected, ErrorKind::Io)
            .map_err(|failure| Failure::new(format_args!("reset at {at}: {failure}")))?;
    }
    Ok(())
}

/// `Io`, with what was sent and nothing received.
async fn a_reset_instead_of_the_answer_to_our_close_is_not_clean(cx: Context) -> Verdict {
    // Nothing of the answer, and half of it.
    for part in [&[][..], &[0x88], &[0x88, 2, 3]] {
        let server = cx.server(move |conn| {
            conn.accept_web_socket()?;
            conn.receive()?;
            conn.write_all(part)?;
            conn.pause(READ)?;
            conn.reset()
        });
        let mut session = cx.client().web_socket(server.ws_url("/")).connect().await?;
        let closing = session.close(CloseReason::normal());
        let outcome = cx.within(PATIENCE, "the session ends", closing).await??;
        assert!(!outcome.clean && outcome.received.is_none(), "{outcome:?}");
        assert_eq!(reason(&outcome.sent).map(|(code, _)| code), Some(1000));
        ends_with(&mut session, ErrorKind::Io).await?;
    }
    Ok(())
}

/// A Close and the end of its direction in one segment: what is pending goes out, then our Close.
async fn a_peer_that_has_ended_its_direction_still_gets_our_close(cx: Context) -> Verdict {
    let mut peer = cx.peer(Silent, |conn| {
        conn.receive()?;
        conn.feed(&WireFrame::text("last"));
        conn.feed(&WireFrame::close(4000, "enough"));
        conn.shutdown_write()
    });
    let mut session = peer.connect().await?;
    session.send("go").await?;
    assert_eq!(text(&mut session).await?, "last");
    let outcome = ends_cleanly(&mut session).await?;
    assert_eq!(reason(&outcome.received), Some((4000, "enough")));
    assert_eq!(peer.close().await?.0, Some(4000));
    peer.end().await
}

/// The session reads on, and what it still owes is bounded: pongs that a newer one replaces are dropped.
async fn a_flood_of_pings_of_a_peer_that_reads_no_pong_is_survived(cx: Context) -> Verdict {
    /// More than what both sockets' buffers take of the pongs.
    const COUNT: u32 = 200_000;
    let mut peer = cx.peer(Polite, |conn| {
        for i in 0..COUNT {
            conn.feed(&WireFrame::ping([&i.to_be_bytes()[..], &[0; 120]].concat()));
            if i % 500 == 0 {
                conn.flush()?;
            }
        }
        conn.send_text("after the flood")
    });
    let mut session = peer.connect().await?;
    assert_eq!(text(&mut session).await?, "after the flood");
    session.close(CloseReason::normal()).await?;
    let (frames, _) = to_the_end(&mut peer).await?;
    let pongs = frames.iter().filter(|frame| frame.opcode == opcode::PONG);
    let numbers: Vec<_> = pongs.map(|pong| pong.payload.first_chunk::<4>().copied()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "the pongs are in order");
    assert_eq!(numbers.last(), Some(&Some((COUNT - 1).to_be_bytes())), "the newest is answered");
    assert_eq!(frames.last().map(|frame| frame.opcode), Some(opcode::CLOSE));
    Ok(())
}

/// Data and pings instead of the answer to our Close are no reason to wait for longer.
async fn a_peer_that_drips_after_our_close_is_given_up(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        conn.accept_web_socket()?;
        conn.receive()?;
        loop {
            conn.feed(&WireFrame::text("one more thing"));
            conn.send(&WireFrame::ping("?"))?;
            conn.pause(Duration::from_millis(5))?;
        }
    });
    let request = cx.client().web_socket(server.ws_url("/")).close_timeout(SHORT);
    let session = request.connect().await?;
    let closing = session.close(CloseReason::normal());
    let outcome = cx.within(PATIENCE, "the close timeout passes", closing).await??;
    assert!(!outcome.clean && outcome.received.is_none(), "{outcome:?}");
    assert_eq!(outcome.error.as_ref().map(drivetrain::Error::kind), Some(ErrorKind::Timeout));
    Ok(())
}

/// What an answer begins with, and what then comes again and again.
type Endless = (&'static str, &'static str);

const ENDLESS: [(&str, Endless); 5] = [
    ("a_status_line", ("HTTP/1.1 101 ", "Switching")),
    ("a_headers_name", ("HTTP/1.1 101 Switching Protocols\r\n", "x-name")),
    ("a_headers_value", ("HTTP/1.1 101 Switching Protocols\r\nx: ", "value ")),
    ("small_headers", ("HTTP/1.1 101 Switching Protocols\r\n", "a: b\r\n")),
    ("a_refusals_headers", ("HTTP/1.1 403 Forbidden\r\n", "a: b\r\n")),
];

/// `Protocol`, before much is taken.
async fn an_endless_answer_is_refused(cx: Context, (begin, again): Endless) -> Verdict {
    const MUCH: usize = 64 << 20;
    let (sent, mut taken) = futures_channel::mpsc::unbounded();
    let server = cx.server(move |conn| {
        conn.read_request()?;
        let block = again.repeat((16 << 10) / again.len());
        let mut count = 0;
        let mut result = conn.write_all(begin.as_bytes());
        while result.is_ok() && count < MUCH {
            result = conn.write_all(block.as_bytes());
            count += block.len();
        }
        sent.unbounded_send(count).map_err(io::Error::other)
    });
    let connect = cx.client().web_socket(server.ws_url("/")).connect();
    fails(cx.within(PATIENCE, "it is refused", connect).await?, ErrorKind::Protocol)?;
    let count = futures_util::StreamExt::next(&mut taken).await;
    assert!(count.is_some_and(|count| count < MUCH), "{count:?} bytes were taken");
    Ok(())
}

const HUGE: [(&str, &str); 3] = [
    ("a_header_line", "x-huge: {}"),
    ("a_headers_name", "{}: x"),
    ("a_subprotocol", "sec-websocket-protocol: {}"),
];

/// A 101 that would be good otherwise is `Protocol`.
async fn a_huge_answer_is_refused(cx: Context, line: &'static str) -> Verdict {
    let server = cx.server(move |conn| {
        let line = line.replace("{}", &"x".repeat(1 << 20));
        let (connection, upgrade) = ("connection: Upgrade", "upgrade: websocket");
        // The client does not take it all.
        let accept = "sec-websocket-accept: {accept}";
        let _ = accept_head(conn, &[connection, upgrade, accept, &line]);
        Ok(())
    });
    let connect = cx.client().web_socket(server.ws_url("/")).connect();
    fails(cx.within(PATIENCE, "it is refused", connect).await?, ErrorKind::Protocol)?;
    Ok(())
}

fn rows() -> Vec<Row> {
    [lengths(), promises(), utf_8(), codes(), after_close(), cuts(), headers()]
        .into_iter()
        .flatten()
        .collect()
}

/// Lengths that are not minimal, and those with the top bit set.
fn lengths() -> Vec<Row> {
    use LengthEncoding::{Sixteen, SixtyFour};

    let refused = End::refused(ErrorKind::Protocol, 1002);
    let mut rows = Vec::new();
    for (encoding, lens) in [(Sixteen, &[0, 1, 125][..]), (SixtyFour, &[0, 1, 125, 126, 65_535])] {
        for &len in lens {
            let encoded = |fin, opcode| {
                let head = frame_header(fin, 0, opcode, false, encoding, len);
                [head, vec![b'a'; len as usize]].concat()
            };
            let mut peers = vec![
                vec![encoded(true, opcode::TEXT)],
                vec![encoded(true, opcode::BINARY)],
                vec![encoded(false, opcode::BINARY)],
                vec![[unfinished("a"), encoded(true, opcode::CONTINUATION)].concat()],
            ];
            if len <= 125 {
                peers.extend([opcode::PING, opcode::PONG].map(|code| vec![encoded(true, code)]));
            }
            let name = format!("a_length_of_{len}_in_{encoding:?}_bits").to_lowercase();
            rows.push(Row { peers, ..row(name, refused) });
        }
    }
    let close = |encoding| [frame_header(true, 0, 8, false, encoding, 2), vec![3, 232]].concat();
    let peers = [Sixteen, SixtyFour].map(|encoding| vec![close(encoding)]).into();
    rows.push(Row { peers, ..row("a_close_whose_length_is_not_minimal", refused) });

    for len in [1 << 63, (1 << 63) | 1, (1 << 63) | (1 << 62), u64::MAX] {
        let peer = |opcode| {
            let head = frame_header(true, 0, opcode, false, SixtyFour, len);
            vec![[head, vec![b'a'; 1000]].concat()]
        };
        for unlimited in [false, true] {
            let peers =
                [opcode::TEXT, opcode::BINARY, opcode::PING, opcode::CLOSE].map(peer).into();
            let limits = if unlimited { "without" } else { "within" };
            let name = format!("a_length_of_{len:x}_{limits}_limits");
            rows.push(Row { unlimited, peers, ..row(name, refused) });
        }
    }
    rows
}

/// Frames whose header promises more than there is.
fn promises() -> Vec<Row> {
    let too_big = End::refused(ErrorKind::TooBig, 1009);
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
    let (largest, then) = ((1 << 63) - 1, Then::End);
    let deviations = ABOVE_ONE_GIB;
    vec![
        // Nothing of it follows.
        Row { peers: promised(1 << 62), ..row("a_promise_of_4_eib_above_the_limit", too_big) },
        Row { peers: promised(largest), ..row("a_promise_of_8_eib_above_the_limit", too_big) },
        Row { peers: partly(1 << 62), ..row("a_promise_of_4_eib_that_is_partly_kept", too_big) },
        // The peer sends a MiB of it, and ends.
        Row {
            peers: partly(1 << 62),
            then,
            unlimited: true,
            deviations,
            ..row("a_promise_of_4_eib_without_limits", End::LOST)
        },
        Row {
            peers: partly(largest),
            then,
            unlimited: true,
            deviations,
            ..row("a_promise_of_8_eib_without_limits", End::LOST)
        },
        Row {
            peers: partly((1 << 30) - 1),
            then,
            unlimited: true,
            ..row("a_promise_of_1_gib_without_limits", End::LOST)
        },
    ]
}

/// Text and reasons that are not UTF-8, cut at every place in every way; and text that is.
fn utf_8() -> Vec<Row> {
    let refused = End::refused(ErrorKind::Protocol, 1007);
    let mut rows = Vec::new();
    for (name, bytes) in NOT_UTF_8 {
        for (place, before, after) in
            [("first", "", "z"), ("between", "aκ€", "😀z"), ("last", "κ", "")]
        {
            let bytes = [before.as_bytes(), bytes, after.as_bytes()].concat();
            let mut peers = Vec::new();
            for at in 0..=bytes.len() {
                peers.extend(split(&bytes, at));
            }
            rows.push(Row { peers, ..row(format!("text_with_{name}_{place}"), refused) });
        }
        let close = WireFrame::new(opcode::CLOSE, [&[0x0F, 0xA0], &b"a"[..], bytes].concat());
        let close = close.encode(None);
        let peers = (1..close.len()).map(|at| two(&close, at)).collect();
        rows.push(Row { peers, ..row(format!("a_close_reason_with_{name}"), refused) });
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
    let texts = vec![GOOD];
    rows.push(Row { peers, texts, ..row("text_that_is_utf_8_split_anywhere", End::clean(4000)) });
    rows
}

/// A text as one frame in two segments, as two fragments in one, and as two fragments in two.
fn split(bytes: &[u8], at: usize) -> [Vec<Vec<u8>>; 3] {
    let whole = WireFrame::text(bytes).encode(None);
    let first = WireFrame { fin: false, ..WireFrame::text(&bytes[..at]) }.encode(None);
    let second = WireFrame::continuation(&bytes[at..], true).encode(None);
    [two(&whole, 2 + at), vec![[&first[..], &second].concat()], vec![first, second]]
}

/// Codes that must not travel, beside those of `limits`.
fn codes() -> Vec<Row> {
    let codes = [
        0, 1, 255, 256, 998, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 9999,
        32_768, 65_535,
    ];
    let refused = End::refused(ErrorKind::Protocol, 1002);
    let peer = |code| vec![WireFrame::close(code, "why not?").encode(None)];
    let peers = codes.map(peer).into();
    let within = codes.map(|code| vec![unfinished("a"), peer(code).concat()]).into();
    let one = (0..=255).step_by(15).map(|byte| vec![WireFrame::new(8, [byte]).encode(None)]);
    vec![
        Row { peers, ..row("codes_that_must_not_travel", refused) },
        Row { peers: within, ..row("codes_that_must_not_travel_within_a_message", refused) },
        Row { peers: one.collect(), ..row("closes_of_one_byte", refused) },
    ]
}

/// What a peer says after its Close, and Closes at odd places.
fn after_close() -> Vec<Row> {
    let close = WireFrame::close(1000, "bye").encode(None);
    let after = [
        ("text", WireFrame::text("late").encode(None)),
        ("half_a_message", unfinished("late")),
        ("a_ping", WireFrame::ping("late").encode(None)),
        ("another_close", WireFrame::close(1001, "again").encode(None)),
        ("a_close_that_must_not_travel", WireFrame::close(1005, "").encode(None)),
        ("a_reserved_opcode", vec![0x83, 0]),
        ("a_reserved_bit", vec![0xC1, 0]),
        ("half_a_header", vec![0x81]),
        ("a_promise_of_8_eib", vec![0x82, 127, 127, 255, 255, 255, 255, 255, 255, 255]),
        ("garbage", b"HTTP/1.1 400 Bad Request\r\n\r\n".into()),
    ];
    let mut rows: Vec<_> = after
        .into_iter()
        .map(|(name, bytes)| {
            // Another segment may come when nobody is there any more, which is no business of ours.
            let peers = vec![vec![[&close[..], &bytes].concat()]];
            Row { peers, ..row(format!("{name}_after_a_close"), End::clean(1000)) }
        })
        .collect();
    let within = [unfinished("never whole"), close.clone()].concat();
    let name = "a_close_within_a_message";
    rows.push(Row { peers: vec![vec![within]], ..row(name, End::clean(1000)) });
    let empty = vec![vec![WireFrame::close(None, "").encode(None)]];
    rows.push(Row { peers: empty, then: Then::End, ..row("a_close_and_an_end", End::clean(1005)) });
    rows
}

/// A session whose bytes come one by one, and connections that are cut.
fn cuts() -> Vec<Row> {
    let part = |text: &str, fin| WireFrame::continuation(text, fin).encode(None);
    let session = [
        WireFrame::text("one").encode(None),
        unfinished("tw"),
        WireFrame::ping("1").encode(None),
        part("", false),
        part("o", true),
        WireFrame::pong("nobody asked").encode(None),
        WireFrame::text([b'x'; 200]).encode(None),
        WireFrame::text("€").encode(None),
        WireFrame::close(4000, "bye").encode(None),
    ]
    .concat();
    const LONG: &str = match std::str::from_utf8(&[b'x'; 200]) {
        Ok(text) => text,
        Err(_) => "",
    };
    let texts = vec!["one", "two", LONG, "€"];
    let mut rows = vec![Row {
        peers: vec![bytewise(&session)],
        texts: texts.clone(),
        pongs: vec!["1"],
        ..row("a_session_of_one_byte_a_segment", End::clean(4000))
    }];
    let peers = (1..session.len()).map(|at| two(&session, at)).collect();
    rows.push(Row {
        peers,
        texts,
        pongs: vec!["1"],
        ..row("a_session_split_anywhere", End::clean(4000))
    });
    let begun = WireFrame::text("one").encode(None);
    let places: [(&str, &[u8]); 8] = [
        ("between_frames", &[]),
        ("within_a_header", &[0x81]),
        ("within_a_long_header", &[0x82, 127, 0, 0, 0, 0, 0]),
        ("before_a_payload", &[0x82, 126, 4, 0]),
        ("within_a_payload", &[0x81, 10, b'a', b'b']),
        ("within_a_message", &[0x01, 1, b'a']),
        ("within_a_ping", &[0x89, 4, 1]),
        ("within_a_close", &[0x88, 2, 3]),
    ];
    for (place, bytes) in places {
        for (what, then) in [("an_end", Then::End), ("a_reset", Then::Reset)] {
            let peers = vec![vec![[&begun[..], bytes].concat()]];
            let name = format!("{what}_{place}");
            rows.push(Row { peers, then, texts: vec!["one"], ..row(name, End::LOST) });
        }
    }
    rows
}

/// Masks, reserved bits and empty fragments where `limits` has none.
fn headers() -> Vec<Row> {
    let refused = End::refused(ErrorKind::Protocol, 1002);
    let key = Some([0; 4]);
    let close = WireFrame::close(1000, "");
    let frames = [
        WireFrame::text(""),
        WireFrame::binary("a"),
        WireFrame { fin: false, ..WireFrame::text("a") },
        WireFrame::ping("a"),
        WireFrame::pong(""),
        close.clone(),
    ];
    let mut masked: Vec<_> = frames.iter().map(|frame| vec![frame.encode(key)]).collect();
    masked.push(vec![[unfinished("a"), WireFrame::continuation("b", true).encode(key)].concat()]);
    let mut reserved = Vec::new();
    for rsv in 1..=7 {
        let with = |frame: &WireFrame| WireFrame { rsv, ..frame.clone() }.encode(None);
        reserved.extend(frames.iter().map(|frame| vec![with(frame)]));
        reserved.push(vec![[unfinished("a"), with(&WireFrame::continuation("b", true))].concat()]);
    }
    let nothing = WireFrame::continuation("", false).encode(None).repeat(100_000);
    let end = WireFrame::continuation("b", true).encode(None);
    let many = [unfinished("a"), nothing, end, close.encode(None)].concat();
    vec![
        Row { peers: masked, ..row("masked_frames", refused) },
        Row { peers: reserved, ..row("reserved_bits", refused) },
        Row {
            peers: vec![vec![many]],
            texts: vec!["ab"],
            ..row("a_hundred_thousand_empty_fragments", End::clean(1000))
        },
    ]
}

/// A row without its bytes.
fn row(name: impl Into<String>, end: End) -> Row {
    Row {
        name: name.into(),
        peers: Vec::new(),
        then: Then::Attend,
        unlimited: false,
        texts: Vec::new(),
        pongs: Vec::new(),
        end,
        deviations: &[],
    }
}

/// A text's first fragment.
fn unfinished(text: &str) -> Vec<u8> {
    WireFrame { fin: false, ..WireFrame::text(text) }.encode(None)
}

fn two(bytes: &[u8], at: usize) -> Vec<Vec<u8>> {
    let (first, second) = bytes.split_at(at);
    vec![first.to_vec(), second.to_vec()]
}

fn bytewise(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.iter().map(|byte| vec![*byte]).collect()
}

/// The answer to the handshake that comes next, and a text.
fn answer(conn: &mut Conn) -> io::Result<Vec<u8>> {
    let request = conn.read_request()?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let accept = crate::peer::accept_key(request.header("sec-websocket-key").unwrap_or_default());
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-accept: {accept}\r\n\r\n"
    );
    Ok([head.into_bytes(), WireFrame::text("first").encode(None)].concat())
}

/// Writes each by itself.
fn write_segments(conn: &mut Conn, segments: &[Vec<u8>]) -> io::Result<()> {
    for (i, segment) in segments.iter().enumerate() {
        if i > 0 {
            conn.pause(GAP)?;
        }
        conn.write_all(segment)?;
    }
    Ok(())
}

/// All frames that the peer still sees, and how the stream ends.
async fn to_the_end(peer: &mut Script) -> Verdict<(Vec<WireFrame>, Saw)> {
    let mut frames = Vec::new();
    loop {
        match peer.next().await? {
            Saw::Frame(frame) => frames.push(frame),
            end => return Ok((frames, end)),
        }
    }
}
