//! How sessions end in good order.

use std::{pin::pin, time::Duration};

use drivetrain::{
    Capability, CloseCode, CloseReason, ErrorKind, Frame, Outcome, Session, WebSockets,
};
use futures_util::{SinkExt, future};

use crate::{
    case::{Case, case},
    context::{Context, PATIENCE},
    expect::{ends_cleanly, fails, reason, text},
    failure::Verdict,
    peer::{WireFrame, opcode},
    script::PeerBehaviour::{Polite, Silent},
};

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case(a_close_of_ours_is_clean),
        case(a_close_of_the_peers_is_clean),
        case(every_code_that_may_travel_travels),
        case(a_close_without_a_code_is_1005_and_answered_alike),
        case(closes_that_cross_are_clean),
        case(the_peers_close_is_answered_once),
        case(nothing_after_the_peers_close_is_delivered),
        case(everything_accepted_goes_before_the_close),
        case(what_comes_before_the_peers_close_is_delivered),
        case(what_still_comes_after_our_close_is_readable),
        case(what_nobody_reads_after_our_close_is_counted),
        case(a_pending_receive_ends_with_the_session),
        case(two_closes_at_once_agree),
        case(closed_waits_for_the_end),
        case(a_close_frame_that_is_sent_closes),
        case(closing_the_sink_closes),
        case(run_closes_with_1000_after_ok),
        case(run_closes_with_1011_after_an_error),
        case(run_gives_its_value_even_if_the_peer_ends_badly),
        case(a_dropped_session_says_1001),
        case(a_dropped_session_writes_what_is_pending),
        case(without_its_receiving_half_a_session_sends_and_answers_pings),
        case(a_session_lives_as_long_as_any_of_its_halves),
        case(flush_waits_for_the_socket),
    ];
    cases.into_iter().map(|case| case.needs(&[Capability::WebSockets])).collect()
}

/// `close` sends its reason and gives the peer's; then everything says that it is closed.
async fn a_close_of_ours_is_clean(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |_| Ok(()));
    let mut session = peer.connect().await?;
    let outcome = close(&cx, &session, CloseReason::new(4000, "enough")?).await?;
    assert_eq!(reason(&outcome.sent), Some((4000, "enough")));
    assert_eq!(reason(&outcome.received), Some((4000, "enough")));
    assert_eq!(peer.close().await?, (Some(4000), "enough".into()));
    peer.end().await?;
    let last = ends_cleanly(&mut session).await?;
    assert_eq!(format!("{last:?}"), format!("{outcome:?}"));
    Ok(())
}

/// The peer's Close ends `receive`, and its reason is told.
async fn a_close_of_the_peers_is_clean(cx: Context) -> Verdict {
    let (_server, mut session) = cx.session("/close?code=4001&reason=over").await?;
    session.send("close, please").await?;
    let outcome = ends_cleanly(&mut session).await?;
    assert_eq!(reason(&outcome.received), Some((4001, "over")));
    assert_eq!(reason(&outcome.sent).map(|(code, _)| code), Some(4001));
    let error = fails(session.send("late").await, ErrorKind::Closed)?;
    assert_eq!(error.close_reason().map(|reason| reason.text()), Some("over"));
    let again = close(&cx, &session, CloseReason::normal()).await?;
    assert_eq!(reason(&again.received), Some((4001, "over")), "a close that comes too late");
    Ok(())
}

/// In both directions.
async fn every_code_that_may_travel_travels(cx: Context) -> Verdict {
    let server = cx.echo();
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999]
    {
        let ours = cx.client().web_socket(server.ws_url("/echo")).connect().await?;
        let outcome = close(&cx, &ours, CloseReason::new(code, "")?).await?;
        assert!(outcome.clean, "{outcome:?}");
        assert_eq!(reason(&outcome.received), Some((code, "")));

        let url = server.ws_url(&format!("/close?code={code}&reason=r{code}"));
        let mut theirs = cx.client().web_socket(url).connect().await?;
        theirs.send("close, please").await?;
        let outcome = ends_cleanly(&mut theirs).await?;
        assert_eq!(reason(&outcome.received), Some((code, format!("r{code}").as_str())));
    }
    Ok(())
}

