//! A session leaves to its engine what the engine does by itself, and does the rest.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{pin::pin, sync::Arc};

use drivetrain_engine::{Duties, ErrorKind, OpCode, RawFrame};
use drivetrain_session::{Session, WebSockets};

use crate::support::{Peer, TestRuntime, close, close_code, direct_pipe};

fn open(duties: Duties, plugin: WebSockets) -> (Arc<TestRuntime>, Session, Peer) {
    let runtime = TestRuntime::new();
    let (connection, peer) = direct_pipe(&runtime);
    let session = runtime.session(connection.with_duties(duties), plugin);
    (runtime, session, peer)
}

#[test]
fn a_ping_is_answered_once() {
    for (duties, pong) in [
        (Duties::frames(), Some(RawFrame::new(OpCode::Pong, "?"))),
        (Duties::frames().answering_ping(), None),
    ] {
        let (runtime, mut session, mut peer) = open(duties, WebSockets::new());
        peer.send(RawFrame::new(OpCode::Ping, "?"));
        assert!(runtime.poll_now(pin!(session.receive())).is_none());
        assert_eq!(peer.receive(), pong);
        assert_eq!(session.stats().received.pings, 1);
    }
}

#[test]
fn a_close_is_echoed_once() {
    for (duties, echo) in [(Duties::frames(), Some(4000)), (Duties::frames().echoing_close(), None)]
    {
        let (runtime, mut session, mut peer) = open(duties, WebSockets::new());
        peer.send(close(4000));
        assert!(runtime.block_on(session.receive()).unwrap().is_none());
        assert_eq!(peer.receive().map(|frame| close_code(&frame)), echo);
        assert!(session.outcome().clean, "{}", session.outcome());
    }
}

#[test]
fn a_violation_is_answered_by_one_close() {
    for (duties, sent) in [(Duties::frames(), Some(1009)), (Duties::frames().sending_close(), None)]
    {
        let (runtime, mut session, mut peer) =
            open(duties, WebSockets::new().max_message_size(100));
        peer.send(RawFrame::new(OpCode::Binary, vec![0; 101]));
        assert!(runtime.poll_now(pin!(session.receive())).is_none(), "the peer may answer");
        assert_eq!(peer.receive().map(|frame| close_code(&frame)), sent);
        peer.send(close(1009));
        let error = runtime.block_on(session.receive()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooBig);
        assert!(error.to_string().contains("see max_"), "{error}");
        let outcome = session.outcome();
        assert!(!outcome.clean && outcome.received.is_some());
        assert_eq!(outcome.sent.map(|reason| reason.code().into()), Some(1009_u16));
    }
}

#[test]
fn a_message_is_fragmented_where_there_are_frames() {
    for (duties, frames) in [(Duties::frames(), 4), (Duties::messages(), 1)] {
        let (runtime, session, mut peer) = open(duties, WebSockets::new());
        runtime.block_on(session.send(vec![7; 200_000])).unwrap();
        runtime.block_on(session.flush()).unwrap();
        let sent: Vec<_> = std::iter::from_fn(|| peer.receive()).collect();
        assert_eq!(sent.iter().map(|frame| frame.payload.len()).sum::<usize>(), 200_000);
        assert_eq!(sent.len(), frames);
    }
}
