//! What the application does before a handshake and after it.

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use drivetrain::{
    Error, ErrorKind, Frame, OpCode, RawFrame,
    reconnect::{Backoff, ReconnectRequest},
};

use super::script::{Reply, SECOND, Server, arrived, close_frame};

fn is_401(error: &Error) -> bool {
    error.response().is_some_and(|response| response.status() == 401)
}

#[test]
fn a_token_is_renewed_after_a_401() {
    let server = Server::new([Reply::Opens, Reply::Refuses(401, &[])]);
    let tokens = Arc::new(AtomicUsize::new(0));
    let request = server
        .request(Backoff::new())
        .reconnect_if(|error| error.is_transient() || is_401(error))
        .on_connect(move |attempt, request| {
            let tokens = Arc::clone(&tokens);
            async move {
                if attempt.error.as_ref().is_some_and(is_401) {
                    tokens.fetch_add(1, Ordering::SeqCst);
                }
                let token = format!("token-{}", tokens.load(Ordering::SeqCst));
                Ok(request.bearer_auth(token).header("x-attempt", attempt.number.to_string()))
            }
        });
    let mut session = server.runtime.block_on(request.connect()).unwrap();
    server.peer().end();
    server.disconnected(&mut session);
    server.retrying(&mut session);
    assert!(is_401(&server.retrying(&mut session).error));
    server.connected(&mut session);
    let log = server.log();
    let sent = |name| log.iter().map(|seen| seen.header(name).unwrap()).collect::<Vec<_>>();
    assert_eq!(sent("authorization"), ["Bearer token-0", "Bearer token-0", "Bearer token-1"]);
    assert_eq!(sent("x-attempt"), ["0", "1", "2"], "each time from the request as it was given");
}

#[test]
fn the_request_may_be_another_one() {
    let server = Server::new([]);
    let client = drivetrain::HttpClient::new(server.clone());
    let request = server.request(Backoff::new()).on_connect(move |attempt, _| {
        let url = format!("ws://b.example/feed?from={}", attempt.number);
        std::future::ready(Ok(client.web_socket(url)))
    });
    let mut session = server.runtime.block_on(request.connect()).unwrap();
    server.peer().end();
    server.disconnected(&mut session);
    server.retrying(&mut session);
    server.connected(&mut session);
    let uris: Vec<_> = server.log().iter().map(|seen| seen.uri.to_string()).collect();
    assert_eq!(uris, ["http://b.example/feed?from=0", "http://b.example/feed?from=1"]);
}

#[test]
fn each_connection_is_subscribed_before_anything_else_passes() {
    let server = Server::new([]);
    let request = server.request(Backoff::new()).wait_while_disconnected(true).on_open(|session| {
        Box::pin(async move {
            session.send("auth").await?;
            session.send("subscribe").await
        })
    });
    let mut session = server.runtime.block_on(request.connect()).unwrap();
    let mut peer = server.peer();
    server.runtime.settle();
    assert_eq!(arrived(&mut peer), ["auth", "subscribe"]);
    peer.end();
    let lost = server.disconnected(&mut session);
    assert!(lost.unacknowledged.is_empty(), "what the hook sends is sent again by the hook");
    let sender = session.sender();
    let mut waiting = std::pin::pin!(sender.send("mine"));
    assert!(server.runtime.poll_now(waiting.as_mut()).is_none());
    server.retrying(&mut session);
    server.connected(&mut session);
    server.runtime.poll_now(waiting).expect("there is a connection").unwrap();
    server.runtime.settle();
    assert_eq!(arrived(&mut server.peer()), ["auth", "subscribe", "mine"]);
}

#[test]
fn what_comes_while_the_hook_runs_is_received_after_it() {
    let server = Server::new([]);
    let answered = server.clone();
    let request = server.request(Backoff::new()).on_open(move |session| {
        let server = answered.clone();
        Box::pin(async move {
            let mut peer = server.peer();
            for text in ["welcome", "first", "second"] {
                peer.send(RawFrame::new(OpCode::Text, text));
            }
            let welcome = session.receive().await?.and_then(Frame::into_text);
            assert_eq!(welcome.as_deref(), Some("welcome"));
            Ok(())
        })
    });
    let mut session = server.runtime.block_on(request.connect()).unwrap();
    assert_eq!(server.text(&mut session), "first");
    assert_eq!(server.text(&mut session), "second");
}

