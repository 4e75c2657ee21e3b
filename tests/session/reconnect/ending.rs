//! The end for good: closed, dropped, given up waiting.

use std::{pin::pin, time::Duration};

use drivetrain::{
    CloseReason, ErrorKind, Frame, OpCode, RawFrame,
    reconnect::{Backoff, Event, ReconnectingSession, State},
};

use super::script::{Reply, SECOND, Server, arrived, close_frame, texts};

/// A session that has lost its connection, and whose try hangs or is waited for.
fn between(reply: Reply) -> (Server, ReconnectingSession) {
    let server = Server::new([Reply::Opens, reply]);
    let mut session = server.open(Backoff::new());
    server.peer().end();
    server.disconnected(&mut session);
    (server, session)
}

#[test]
fn to_close_is_the_end_and_never_a_new_connection() {
    let server = Server::new([]);
    let mut session = server.open(Backoff::new());
    let mut peer = server.peer();
    server.runtime.block_on(session.send("last words")).unwrap();
    let sender = session.sender();
    let mut closing = pin!(sender.close(CloseReason::normal()));
    assert!(server.runtime.poll_now(closing.as_mut()).is_none());
    assert_eq!(peer.receive().unwrap().payload, "last words");
    let ping = peer.receive().unwrap();
    assert_eq!(ping.opcode, OpCode::Ping);
    assert_eq!(peer.receive(), Some(close_frame(1000)));
    peer.send(RawFrame::new(OpCode::Pong, ping.payload));
    peer.send(close_frame(1000));
    let outcome = server.runtime.poll_now(closing).expect("the peer has answered").unwrap();
    assert!(outcome.clean);
    let lost = server.disconnected(&mut session);
    assert!(lost.unacknowledged.is_empty(), "the Ping before the Close was answered");
    server.ends(&mut session, None);
    assert_eq!((server.log().len(), server.runtime.tasks()), (1, 0));
}

/// Also through a frame, and through the connection itself.
#[test]
fn there_is_more_than_one_way_to_close() {
    for through_connection in [true, false] {
        let server = Server::new([]);
        let mut session = server.open(Backoff::new());
        let mut peer = server.peer();
        if through_connection {
            let connection = session.connection().unwrap();
            assert!(
                server
                    .runtime
                    .poll_now(pin!(connection.close(CloseReason::going_away())))
                    .is_none()
            );
        } else {
            server.runtime.block_on(session.send(Frame::Close(None))).unwrap();
        }
        // What it answers would be worth another try.
        peer.send(close_frame(1012));
        peer.end();
        let lost = server.disconnected(&mut session);
        assert!(lost.outcome.sent.is_some());
        server.ends(&mut session, None);
        assert_eq!(server.log().len(), 1);
    }
}

/// The peer's Close came first, and was one that would be worth another try.
#[test]
fn who_closes_after_the_peer_wants_the_end_all_the_same() {
    let server = Server::new([]);
    let mut session = server.open(Backoff::new());
    server.peer().send(close_frame(1012));
    server.runtime.advance(10 * SECOND);
    assert!(session.connection().unwrap().outcome().received.is_some(), "it was read ahead");
    server.runtime.block_on(session.close(CloseReason::normal())).unwrap();
    server.disconnected(&mut session);
    server.ends(&mut session, None);
    assert_eq!(server.log().len(), 1);
}

#[test]
fn a_close_that_is_not_answered_says_what_may_be_lost() {
    let server = Server::new([]);
    let mut session = server.open(Backoff::new());
    let mut peer = server.peer();
    server.runtime.block_on(session.send("last words")).unwrap();
    let outcome = server.patiently(session.close(CloseReason::normal())).unwrap();
    assert!(!outcome.clean);
    assert_eq!(arrived(&mut peer), ["last words"]);
    assert_eq!(texts(&server.disconnected(&mut session).unacknowledged.unknown), ["last words"]);
    server.ends(&mut session, Some(ErrorKind::Timeout));
}

#[test]
fn to_close_between_two_connections_ends_the_wait_and_the_try() {
    for steps in [0, 1, 2] {
        let (server, mut session) = between(Reply::Hangs);
        if steps >= 1 {
            server.retrying(&mut session);
            assert!(server.waits(&mut session));
        }
        if steps >= 2 {
            server.runtime.advance(SECOND);
            assert!(server.waits(&mut session));
            assert_eq!((server.hanging(), session.state()), (1, connecting(&session)));
        }
        let sender = session.sender();
        let outcome = server.runtime.block_on(sender.close(CloseReason::normal())).unwrap();
        assert!(!outcome.clean, "that of the connection before");
        assert_eq!(server.hanging(), 0, "the try is dropped at once, also if nobody receives");
        server.ends(&mut session, None);
        let connections = server.log().len();
        server.runtime.advance(100 * SECOND);
        assert_eq!(server.log().len(), connections);
        assert_eq!(server.runtime.tasks(), 0);
    }
}

