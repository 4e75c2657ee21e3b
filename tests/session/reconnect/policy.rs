//! When a session connects again, and when it is given up.

use std::{pin::pin, time::Duration};

use drivetrain::{CloseCode, Error, ErrorKind, OpCode, RawFrame, reconnect::Backoff};

use super::script::{Reply, SECOND, Server, close_frame};

#[test]
fn a_lost_connection_is_made_again_and_each_change_is_told() {
    let server = Server::new([]);
    let mut session = server.open(Backoff::new());
    let mut peer = server.peer();
    peer.send(RawFrame::new(OpCode::Text, "before"));
    peer.end();
    assert_eq!(server.text(&mut session), "before", "what had come is delivered first");
    let lost = server.disconnected(&mut session);
    assert!(!lost.outcome.clean && lost.unacknowledged.is_empty());
    assert_eq!(lost.stats.received.messages, 1);
    let retry = server.retrying(&mut session);
    assert_eq!((retry.attempt, retry.of), (1, Some(10)));
    assert!(retry.delay <= SECOND && retry.error.kind() == ErrorKind::Io);
    let begun = server.log()[0].at;
    let almost = retry.delay.saturating_sub(Duration::from_nanos(1));
    if !almost.is_zero() {
        assert!(server.waits(&mut session));
        server.runtime.advance(almost);
        assert!(server.waits(&mut session));
        assert_eq!(server.log().len(), 1, "not before the delay is over");
    }
    server.runtime.advance(Duration::from_nanos(1));
    assert_eq!(server.connected(&mut session), 1);
    assert_eq!(
        server.log()[1].at.saturating_since(begun),
        retry.delay.max(Duration::from_nanos(1))
    );
    let mut peer = server.peer();
    peer.send(RawFrame::new(OpCode::Text, "after"));
    assert_eq!(server.text(&mut session), "after");
}

/// Close codes of the peer.
#[test]
fn a_close_that_is_meant_to_last_is_the_end() {
    let for_a_time = [1001, 1011, 1012, 1013, 1014];
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4001]
    {
        let server = Server::new([]);
        let mut session = server.open(Backoff::new());
        server.peer().send(close_frame(code));
        let lost = server.disconnected(&mut session);
        let received = lost.outcome.received.map(|reason| reason.code());
        assert_eq!(received, Some(CloseCode::try_from(code).unwrap()));
        if for_a_time.contains(&code) {
            assert_eq!(server.retrying(&mut session).error.kind(), ErrorKind::Closed, "{code}");
            assert_eq!(server.connected(&mut session), 1, "{code}");
        } else {
            server.ends(&mut session, None);
            assert_eq!(server.log().len(), 1, "{code}");
        }
    }
}

/// The network may fail before the Close is answered.
#[test]
fn the_close_of_the_peer_counts_even_if_it_could_not_be_answered() {
    for (code, again) in [(4001, false), (1012, true)] {
        let server = Server::new([]);
        let mut session = server.open(Backoff::new());
        let mut peer = server.peer();
        peer.fail_writes(Error::new(ErrorKind::Io, "broken"));
        peer.send(close_frame(code));
        peer.end();
        let lost = server.disconnected(&mut session);
        assert!(!lost.outcome.clean);
        if again {
            assert_eq!(server.retrying(&mut session).attempt, 1);
        } else {
            server.ends(&mut session, None);
        }
    }
}

#[test]
fn a_violation_is_the_end_and_a_silent_peer_is_not() {
    let server = Server::new([]);
    let mut session = server.open(Backoff::new());
    let mut peer = server.peer();
    peer.send(RawFrame::new(OpCode::Continuation, "of nothing"));
    peer.end();
    server.disconnected(&mut session);
    server.ends(&mut session, Some(ErrorKind::Protocol));

    let server = Server::new([]);
    let mut session = server.open(Backoff::new());
    session.connection().unwrap().set_ping_interval(SECOND).unwrap();
    let lost = server.disconnected(&mut session);
    assert_eq!(lost.outcome.error.unwrap().kind(), ErrorKind::Timeout);
    server.retrying(&mut session);
    assert_eq!(server.connected(&mut session), 1);
}

#[test]
fn the_application_may_decide_otherwise() {
    let server = Server::new([Reply::Opens, Reply::Refuses(404, &[]), Reply::Opens]);
    let request = server.request(Backoff::new()).reconnect_if(|error| {
        let is = |code| error.close_reason().is_some_and(|reason| u16::from(reason.code()) == code);
        is(4001) || error.response().is_some_and(|response| response.status() == 404)
    });
    let mut session = server.runtime.block_on(request.connect()).unwrap();
    server.peer().send(close_frame(4001));
    server.disconnected(&mut session);
    server.retrying(&mut session);
    assert_eq!(server.retrying(&mut session).error.kind(), ErrorKind::Rejected);
    assert_eq!(server.connected(&mut session), 2);
    server.peer().send(close_frame(1012));
    server.disconnected(&mut session);
    server.ends(&mut session, None);
}

#[test]
fn refusals_that_may_pass_are_tried_again() {
    let may_pass = [408, 425, 429, 500, 502, 503, 504, 507, 520, 530];
    for status in [400, 401, 403, 404, 408, 410, 425, 426, 429, 500, 501, 502, 503, 504, 505, 507]
        .into_iter()
        .chain([520, 530, 200, 304])
    {
        let server = Server::new([Reply::Opens, Reply::Refuses(status, &[])]);
        let mut session = server.open(Backoff::new());
        server.peer().end();
        server.disconnected(&mut session);
        server.retrying(&mut session);
        if may_pass.contains(&status) {
            let retry = server.retrying(&mut session);
            assert_eq!(retry.attempt, 2);
            assert_eq!(retry.error.response().unwrap().status(), status);
            assert_eq!(server.connected(&mut session), 2, "{status}");
        } else {
            let error = server.next(&mut session).unwrap_err();
            assert_eq!(error.response().unwrap().status(), status);
            server.ends(&mut session, Some(ErrorKind::Rejected));
            assert_eq!(server.log().len(), 2, "{status}");
        }
    }
}

