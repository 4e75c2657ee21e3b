//! Raw sessions: frames as they are, the closing handshake, and failed writes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use drivetrain_engine::{
    Bytes, CloseCode, CloseReason, Connection, Error, ErrorKind, NegotiatedExtension, OpCode,
    Protocol, RawFrame, Role, Rsv, Runtime as _,
};
use drivetrain_session::{Lane, Overflow, Pushed, RawSession};
use futures_util::{SinkExt, StreamExt as _};

use crate::support::{
    CLOSE_TIMEOUT, Peer, TestRuntime, close, close_code, config, direct_pipe, text,
};

fn open() -> (Arc<TestRuntime>, RawSession, Peer) {
    let runtime = TestRuntime::new();
    let (connection, peer) = direct_pipe(&runtime);
    let raw = RawSession::new(connection, runtime.clone(), &config());
    (runtime, raw, peer)
}

fn broken() -> Error {
    Error::new(ErrorKind::Io, "broken pipe")
}

#[test]
fn frames_are_passed_on_as_they_are() {
    let (runtime, mut raw, mut peer) = open();
    let odd = RawFrame { rsv: Rsv::RSV2, ..RawFrame::new(OpCode::Text, &b"\xff"[..]) }.not_final();
    for frame in [odd, RawFrame::new(OpCode::Continuation, "x"), RawFrame::new(OpCode::Ping, "?")] {
        peer.send(frame.clone());
        assert_eq!(runtime.block_on(raw.receive()).unwrap(), Some(frame.clone()));
        assert!(peer.receive().is_none(), "nothing is answered");
        runtime.block_on(raw.send(frame.clone())).unwrap();
        assert_eq!(peer.receive(), Some(frame));
    }
    runtime.block_on(raw.feed(text("fed"))).unwrap();
    assert!(peer.receive().is_none());
    runtime.block_on(raw.flush()).unwrap();
    assert_eq!(peer.receive(), Some(text("fed")));
    runtime.block_on(raw.feed(text("last"))).unwrap();
    runtime.block_on(raw.shutdown()).unwrap();
    assert_eq!(peer.receive(), Some(text("last")));
    assert!(peer.sees_the_end());
    peer.shut_down();
    assert_eq!(runtime.block_on(raw.receive()).unwrap(), None);
}

#[test]
fn a_frame_above_the_limit_is_an_error_and_one_at_it_is_not() {
    let runtime = TestRuntime::new();
    let (connection, mut peer) = direct_pipe(&runtime);
    let mut config = config();
    config.max_frame_size = 100;
    let mut raw = RawSession::new(connection, runtime.clone(), &config);
    for (size, fits) in [(100, true), (101, false)] {
        peer.send(RawFrame::new(OpCode::Binary, vec![0; size]));
        assert_eq!(runtime.block_on(raw.receive()).is_ok(), fits, "{size}");
    }
}