fn connecting(session: &ReconnectingSession) -> State {
    let state = session.state();
    assert!(matches!(state, State::Connecting { attempt: 1, .. }), "{state:?}");
    state
}

#[test]
fn whoever_receives_is_woken_by_a_close_from_elsewhere() {
    let (server, mut session) = between(Reply::Hangs);
    server.retrying(&mut session);
    server.runtime.advance(SECOND);
    let sender = session.sender();
    let mut receiving = pin!(session.receive());
    assert!(server.runtime.poll_now(receiving.as_mut()).is_none());
    server.runtime.block_on(async {
        let closing = async { sender.close(CloseReason::normal()).await.unwrap() };
        let (end, _) = futures(receiving, closing).await;
        assert!(end.unwrap().is_none());
    });
}

/// Both, whichever is ready first.
async fn futures<A, B>(
    a: impl std::future::Future<Output = A>,
    b: impl std::future::Future<Output = B>,
) -> (A, B) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut first, mut second) = (None, None);
    std::future::poll_fn(|cx| {
        if first.is_none() {
            if let std::task::Poll::Ready(value) = a.as_mut().poll(cx) {
                first = Some(value);
            }
        }
        if second.is_none() {
            if let std::task::Poll::Ready(value) = b.as_mut().poll(cx) {
                second = Some(value);
            }
        }
        match (first.take(), second.take()) {
            (Some(a), Some(b)) => std::task::Poll::Ready((a, b)),
            (a, b) => {
                (first, second) = (a, b);
                std::task::Poll::Pending
            }
        }
    })
    .await
}

#[test]
fn a_dropped_session_leaves_nothing_behind_at_any_point() {
    let server = Server::new([]);
    let session = server.open(Backoff::new());
    let (mut peer, sender) = (server.peer(), session.sender());
    peer.set_writable(false);
    let mut blocked = pin!(async {
        loop {
            if let Err(error) = sender.send(vec![0; 10_000]).await {
                return error;
            }
        }
    });
    assert!(server.runtime.poll_now(blocked.as_mut()).is_none());
    drop(session);
    let error = server.runtime.poll_now(blocked).expect("a sender does not keep it alive");
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(peer.is_dropped());
    assert_eq!((server.runtime.tasks(), sender.state()), (0, State::Ended));

    for advance in [Duration::ZERO, SECOND] {
        let (server, mut session) = between(Reply::Hangs);
        server.retrying(&mut session);
        server.runtime.advance(advance);
        let _ = server.waits(&mut session);
        drop(session);
        assert_eq!((server.hanging(), server.runtime.tasks()), (0, 0));
    }
    let server = Server::new([Reply::Hangs]);
    let mut connecting = Box::pin(server.request(Backoff::new()).connect());
    assert!(server.runtime.poll_now(connecting.as_mut()).is_none());
    drop(connecting);
    assert_eq!((server.hanging(), server.runtime.tasks()), (0, 0));
}

/// Each wait for an event is dropped before it has one: at every place where it can wait.
#[test]
fn giving_up_the_wait_loses_nothing() {
    let server = Server::new([Reply::Opens, Reply::Fails(ErrorKind::Connect)]);
    let request = server
        .request(Backoff::new())
        .on_open(|session| Box::pin(async move { session.receive().await.map(drop) }));
    let mut connecting = pin!(request.connect());
    assert!(server.runtime.poll_now(connecting.as_mut()).is_none());
    let mut peer = server.peer();
    peer.send(RawFrame::new(OpCode::Text, "welcome"));
    let mut session = server.runtime.poll_now(connecting).unwrap().unwrap();
    assert!(server.waits(&mut session));
    peer.send(RawFrame::new(OpCode::Text, "one"));
    assert_eq!(server.text(&mut session), "one");
    assert!(server.waits(&mut session));
    peer.end();
    server.disconnected(&mut session);
    server.retrying(&mut session);
    let mut told = Vec::new();
    let mut is_greeted = false;
    while told.last() != Some(&"connected") {
        match server.runtime.poll_now(pin!(session.receive())) {
            Some(Ok(Some(Event::Retrying(_)))) => told.push("retrying"),
            Some(Ok(Some(Event::Connected(_)))) => told.push("connected"),
            Some(other) => panic!("{other:?}"),
            None if server.log().len() == 3 && !is_greeted => {
                let mut peer = server.peer();
                peer.send(RawFrame::new(OpCode::Text, "welcome"));
                peer.send(RawFrame::new(OpCode::Text, "two"));
                is_greeted = true;
            }
            None => server.runtime.advance(SECOND / 50),
        }
    }
    assert_eq!(told, ["retrying", "connected"]);
    assert_eq!(server.text(&mut session), "two");
    assert_eq!(server.log().len(), 3);
}
