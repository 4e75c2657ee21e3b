//! The life and death of a session.

use std::{pin::pin, time::Duration};

use drivetrain::{
    Body, Bytes, CloseReason, Error, ErrorKind, Frame, MessageKind, OpCode, RawFrame, Session,
    WebSockets,
    testing::{PipePeer, TestRuntime, pipe},
};
use futures_util::{AsyncWriteExt as _, SinkExt, StreamExt as _};

const SECOND: Duration = Duration::from_secs(1);
/// What a stalled [`pipe`] takes.
const ROOM: usize = 32 << 10;

fn open(plugin: WebSockets) -> (TestRuntime, Session, PipePeer) {
    let runtime = TestRuntime::new();
    let (connection, peer) = pipe();
    let session = runtime.session(connection, plugin);
    (runtime, session, peer)
}

/// A silent peer is dead 30 s after its last sign of life.
fn pinging() -> WebSockets {
    WebSockets::new().ping_interval(20 * SECOND).ping_timeout(10 * SECOND)
}

/// The head of a Binary frame of 1 MiB.
fn long_head() -> Vec<u8> {
    [&[0x82, 127][..], &(1_u64 << 20).to_be_bytes()].concat()
}

/// A peer cannot answer in the middle of a frame (RFC 6455 section 5.4): its bytes are life, whichever task reads them.
#[test]
fn bytes_of_a_frame_that_is_not_complete_are_life() {
    for receives in [false, true] {
        let (runtime, mut session, mut peer) = open(pinging());
        let outgoing = session.outgoing();
        let mut receive = pin!(session.receive());
        peer.send_bytes(long_head());
        for _ in 0..63 {
            if receives {
                assert!(runtime.poll_now(receive.as_mut()).is_none());
            }
            runtime.advance(9 * SECOND);
            assert!(!peer.is_dropped(), "it sends all the time: {receives}");
            peer.send_bytes(vec![7; 16 << 10]);
        }
        peer.send_bytes(vec![7; 16 << 10]);
        let frame = runtime.poll_now(receive.as_mut()).expect("it is complete").unwrap().unwrap();
        assert_eq!(frame.payload().len(), 1 << 20);
        runtime.block_on(outgoing.send("and it can be written to")).unwrap();
    }
}

/// In the middle of a frame too, within interval and timeout of the last byte.
#[test]
fn a_peer_that_goes_silent_inside_a_frame_is_found() {
    for last in 0..40 {
        let (runtime, _session, mut peer) = open(pinging());
        peer.send_bytes(long_head());
        for _ in 0..last {
            runtime.advance(SECOND);
            peer.send_bytes(vec![7; 100]);
        }
        runtime.settle();
        let silence = (1..=40).find(|_| {
            runtime.advance(SECOND);
            peer.is_dropped()
        });
        let silence = silence.expect("it is dead");
        assert!((10..=30).contains(&silence), "found after {silence} s, last byte at {last} s");
    }
}

/// A peer answers a ping when it has read what is before it: as long as it reads, it lives. Messages, and a streamed
/// one.
#[test]
fn a_peer_that_reads_slowly_is_alive() {
    for streams in [false, true] {
        let (runtime, session, mut peer) = open(pinging());
        peer.set_writable(false);
        let outgoing = session.outgoing();
        let mut sending = pin!(async {
            if streams {
                let mut writer = outgoing.send_stream(MessageKind::Binary).await?;
                writer.write_all(&vec![7; 100 * ROOM]).await?;
                return writer.finish().await;
            }
            for _ in 0..100 {
                outgoing.send(vec![7; ROOM]).await?;
            }
            drivetrain::Result::Ok(())
        });
        let mut turns = 0;
        while runtime.poll_now(sending.as_mut()).is_none() {
            runtime.advance(9 * SECOND);
            assert!(!peer.is_dropped(), "it has read {turns} times, streams: {streams}");
            takes_some(&runtime, &mut peer);
            turns += 1;
            assert!(turns < 1000, "it takes all");
        }
        assert!(turns > 5, "only {turns}");
    }
}

/// Within interval and timeout of the last byte that it took.
#[test]
fn a_peer_that_stops_reading_is_found() {
    for last in 0..40 {
        let (runtime, session, mut peer) = open(pinging());
        peer.set_writable(false);
        let outgoing = session.outgoing();
        let mut sending = pin!(async { while outgoing.send(vec![7; ROOM]).await.is_ok() {} });
        assert!(runtime.poll_now(sending.as_mut()).is_none());
        for _ in 0..last {
            runtime.advance(SECOND);
            takes_some(&runtime, &mut peer);
            assert!(runtime.poll_now(sending.as_mut()).is_none());
        }
        let silence = (1..=40).find(|_| {
            runtime.advance(SECOND);
            peer.is_dropped()
        });
        let silence = silence.expect("it is dead");
        assert!((10..=30).contains(&silence), "found after {silence} s, last read at {last} s");
        assert!(runtime.poll_now(sending).is_some(), "the sender is told");
    }
}