/// An empty Close is reported as 1005 and answered with an empty one.
async fn a_close_without_a_code_is_1005_and_answered_alike(cx: Context) -> Verdict {
    let mut peer = cx.peer(Silent, |conn| conn.send_close(None, ""));
    let mut session = peer.connect().await?;
    let outcome = ends_cleanly(&mut session).await?;
    assert_eq!(reason(&outcome.received), Some((CloseCode::NO_STATUS.into(), "")));
    assert_eq!(peer.close().await?, (None, String::new()));
    peer.end().await
}

/// Both ends close at once: one Close each, and a clean end.
async fn closes_that_cross_are_clean(cx: Context) -> Verdict {
    let mut peer = cx.peer(Silent, |conn| {
        conn.receive()?;
        conn.send_close(4002, "mine")
    });
    let session = peer.connect().await?;
    let outcome = close(&cx, &session, CloseReason::new(4003, "yours")?).await?;
    assert!(outcome.clean, "{outcome:?}");
    assert_eq!(reason(&outcome.sent), Some((4003, "yours")));
    assert_eq!(reason(&outcome.received), Some((4002, "mine")));
    peer.end().await
}

/// With its code, and then the stream ends.
async fn the_peers_close_is_answered_once(cx: Context) -> Verdict {
    let mut peer = cx.peer(Silent, |conn| conn.send_close(1000, "bye"));
    let mut session = peer.connect().await?;
    ends_cleanly(&mut session).await?;
    close(&cx, &session, CloseReason::normal()).await?;
    drop(session);
    assert_eq!(peer.close().await?.0, Some(1000));
    peer.end().await
}

/// Data after the peer's Close is discarded (RFC 6455 section 5.5.1).
async fn nothing_after_the_peers_close_is_delivered(cx: Context) -> Verdict {
    let peer = cx.peer(Polite, |conn| {
        conn.feed(&WireFrame::text("before"));
        conn.feed(&WireFrame::close(1000, ""));
        conn.feed(&WireFrame::text("after"));
        conn.feed(&WireFrame::close(4000, "after"));
        conn.flush()
    });
    let mut session = peer.connect().await?;
    assert_eq!(text(&mut session).await?, "before");
    let outcome = ends_cleanly(&mut session).await?;
    assert_eq!(reason(&outcome.received), Some((1000, "")));
    Ok(())
}

/// Small messages and large ones, and the Close is the last frame.
async fn everything_accepted_goes_before_the_close(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |_| Ok(()));
    let session = peer.connect().await?;
    for i in 0..1000 {
        session.feed(i.to_string()).await?;
    }
    session.feed(vec![1; 1 << 20]).await?;
    assert!(close(&cx, &session, CloseReason::normal()).await?.clean);
    for i in 0..1000 {
        assert_eq!(peer.text().await?, i.to_string());
    }
    let mut len = 0;
    while len < 1 << 20 {
        len += peer.frame().await?.payload.len();
    }
    assert_eq!(peer.frame().await?.opcode, opcode::CLOSE);
    peer.end().await
}

/// Data and Close in one segment: all of the data, then the end.
async fn what_comes_before_the_peers_close_is_delivered(cx: Context) -> Verdict {
    let peer = cx.peer(Polite, |conn| {
        for i in 0..100 {
            conn.feed(&WireFrame::text(i.to_string()));
        }
        conn.send_close(1000, "")
    });
    let mut session = peer.connect().await?;
    // The end is known before the first message is taken.
    cx.until("the close arrives", || session.outcome().received.is_some()).await?;
    for i in 0..100 {
        assert_eq!(text(&mut session).await?, i.to_string());
    }
    ends_cleanly(&mut session).await?;
    Ok(())
}

/// The peer may finish its message: `receive` returns it, also after `close`.
async fn what_still_comes_after_our_close_is_readable(cx: Context) -> Verdict {
    let mut session = late(&cx, WebSockets::new()).await?;
    let outcome = close(&cx, &session, CloseReason::normal()).await?;
    assert!(outcome.clean && outcome.discarded == 0, "{outcome:?}");
    for i in 0..LATE {
        assert_eq!(text(&mut session).await?, i.to_string());
    }
    ends_cleanly(&mut session).await?;
    Ok(())
}

