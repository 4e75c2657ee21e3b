//! A session obeys the role of its connection: who closes TCP first, and how long a violation is drained.

use std::{pin::pin, time::Duration};

use drivetrain_engine::{
    CloseCode, CloseReason, Connection, ErrorKind, Frame, OpCode, Protocol, RawFrame, Role,
};

use crate::support::{
    CLOSE_TIMEOUT, TestRuntime, client_and_server, close, close_code, config, end_of, open,
    open_on, pipe, receives, receiving_session, session_and_peer, text,
};

const ROLES: [Role; 2] = [Role::Client, Role::Server];

#[test]
fn a_client_and_a_server_talk_both_ways_and_close_in_no_time() {
    let (runtime, client, mut server) = client_and_server();
    let (outgoing, mut incoming) = client.split();
    runtime.run(async {
        for round in 0..100_u8 {
            outgoing.send(vec![round; 100]).await.expect("sent");
            let frame = server.receive().await.expect("open").expect("a message");
            server.send(frame).await.expect("sent");
            let echo = incoming.receive().await.expect("open").expect("a message");
            assert_eq!(echo, Frame::from(vec![round; 100]));
        }
        assert_eq!(server.stats().received.messages, 100);
        outgoing.start_close(CloseReason::new(4000, "enough").expect("a code")).expect("begun");
        assert_eq!(server.receive().await.expect("a clean end"), None);
        assert_eq!(incoming.receive().await.expect("a clean end"), None);
        let (ours, theirs) = (outgoing.closed().await, server.closed().await);
        for outcome in [ours.expect("an outcome"), theirs.expect("an outcome")] {
            assert!(outcome.clean, "{outcome}");
            assert_eq!(
                outcome.received.expect("a Close").code(),
                CloseCode::try_from(4000).expect("a code")
            );
        }
    });
    runtime.settle();
    assert_eq!((runtime.elapsed(), runtime.tasks()), (Duration::ZERO, 0));
}

#[test]
fn a_server_that_closes_ends_in_no_time_too() {
    let (runtime, mut client, server) = client_and_server();
    runtime.run(async {
        let mut closing = pin!(server.close(CloseReason::going_away()));
        assert!(runtime.poll_once(closing.as_mut()).is_pending());
        assert_eq!(client.receive().await.expect("a clean end"), None);
        assert!(closing.await.expect("an outcome").clean);
        assert!(client.closed().await.expect("an outcome").clean);
    });
    runtime.settle();
    assert_eq!((runtime.elapsed(), runtime.tasks()), (Duration::ZERO, 0));
}

#[test]
fn after_both_closes_a_server_closes_tcp_at_once() {
    for server_begins in [false, true] {
        let (runtime, session, mut peer) = receiving_session(Role::Server, config());
        if server_begins {
            session.start_close(CloseReason::normal()).expect("begun");
            runtime.settle();
            assert_eq!(close_code(&peer.receive().expect("the Close")), 1000);
            assert_eq!(peer.shut_down_at(), None, "the client's Close has not arrived");
        }
        peer.send(close(1000));
        runtime.settle();
        if !server_begins {
            assert_eq!(close_code(&peer.receive().expect("the echo")), 1000);
        }
        assert!(peer.sees_the_end());
        assert_eq!(peer.closed_at(), Some(Duration::ZERO));
        assert!(end_of(&session).clean);
        assert_eq!(runtime.tasks(), 0);
    }
}

#[test]
fn after_both_closes_a_client_waits_for_the_server_to_close_tcp() {
    for client_begins in [false, true] {
        let (runtime, session, mut peer) = receiving_session(Role::Client, config());
        let outcome = runtime.run(async {
            if client_begins {
                let mut closing = pin!(session.close(CloseReason::normal()));
                assert!(runtime.poll_once(closing.as_mut()).is_pending());
                peer.send(close(1000));
                closing.await
            } else {
                peer.send(close(1000));
                session.closed().await
            }
        });
        assert!(outcome.expect("an outcome").clean);
        assert_eq!(runtime.elapsed(), Duration::ZERO, "the user does not wait");
        assert_eq!(close_code(&peer.receive().expect("the client's Close")), 1000);
        runtime.pass(Duration::from_secs(2));
        assert_eq!((peer.shut_down_at(), peer.closed_at()), (None, None));
        peer.shut_down();
        runtime.settle();
        assert_eq!(peer.closed_at(), Some(Duration::from_secs(2)));
        assert_eq!(runtime.tasks(), 0);
        assert!(end_of(&session).clean, "it stays what it was");
    }
}

