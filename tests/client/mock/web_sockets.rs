//! Handshakes, and peers by hand and served.

use std::{
    future::poll_fn,
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::Poll,
};

use drivetrain::{
    CloseCode, CloseReason, ErrorKind, Frame, HttpClient, OpCode, RawFrame,
    http::{StatusCode, header},
    testing::{MockEngine, Reply, Script},
};

use super::{URL, client, connect, on, problems, text};

#[test]
fn the_handshake_is_real() {
    let (client, mock) = client();
    mock.web_socket("/chat").subprotocol("v2").header("x-server", "mock").open();
    on(&mock, async {
        let request = client.web_socket(URL).subprotocol("v2").subprotocol("v1");
        let session = request.header("x-a", "b").connect().await?;
        assert_eq!(session.subprotocol(), Some("v2"));
        let response = session.response().unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-server"]),
            (101, &"mock".parse().unwrap())
        );
        let peer = mock.accept().await?;
        assert_eq!(peer.request().subprotocols(), ["v2", "v1"]);
        assert_eq!(peer.request().header("x-a"), Some("b"));
        assert_eq!(peer.request().header("sec-websocket-version"), Some("13"));
        assert_eq!(peer.request().header("sec-websocket-key").unwrap().len(), 24);
        Ok(())
    })
    .unwrap();
    assert!(mock.requests()[0].is_handshake());
}

