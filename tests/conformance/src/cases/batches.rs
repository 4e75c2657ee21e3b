//! Batches: many messages that arrive in one read.

use std::{
    future::poll_fn,
    io,
    pin::pin,
    task::{Context as Task, Poll},
};

use drivetrain::{Capability, CloseReason, Frame, MessageKind, Session};

use crate::{
    case::{Case, case},
    context::Context,
    expect::{ends_cleanly, message, text},
    failure::{Failure, Verdict},
    peer::{Conn, WireFrame, opcode},
    script::PeerBehaviour::Polite,
};

/// Number of texts in a batch.
const TEXTS: usize = 500;

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case(a_batch_is_received_in_order_with_control_frames_between),
        case(a_batch_survives_futures_that_are_dropped),
        case(a_reader_takes_over_in_the_middle_of_a_batch),
        case(the_rest_of_a_batch_is_counted_when_its_half_is_dropped),
        case(a_batch_is_delivered_before_the_violation_behind_it),
    ];
    cases.into_iter().map(|case| case.needs(&[Capability::WebSockets])).collect()
}

/// Writes numbered texts at once, with a ping and a message in fragments among them.
fn batch(conn: &mut Conn) -> io::Result<()> {
    for i in 0..TEXTS {
        conn.feed(&WireFrame::text(i.to_string()));
        match i {
            150 => conn.feed(&WireFrame::ping("between")),
            300 => {
                conn.feed(&WireFrame { fin: false, ..WireFrame::text("in ") });
                conn.feed(&WireFrame::ping("within"));
                conn.feed(&WireFrame::continuation("two", true));
            }
            _ => {}
        }
    }
    conn.flush()
}

fn expected() -> impl Iterator<Item = String> {
    (0..TEXTS).flat_map(|i| {
        [Some(i.to_string()), (i == 300).then(|| "in two".to_owned())].into_iter().flatten()
    })
}

/// Order, Pings and fragments are as if each had come by itself, and all of it is counted.
async fn a_batch_is_received_in_order_with_control_frames_between(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, batch);
    let mut session = peer.connect().await?;
    for expected in expected() {
        assert_eq!(text(&mut session).await?, expected);
    }
    assert_eq!(peer.frame_of(opcode::PONG).await?.payload, b"between");
    assert_eq!(peer.frame_of(opcode::PONG).await?.payload, b"within");
    let received = session.stats().received;
    assert_eq!((received.messages, received.pings), (TEXTS as u64 + 1, 2));
    let outcome = session.close(CloseReason::normal()).await?;
    assert!(outcome.clean && outcome.discarded == 0, "{outcome:?}");
    Ok(())
}

/// Futures that are polled once and dropped lose nothing, wherever in a batch that is.
async fn a_batch_survives_futures_that_are_dropped(cx: Context) -> Verdict {
    let peer = cx.peer(Polite, batch);
    let mut session = peer.connect().await?;
    let mut received = Vec::new();
    while received.len() < TEXTS + 1 {
        if let Some(frame) = received_at_once(&mut session).await? {
            received.push(frame.read_text().map(str::to_owned));
            continue;
        }
        received.push(Some(text(&mut session).await?));
    }
    assert!(received.into_iter().eq(expected().map(Some)));
    Ok(())
}

/// A `receive` that is polled once and dropped.
async fn received_at_once(session: &mut Session) -> Verdict<Option<Frame>> {
    let mut receive = pin!(session.receive());
    let polled = poll_fn(|cx: &mut Task<'_>| Poll::Ready(receive.as_mut().poll(cx))).await;
    match polled {
        Poll::Ready(frame) => frame?.map(Some).ok_or_else(|| Failure::new("it ended")),
        Poll::Pending => Ok(None),
    }
}

/// `receive_stream` gives the message behind the one that `receive` gave, and the other way round.
async fn a_reader_takes_over_in_the_middle_of_a_batch(cx: Context) -> Verdict {
    let peer = cx.peer(Polite, batch);
    let mut session = peer.connect().await?;
    for (turn, expected) in expected().enumerate() {
        if turn % 7 < 5 {
            assert_eq!(text(&mut session).await?, expected);
            continue;
        }
        let reader = session.receive_stream().await?;
        let mut reader = reader.ok_or_else(|| Failure::new("it ended"))?;
        assert_eq!(reader.kind(), MessageKind::Text);
        let mut whole = Vec::new();
        while let Some(chunk) = reader.chunk().await? {
            whole.extend_from_slice(&chunk);
        }
        assert_eq!(String::from_utf8_lossy(&whole), expected);
    }
    Ok(())
}

/// The outcome counts all undelivered messages, including those in memory.
async fn the_rest_of_a_batch_is_counted_when_its_half_is_dropped(cx: Context) -> Verdict {
    let peer = cx.peer(Polite, batch);
    let (outgoing, mut incoming) = peer.connect().await?.split();
    for i in 0..10 {
        let frame = incoming.receive().await?;
        assert_eq!(frame.as_ref().and_then(Frame::read_text), Some(i.to_string().as_str()));
    }
    drop(incoming);
    let outcome = outgoing.close(CloseReason::normal()).await?;
    assert!(outcome.clean, "{outcome:?}");
    assert_eq!(outcome.discarded, TEXTS as u64 + 1 - 10);
    assert_eq!(outgoing.stats().received.messages, TEXTS as u64 + 1);
    Ok(())
}

/// Valid messages are received before the error of an invalid one, and also after a Close.
async fn a_batch_is_delivered_before_the_violation_behind_it(cx: Context) -> Verdict {
    let peer = cx.peer(Polite, |conn| {
        batch(conn)?;
        conn.send_close(4000, "")
    });
    let mut session = peer.connect().await?;
    for expected in expected() {
        assert_eq!(text(&mut session).await?, expected);
    }
    ends_cleanly(&mut session).await?;

    let peer = cx.peer(Polite, |conn| {
        batch(conn)?;
        conn.send(&WireFrame::continuation("of nothing", true))
    });
    let mut session = peer.connect().await?;
    for expected in expected() {
        assert_eq!(text(&mut session).await?, expected);
    }
    let failed = message(&mut session).await.is_err();
    assert!(failed, "the violation comes last");
    Ok(())
}
