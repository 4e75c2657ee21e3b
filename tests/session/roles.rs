//! Sessions of each role over an in-memory connection.
#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use drivetrain::{
    CloseReason, ErrorKind, OpCode, Protocol, RawFrame, Session, WebSockets,
    engine::Role,
    testing::{PipePeer, TestRuntime, pipe_of},
};

fn open(role: Role) -> (TestRuntime, Session, PipePeer) {
    let runtime = TestRuntime::new();
    let (connection, peer) = pipe_of(role);
    // As over a socket of the session's own.
    let session = runtime.session(connection.with_protocol(Protocol::H1), WebSockets::new());
    (runtime, session, peer)
}

/// RFC 6455 section 5.1: a client masks, a server does not.
#[test]
fn a_session_of_each_role_takes_the_bytes_of_the_other_alone() {
    let masked = b"\x81\x82\x01\x02\x03\x04ik"; // "hi"
    let plain = b"\x81\x02hi";
    for (role, right, wrong) in
        [(Role::Server, &masked[..], &plain[..]), (Role::Client, &plain[..], &masked[..])]
    {
        let (runtime, mut session, mut peer) = open(role);
        peer.send_bytes(right.to_vec());
        let frame = runtime.block_on(session.receive()).unwrap().unwrap();
        assert_eq!(frame.read_text().unwrap(), "hi", "{role:?}");
        peer.send_bytes(wrong.to_vec());
        peer.end(); // a violation is drained until then
        let error = runtime.block_on(session.receive()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{role:?}");
        assert!(error.to_string().contains("mask"), "{error}");
    }
}

/// RFC 6455 section 7.1.1: a server closes TCP first, a client waits for it.
#[test]
fn a_server_ends_the_stream_once_both_closes_are_through_and_a_client_waits() {
    for (role, ends) in [(Role::Server, true), (Role::Client, false)] {
        let (runtime, mut session, mut peer) = open(role);
        peer.send(RawFrame::new(OpCode::Close, CloseReason::normal().to_payload()));
        assert!(runtime.block_on(session.receive()).unwrap().is_none());
        assert_eq!(peer.receive().map(|frame| frame.opcode), Some(OpCode::Close));
        assert_eq!(peer.is_shut_down(), ends, "{role:?}");
    }
}