#[test]
fn a_wrong_handshake_is_refused_by_the_client() {
    for (name, value, says) in [
        (header::SEC_WEBSOCKET_ACCEPT, "wrong", "does not fit the key"),
        (header::UPGRADE, "h2c", "Upgrade"),
        (header::SEC_WEBSOCKET_PROTOCOL, "v3", "`v3`, which was not offered"),
        (header::SEC_WEBSOCKET_EXTENSIONS, "x-other", "`x-other`, which was not offered"),
    ] {
        let (client, mock) = client();
        mock.web_socket("/chat").header(name, value).open();
        let error = on(&mock, client.web_socket(URL).subprotocol("v2").connect()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(error.response().unwrap().status(), 101);
    }
    let (client, mock) = client();
    mock.web_socket("/chat").header("a b", "c").open();
    assert_eq!(on(&mock, connect(&client)).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_handshake_is_refused_with_a_response() {
    for status in [401, 403, 404, 503] {
        let (client, mock) = client();
        let status = StatusCode::from_u16(status).unwrap();
        mock.web_socket("/chat")
            .times(1)
            .respond(Reply::from("why").status(status).header("x-a", "b"));
        mock.web_socket("/chat").open();
        let error = on(&mock, connect(&client)).unwrap_err();
        assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Rejected, status == 503));
        let response = error.response().unwrap();
        assert_eq!((response.status(), &response.body()[..]), (status, &b"why"[..]));
        assert_eq!(response.headers()["x-a"], "b");
        on(&mock, connect(&client)).expect("the next route opens");
        mock.assert_done();
    }
    let (client, mock) = client();
    mock.web_socket("/chat").respond(StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(on(&mock, connect(&client)).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_handshake_follows_redirects() {
    let (client, mock) = client();
    mock.web_socket("/chat").respond(Reply::redirect("wss://other.example/chat2"));
    mock.web_socket("wss://other.example/chat2").script(Script::new().send("here"));
    let mut session = on(&mock, connect(&client)).unwrap();
    assert_eq!(text(on(&mock, session.receive()).unwrap()), "here");
}

#[test]
fn two_sessions_at_once_are_two_peers() {
    let (client, mock) = client();
    mock.web_socket("/*").times(2).open();
    on(&mock, async {
        let mut a = client.web_socket("ws://example.com/a").connect().await?;
        let mut b = client.web_socket("ws://example.com/b").connect().await?;
        let (mut to_a, mut to_b) = (mock.accept().await?, mock.accept().await?);
        assert_eq!((to_a.request().path(), to_b.request().path()), ("/a", "/b"));
        to_a.send("for a");
        to_b.send("for b");
        assert_eq!(text(b.receive().await?), "for b");
        assert_eq!(text(a.receive().await?), "for a");
        a.send("from a").await?;
        b.send("from b").await?;
        assert_eq!(text(to_b.receive().await?), "from b");
        assert_eq!(text(to_a.receive().await?), "from a");
        to_a.eof();
        assert_eq!(a.receive().await.unwrap_err().kind(), ErrorKind::Io);
        to_b.send("still there");
        assert_eq!(text(b.receive().await?), "still there");
        Ok(())
    })
    .unwrap();
    mock.assert_done();
}

#[test]
fn a_handler_serves_each_connection() {
    let (client, mock) = client();
    mock.web_socket("/chat").serve(|mut peer| async move {
        while let Some(frame) = peer.receive().await? {
            if !matches!(frame, Frame::Close(_)) {
                peer.send(frame);
            }
        }
        Ok(())
    });
    let outcome = on(&mock, async {
        let mut session = connect(&client).await?;
        for n in 0..100 {
            session.send(n.to_string()).await?;
            assert_eq!(text(session.receive().await?), n.to_string());
        }
        session.close(CloseReason::normal()).await
    });
    assert!(outcome.unwrap().clean);
    mock.assert_done();
}

#[test]
fn a_connection_ends_with_its_handler() {
    let (client, mock) = client();
    mock.web_socket("/chat").serve(|mut peer| async move {
        peer.send("that is all");
        Ok(())
    });
    on(&mock, async {
        let mut session = connect(&client).await?;
        assert_eq!(text(session.receive().await?), "that is all");
        assert_eq!(session.receive().await.unwrap_err().kind(), ErrorKind::Io);
        Ok(())
    })
    .unwrap();
    mock.assert_done();
}

#[test]
fn a_handler_that_fails_or_panics_fails_the_session_and_the_test() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let (client, mock) = client();
    mock.web_socket("/chat").serve(|mut peer| async move {
        peer.receive().await?;
        match CALLS.fetch_add(1, Ordering::SeqCst) {
            0 => Err(drivetrain::Error::new(ErrorKind::Other, "out of beer")),
            _ => std::panic::resume_unwind(Box::new("on purpose")),
        }
    });
    for says in ["failed: out of beer", "panicked"] {
        let error = on(&mock, async {
            let mut session = connect(&client).await?;
            session.send("x").await?;
            session.receive().await
        });
        let error = error.unwrap_err().to_string();
        assert_eq!(error, format!("the handler of WebSocket http://example.com/chat {says}"));
        assert!(problems(&mock).contains(&error));
    }
    assert_eq!(mock.clock().tasks(), 0);
}

#[test]
fn a_dropped_session_says_goodbye_and_leaves_nothing() {
    let (client, mock) = client();
    mock.web_socket("/chat").open();
    on(&mock, async {
        let session = connect(&client).await?;
        let mut peer = mock.accept().await?;
        session.feed("last words").await?;
        drop(session);
        assert_eq!(text(peer.receive().await?), "last words");
        let close = peer.receive().await?.unwrap();
        assert_eq!(close.read_reason().unwrap().code(), CloseCode::GOING_AWAY);
        assert_eq!(peer.receive().await?, None);
        peer.dropped().await;
        assert!(peer.is_dropped());
        Ok(())
    })
    .unwrap();
    assert_eq!(mock.clock().tasks(), 0);
}

#[test]
fn a_peer_that_is_dropped_is_a_connection_that_ends() {
    let (client, mock) = client();
    mock.web_socket("/chat").open();
    let error = on(&mock, async {
        let mut session = connect(&client).await?;
        drop(mock.accept().await?);
        session.receive().await
    });
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn frames_go_as_they_are_said() {
    let (client, mock) = client();
    mock.web_socket("/chat").open();
    on(&mock, async {
        let mut session = connect(&client).await?;
        let mut peer = mock.accept().await?;
        peer.send_frame(RawFrame::new(OpCode::Text, "a ").not_final());
        peer.send(Frame::Ping("in between".into()));
        peer.send_raw(&b"\x80\x06mess"[..]);
        peer.send_raw(&b"ag"[..]);
        peer.send_raw(&b"\x81\x01!"[..]);
        assert_eq!(text(session.receive().await?), "a messag");
        assert_eq!(text(session.receive().await?), "!");
        let pong = peer.receive_frame().await.unwrap();
        assert_eq!((pong.opcode, &pong.payload[..]), (OpCode::Pong, &b"in between"[..]));
        for text in ["one", "two", "three"] {
            session.feed(text).await?;
        }
        session.flush().await?;
        assert_eq!(peer.writes(), 2, "a pong, and a burst at once");
        session.send(vec![7; 100_000]).await?;
        for expected in ["one", "two", "three"] {
            assert_eq!(text(peer.receive().await?), expected);
        }
        let first = peer.receive_frame().await.unwrap();
        assert!(!first.fin, "a long message goes in fragments");
        Ok(())
    })
    .unwrap();
}

/// A message that was begun with bytes continues with any kind of frame.
#[test]
fn a_frame_in_the_middle_of_another_is_its_payload() {
    let (client, mock) = client();
    mock.web_socket("/chat").open();
    on(&mock, async {
        let mut session = connect(&client).await?;
        let mut peer = mock.accept().await?;
        peer.send_raw(&b"\x82\x04he"[..]);
        peer.send(Frame::Ping("".into()));
        peer.send("behind it");
        assert_eq!(session.receive().await?, Some(Frame::from(b"he\x89\x00".to_vec())));
        assert_eq!(text(session.receive().await?), "behind it");
        Ok(())
    })
    .unwrap();
}

/// Two futures on one waker, each polled only when that is woken.
async fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut of_a, mut of_b) = (None, None);
    poll_fn(|cx| {
        if of_a.is_none() {
            of_a = ready(a.as_mut().poll(cx));
        }
        if of_b.is_none() {
            of_b = ready(b.as_mut().poll(cx));
        }
        match (of_a.take(), of_b.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (of_a, of_b) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}

fn ready<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

#[test]
fn who_accepts_is_woken_by_a_client_and_when_none_can_come() {
    let (client, mock) = client();
    mock.web_socket("/chat").open();
    let (accepted, session) = mock.clock().block_on(both(mock.accept(), connect(&client)));
    assert_eq!(accepted.unwrap().request().path(), "/chat");
    drop(session.unwrap());
    let leaving = async { drop(client) };
    let (accepted, ()) = mock.clock().block_on(both(mock.accept(), leaving));
    assert_eq!(accepted.unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn what_a_peer_sends_at_once_is_received_at_once() {
    let (client, mock) = client();
    mock.web_socket("/chat").open();
    on(&mock, async {
        let mut session = connect(&client).await?;
        let mut peer = mock.accept().await?;
        for n in 0..10 {
            peer.send(n.to_string());
        }
        let mut answered = 0;
        while answered < 10 {
            let frame = session.receive().await?.unwrap();
            session.send(frame).await?;
            answered += 1;
        }
        session.flush().await?;
        assert!(peer.writes() <= 2, "{} writes: answers to a burst are a burst", peer.writes());
        Ok(())
    })
    .unwrap();
}

#[test]
fn clients_of_one_mock_are_told_apart() {
    let mock = MockEngine::new();
    mock.web_socket("/chat").times(2).open();
    let clients = [HttpClient::new(mock.clone()), HttpClient::new(mock.clone())];
    on(&mock, async {
        for client in &clients {
            let session = connect(client).await?;
            session.send("x").await?;
            assert_eq!(text(mock.accept().await?.receive().await?), "x");
        }
        Ok(())
    })
    .unwrap();
}
