//! The extractor and the handlers for axum, over a real socket and with `oneshot`.
#![cfg(feature = "axum")]

mod peer;

use std::net::SocketAddr;

use axum::{
    Extension, Router,
    extract::{FromRef, Path, State},
    response::{IntoResponse as _, Response},
    routing::{any, get},
};
use drivetrain_engine::{RefusalKind, Result};
use drivetrain_native::NativeFraming;
use drivetrain_server::{
    RawSession, Refusal, Session, Sessions, Upgrader, WebSocketUpgrade, WebSockets, raw_web_socket,
    web_socket,
};
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use crate::peer::{Peer, TEXT, eventually, frame, handshake};

#[derive(Clone)]
struct App {
    sockets: Upgrader,
    greeting: &'static str,
}

impl FromRef<App> for Upgrader {
    fn from_ref(app: &App) -> Self {
        app.sockets.clone()
    }
}

impl FromRef<App> for &'static str {
    fn from_ref(app: &App) -> Self {
        app.greeting
    }
}

fn app() -> App {
    App { sockets: Upgrader::new(NativeFraming::new()), greeting: "hello" }
}

async fn start(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(axum::serve(listener, app).into_future());
    address
}

async fn echo(mut session: Session) -> Result<()> {
    while let Some(frame) = session.receive().await? {
        session.send(frame).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_handler_is_a_route() {
    let app = app();
    let small = app.sockets.route(WebSockets::new().max_message_size(10));
    let router = Router::new()
        .route("/echo", any(web_socket(echo)))
        .route("/small", any(web_socket(echo)).layer(Extension(small)))
        .route(
            "/raw",
            any(raw_web_socket(async |mut session: RawSession| {
                while let Some(frame) = session.receive().await? {
                    session.send(frame).await?;
                }
                Ok(())
            })),
        )
        .route("/", get(async || "plain"))
        .with_state(app);
    let address = start(router).await;
    let mut peer = Peer::dial(address).await;
    // With what is sent behind the request.
    let mut bytes = handshake("/echo", &address.to_string(), "").into_bytes();
    bytes.extend(frame(0x81, b"early"));
    peer.write(&bytes).await;
    assert_eq!(peer.head().await.status, 101);
    assert_eq!(peer.text().await, "early");
    peer.close(1000).await;
    assert_eq!(peer.closed().await.0, 1000);
    peer.ended().await;

    let mut small = Peer::open(address, "/small").await;
    small.send(TEXT, b"eleven byte").await;
    assert_eq!(small.closed().await.0, 1009);

    let mut raw = Peer::open(address, "/raw").await;
    raw.write(&frame(0x89, b"ping")).await;
    assert_eq!(raw.receive_raw().await, Some((0x89, b"ping".to_vec())));
}

#[tokio::test]
async fn a_handshake_is_an_extractor_beside_others() {
    async fn room(
        Path(room): Path<String>,
        State(greeting): State<&'static str>,
        upgrade: std::result::Result<WebSocketUpgrade, Refusal>,
    ) -> Response {
        match upgrade {
            Ok(upgrade) => upgrade
                .run(async move |session: Session| session.send(format!("{greeting} {room}")).await)
                .into_response(),
            Err(refusal) if refusal.kind() == RefusalKind::NotAnUpgrade => "a page".into_response(),
            Err(refusal) => refusal.into_response(),
        }
    }
    let address = start(Router::new().route("/rooms/{room}", any(room)).with_state(app())).await;
    let mut peer = Peer::open(address, "/rooms/rust").await;
    assert_eq!(peer.text().await, "hello rust");
    assert_eq!(peer.closed().await.0, 1000);
    let (_, head) = Peer::ask(address, "/rooms/rust", "Origin: https://evil.test\r\n").await;
    assert_eq!(head.status, 403);
    let mut page = Peer::dial(address).await;
    page.write(b"GET /rooms/rust HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(page.head().await.status, 200);
    page.until(b"a page").await;
}

#[tokio::test]
async fn get_serves_no_websocket_to_head() {
    let router = Router::new().route("/", get(web_socket(echo))).with_state(app());
    let address = start(router).await;
    let mut peer = Peer::dial(address).await;
    let request = handshake("/", &address.to_string(), "").replace("GET", "HEAD");
    peer.write(request.as_bytes()).await;
    assert_eq!(peer.head().await.status, 405);
}

#[tokio::test]
async fn without_a_connection_the_wiring_is_at_fault() {
    let router = Router::new().route("/", any(web_socket(echo))).with_state(app());
    let request = http::Request::get("/")
        .header("host", "a")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(axum::body::Body::empty())
        .expect("a request");
    let response = router.oneshot(request).await.expect("an answer");
    assert_eq!(response.status(), 500);
}

#[tokio::test]
async fn a_shutdown_ends_what_axum_does_not_know() {
    let sessions = Sessions::new();
    let app = App { sockets: app().sockets.sessions(&sessions), ..app() };
    let router = Router::new().route("/", any(web_socket(echo))).with_state(app);
    let address = start(router).await;
    let mut peer = Peer::open(address, "/").await;
    eventually("a session", || sessions.len() == 1).await;
    let told = tokio::spawn(async move {
        assert_eq!(peer.closed().await.0, 1001);
        peer.close(1001).await;
        peer.ended().await;
    });
    let report = sessions.shutdown(peer::LONG).await;
    assert_eq!((report.drained, report.aborted), (1, 0));
    told.await.expect("told");
}
