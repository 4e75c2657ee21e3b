//! Closes that must not be, what comes after one, and peers that do not answer ours.

use std::time::Duration;

use drivetrain::{CloseReason, ErrorKind};

use super::{
    bytes::{Bytes, Limits, READ, Then, unfinished, whole},
    table::{End, Row, own, row},
};
use crate::{
    context::{Context, PATIENCE},
    expect::{reason, text},
    failure::Verdict,
    peer::{WireFrame, opcode},
    script::PeerBehaviour::Silent,
};

const REFUSED: End = End::refused(ErrorKind::Protocol, 1002);
/// A time limit that passes.
const SHORT: Duration = Duration::from_millis(400);

pub(super) fn rows() -> Vec<Row> {
    let ours = vec![
        own(
            "hostile::a_peer_that_has_ended_its_direction_still_gets_our_close",
            End::clean(4000),
            a_peer_that_has_ended_its_direction_still_gets_our_close,
        ),
        own(
            "ending::an_end_instead_of_the_answer_to_our_close_is_not_clean",
            End::unanswered(ErrorKind::Io, 1000),
            an_end_instead_of_the_answer_to_our_close_is_not_clean,
        ),
        own(
            "hostile::a_reset_instead_of_the_answer_to_our_close_is_not_clean",
            End::unanswered(ErrorKind::Io, 1000),
            a_reset_instead_of_the_answer_to_our_close_is_not_clean,
        ),
        own(
            "ending::a_peer_that_never_answers_a_close_is_given_up",
            End::unanswered(ErrorKind::Timeout, 4000),
            a_peer_that_never_answers_a_close_is_given_up,
        ),
        own(
            "hostile::a_peer_that_drips_after_our_close_is_given_up",
            End::unanswered(ErrorKind::Timeout, 1000),
            a_peer_that_drips_after_our_close_is_given_up,
        ),
        own(
            "ending::a_peer_that_never_reads_a_close_is_given_up",
            End::unread(ErrorKind::Timeout),
            a_peer_that_never_reads_a_close_is_given_up,
        ),
    ];
    [codes(), after_close(), ours].into_iter().flatten().collect()
}

/// Codes that must not travel, and Closes that are too short for one.
fn codes() -> Vec<Row> {
    let low = |frame: WireFrame| {
        let bytes = whole([frame.encode(None)]);
        Bytes { limits: Limits::Low, ..bytes }
    };
    let short = WireFrame::new(opcode::CLOSE, [3]);
    let mut rows = vec![row("limits::a_close_of_one_byte", REFUSED, low(short))];
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
        let close = WireFrame::close(code, "");
        rows.push(row(format!("limits::close_code_{code}"), REFUSED, low(close)));
    }
    let codes = [
        0, 1, 255, 256, 998, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 9999,
        32_768, 65_535,
    ];
    let peer = |code| WireFrame::close(code, "why not?").encode(None);
    let within = codes.map(|code| [unfinished("a"), peer(code)].concat());
    let one = (0..=255).step_by(15).map(|byte| WireFrame::new(8, [byte]).encode(None));
    rows.extend([
        row("hostile::codes_that_must_not_travel", REFUSED, whole(codes.map(peer))),
        row("hostile::codes_that_must_not_travel_within_a_message", REFUSED, whole(within)),
        row("hostile::closes_of_one_byte", REFUSED, whole(one)),
    ]);
    rows
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
            // A later segment may meet a closed socket; this does not matter.
            let bytes = whole([[&close[..], &bytes].concat()]);
            row(format!("hostile::{name}_after_a_close"), End::clean(1000), bytes)
        })
        .collect();
    let within = whole([[unfinished("never whole"), close.clone()].concat()]);
    rows.push(row("hostile::a_close_within_a_message", End::clean(1000), within));
    let empty = whole([WireFrame::close(None, "").encode(None)]);
    let empty = Bytes { then: Then::End, ..empty };
    rows.push(row("hostile::a_close_and_an_end", End::clean(1005), empty));
    rows
}

/// A Close and the end of its direction in one segment: pending frames go out, then our Close.
async fn a_peer_that_has_ended_its_direction_still_gets_our_close(
    cx: Context,
    end: End,
) -> Verdict {
    let mut peer = cx.peer(Silent, |conn| {
        conn.receive()?;
        conn.feed(&WireFrame::text("last"));
        conn.feed(&WireFrame::close(4000, "enough"));
        conn.shutdown_write()
    });
    let mut session = peer.connect().await?;
    session.send("go").await?;
    assert_eq!(text(&mut session).await?, "last");
    let outcome = end.of(&mut session).await?;
    assert_eq!(reason(&outcome.received), Some((4000, "enough")));
    assert_eq!(peer.close().await?.0, end.wire());
    peer.end().await
}

/// The peer sees our Close and ends the stream without a Close.
async fn an_end_instead_of_the_answer_to_our_close_is_not_clean(cx: Context, end: End) -> Verdict {
    let peer = cx.server(|conn| {
        conn.accept_web_socket()?;
        conn.receive().map(drop)
    });
    let mut session = cx.client().web_socket(peer.ws_url("/")).connect().await?;
    let closing = session.close(CloseReason::normal());
    cx.within(PATIENCE, "the session ends", closing).await??;
    end.of(&mut session).await?;
    Ok(())
}

/// The same with a reset: after nothing of the answer, and after half of it.
async fn a_reset_instead_of_the_answer_to_our_close_is_not_clean(cx: Context, end: End) -> Verdict {
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
        cx.within(PATIENCE, "the session ends", closing).await??;
        end.of(&mut session).await?;
    }
    Ok(())
}

/// After the close timeout, and the outcome is not clean.
async fn a_peer_that_never_answers_a_close_is_given_up(cx: Context, end: End) -> Verdict {
    let mut peer = cx.peer(Silent, |_| Ok(()));
    let request = cx.client().web_socket(peer.url()).close_timeout(SHORT);
    let mut session = request.connect().await?;
    let closing = session.close(CloseReason::new(4000, "anybody?")?);
    let outcome = cx.within(PATIENCE, "the close timeout passes", closing).await??;
    assert_eq!(reason(&outcome.sent), Some((4000, "anybody?")));
    end.of(&mut session).await?;
    assert_eq!(peer.close().await?, (end.wire(), "anybody?".into()));
    peer.end().await
}

/// Data and pings instead of the answer to our Close are no reason to wait for longer.
async fn a_peer_that_drips_after_our_close_is_given_up(cx: Context, end: End) -> Verdict {
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
    let mut session = request.connect().await?;
    let closing = session.close(CloseReason::normal());
    let outcome = cx.within(PATIENCE, "the close timeout passes", closing).await??;
    assert!(!outcome.clean, "{outcome:?}");
    while let Ok(Some(late)) = session.receive().await {
        assert_eq!(late.read_text(), Some("one more thing"));
    }
    end.of(&mut session).await?;
    Ok(())
}

/// Also if there is no way to get the Close through.
async fn a_peer_that_never_reads_a_close_is_given_up(cx: Context, end: End) -> Verdict {
    let server = cx.echo();
    let request = cx.client().web_socket(server.ws_url("/mute")).close_timeout(SHORT);
    let mut session = request.connect().await?;
    session.send(vec![0; 48 << 20]).await?;
    let closing = session.close(CloseReason::normal());
    cx.within(PATIENCE, "the close timeout passes", closing).await??;
    end.of(&mut session).await?;
    Ok(())
}