#[test]
fn a_client_waits_for_the_end_of_tcp_until_the_close_timeout() {
    let (runtime, session, mut peer) = receiving_session(Role::Client, config());
    session.start_close(CloseReason::normal()).expect("begun");
    runtime.pass(Duration::from_secs(2));
    peer.send(close(1000));
    runtime.settle();
    assert!(end_of(&session).clean);
    runtime.pass(Duration::from_millis(2999));
    assert_eq!(peer.closed_at(), None);
    runtime.pass(Duration::from_millis(1));
    assert_eq!(peer.closed_at(), Some(CLOSE_TIMEOUT), "counted from the beginning");
    assert_eq!(runtime.tasks(), 0);
}

#[test]
fn a_client_that_is_dropped_after_both_closes_still_waits_and_one_that_is_dropped_before_does_not()
{
    let (runtime, session, mut peer) = receiving_session(Role::Client, config());
    peer.send(close(1000));
    runtime.settle();
    drop(session);
    runtime.settle();
    assert_eq!(peer.closed_at(), None);
    peer.shut_down();
    runtime.settle();
    assert_eq!((peer.closed_at(), runtime.tasks()), (Some(Duration::ZERO), 0));

    let (runtime, session, peer) = session_and_peer(Role::Client, config());
    session.outgoing().start_close(CloseReason::normal()).expect("begun");
    drop(session);
    assert_eq!(peer.closed_at(), Some(Duration::ZERO), "without its task");
    runtime.settle();
    assert_eq!(runtime.tasks(), 0);
}

#[test]
fn a_client_waits_no_longer_for_a_server_that_sends_after_its_close() {
    let (runtime, session, mut peer) = receiving_session(Role::Client, config());
    peer.send(close(1000));
    runtime.settle();
    assert_eq!(peer.closed_at(), None);
    peer.send(text("more"));
    runtime.settle();
    assert_eq!(peer.closed_at(), Some(Duration::ZERO));
    assert!(end_of(&session).clean);
}

#[test]
fn a_client_over_http2_waits_for_nothing() {
    let runtime = TestRuntime::new();
    let (ours, theirs) = pipe(&runtime);
    let connection = Connection::new(ours).with_protocol(Protocol::H2);
    let session = receives(&runtime, open_on(&runtime, connection, config()));
    let mut peer = theirs.by_hand();
    peer.send(close(1000));
    runtime.settle();
    assert!(end_of(&session).clean);
    assert_eq!(peer.shut_down_at(), Some(Duration::ZERO));
    assert_eq!(peer.closed_at(), Some(Duration::ZERO));
}

#[test]
fn a_runtime_that_shuts_down_closes_the_socket_of_a_client_that_waits() {
    let (runtime, session, mut peer) = receiving_session(Role::Client, config());
    peer.send(close(1000));
    runtime.settle();
    runtime.shut_down();
    assert_eq!(peer.closed_at(), Some(Duration::ZERO));
    assert!(end_of(&session).clean);

    // The application has read the Close, and the task is dropped before it comes.
    let (runtime, mut session, mut peer) = session_and_peer(Role::Client, config());
    runtime.settle();
    peer.send(close(1000));
    let mut receiving = Box::pin(session.receive());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let received = receiving.as_mut().poll(&mut cx);
    assert!(matches!(received, std::task::Poll::Ready(Ok(None))), "{received:?}");
    assert_eq!(peer.closed_at(), None);
    runtime.shut_down();
    assert_eq!(peer.closed_at(), Some(Duration::ZERO));
}

#[test]
fn after_a_violation_a_server_ends_its_direction_and_reads_on_for_a_second() {
    let (runtime, session, mut peer) = receiving_session(Role::Server, config());
    peer.send(RawFrame::new(OpCode::Continuation, "of nothing"));
    runtime.settle();
    // What a flooding client sends meanwhile is read, so that no reset overtakes the Close.
    for _ in 0..9 {
        peer.send(text("more"));
        runtime.pass(Duration::from_millis(100));
    }
    assert_eq!(peer.shut_down_at(), Some(Duration::ZERO));
    assert_eq!(peer.closed_at(), None);
    assert_eq!(close_code(&peer.receive().expect("the Close")), 1002);
    assert!(peer.sees_the_end());
    runtime.pass(Duration::from_millis(100));
    assert_eq!(peer.closed_at(), Some(Duration::from_secs(1)));
    let outcome = end_of(&session);
    assert_eq!(outcome.error.expect("an error").kind(), ErrorKind::Protocol);
    assert_eq!(runtime.tasks(), 0);
}

#[test]
fn a_server_whose_violator_answers_or_leaves_is_over_at_once() {
    for answers in [false, true] {
        let (runtime, session, mut peer) = receiving_session(Role::Server, config());
        peer.send(RawFrame::new(OpCode::Continuation, "of nothing"));
        runtime.settle();
        assert_eq!(peer.closed_at(), None);
        if answers {
            peer.send(close(1002));
        } else {
            peer.shut_down();
        }
        runtime.settle();
        assert_eq!(peer.closed_at(), Some(Duration::ZERO));
        assert!(!end_of(&session).clean);
    }
}