#[test]
fn a_control_frame_that_must_not_be_is_refused_before_anything_is_sent() {
    let (runtime, mut raw, mut peer) = open();
    let ping = |size| RawFrame::new(OpCode::Ping, vec![0; size]);
    for (frame, is_fine) in [
        (ping(125), true),
        (ping(126), false),
        (ping(1).not_final(), false),
        (RawFrame::new(OpCode::Binary, vec![0; 126]).not_final(), true),
    ] {
        let sent = runtime.block_on(raw.send(frame.clone()));
        assert_eq!(sent.is_ok(), is_fine, "{frame:?}");
        let by_sink = raw.start_send_unpin(frame.clone());
        assert_eq!(by_sink.is_ok(), is_fine, "{frame:?}");
        runtime.block_on(raw.flush()).unwrap();
        for result in [sent, by_sink].into_iter().filter(|_| !is_fine) {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        let arrived = std::iter::from_fn(|| peer.receive()).count();
        assert_eq!(arrived, if is_fine { 2 } else { 0 }, "{frame:?}");
    }
}

#[test]
fn it_is_a_stream_that_ends_behind_its_error_and_a_sink_that_sends_no_close() {
    let (runtime, mut raw, mut peer) = open();
    peer.send(text("one"));
    assert_eq!(runtime.block_on(raw.next()).unwrap().unwrap(), text("one"));
    assert!(runtime.poll_now(pin!(raw.next())).is_none());
    runtime.block_on(SinkExt::send(&mut raw, text("by the sink"))).unwrap();
    assert_eq!(peer.receive(), Some(text("by the sink")));
    peer.send(RawFrame::new(OpCode::Binary, vec![0; config().max_frame_size + 1]));
    peer.shut_down();
    assert!(runtime.block_on(raw.next()).unwrap().is_err());
    assert!(runtime.block_on(raw.next()).is_none(), "an error is the last");
    runtime.block_on(SinkExt::close(&mut raw)).unwrap();
    assert!(peer.sees_the_end());

    let (runtime, mut raw, mut peer) = open();
    peer.shut_down();
    assert!(runtime.block_on(raw.next()).is_none());
}

#[test]
fn closing_discards_what_is_before_the_peers_close_and_counts_messages() {
    let (runtime, mut raw, mut peer) = open();
    runtime.block_on(raw.feed(text("before"))).unwrap();
    {
        let mut closing = pin!(raw.close(CloseReason::new(4000, "enough").unwrap()));
        assert!(runtime.poll_now(closing.as_mut()).is_none());
        assert_eq!(peer.receive(), Some(text("before")));
        assert_eq!(close_code(&peer.receive().unwrap()), 4000);
        peer.send(text("whole"));
        peer.send(RawFrame::new(OpCode::Binary, "part").not_final());
        peer.send(RawFrame::new(OpCode::Ping, "none"));
        peer.send(RawFrame::new(OpCode::Continuation, "end"));
        peer.send(close(4001));
        let outcome = runtime.block_on(closing).unwrap();
        assert!(outcome.clean, "{outcome}");
        assert_eq!(outcome.discarded, 2, "whole messages");
        assert_eq!(outcome.sent.unwrap().text(), "enough");
        assert_eq!(u16::from(outcome.received.unwrap().code()), 4001);
    }
    assert!(peer.sees_the_end());
    assert_eq!(runtime.elapsed(), Duration::ZERO);
    let again = runtime.block_on(raw.close(CloseReason::normal())).unwrap();
    assert_eq!(u16::from(again.sent.unwrap().code()), 4000, "there is one Close");
}

#[test]
fn a_close_of_the_applications_own_is_the_one() {
    let (runtime, mut raw, mut peer) = open();
    runtime.block_on(raw.send(close(4005))).unwrap();
    peer.send(close(4005));
    assert_eq!(runtime.block_on(raw.receive()).unwrap(), Some(close(4005)));
    let outcome = runtime.block_on(raw.close(CloseReason::normal())).unwrap();
    assert!(outcome.clean, "{outcome}");
    assert_eq!(u16::from(outcome.sent.unwrap().code()), 4005);
    assert_eq!(peer.receive(), Some(close(4005)));
    assert!(peer.sees_the_end(), "no other one");
    // Behind the peer's Close no failure is one of reading.
    peer.send(RawFrame::new(OpCode::Binary, vec![0; config().max_frame_size + 1]));
    assert_eq!(runtime.block_on(raw.receive()).unwrap(), None);
}

#[test]
fn a_code_that_must_not_travel_is_refused_and_one_that_says_nothing_is_no_status() {
    let (runtime, mut raw, mut peer) = open();
    let reason = CloseReason::truncated(CloseCode::NO_STATUS, "");
    let refused = runtime.block_on(raw.close(reason)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(peer.receive().is_none());
    peer.send(RawFrame::new(OpCode::Close, Bytes::new()));
    let outcome = runtime.block_on(raw.close(CloseReason::normal())).unwrap();
    assert_eq!(outcome.received.unwrap().code(), CloseCode::NO_STATUS);
}

#[test]
fn an_end_without_a_close_and_a_violation_are_the_outcomes_errors() {
    let (runtime, mut raw, mut peer) = open();
    peer.shut_down();
    let outcome = runtime.block_on(raw.close(CloseReason::normal())).unwrap();
    assert!(!outcome.clean && outcome.sent.is_some() && outcome.received.is_none());
    assert_eq!(outcome.error.unwrap().kind(), ErrorKind::Io);

    let (runtime, mut raw, mut peer) = open();
    peer.send(RawFrame::new(OpCode::Binary, vec![0; config().max_frame_size + 1]));
    peer.send(close(1000));
    let outcome = runtime.block_on(raw.close(CloseReason::normal())).unwrap();
    assert!(!outcome.clean);
    assert_eq!(outcome.error.unwrap().kind(), ErrorKind::TooBig);
}

#[test]
fn a_close_times_out_once_with_what_did_not_happen() {
    for takes in [true, false] {
        let (runtime, mut raw, mut peer) = open();
        peer.set_stalled(!takes);
        runtime.block_on(raw.feed(text("before"))).unwrap();
        if !takes {
            peer.send(close(1000));
        }
        {
            let mut closing = pin!(raw.close(CloseReason::normal()));
            assert!(runtime.poll_now(closing.as_mut()).is_none());
            runtime.pass(CLOSE_TIMEOUT - Duration::from_millis(1));
            assert!(runtime.poll_now(closing.as_mut()).is_none(), "not yet");
        }
        // Another call continues, within the same timeout.
        let outcome = runtime.run(raw.close(CloseReason::normal())).unwrap();
        assert_eq!(runtime.elapsed(), CLOSE_TIMEOUT);
        assert!(!outcome.clean && outcome.sent.is_some() == takes, "{outcome}");
        let error = outcome.error.unwrap();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        let says = if takes { "did not answer the close" } else { "did not take what was sent" };
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn a_flood_does_not_keep_a_close_from_its_deadline() {
    let (runtime, mut raw, mut peer) = open();
    for _ in 0..1000 {
        peer.send(text("flood"));
    }
    let mut closing = pin!(raw.close(CloseReason::normal()));
    let mut polls = 0;
    while runtime.poll_once(closing.as_mut()).is_pending() && polls < 12 {
        polls += 1;
    }
    let before = peer.reads();
    assert!(before <= 64 * 13, "{before} reads in {polls} polls");
    peer.send(close(1000));
    let outcome = runtime.block_on(closing).unwrap();
    assert_eq!(outcome.discarded, 1000);
}

#[test]
fn behind_a_failed_write_the_peers_close_decides() {
    // What was there before is still received.
    let (runtime, mut raw, mut peer) = open();
    peer.fail_writes(broken());
    peer.send(text("why"));
    peer.send(close(4008));
    let error = runtime.block_on(raw.send(text("x"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    let outcome = error.outcome().unwrap();
    assert_eq!(u16::from(outcome.received.as_ref().unwrap().code()), 4008);
    assert_eq!(outcome.error.as_ref().unwrap().kind(), ErrorKind::Io);
    assert_eq!(runtime.block_on(raw.receive()).unwrap(), Some(text("why")));
    assert_eq!(runtime.block_on(raw.receive()).unwrap(), Some(close(4008)));

    // None came and none comes: the error of the write, after a moment.
    let (runtime, mut raw, mut peer) = open();
    peer.fail_writes(broken());
    {
        let mut sending = pin!(raw.send(text("x")));
        assert!(runtime.poll_once(sending.as_mut()).is_pending(), "a Close may be on its way");
        runtime.pass(Duration::from_millis(50));
        assert_eq!(runtime.block_on(sending).unwrap_err().to_string(), "broken pipe");
    }
    // The stream has ended: nothing can come.
    let (runtime, mut raw, mut peer) = open();
    peer.fail_writes(broken());
    peer.shut_down();
    let mut sending = pin!(raw.send(text("x")));
    let Poll::Ready(sent) = runtime.poll_once(sending.as_mut()) else {
        panic!("nothing to wait for")
    };
    assert_eq!(sent.unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn a_failed_write_reads_a_bounded_number_of_frames_and_loses_none() {
    let (runtime, mut raw, mut peer) = open();
    peer.fail_writes(broken());
    for _ in 0..100 {
        peer.send(text("many"));
    }
    let error = runtime.block_on(raw.send(text("x"))).unwrap_err();
    assert_eq!((error.kind(), peer.reads()), (ErrorKind::Io, 64));
    for _ in 0..100 {
        assert_eq!(runtime.block_on(raw.receive()).unwrap(), Some(text("many")));
    }
    let outcome = runtime.block_on(async {
        peer.send(text("unread"));
        peer.send(close(1000));
        raw.close(CloseReason::normal()).await
    });
    let outcome = outcome.unwrap();
    assert_eq!((outcome.discarded, outcome.sent.is_some(), outcome.clean), (1, false, false));
}

#[test]
fn it_tells_what_was_negotiated() {
    for role in [Role::Client, Role::Server] {
        let runtime = TestRuntime::new();
        let (connection, _peer) = direct_pipe(&runtime);
        let response = http::Response::builder().status(101).body(()).unwrap();
        let request = http::Request::builder().uri("/chat").body(()).unwrap();
        let connection: Connection = connection
            .with_role(role)
            .with_response(response)
            .with_request(request)
            .with_subprotocol(Some("chat".into()))
            .with_extensions(vec![NegotiatedExtension::new("x-test", [])]);
        let raw = RawSession::new(connection, runtime.clone(), &config());
        assert_eq!((raw.protocol(), raw.subprotocol()), (Protocol::Direct, Some("chat")));
        assert_eq!(raw.extensions().len(), 1);
        assert_eq!(raw.response().map(|response| response.status().as_u16()), Some(101));
        assert_eq!(raw.request().map(|request| request.uri().path()), Some("/chat"));
    }
    let (_runtime, raw, _peer) = open();
    assert!(raw.subprotocol().is_none() && raw.extensions().is_empty());
    assert!(raw.response().is_none() && raw.request().is_none());
}

/// Receives to the end, and drops the session then.
fn receives(runtime: &TestRuntime, mut raw: RawSession) {
    runtime.spawn(Box::pin(async move { while let Ok(Some(_)) = raw.receive().await {} }));
}

#[test]
fn a_handle_closes_a_session_that_receives() {
    let (runtime, raw, mut peer) = open();
    let (handle, stranger) = (raw.handle(), open().1.handle());
    assert!(handle.is_of(&raw.handle()) && !handle.is_of(&stranger) && handle.is_open());
    assert!(handle.stats().is_none());
    assert_eq!(handle.push(&text("x"), &Lane::new(), 1, Overflow::Refuse), Pushed::Closed);
    let mut ended = pin!(handle.ended());
    receives(&runtime, raw);
    assert!(runtime.poll_now(ended.as_mut()).is_none());
    assert!(!handle.close(CloseReason::truncated(CloseCode::NO_STATUS, "")), "must not be sent");
    assert!(peer.receive().is_none() && handle.is_open());
    assert!(handle.close(CloseReason::going_away()));
    assert!(!handle.is_open() && !handle.close(CloseReason::normal()), "it is closing");
    runtime.settle();
    assert_eq!(close_code(&peer.receive().expect("it was woken")), 1001);
    peer.send(close(1001));
    assert!(runtime.poll_now(ended.as_mut()).is_none(), "the end of the stream is to come");
    peer.shut_down();
    assert!(runtime.poll_now(ended).is_some());
    runtime.block_on(handle.ended());
    assert!(peer.receive().is_none(), "one Close");
}

#[test]
fn a_handle_closes_a_session_that_waits_to_send_and_refuses_what_it_sends() {
    let (runtime, mut raw, mut peer) = open();
    peer.set_stalled(true);
    let handle = raw.handle();
    runtime.block_on(raw.feed(RawFrame::new(OpCode::Binary, vec![0; 40_000]))).unwrap();
    let sent = Arc::new(Mutex::new(None));
    let told = Arc::clone(&sent);
    runtime.spawn(Box::pin(async move {
        let waits = raw.feed(text("waits")).await;
        let closes = raw.feed(close(1000)).await;
        *told.lock().unwrap() = Some((waits, closes));
        let _ = raw.flush().await;
    }));
    runtime.settle();
    assert!(sent.lock().unwrap().is_none());
    assert!(handle.close(CloseReason::going_away()));
    runtime.settle();
    let (waits, closes) = sent.lock().unwrap().take().expect("it was woken");
    let error = waits.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(error.outcome().unwrap().sent, Some(CloseReason::going_away()));
    closes.expect("the other one is sent instead");
    peer.set_stalled(false);
    runtime.settle();
    assert_eq!(peer.receive().unwrap().payload.len(), 40_000);
    assert_eq!(close_code(&peer.receive().unwrap()), 1001);
    assert!(peer.receive().is_none());
}

#[test]
fn a_handle_sees_that_a_session_is_closing() {
    for what in ["sends", "receives", "ends", "closes"] {
        let (runtime, mut raw, mut peer) = open();
        let handle = raw.handle();
        match what {
            "sends" => runtime.block_on(raw.send(close(1000))).unwrap(),
            "closes" => drop(runtime.poll_now(pin!(raw.close(CloseReason::normal())))),
            "ends" => peer.shut_down(),
            _ => peer.send(close(1000)),
        }
        if matches!(what, "receives" | "ends") {
            assert!(handle.is_open(), "{what}");
            runtime.block_on(raw.receive()).unwrap();
        }
        assert!(!handle.is_open() && !handle.close(CloseReason::going_away()), "{what}");
        drop(raw);
        assert!(runtime.poll_now(pin!(handle.ended())).is_some());
    }
}

#[test]
fn a_farewell_sends_the_close_that_a_dropped_session_was_asked_for() {
    for (is_kept, is_asked) in [(true, true), (true, false), (false, true)] {
        let (runtime, raw, mut peer) = open();
        let handle = raw.handle();
        let farewell = is_kept.then(|| raw.farewell());
        if is_asked {
            assert!(handle.close(CloseReason::going_away()));
        }
        drop(raw);
        assert!(runtime.poll_now(pin!(handle.ended())).is_some());
        assert_eq!(peer.is_closed(), !(is_kept && is_asked));
        let Some(farewell) = farewell else { continue };
        let mut finishing = pin!(farewell.finish());
        assert_eq!(runtime.poll_now(finishing.as_mut()).is_none(), is_asked);
        if is_asked {
            assert_eq!(close_code(&peer.receive().unwrap()), 1001);
            peer.send(close(1001));
            runtime.block_on(finishing);
        }
        assert!(peer.is_closed());
        assert!(peer.sees_the_end(), "no other Close");
    }
    // A farewell that is dropped leaves nothing.
    let (_runtime, raw, peer) = open();
    let (handle, farewell) = (raw.handle(), raw.farewell());
    assert!(handle.close(CloseReason::going_away()));
    drop(raw);
    assert!(!peer.is_closed());
    drop(farewell);
    assert!(peer.is_closed());
}
