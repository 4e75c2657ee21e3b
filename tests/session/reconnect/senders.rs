//! Sending and watching from other places than the one that receives.

use std::pin::pin;

use drivetrain::{
    ErrorKind,
    reconnect::{Backoff, State},
};

use super::script::{Reply, SECOND, Server, arrived};

#[test]
fn to_send_between_two_connections_fails_and_says_that_it_may_pass() {
    let server = Server::new([]);
    let mut session = server.open(Backoff::new());
    let sender = session.sender();
    let send = || server.runtime.block_on(sender.send("now?"));
    server.peer().end();
    server.disconnected(&mut session);
    let error = send().unwrap_err();
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Connect, true));
    assert_eq!(server.runtime.block_on(sender.flush()).unwrap_err().kind(), ErrorKind::Connect);
    server.retrying(&mut session);
    send().unwrap_err();
    let mut connected = pin!(sender.connected());
    assert!(server.runtime.poll_now(connected.as_mut()).is_none());
    server.connected(&mut session);
    server.runtime.poll_now(connected).expect("woken").unwrap();
    send().unwrap();
    server.runtime.settle();
    assert_eq!(arrived(&mut server.peer()), ["now?"]);
}

/// Also if the loss was not received yet.
#[test]
fn a_sender_may_wait_for_the_next_connection() {
    for is_seen in [true, false] {
        let server = Server::new([Reply::Opens, Reply::Refuses(503, &[])]);
        let request = server.request(Backoff::new()).wait_while_disconnected(true);
        let mut session = server.runtime.block_on(request.connect()).unwrap();
        server.peer().end();
        if is_seen {
            server.disconnected(&mut session);
        } else {
            // The session's own task notices after a while.
            server.runtime.advance(10 * SECOND);
        }
        let sender = session.sender();
        let (mut sent, mut dropped) = (pin!(sender.send("kept")), Box::pin(sender.send("dropped")));
        assert!(server.runtime.poll_now(sent.as_mut()).is_none());
        assert!(server.runtime.poll_now(dropped.as_mut()).is_none());
        drop(dropped);
        if !is_seen {
            server.disconnected(&mut session);
        }
        server.retrying(&mut session);
        server.retrying(&mut session);
        assert!(server.runtime.poll_now(sent.as_mut()).is_none());
        server.connected(&mut session);
        server.runtime.poll_now(sent).expect("woken").unwrap();
        server.runtime.settle();
        assert_eq!(arrived(&mut server.peer()), ["kept"], "{is_seen}");
    }
}

#[test]
fn a_sender_that_waits_hears_of_the_end() {
    let server = Server::new([Reply::Opens, Reply::Refuses(403, &[])]);
    let request = server.request(Backoff::new()).wait_while_disconnected(true);
    let mut session = server.runtime.block_on(request.connect()).unwrap();
    server.peer().end();
    server.disconnected(&mut session);
    let sender = session.sender();
    let (mut sent, mut connected) = (pin!(sender.send("?")), pin!(sender.connected()));
    assert!(server.runtime.poll_now(sent.as_mut()).is_none());
    assert!(server.runtime.poll_now(connected.as_mut()).is_none());
    server.retrying(&mut session);
    server.next(&mut session).unwrap_err();
    let error = server.runtime.poll_now(sent).expect("woken").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(error.outcome().is_some() && !error.is_transient());
    server.runtime.poll_now(connected).expect("woken").unwrap_err();
}

/// An error of the frame is not one of the connection.
#[test]
fn a_frame_that_must_not_be_sent_is_refused_at_once() {
    for waits in [false, true] {
        let server = Server::new([]);
        let request = server.request(Backoff::new()).wait_while_disconnected(waits);
        let session = server.runtime.block_on(request.connect()).unwrap();
        let ping = drivetrain::Frame::Ping(vec![0; 126].into());
        let error = server.runtime.block_on(session.send(ping)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        server.runtime.block_on(session.send("still open")).unwrap();
    }
}

#[test]
fn an_observer_sees_each_state_or_the_latest() {
    let server = Server::new([Reply::Opens, Reply::Hangs]);
    let request = server.request(Backoff::new()).try_timeout(5 * SECOND);
    let mut session = server.runtime.block_on(request.connect()).unwrap();
    let (mut states, mut slow) = (session.states(), session.states());
    let mut now = || server.runtime.poll_now(pin!(states.next()));
    assert_eq!(now(), Some(Some(State::Connected)));
    assert_eq!(now(), None);
    server.peer().end();
    server.disconnected(&mut session);
    assert_eq!(now(), Some(Some(State::Disconnected)));
    let retry = server.retrying(&mut session);
    let Some(Some(State::Waiting { attempt: 1, of: Some(10), delay, .. })) = now() else {
        panic!("it is waited for")
    };
    assert_eq!(delay, retry.delay);
    server.runtime.advance(delay);
    assert!(server.waits(&mut session));
    assert!(matches!(now(), Some(Some(State::Connecting { attempt: 1, .. }))));
    server.retrying(&mut session);
    server.connected(&mut session);
    assert_eq!(now(), Some(Some(State::Connected)));
    drop(session);
    assert_eq!(now(), Some(Some(State::Ended)));
    assert_eq!((now(), now()), (Some(None), Some(None)));
    let slow: Vec<_> = (0..2).map(|_| server.runtime.block_on(slow.next())).collect();
    assert_eq!(slow, [Some(State::Ended), None]);
}