#[test]
fn a_server_that_asks_for_a_pause_gets_it() {
    let date = &[
        ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("retry-after", "Sun, 06 Nov 1994 08:51:37 GMT"),
    ];
    for headers in [&[("retry-after", "120")][..], date] {
        let server = Server::new([Reply::Opens, Reply::Refuses(503, headers)]);
        let mut session = server.open(Backoff::new());
        server.peer().end();
        server.disconnected(&mut session);
        server.retrying(&mut session);
        let retry = server.retrying(&mut session);
        let (least, most) = (120 * SECOND, 122 * SECOND);
        assert!(retry.delay >= least && retry.delay <= most, "{:?}", retry.delay);
        server.connected(&mut session);
        let log = server.log();
        assert!(log[2].at.saturating_since(log[1].at) >= least);
    }
    let server = Server::new([Reply::Opens, Reply::Refuses(503, &[("retry-after", "601")])]);
    let mut session = server.open(Backoff::new());
    server.peer().end();
    server.disconnected(&mut session);
    server.retrying(&mut session);
    let error = server.next(&mut session).unwrap_err();
    assert!(error.to_string().contains("601s"), "{error}");
    server.ends(&mut session, Some(ErrorKind::Rejected));
}

#[test]
fn it_is_given_up_after_the_last_try() {
    let server = Server::new([Reply::Opens, Reply::Fails(ErrorKind::Connect), Reply::Hangs]);
    let mut session = server.open(Backoff::new().max_tries(2));
    server.peer().end();
    server.disconnected(&mut session);
    for attempt in [1, 2] {
        let retry = server.retrying(&mut session);
        assert_eq!((retry.attempt, retry.of), (attempt, Some(2)));
    }
    let error = server.next(&mut session).unwrap_err();
    assert!(error.to_string().starts_with("gave up after 2 tries: "), "{error}");
    let cause = std::error::Error::source(&error).unwrap().downcast_ref::<Error>().unwrap();
    assert_eq!(cause.kind(), ErrorKind::Timeout, "the last one hung");
    server.ends(&mut session, Some(ErrorKind::Timeout));
    assert_eq!((server.log().len(), server.hanging()), (3, 0));
    assert_eq!(server.runtime.tasks(), 0);
}

/// A server that accepts and hangs up is given up too.
#[test]
fn a_connection_that_does_not_live_is_a_try_in_vain() {
    let server = Server::new([]);
    let mut session = server.open(Backoff::new().max_tries(3).reset_after(10 * SECOND));
    for attempt in [1, 2, 3] {
        server.peer().end();
        server.disconnected(&mut session);
        assert_eq!(server.retrying(&mut session).attempt, attempt);
        server.connected(&mut session);
    }
    server.runtime.advance(10 * SECOND);
    server.peer().end();
    server.disconnected(&mut session);
    assert_eq!(server.retrying(&mut session).attempt, 1, "this one has lived");
    for attempt in [2, 3] {
        server.connected(&mut session);
        server.peer().end();
        server.disconnected(&mut session);
        assert_eq!(server.retrying(&mut session).attempt, attempt);
    }
    server.connected(&mut session);
    server.peer().end();
    server.disconnected(&mut session);
    server.ends(&mut session, Some(ErrorKind::Io));
}

#[test]
fn the_first_connection_is_tried_once_unless_it_is_said_otherwise() {
    let refusals = || Server::new([Reply::Refuses(503, &[]), Reply::Fails(ErrorKind::Connect)]);
    let server = refusals();
    let error = server.runtime.block_on(server.request(Backoff::new()).connect()).unwrap_err();
    assert_eq!(error.response().unwrap().status(), 503);
    assert!(!error.to_string().contains("gave up"), "{error}");

    let server = refusals();
    let request = server.request(Backoff::new()).retry_first(true);
    let session = server.patiently(request.connect()).unwrap();
    assert_eq!(server.log().len(), 3);
    drop(session);

    let server = refusals();
    let request = server.request(Backoff::new().max_tries(1)).retry_first(true);
    let error = server.patiently(request.connect()).unwrap_err();
    assert_eq!((error.kind(), server.log().len()), (ErrorKind::Connect, 2));
}

#[test]
fn what_can_never_work_is_refused_before_anything_is_sent() {
    let server = Server::new([]);
    let requests = [
        server.request(Backoff::new().first_delay(Duration::ZERO)),
        server.request(Backoff::new().max_tries(0)),
        server.request(Backoff::new().factor(0.5)),
        server.request(Backoff::new()).try_timeout(Duration::ZERO),
    ];
    for request in requests {
        let error = server.runtime.block_on(request.connect()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(server.log().len(), 0);
}

#[test]
fn nothing_is_tried_as_long_as_nobody_receives() {
    let server = Server::new([]);
    let mut session = server.open(Backoff::new());
    server.peer().end();
    server.runtime.advance(1000 * SECOND);
    assert_eq!(server.log().len(), 1);
    server.disconnected(&mut session);
    server.retrying(&mut session);
    server.runtime.advance(1000 * SECOND);
    assert_eq!(server.log().len(), 1);
    assert!(server.runtime.poll_now(pin!(session.receive())).is_some());
}
