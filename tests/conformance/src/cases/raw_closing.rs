//! A raw session that is told to close.

use std::time::Duration;

use drivetrain::{Capability, CloseReason, ErrorKind, OpCode, RawFrame};
use drivetrain_engine::Capability::RawSessions;
use futures_util::future;

use super::raw::{connect, frame};
use crate::{
    case::{Case, case},
    context::{Context, PATIENCE},
    failure::Verdict,
    peer::{WireFrame, opcode},
    script::PeerBehaviour::{Polite, Silent},
};

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case(close_is_answered),
        case(close_answers_the_peers),
        case(close_waits_no_longer_than_its_timeout),
        case(close_tells_that_there_was_none),
    ];
    let needs = [Capability::WebSockets, RawSessions];
    cases.into_iter().map(|case| case.needs(&needs)).collect()
}

/// Sent once, after fed messages. Messages before the answer are counted.
async fn close_is_answered(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |conn| {
        conn.feed(&WireFrame { fin: false, ..WireFrame::text("one ") });
        conn.feed(&WireFrame::continuation("message", true));
        conn.send(&WireFrame::ping("and a ping"))
    });
    let mut raw = connect(&cx, &peer).await?;
    raw.feed(RawFrame::new(OpCode::Text, "last words")).await?;
    let reason = CloseReason::new(4000, "bye")?;
    // Whether the answer has arrived does not matter: the next call continues.
    let _ = future::poll_immediate(raw.close(reason.clone())).await;
    let outcome = raw.close(CloseReason::normal()).await?;
    assert!(outcome.clean && outcome.discarded == 1, "{outcome:?}");
    assert_eq!((outcome.sent, outcome.received), (Some(reason.clone()), Some(reason)));
    assert_eq!(peer.text().await?, "last words");
    assert_eq!(peer.frame().await?.opcode, opcode::CLOSE);
    peer.end().await
}

/// It was received as a frame; nothing more is waited for.
async fn close_answers_the_peers(cx: Context) -> Verdict {
    let mut peer = cx.peer(Silent, |conn| conn.send(&WireFrame::close(1001, "away")));
    let mut raw = connect(&cx, &peer).await?;
    assert_eq!(frame(&cx, &mut raw).await?.opcode, OpCode::Close);
    let outcome = raw.close(CloseReason::normal()).await?;
    assert!(outcome.clean, "{outcome:?}");
    assert_eq!(crate::expect::reason(&outcome.received), Some((1001, "away")));
    assert_eq!(peer.close().await?.0, Some(1000));
    peer.end().await
}

/// The peer reads, and does not answer; or it never stops sending.
async fn close_waits_no_longer_than_its_timeout(cx: Context) -> Verdict {
    let silent = cx.peer(Silent, |_| Ok(()));
    let flooding = cx.server(|conn| {
        conn.accept_web_socket()?;
        while conn.send_text("blah").is_ok() {}
        Ok(())
    });
    for url in [silent.url(), flooding.ws_url("/")] {
        let request = cx.client().web_socket(url).close_timeout(Duration::from_millis(300));
        let mut raw = request.connect_raw().await?;
        let closed = cx.within(PATIENCE, "it gives up", raw.close(CloseReason::normal())).await?;
        let outcome = closed?;
        assert_eq!(outcome.error.map(|error| error.kind()), Some(ErrorKind::Timeout));
        assert!(!outcome.clean && outcome.received.is_none());
    }
    Ok(())
}

/// The stream just ends.
async fn close_tells_that_there_was_none(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        conn.accept_web_socket()?;
        while conn.receive()?.is_some_and(|frame| frame.opcode != opcode::CLOSE) {}
        Ok(())
    });
    let mut raw = cx.client().web_socket(server.ws_url("/")).connect_raw().await?;
    let outcome = raw.close(CloseReason::normal()).await?;
    assert_eq!(outcome.error.map(|error| error.kind()), Some(ErrorKind::Io));
    assert!(!outcome.clean && outcome.sent.is_some());
    Ok(())
}