/// A socket with room takes what is sent, whether there is anybody or not.
#[test]
fn what_is_written_to_a_dead_peer_keeps_nothing_alive() {
    let (runtime, session, peer) = open(pinging());
    for second in 0..30 {
        assert!(!peer.is_dropped(), "{second}");
        for _ in 0..10 {
            runtime.block_on(session.send(vec![7; 5000])).unwrap();
        }
        runtime.advance(SECOND);
    }
    assert!(peer.is_dropped(), "it never answered");
}

/// The peer takes what was accepted so far, and no more.
fn takes_some(runtime: &TestRuntime, peer: &mut PipePeer) {
    peer.set_writable(true);
    runtime.settle();
    peer.set_writable(false);
}

fn close_frame(code: u16) -> RawFrame {
    RawFrame::new(OpCode::Close, CloseReason::new(code, "").expect("may travel").to_payload())
}

fn reset() -> Error {
    Error::new(ErrorKind::Io, "the peer reset the connection")
}

/// The peer closes with 1000 and is gone: whatever this end does, and whatever fails first.
#[test]
fn the_peers_close_wins_over_what_fails_beside_it() {
    for (receives, says_more, held_up) in (0..8).map(|i| (i & 1 > 0, i & 2 > 0, i & 4 > 0)) {
        let what = format!("receives {receives}, more {says_more}, held up {held_up}");
        let (runtime, mut session, mut peer) = open(WebSockets::new());
        peer.set_writable(!held_up);
        runtime.block_on(session.send(vec![7; 3 * ROOM])).unwrap();
        peer.fail_writes(reset());
        if says_more {
            peer.send(RawFrame::new(OpCode::Text, "the last word"));
        }
        peer.send(close_frame(1000));
        peer.send_bytes(&b"\xff\xff"[..]);
        peer.fail(reset());
        if receives {
            if says_more {
                assert!(runtime.block_on(session.receive()).unwrap().is_some(), "{what}");
            }
            assert!(runtime.block_on(session.receive()).unwrap().is_none(), "{what}");
        }
        // Accepted or not, as nothing has failed yet; then it is known.
        let _ = runtime.block_on(session.send("x"));
        let _ = runtime.block_on(session.flush());
        for error in [
            runtime.block_on(session.send("late")).unwrap_err(),
            runtime.block_on(session.send_stream(MessageKind::Text)).unwrap_err(),
            runtime.block_on(session.ping()).unwrap_err(),
            runtime.block_on(session.flush()).err().unwrap_or_else(|| {
                Error::new(ErrorKind::Closed, "all was written").with_outcome(session.outcome())
            }),
        ] {
            assert_eq!(error.kind(), ErrorKind::Closed, "{what}: {error:?}");
            assert_eq!(error.close_reason(), Some(&CloseReason::normal()), "{what}");
        }
        if says_more && !receives {
            assert!(runtime.block_on(session.receive()).unwrap().is_some(), "{what}");
        }
        for _ in 0..3 {
            assert!(runtime.block_on(session.receive()).unwrap().is_none(), "{what}");
        }
        let outcome = runtime.block_on(session.closed()).unwrap();
        assert_eq!(outcome.received, Some(CloseReason::normal()), "{what}");
        assert_eq!(outcome.error.as_ref().map(Error::kind), Some(ErrorKind::Io), "{what}");
        assert!(!outcome.clean && outcome.sent.is_none(), "{what}");
        runtime.block_on(SinkExt::<Frame>::close(&mut session.outgoing())).unwrap();
    }
}

/// What nobody could have closed with is still an error: a violation, and a message above the limit that is found when
/// it is received.
#[test]
fn a_close_after_a_violation_is_an_error_still() {
    let (runtime, mut session, mut peer) = open(WebSockets::new());
    peer.send(RawFrame::new(OpCode::Continuation, "of nothing"));
    peer.send(close_frame(1000));
    peer.fail(reset());
    let error = runtime.block_on(session.receive()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);

    let (runtime, mut session, mut peer) =
        open(WebSockets::new().max_message_size(10).max_frame_size(100));
    peer.fail_writes(reset());
    peer.send(RawFrame::new(OpCode::Text, "not too").not_final());
    peer.send(RawFrame::new(OpCode::Continuation, "long yet"));
    peer.send(close_frame(1000));
    runtime.advance(SECOND);
    assert!(session.outcome().received.is_some(), "it was read ahead");
    for _ in 0..2 {
        let error = runtime.block_on(session.receive()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooBig);
    }
}