/// Beyond the incoming capacity it is thrown away, and the outcome says how much.
async fn what_nobody_reads_after_our_close_is_counted(cx: Context) -> Verdict {
    let mut session = late(&cx, WebSockets::new().incoming_capacity(1)).await?;
    let outcome = close(&cx, &session, CloseReason::normal()).await?;
    assert!(outcome.clean && outcome.discarded > 0, "{outcome:?}");
    let mut readable = 0;
    while session.receive().await?.is_some() {
        readable += 1;
    }
    assert_eq!(readable + outcome.discarded, u64::from(LATE));
    Ok(())
}

/// `receive` that waits in one task gives `None` when another one closes.
async fn a_pending_receive_ends_with_the_session(cx: Context) -> Verdict {
    let (_server, session) = cx.session("/echo").await?;
    let (outgoing, mut incoming) = session.split();
    let receiving = cx.spawn(async move { incoming.receive().await });
    cx.sleep(Duration::from_millis(20)).await;
    assert!(outgoing.close(CloseReason::normal()).await?.clean);
    assert_eq!(cx.within(PATIENCE, "receive ends", receiving).await??, None);
    Ok(())
}

/// The first one's reason goes out, and both get the same outcome.
async fn two_closes_at_once_agree(cx: Context) -> Verdict {
    let (_server, session) = cx.session("/echo").await?;
    let first = close(&cx, &session, CloseReason::new(4000, "first")?);
    let second = close(&cx, &session, CloseReason::new(4001, "second")?);
    let (first, second) = future::try_join(first, second).await?;
    assert_eq!(reason(&first.sent), Some((4000, "first")));
    assert_eq!(format!("{first:?}"), format!("{second:?}"));
    Ok(())
}

/// `closed` returns the outcome of an end that another task or the peer causes.
async fn closed_waits_for_the_end(cx: Context) -> Verdict {
    let (_server, session) = cx.session("/close?code=4001&reason=over").await?;
    {
        let mut closed = pin!(session.closed());
        assert!(future::poll_immediate(&mut closed).await.is_none(), "it is open");
        session.send("close, please").await?;
        let outcome = cx.within(PATIENCE, "the session ends", closed).await??;
        assert_eq!(reason(&outcome.received), Some((4001, "over")));
    }
    assert!(session.closed().await?.clean);
    Ok(())
}

/// `send(Frame::Close)` is `close` without waiting.
async fn a_close_frame_that_is_sent_closes(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |_| Ok(()));
    let mut session = peer.connect().await?;
    session.send(CloseReason::new(4000, "sent")?).await?;
    let outcome = ends_cleanly(&mut session).await?;
    assert_eq!(reason(&outcome.sent), Some((4000, "sent")));
    assert_eq!(peer.close().await?, (Some(4000), "sent".into()));
    Ok(())
}

/// `Sink::close` closes with 1000.
async fn closing_the_sink_closes(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |_| Ok(()));
    let mut session = peer.connect().await?;
    SinkExt::<Frame>::close(&mut session.outgoing()).await?;
    ends_cleanly(&mut session).await?;
    assert_eq!(peer.close().await?.0, Some(1000));
    Ok(())
}

/// And gives the block's value.
async fn run_closes_with_1000_after_ok(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |_| Ok(()));
    let run = cx.client().web_socket(peer.url()).run(async |session| {
        session.send("from within").await?;
        Ok(7)
    });
    assert_eq!(run.await?, 7);
    assert_eq!(peer.text().await?, "from within");
    assert_eq!(peer.close().await?.0, Some(1000));
    peer.end().await
}

/// And gives the block's error.
async fn run_closes_with_1011_after_an_error(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |_| Ok(()));
    let run = cx
        .client()
        .web_socket(peer.url())
        .run(async |_| Err::<(), _>(drivetrain::Error::other("out of cheese")));
    let error = fails(run.await, ErrorKind::Other)?;
    assert_eq!(error.to_string(), "out of cheese");
    assert_eq!(peer.close().await?.0, Some(1011));
    peer.end().await
}

