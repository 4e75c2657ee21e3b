//! Client and server in one process, without sockets, on one clock that the test moves.

use std::time::Duration;

use axum::{
    Router,
    body::Body,
    routing::{any, get},
};
use drivetrain::{
    CloseCode, CloseReason, Error, ErrorKind, HttpClient, OpCode, Result, Session, WebSockets,
    engine::native::NativeFraming,
    server::{Broadcast, Lag, Sessions, Upgrader, web_socket},
    testing::{Clock, Loopback, handshake, loopback},
};
use http::StatusCode;
use tower::ServiceExt as _;

use super::echo;

fn sockets() -> Upgrader {
    Upgrader::new(NativeFraming::new())
}

/// A router with an echo and a page.
fn app(sockets: Upgrader) -> Router {
    Router::new()
        .route("/echo", any(web_socket(echo)))
        .route("/hello", get(async || "hello"))
        .with_state(sockets)
}

fn client(app: Router, clock: &Clock) -> HttpClient {
    HttpClient::new(Loopback::new(app, clock))
}

/// The status of a refusal.
fn status(error: &Error) -> Option<StatusCode> {
    error.response().map(http::Response::status)
}

#[tokio::test]
async fn requests_and_sessions_go_to_the_service() {
    let client = loopback(app(sockets()));
    let hello = client.get("https://app.test/hello").send().await.expect("an answer");
    assert_eq!(hello.text().await.expect("text"), "hello");
    let missing = client.get("http://app.test/nothing").send().await.expect("an answer");
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    let mut session = client.web_socket("wss://app.test/echo").connect().await.expect("a session");
    for text in ["one".to_owned(), "x".repeat(300_000)] {
        session.send(text.as_str()).await.expect("sent");
        let echoed = session.receive().await.expect("open").expect("a message");
        assert_eq!(echoed.read_text(), Some(&*text));
    }
    session.close(CloseReason::normal()).await.expect("closed");
}

#[test]
fn a_broadcast_reaches_every_session() {
    let (clock, hub) = (Clock::new(), Broadcast::new());
    let news = hub.clone();
    let handler = move |mut session: Session| {
        let news = news.clone();
        async move {
            let _subscription = news.subscribe(&session, Lag::disconnect(1 << 10));
            session.send("subscribed").await?;
            while session.receive().await?.is_some() {}
            Ok(())
        }
    };
    let app = Router::new().route("/", any(web_socket(handler))).with_state(sockets());
    let client = client(app, &clock);
    clock.block_on(async {
        let mut all = Vec::new();
        for _ in 0..3 {
            let mut session = client.web_socket("ws://app.test/").connect().await.expect("open");
            session.receive().await.expect("open").expect("subscribed");
            all.push(session);
        }
        assert_eq!(hub.publish("news").queued, 3);
        for session in &mut all {
            let message = session.receive().await.expect("open").expect("a message");
            assert_eq!(message.read_text(), Some("news"));
        }
    });
}

#[test]
fn a_page_of_another_origin_is_refused() {
    let clock = Clock::new();
    let client = client(app(sockets()), &clock);
    clock.block_on(async {
        let request = client.web_socket("ws://app.test/echo");
        let refused = request.header("origin", "https://evil.test").connect().await;
        let refused = refused.expect_err("refused");
        assert_eq!(refused.kind(), ErrorKind::Rejected);
        assert_eq!(status(&refused), Some(StatusCode::FORBIDDEN));
        let request = client.web_socket("ws://app.test/echo").header("origin", "http://app.test");
        request.connect().await.expect("its own origin");
    });
}

#[test]
fn the_server_chooses_the_subprotocol() {
    let clock = Clock::new();
    let sockets = sockets().subprotocols(["v2", "v1"]).require_subprotocol();
    let client = client(app(sockets), &clock);
    clock.block_on(async {
        let request = client.web_socket("ws://app.test/echo").subprotocol("v1").subprotocol("v2");
        let session = request.connect().await.expect("a session");
        assert_eq!(session.subprotocol(), Some("v2"));
        let without = client.web_socket("ws://app.test/echo").connect().await;
        assert_eq!(status(&without.expect_err("refused")), Some(StatusCode::BAD_REQUEST));
    });
}

#[test]
fn how_a_handler_ends_is_the_code_of_the_close() {
    async fn end(mut session: Session) -> Result<()> {
        match session.receive().await?.expect("a message").read_text() {
            Some("fail") => Err(Error::new(ErrorKind::Other, "no")),
            Some("panic") => panic!("as asked"),
            Some("own") => {
                let reason = CloseReason::new(4000, "own").expect("valid");
                session.close(reason).await?;
                Ok(())
            }
            _ => Ok(()),
        }
    }
    let clock = Clock::new();
    let app = Router::new().route("/", any(web_socket(end))).with_state(sockets());
    let client = client(app, &clock);
    for (what, code) in [("end", 1000), ("fail", 1011), ("panic", 1011), ("own", 4000)] {
        clock.block_on(async {
            let request = client.web_socket("ws://app.test/");
            let mut session = request.connect().await.expect("a session");
            session.send(what).await.expect("sent");
            assert!(session.receive().await.expect("a clean end").is_none());
            let reason = session.outcome().received.expect("a Close");
            assert_eq!(u16::from(reason.code()), code, "{what}");
        });
    }
}

