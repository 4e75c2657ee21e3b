//! Connections that are cut, and peers that do not read.

use std::iter;

use drivetrain::CloseReason;

use super::{
    super::outbox::until_send_waits,
    bytes::{Bytes, Then, bytewise, of, to_the_end, two, unfinished, whole},
    table::{End, Row, own, row},
};
use crate::{
    context::Context,
    expect::text,
    failure::Verdict,
    peer::{WireFrame, opcode},
    script::PeerBehaviour::Polite,
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = chunks();
    rows.extend(cuts());
    rows.extend([
        own("ending::an_end_without_a_close_is_an_error", End::LOST, an_end_without_a_close),
        own("ending::a_reset_is_an_error", End::LOST, a_reset),
        own(
            "outbox::send_waits_for_a_peer_that_does_not_read",
            End::Open,
            send_waits_for_a_peer_that_does_not_read,
        ),
        own(
            "hostile::a_flood_of_pings_of_a_peer_that_reads_no_pong_is_survived",
            End::clean(1000),
            a_flood_of_pings_of_a_peer_that_reads_no_pong,
        ),
    ]);
    rows
}

/// A session whose bytes come one by one, and in two segments, cut at every place.
fn chunks() -> Vec<Row> {
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
    let session_of = |name, peers| {
        let (texts, pongs) = (vec!["one", "two", LONG, "€"], vec!["1"]);
        row(name, End::clean(4000), Bytes { texts, pongs, ..of(peers) })
    };
    let anywhere = (1..session.len()).map(|at| two(&session, at)).collect();
    vec![
        session_of("hostile::a_session_of_one_byte_a_segment", vec![bytewise(&session)]),
        session_of("hostile::a_session_split_anywhere", anywhere),
    ]
}

/// Connections that end, in good order or by a reset, at any place.
fn cuts() -> Vec<Row> {
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
    let mut rows = Vec::new();
    for (place, bytes) in places {
        for (what, then) in [("an_end", Then::End), ("a_reset", Then::Reset)] {
            let peer = whole([[&begun[..], bytes].concat()]);
            let peer = Bytes { then, texts: vec!["one"], ..peer };
            rows.push(row(format!("hostile::{what}_{place}"), End::LOST, peer));
        }
    }
    // Nothing at all comes before these.
    let frames = [&[0x81][..], &[0x81, 126, 1], &[0x82, 10, 1, 2, 3], &[0x89, 4, 1]];
    let within = whole(frames.map(<[u8]>::to_vec));
    let half = whole(iter::once(unfinished("the first half of")));
    for (name, peer) in [
        ("ending::an_end_within_a_frame_is_an_error", within),
        ("ending::an_end_within_a_message_is_an_error", half),
    ] {
        rows.push(row(name, End::LOST, Bytes { then: Then::End, ..peer }));
    }
    rows
}

/// A TCP end without a Close, never a quiet end.
async fn an_end_without_a_close(cx: Context, end: End) -> Verdict {
    let (_server, mut session) = cx.session("/drop").await?;
    session.send("drop it, please").await?;
    end.of(&mut session).await?;
    Ok(())
}

/// A TCP reset.
async fn a_reset(cx: Context, end: End) -> Verdict {
    let (_server, mut session) = cx.session("/reset").await?;
    session.send("reset it, please").await?;
    end.of(&mut session).await?;
    Ok(())
}

/// What is accepted while a peer does not read is bounded by the capacity and the socket's buffers.
async fn send_waits_for_a_peer_that_does_not_read(cx: Context, end: End) -> Verdict {
    let (_server, session) = cx.session("/mute").await?;
    let accepted = until_send_waits(&cx, &session).await?;
    assert!(accepted > 0);
    end.is_so_far(&session.outcome())
}

/// The session continues to read, and its pending answers are bounded: a newer pong replaces older ones.
async fn a_flood_of_pings_of_a_peer_that_reads_no_pong(cx: Context, end: End) -> Verdict {
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
    end.of(&mut session).await?;
    let (frames, _) = to_the_end(&mut peer).await?;
    let pongs = frames.iter().filter(|frame| frame.opcode == opcode::PONG);
    let numbers: Vec<_> = pongs.map(|pong| pong.payload.first_chunk::<4>().copied()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "the pongs are in order");
    assert_eq!(numbers.last(), Some(&Some((COUNT - 1).to_be_bytes())), "the newest is answered");
    assert_eq!(frames.last().map(|frame| frame.opcode), Some(opcode::CLOSE));
    Ok(())
}
