//! Reports of an unclean end. The peers that cause one, and the results, are in
//! `hostile`.

use std::time::Duration;

use drivetrain::{Capability, CloseReason, ErrorKind};

use crate::{
    case::{Case, case},
    context::{Context, PATIENCE},
    expect::{ends_with, fails, text},
    failure::Verdict,
    peer::{Conn, WireFrame},
    script::PeerBehaviour::Polite,
};

/// A close timeout that passes.
const SHORT: Duration = Duration::from_millis(200);

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case(what_came_before_a_bad_end_is_delivered),
        case(a_write_that_fails_is_the_error_of_a_later_call),
        case(ping_ends_with_the_session).needs(&[Capability::SendPing]),
        case(flush_ends_with_the_session),
    ];
    cases.into_iter().map(|case| case.needs(&[Capability::WebSockets])).collect()
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