/// The value is what the caller came for.
async fn run_gives_its_value_even_if_the_peer_ends_badly(cx: Context) -> Verdict {
    let server = cx.echo();
    for path in ["/drop", "/reset", "/silent"] {
        let request = cx.client().web_socket(server.ws_url(path));
        let run = request.close_timeout(Duration::from_millis(200)).run(async |session| {
            session.send("a message").await?;
            session.flush().await?;
            Ok("a value")
        });
        assert_eq!(cx.within(PATIENCE, "run ends", run).await??, "a value");
    }
    Ok(())
}

/// And then the stream ends.
async fn a_dropped_session_says_1001(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |_| Ok(()));
    drop(peer.connect().await?);
    assert_eq!(peer.close().await?.0, Some(1001));
    peer.end().await
}

/// What was accepted is written before the 1001.
async fn a_dropped_session_writes_what_is_pending(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |_| Ok(()));
    let session = peer.connect().await?;
    for i in 0..100 {
        session.feed(i.to_string()).await?;
    }
    drop(session);
    for i in 0..100 {
        assert_eq!(peer.text().await?, i.to_string());
    }
    assert_eq!(peer.close().await?.0, Some(1001));
    peer.end().await
}

/// With `Incoming` dropped, data is thrown away, pings are answered, and sending and closing work.
async fn without_its_receiving_half_a_session_sends_and_answers_pings(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |conn| {
        conn.receive()?; // The receiving half is gone.
        for i in 0..100 {
            conn.feed(&WireFrame::binary([i; 10_000]));
        }
        conn.send(&WireFrame::ping("there?"))
    });
    let (outgoing, incoming) = peer.connect().await?.split();
    drop(incoming);
    outgoing.send("go").await?;
    assert_eq!(peer.frame_of(opcode::PONG).await?.payload, b"there?");
    outgoing.send("works").await?;
    assert_eq!(peer.text().await?, "works");
    let outcome = outgoing.close(CloseReason::normal()).await?;
    assert!(outcome.clean && outcome.discarded == 100, "{outcome:?}");
    Ok(())
}

/// It ends when the last one is dropped, whichever that is.
async fn a_session_lives_as_long_as_any_of_its_halves(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |conn| {
        conn.receive()?;
        conn.send_text("for the receiving half")
    });
    let (outgoing, mut incoming) = peer.connect().await?.split();
    let clone = outgoing.clone();
    drop(outgoing);
    clone.send("from a clone").await?;
    clone.flush().await?;
    drop(clone);
    let frame = incoming.receive().await?;
    assert_eq!(frame.as_ref().and_then(Frame::read_text), Some("for the receiving half"));
    assert!(peer.try_next().is_none(), "a half is left");
    drop(incoming);
    assert_eq!(peer.close().await?.0, Some(1001));
    peer.end().await
}

/// While the peer does not read, `flush` waits; once it does, `flush` is done.
async fn flush_waits_for_the_socket(cx: Context) -> Verdict {
    let (server, session) = cx.session("/mute").await?;
    session.send(vec![0; 48 << 20]).await?;
    let mut flush = pin!(session.flush());
    let early = "the peer has not read it";
    cx.stays_pending(Duration::from_millis(300), early, &mut flush).await?;
    server.release();
    Ok(cx.within(PATIENCE, "the socket takes it all", flush).await??)
}

async fn close(cx: &Context, session: &Session, reason: CloseReason) -> Verdict<Outcome> {
    Ok(cx.within(PATIENCE, "the session closes", session.close(reason)).await??)
}

const LATE: u32 = 50;

/// A session with a peer that has more to say when it sees the Close.
async fn late(cx: &Context, plugin: WebSockets) -> Verdict<Session> {
    let peer = cx.peer(Polite, |conn| {
        let close = conn.receive()?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        for i in 0..LATE {
            conn.feed(&WireFrame::text(i.to_string()));
        }
        conn.send(&WireFrame { masked: false, ..close })
    });
    Ok(cx.client_with(plugin)?.web_socket(peer.url()).connect().await?)
}
