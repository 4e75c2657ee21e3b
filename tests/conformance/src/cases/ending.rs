//! How sessions end badly.

use std::time::Duration;

use drivetrain::{Capability, CloseReason, ErrorKind};

use crate::{
    case::{Case, case},
    context::{Context, PATIENCE},
    expect::{ends_with, fails, reason, text},
    failure::Verdict,
    peer::{Conn, WireFrame},
    script::Manners::{Polite, Silent},
};

/// A close timeout that passes.
const SHORT: Duration = Duration::from_millis(200);

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case(a_peer_that_never_answers_a_close_is_given_up),
        case(a_peer_that_never_reads_a_close_is_given_up),
        case(an_end_without_a_close_is_an_error),
        case(a_reset_is_an_error),
        case(an_end_within_a_frame_is_an_error),
        case(an_end_within_a_message_is_an_error),
        case(an_end_instead_of_the_answer_to_our_close_is_not_clean),
        case(what_came_before_a_bad_end_is_delivered),
        case(a_write_that_fails_is_the_error_of_a_later_call),
        case(ping_ends_with_the_session),
        case(flush_ends_with_the_session),
    ];
    cases.into_iter().map(|case| case.needs(&[Capability::WebSockets])).collect()
}

/// After the close timeout, and the outcome is not clean.
async fn a_peer_that_never_answers_a_close_is_given_up(cx: Context) -> Verdict {
    let mut peer = cx.peer(Silent, |_| Ok(()));
    let request = cx.client().web_socket(peer.url()).close_timeout(SHORT);
    let mut session = request.connect().await?;
    let closing = session.close(CloseReason::new(4000, "anybody?")?);
    let outcome = cx.within(PATIENCE, "the close timeout passes", closing).await??;
    assert!(!outcome.clean && outcome.received.is_none(), "{outcome:?}");
    assert_eq!(reason(&outcome.sent), Some((4000, "anybody?")));
    ends_with(&mut session, ErrorKind::Timeout).await?;
    assert_eq!(peer.close().await?, (Some(4000), "anybody?".into()));
    peer.end().await
}

/// Also if there is no way to get the Close through.
async fn a_peer_that_never_reads_a_close_is_given_up(cx: Context) -> Verdict {
    let (_server, mut session) = {
        let server = cx.echo();
        let request = cx.client().web_socket(server.ws_url("/mute")).close_timeout(SHORT);
        (server, request.connect().await?)
    };
    session.send(vec![0; 48 << 20]).await?;
    let closing = session.close(CloseReason::normal());
    let outcome = cx.within(PATIENCE, "the close timeout passes", closing).await??;
    assert!(!outcome.clean, "{outcome:?}");
    ends_with(&mut session, ErrorKind::Timeout).await?;
    Ok(())
}

/// A TCP end without a Close is `Io`, never a quiet end.
async fn an_end_without_a_close_is_an_error(cx: Context) -> Verdict {
    let (_server, mut session) = cx.session("/drop").await?;
    session.send("drop it, please").await?;
    let outcome = ends_with(&mut session, ErrorKind::Io).await?;
    assert!(outcome.received.is_none(), "{outcome:?}");
    Ok(())
}

/// A TCP reset is `Io`.
async fn a_reset_is_an_error(cx: Context) -> Verdict {
    let (_server, mut session) = cx.session("/reset").await?;
    session.send("reset it, please").await?;
    ends_with(&mut session, ErrorKind::Io).await?;
    Ok(())
}

/// Half a header, half a payload.
async fn an_end_within_a_frame_is_an_error(cx: Context) -> Verdict {
    for bytes in [&[0x81][..], &[0x81, 126, 1], &[0x82, 10, 1, 2, 3], &[0x89, 4, 1]] {
        let peer = cx.server(move |conn| {
            conn.accept_web_socket()?;
            conn.write_all(bytes)
        });
        let mut session = cx.client().web_socket(peer.ws_url("/")).connect().await?;
        ends_with(&mut session, ErrorKind::Io).await?;
    }
    Ok(())
}