#[test]
fn a_shutdown_closes_sessions_and_cuts_off_those_that_stay() {
    async fn stay(_session: Session) -> Result<()> {
        std::future::pending().await
    }
    let (clock, sessions) = (Clock::new(), Sessions::new());
    let app = Router::new()
        .route("/echo", any(web_socket(echo)))
        .route("/stay", any(web_socket(stay)))
        .with_state(sockets().sessions(&sessions));
    let client = client(app, &clock);
    clock.block_on(async {
        let mut echoing = client.web_socket("ws://app.test/echo").connect().await.expect("open");
        let staying = client.web_socket("ws://app.test/stay").connect().await.expect("open");
        // The handshake is over here before its session is registered there.
        clock.settle().await;
        let shutdown = sessions.shutdown(Duration::from_secs(10));
        let end = async {
            assert!(echoing.receive().await.expect("a clean end").is_none());
            let reason = echoing.outcome().received.expect("a Close");
            assert_eq!(reason.code(), CloseCode::GOING_AWAY);
            clock.advance(Duration::from_secs(9)).await;
            assert_eq!(sessions.len(), 1, "one handler stays until the deadline");
            clock.advance(Duration::from_secs(1)).await;
        };
        let (report, ()) = futures_util::future::join(shutdown, end).await;
        assert_eq!((report.sessions, report.drained, report.aborted), (2, 1, 1));
        assert!(sessions.is_empty());
        drop(staying);
        let refused = client.web_socket("ws://app.test/echo").connect().await;
        let refused = refused.expect_err("refused");
        assert_eq!(status(&refused), Some(StatusCode::SERVICE_UNAVAILABLE));
    });
}

#[test]
fn a_silent_client_is_given_up_in_virtual_time() {
    let (clock, sessions) = (Clock::new(), Sessions::new());
    let options = WebSockets::new()
        .ping_interval(Duration::from_secs(60))
        .ping_timeout(Duration::from_secs(30));
    let client = client(app(sockets().install(options).sessions(&sessions)), &clock);
    clock.block_on(async {
        let request = client.web_socket("ws://app.test/echo");
        let mut silent = request.connect_raw().await.expect("a session");
        clock.advance(Duration::from_secs(60)).await;
        let ping = silent.receive().await.expect("open").expect("a frame");
        assert_eq!(ping.opcode, OpCode::Ping);
        clock.advance(Duration::from_secs(29)).await;
        assert_eq!(sessions.len(), 1);
        clock.advance(Duration::from_secs(1)).await;
        let close = silent.receive().await.expect("open").expect("a frame");
        assert_eq!(close.opcode, OpCode::Close);
        assert_eq!(close.payload[..2], 1011_u16.to_be_bytes());
    });
    assert_eq!(clock.elapsed(), Duration::from_secs(90));
}

#[test]
fn a_silent_server_is_given_up_too() {
    let clock = Clock::new();
    let raw = drivetrain::server::raw_web_socket(async |_session| {
        std::future::pending::<()>().await;
        Ok(())
    });
    let app = Router::new().route("/", any(raw)).with_state(sockets());
    let client = client(app, &clock);
    clock.block_on(async {
        let five = Duration::from_secs(5);
        let request = client.web_socket("ws://app.test/").ping_interval(five).ping_timeout(five);
        let mut session = request.connect().await.expect("a session");
        clock.advance(Duration::from_secs(10)).await;
        let error = session.receive().await.expect_err("no pong came");
        assert_eq!(error.kind(), ErrorKind::Timeout);
    });
}

#[tokio::test]
async fn a_router_is_called_by_hand() {
    let app = app(sockets());
    let accepted = app.clone().oneshot(handshake::<Body>("ws://app.test/echo")).await;
    let accepted = accepted.expect("an answer");
    assert_eq!(accepted.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert!(accepted.headers().contains_key("sec-websocket-accept"));
    let mut refused = handshake::<Body>("ws://app.test/echo");
    refused.headers_mut().insert("origin", "https://evil.test".parse().expect("valid"));
    let refused = app.clone().oneshot(refused).await.expect("an answer");
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    // Without a connection that can be upgraded, the server is wired wrongly.
    let mut unwired = handshake::<Body>("ws://app.test/echo");
    unwired.extensions_mut().clear();
    let unwired = app.oneshot(unwired).await.expect("an answer");
    assert_eq!(unwired.status(), StatusCode::INTERNAL_SERVER_ERROR);
}