#[test]
fn a_server_drains_a_violation_no_longer_than_a_short_close_timeout() {
    let mut config = config();
    config.close_timeout = Duration::from_millis(200);
    let (runtime, _session, mut peer) = receiving_session(Role::Server, config);
    peer.send(RawFrame::new(OpCode::Continuation, "of nothing"));
    runtime.pass(Duration::from_secs(9));
    assert_eq!(peer.closed_at(), Some(Duration::from_millis(200)));
}

#[test]
fn after_a_violation_a_client_reads_on_for_the_close_timeout() {
    let (runtime, session, mut peer) = receiving_session(Role::Client, config());
    peer.send(RawFrame::new(OpCode::Continuation, "of nothing"));
    runtime.pass(Duration::from_secs(9));
    assert_eq!(close_code(&peer.receive().expect("the Close")), 1002);
    assert_eq!(peer.closed_at(), Some(CLOSE_TIMEOUT));
    assert_eq!(end_of(&session).error.expect("an error").kind(), ErrorKind::Protocol);
}

#[test]
fn a_close_that_is_not_answered_times_out_in_both_roles() {
    for role in ROLES {
        let (runtime, session, mut peer) = receiving_session(role, config());
        let outcome = runtime.run(session.close(CloseReason::normal())).expect("an outcome");
        assert_eq!(outcome.error.expect("an error").kind(), ErrorKind::Timeout, "{role:?}");
        assert_eq!(runtime.elapsed(), CLOSE_TIMEOUT, "{role:?}");
        assert_eq!(close_code(&peer.receive().expect("the Close")), 1000);
        runtime.settle();
        assert_eq!(peer.closed_at(), Some(CLOSE_TIMEOUT), "{role:?}");
    }
}

#[test]
fn an_open_session_that_is_dropped_frees_its_socket_in_both_roles() {
    for role in ROLES {
        let (runtime, session, mut peer) = session_and_peer(role, config());
        drop(session);
        assert_eq!(close_code(&peer.receive().expect("the Close")), 1001);
        assert!(peer.sees_the_end());
        assert_eq!(peer.closed_at(), Some(Duration::ZERO), "{role:?}");
        runtime.settle();
        assert_eq!(runtime.tasks(), 0, "{role:?}");
    }
}

#[test]
fn keepalive_is_the_same_in_both_roles() {
    for role in ROLES {
        let mut config = config();
        config.ping_interval = Some(Duration::from_secs(10));
        let (runtime, session, mut peer) = receiving_session(role, config);
        for _ in 0..3 {
            runtime.pass(Duration::from_secs(10));
            let ping = peer.receive().expect("a Ping");
            assert_eq!(ping.opcode, OpCode::Ping, "{role:?}");
            peer.send(RawFrame::new(OpCode::Pong, ping.payload));
            runtime.settle();
        }
        assert_eq!(session.stats().received.pongs, 3, "{role:?}");
        // Twice the interval after the first one that is not answered.
        runtime.pass(Duration::from_secs(29));
        assert_eq!(peer.closed_at(), None, "{role:?}");
        runtime.pass(Duration::from_secs(1));
        assert_eq!(peer.closed_at(), Some(Duration::from_secs(60)), "{role:?}");
        let error = end_of(&session).error.expect("an error");
        assert_eq!(error.kind(), ErrorKind::Timeout, "{role:?}");
    }
}

#[test]
fn a_client_has_the_response_and_a_server_the_request() {
    let response = || http::Response::builder().status(101).header("x-who", "server").body(());
    let request =
        || http::Request::builder().uri("/chat?room=1").header("x-who", "client").body(());
    for role in ROLES {
        let runtime = TestRuntime::new();
        let (ours, _theirs) = pipe(&runtime);
        let connection = Connection::new(ours)
            .with_role(role)
            .with_response(response().expect("a response"))
            .with_request(request().expect("a request"));
        let session = open_on(&runtime, connection, config());
        let uri = session.request().map(|request| request.uri().to_string());
        let status = session.response().map(|response| response.status().as_u16());
        match role {
            Role::Server => assert_eq!((uri.as_deref(), status), (Some("/chat?room=1"), None)),
            _ => assert_eq!((uri, status), (None, Some(101))),
        }
    }
}

#[test]
fn a_server_without_a_request_has_none() {
    let runtime = TestRuntime::new();
    let (ours, _theirs) = pipe(&runtime);
    let session = open(&runtime, Role::Server, ours, config());
    assert!(session.request().is_none() && session.response().is_none());
}