/// Some of the fragments.
async fn an_end_within_a_message_is_an_error(cx: Context) -> Verdict {
    let peer = cx.server(|conn| {
        conn.accept_web_socket()?;
        conn.send(&WireFrame { fin: false, ..WireFrame::text("the first half of") })
    });
    let mut session = cx.client().web_socket(peer.ws_url("/")).connect().await?;
    ends_with(&mut session, ErrorKind::Io).await?;
    Ok(())
}

/// The peer sees our Close and ends the stream without one of its own.
async fn an_end_instead_of_the_answer_to_our_close_is_not_clean(cx: Context) -> Verdict {
    let peer = cx.server(|conn| {
        conn.accept_web_socket()?;
        conn.receive().map(drop)
    });
    let mut session = cx.client().web_socket(peer.ws_url("/")).connect().await?;
    let closing = session.close(CloseReason::normal());
    let outcome = cx.within(PATIENCE, "the session ends", closing).await??;
    assert!(!outcome.clean && outcome.received.is_none(), "{outcome:?}");
    ends_with(&mut session, ErrorKind::Io).await?;
    Ok(())
}

/// Messages first, then the error.
async fn what_came_before_a_bad_end_is_delivered(cx: Context) -> Verdict {
    let peer = cx.server(|conn| {
        conn.accept_web_socket()?;
        conn.feed(&WireFrame::text("one"));
        conn.send_text("two")
    });
    let mut session = cx.client().web_socket(peer.ws_url("/")).connect().await?;
    assert_eq!(text(&mut session).await?, "one");
    assert_eq!(text(&mut session).await?, "two");
    ends_with(&mut session, ErrorKind::Io).await?;
    Ok(())
}

/// An application that only sends hears of it.
async fn a_write_that_fails_is_the_error_of_a_later_call(cx: Context) -> Verdict {
    let peer = cx.server(|conn| {
        conn.accept_web_socket()?;
        conn.reset()
    });
    let mut session = cx.client().web_socket(peer.ws_url("/")).connect().await?;
    let sending = async {
        loop {
            if let Err(error) = session.send("anybody?").await {
                return error;
            }
            cx.sleep(Duration::from_millis(1)).await;
        }
    };
    let error = cx.within(PATIENCE, "send fails", sending).await?;
    assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
    ends_with(&mut session, ErrorKind::Io).await?;
    Ok(())
}

/// A pong that cannot come any more is an error.
async fn ping_ends_with_the_session(cx: Context) -> Verdict {
    let peer = cx.server(|conn| {
        conn.accept_web_socket()?;
        conn.receive().map(drop)
    });
    let session = cx.client().web_socket(peer.ws_url("/")).connect().await?;
    let ping = cx.within(PATIENCE, "the peer leaves", session.ping()).await?;
    fails(ping, ErrorKind::Io)?;
    let peer = cx.peer(Polite, |conn| conn.receive().map(drop));
    let session = peer.connect().await?;
    let closing = async {
        cx.sleep(SHORT).await;
        session.close(CloseReason::normal()).await
    };
    let (ping, _) = futures_util::future::join(session.ping(), closing).await;
    fails(ping, ErrorKind::Closed)?;
    Ok(())
}

/// What cannot be written any more is an error.
async fn flush_ends_with_the_session(cx: Context) -> Verdict {
    let peer = cx.server(|conn: &mut Conn| {
        conn.accept_web_socket()?;
        conn.read_exact(&mut [0; 1000])?;
        conn.reset()
    });
    let session = cx.client().web_socket(peer.ws_url("/")).connect().await?;
    session.send(vec![0; 48 << 20]).await?;
    let flushed = cx.within(PATIENCE, "the peer leaves", session.flush()).await?;
    fails(flushed, ErrorKind::Io)?;
    Ok(())
}