/// The hooks fail in this way on the second connection, and only there.
fn failing(
    server: &Server,
    before: bool,
    error: impl Fn() -> Error + Send + Sync + 'static,
) -> ReconnectRequest {
    let (calls, error) = (Arc::new(AtomicUsize::new(0)), Arc::new(error));
    let fails = move || match calls.fetch_add(1, Ordering::SeqCst) {
        1 => Err(error()),
        _ => Ok(()),
    };
    let request = server.request(Backoff::new());
    if before {
        return request.on_connect(move |_, request| std::future::ready(fails().map(|()| request)));
    }
    request.on_open(move |_| Box::pin(std::future::ready(fails())))
}

#[test]
fn a_hook_that_fails_is_a_try_that_failed() {
    for before in [true, false] {
        let server = Server::new([]);
        let request = failing(&server, before, || Error::other("not today"));
        let mut session = server.runtime.block_on(request.connect()).unwrap();
        server.peer().end();
        server.disconnected(&mut session);
        server.retrying(&mut session);
        let retry = server.retrying(&mut session);
        assert_eq!((retry.attempt, retry.error.to_string()), (2, "not today".to_owned()));
        assert_eq!(server.connected(&mut session), 2);
        if !before {
            let (kept, dropped) = (server.peer(), server.peer());
            assert!(dropped.is_dropped() && !kept.is_dropped());
        }
        assert_eq!(server.runtime.tasks(), 1);
    }
}

#[test]
fn a_hook_that_was_told_to_go_is_the_end() {
    let server = Server::new([]);
    let (calls, other) = (AtomicUsize::new(0), server.clone());
    let request = server.request(Backoff::new()).on_open(move |session| {
        let is_first = calls.fetch_add(1, Ordering::SeqCst) == 0;
        let server = other.clone();
        Box::pin(async move {
            if is_first {
                return Ok(());
            }
            server.peer().send(close_frame(4401));
            session.receive().await?;
            session.send("anybody?").await
        })
    });
    let mut session = server.runtime.block_on(request.connect()).unwrap();
    server.peer().end();
    server.disconnected(&mut session);
    server.retrying(&mut session);
    let error = server.next(&mut session).unwrap_err();
    assert_eq!(u16::from(error.close_reason().unwrap().code()), 4401);
    server.ends(&mut session, Some(ErrorKind::Closed));
    assert_eq!((server.log().len(), server.runtime.tasks()), (2, 0));
}

#[test]
fn a_hook_that_hangs_is_given_up_in_time() {
    let server = Server::new([]);
    let calls = AtomicUsize::new(0);
    let request = server.request(Backoff::new()).try_timeout(7 * SECOND).on_open(move |_| {
        let is_first = calls.fetch_add(1, Ordering::SeqCst) == 0;
        Box::pin(async move { if is_first { Ok(()) } else { pending().await } })
    });
    let mut session = server.runtime.block_on(request.connect()).unwrap();
    server.peer().end();
    server.disconnected(&mut session);
    server.retrying(&mut session);
    let retry = server.retrying(&mut session);
    assert_eq!(retry.error.kind(), ErrorKind::Timeout, "{:?}", retry.error);
    assert!(server.peer().is_dropped());
}

/// The hooks are the application's code: they may use the session's other ends.
#[test]
fn a_hook_may_end_the_session() {
    let server = Server::new([]);
    let slot: Arc<Mutex<Option<drivetrain::reconnect::Sender>>> = Arc::default();
    let sender = Arc::clone(&slot);
    let request = server.request(Backoff::new()).on_open(move |_| {
        let sender = sender.lock().unwrap().clone();
        Box::pin(async move {
            if let Some(sender) = sender {
                sender.close(drivetrain::CloseReason::normal()).await?;
                return pending().await;
            }
            Ok(())
        })
    });
    let mut session = server.runtime.block_on(request.connect()).unwrap();
    *slot.lock().unwrap() = Some(session.sender());
    server.peer().end();
    server.disconnected(&mut session);
    server.retrying(&mut session);
    server.ends(&mut session, None);
    assert!(server.peer().is_dropped());
    assert_eq!(server.runtime.tasks(), 0);
}