/// The timeout of a close that the peer began and does not let this end answer.
#[test]
fn a_close_that_cannot_be_answered_in_time_is_the_peers_all_the_same() {
    let (runtime, mut session, mut peer) = open(WebSockets::new().close_timeout(5 * SECOND));
    peer.set_writable(false);
    runtime.block_on(session.send(vec![7; 3 * ROOM])).unwrap();
    peer.send(close_frame(4000));
    {
        let mut receive = pin!(session.receive());
        assert!(runtime.poll_now(receive.as_mut()).is_none());
        runtime.advance(6 * SECOND);
        assert!(runtime.poll_now(receive).unwrap().unwrap().is_none());
    }
    let outcome = session.outcome();
    assert_eq!(outcome.error.unwrap().kind(), ErrorKind::Timeout);
    assert!(outcome.received.is_some() && outcome.sent.is_none());
}

/// `Outcome::sent` is what went out, not what was meant to.
#[test]
fn a_close_that_did_not_go_out_was_not_sent() {
    let closing = || WebSockets::new().close_timeout(5 * SECOND);
    let close = |runtime: &TestRuntime, session: &Session| {
        let mut close = pin!(session.close(CloseReason::normal()));
        assert!(runtime.poll_now(close.as_mut()).is_none());
        runtime.advance(6 * SECOND);
        runtime.poll_now(close).unwrap().unwrap()
    };
    // Nothing at all goes out, or what is before it does not.
    for size in [0, 10 * ROOM] {
        let (runtime, session, mut peer) = open(closing());
        peer.set_writable(false);
        runtime.block_on(session.send(vec![7; size])).unwrap();
        let outcome = close(&runtime, &session);
        assert_eq!(outcome.sent, None);
        let error = outcome.error.unwrap();
        assert!(error.to_string().contains("did not take"), "{error}");
    }
    let (runtime, session, mut peer) = open(closing());
    peer.fail_writes(reset());
    assert_eq!(close(&runtime, &session).sent, None);
    let (runtime, session, _peer) = open(closing());
    let outcome = close(&runtime, &session);
    assert_eq!(outcome.sent, Some(CloseReason::normal()), "it went out, and was not answered");
    assert!(outcome.error.unwrap().to_string().contains("did not answer"));
    // A dead peer's, and that after a violation.
    let (runtime, session, mut peer) = open(pinging());
    peer.set_writable(false);
    runtime.advance(31 * SECOND);
    assert_eq!(session.outcome().error.unwrap().kind(), ErrorKind::Timeout);
    assert_eq!(session.outcome().sent, None);
    let (runtime, session, mut peer) = open(closing());
    peer.set_writable(false);
    peer.send(RawFrame::new(OpCode::Continuation, "of nothing"));
    runtime.advance(10 * SECOND);
    assert_eq!(session.outcome().error.unwrap().kind(), ErrorKind::Protocol);
    assert_eq!(session.outcome().sent, None);
}

/// A loop that skips errors ends; `receive` says it again and again.
#[test]
fn a_stream_ends_after_its_error() {
    let (runtime, mut session, mut peer) = open(WebSockets::new());
    peer.send(RawFrame::new(OpCode::Text, "one"));
    peer.end();
    let seen: Vec<_> = runtime.block_on(session.incoming().map(|item| item.is_ok()).collect());
    assert_eq!(seen, [true, false]);
    assert!(runtime.block_on(session.incoming().next()).is_none(), "and stays at its end");
    for _ in 0..3 {
        assert_eq!(runtime.block_on(session.receive()).unwrap_err().kind(), ErrorKind::Io);
    }
    // What `receive` has said is no item of the stream.
    let (runtime, mut session, mut peer) = open(WebSockets::new());
    peer.end();
    assert!(runtime.block_on(session.receive()).is_err());
    let seen: Vec<_> = runtime.block_on(session.incoming().map(|item| item.is_ok()).collect());
    assert_eq!(seen, [false]);
}

/// A body fails once, even if its source keeps failing.
#[test]
fn a_body_ends_after_its_error() {
    let failing = futures_util::stream::repeat_with(|| Err::<Bytes, _>(reset()));
    let mut body = Body::from_stream(failing);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let mut poll = || http_body::Body::poll_frame(std::pin::Pin::new(&mut body), &mut cx);
    assert!(matches!(poll(), std::task::Poll::Ready(Some(Err(_)))));
    for _ in 0..3 {
        assert!(matches!(poll(), std::task::Poll::Ready(None)));
    }
}

/// A `Sink` holds one item; a clone of it is another.
#[test]
fn a_cloned_sink_does_not_send_what_the_first_one_holds() {
    let (runtime, session, mut peer) = open(WebSockets::new());
    let mut first = session.outgoing();
    // What the Sink takes last it holds until it is asked again.
    runtime.block_on(SinkExt::feed(&mut first, Frame::from("zero"))).unwrap();
    runtime.block_on(SinkExt::feed(&mut first, Frame::from("one"))).unwrap();
    let mut second = first.clone();
    runtime.block_on(SinkExt::send(&mut second, Frame::from("two"))).unwrap();
    runtime.block_on(SinkExt::<Frame>::flush(&mut first)).unwrap();
    drop(second);
    let sent: Vec<_> = std::iter::from_fn(|| peer.receive()).map(|frame| frame.payload).collect();
    assert_eq!(sent, ["zero", "two", "one"]);
}
