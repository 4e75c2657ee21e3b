//! The client's engines against the server's framings, over TCP, TLS, HTTP/2, Unix sockets and without tokio's runtime.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use drivetrain::{
    CloseCode, CloseReason, Frame, HttpClient, Protocol, Result, Session, WebSockets,
    engine::{
        self, Engine, fastwebsockets::FastWebSocketsFraming, native::NativeFraming,
        tungstenite::TungsteniteFraming,
    },
    extension::PermessageDeflate,
    server::{Sessions, Upgrader, serve},
};
use drivetrain_conformance::peer::TestCa;
use tokio::net::TcpListener;

#[macro_use]
#[path = "../support/engines.rs"]
mod list;

/// The engines that have WebSockets.
fn engines(ca: &TestCa) -> Vec<Box<dyn Engine>> {
    let mut engines: Vec<Box<dyn Engine>> = Vec::new();
    macro_rules! push {
        (tokio, $Engine:ident, $name:literal) => {
            let http = engine::Reqwest::new().root_certificate_pem(ca.ca_pem());
            engines.push(Box::new(engine::$Engine::new().http(http)));
        };
        (futures $executor:ident, $Engine:ident, $name:literal) => {
            engines.push(Box::new(engine::$Engine::new().root_certificate_pem(ca.ca_pem())));
        };
        (http, $Engine:ident, $name:literal) => {};
    }
    for_each_engine!(push);
    engines
}

/// The server's framings.
fn upgraders() -> [(&'static str, Upgrader); 3] {
    [
        ("native", Upgrader::new(NativeFraming::new())),
        ("tungstenite", Upgrader::new(TungsteniteFraming::new())),
        ("fastwebsockets", Upgrader::new(FastWebSocketsFraming::new())),
    ]
}

async fn echo(mut session: Session) -> Result<()> {
    while let Some(frame) = session.receive().await? {
        session.send(frame).await?;
    }
    Ok(())
}

/// A busy machine does not meet the default time limits.
fn patient() -> WebSockets {
    let long = Duration::from_secs(60);
    WebSockets::new().handshake_timeout(long).close_timeout(long)
}

fn client(engine: impl engine::Engine) -> HttpClient {
    HttpClient::builder(engine).install(patient()).build().expect("a client")
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("in time")
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

/// Messages of all sizes in both directions, a ping, and a close whose codes arrive.
async fn talk(mut session: Session, what: &str) {
    for size in [0, 1, 125, 126, 0xffff, 0x1_0000, 300_000] {
        let text = "x".repeat(size);
        within(session.send(text.clone())).await.unwrap_or_else(|e| panic!("{what}: {e:#}"));
        let got = within(session.receive()).await.unwrap_or_else(|e| panic!("{what}: {e:#}"));
        assert_eq!(got, Some(Frame::from(text)), "{what}, {size}");
    }
    within(session.ping()).await.unwrap_or_else(|e| panic!("{what}: {e:#}"));
    let reason = CloseReason::new(4001, "enough").expect("a reason");
    let outcome = within(session.close(reason)).await.unwrap_or_else(|e| panic!("{what}: {e:#}"));
    assert!(outcome.clean, "{what}: {outcome}");
    let echoed = outcome.received.map(|reason| u16::from(reason.code()));
    assert_eq!(echoed, Some(4001), "{what}");
}

#[tokio::test]
async fn every_engine_talks_to_every_framing() {
    let ca = TestCa::new();
    for (framing, upgrader) in upgraders() {
        let (listener, address) = listen().await;
        tokio::spawn(serve(listener, upgrader.service(echo)).into_future());
        for engine in engines(&ca) {
            let what = format!("{} with {framing}", engine.name());
            let client = client(engine);
            let session = client.web_socket(format!("ws://{address}/")).connect().await;
            talk(session.unwrap_or_else(|e| panic!("{what}: {e:#}")), &what).await;
        }
    }
}

#[tokio::test]
async fn options_are_agreed_on() {
    let ca = TestCa::new();
    let (listener, address) = listen().await;
    let deflate = WebSockets::new().extension(PermessageDeflate::new());
    let upgrader = Upgrader::new(NativeFraming::new())
        .install(deflate.clone())
        .subprotocols(["chat.v2", "chat.v1"]);
    tokio::spawn(serve(listener, upgrader.service(echo)).into_future());
    for engine in engines(&ca) {
        let what = engine.name().to_owned();
        let has_deflate = engine.name() != "fastwebsockets";
        let plugin = if has_deflate { deflate.clone() } else { WebSockets::new() };
        let client = HttpClient::builder(engine)
            .install(patient())
            .install(plugin)
            .build()
            .expect("a client");
        let request = client.web_socket(format!("ws://{address}/"));
        let session = request.subprotocol("chat.v1").subprotocol("chat.v2").connect().await;
        let session = session.unwrap_or_else(|e| panic!("{what}: {e:#}"));
        assert_eq!(session.subprotocol(), Some("chat.v2"), "{what}");
        assert_eq!(session.extensions().len(), usize::from(has_deflate), "{what}");
        talk(session, &what).await;
    }
}

#[tokio::test]
async fn every_engine_talks_over_tls() {
    let ca = TestCa::new();
    let acceptor = tokio_rustls::TlsAcceptor::from(ca.server_config());
    let (listener, address) = listen().await;
    let upgrader = Upgrader::new(NativeFraming::new());
    let server = serve(listener, upgrader.service(echo)).tls(move |socket| acceptor.accept(socket));
    tokio::spawn(server.into_future());
    for engine in engines(&ca) {
        let what = format!("{} over TLS", engine.name());
        let client = client(engine);
        let url = format!("wss://localhost:{}/", address.port());
        let session = client.web_socket(url).connect().await;
        talk(session.unwrap_or_else(|e| panic!("{what}: {e:#}")), &what).await;
    }
}

#[tokio::test]
async fn a_client_without_tls_is_disconnected_in_time() {
    let ca = TestCa::new();
    let acceptor = tokio_rustls::TlsAcceptor::from(ca.server_config());
    let (listener, address) = listen().await;
    let upgrader = Upgrader::new(NativeFraming::new());
    let server = serve(listener, upgrader.service(echo))
        .tls(move |socket| acceptor.accept(socket))
        .header_read_timeout(Duration::from_millis(200));
    tokio::spawn(server.into_future());
    let mut silent = tokio::net::TcpStream::connect(address).await.expect("connected");
    let mut end = Vec::new();
    within(tokio::io::AsyncReadExt::read_to_end(&mut silent, &mut end)).await.expect("an end");
    assert_eq!(end, b"");
}

#[tokio::test]
async fn sessions_share_a_connection_of_http2() {
    let ca = TestCa::new();
    let sessions = Sessions::new();
    let (clear, clear_address) = listen().await;
    let (secure, secure_address) = listen().await;
    let upgrader = Upgrader::new(NativeFraming::new()).sessions(&sessions);
    tokio::spawn(serve(clear, upgrader.service(echo)).into_future());
    let acceptor = tokio_rustls::TlsAcceptor::from(ca.http2_server_config());
    let server = serve(secure, upgrader.service(echo)).tls(move |socket| acceptor.accept(socket));
    tokio::spawn(server.into_future());

    let http = engine::Reqwest::new()
        .root_certificate_pem(ca.ca_pem())
        .web_socket_over_http2()
        .http2_prior_knowledge();
    let client = client(engine::Native::new().http(http));
    for url in
        [format!("ws://{clear_address}/"), format!("wss://localhost:{}/", secure_address.port())]
    {
        let mut open = Vec::new();
        for _ in 0..5 {
            let session = client.web_socket(url.as_str()).connect().await;
            let session = session.unwrap_or_else(|e| panic!("{url}: {e:#}"));
            assert_eq!(session.protocol(), Protocol::H2, "{url}");
            open.push(session);
        }
        assert_eq!(sessions.len(), 5);
        for session in open {
            talk(session, &url).await;
        }
        while !sessions.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn a_shutdown_ends_sessions_over_http2_with_1001() {
    let sessions = Sessions::new();
    let (listener, address) = listen().await;
    let upgrader = Upgrader::new(NativeFraming::new()).sessions(&sessions);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = serve(listener, upgrader.service(echo))
        .sessions(&sessions)
        .until(async { drop(stopped.await) });
    let server = tokio::spawn(server.into_future());
    let http = engine::Reqwest::new().web_socket_over_http2().http2_prior_knowledge();
    let client = client(engine::Native::new().http(http));
    let mut session = client.web_socket(format!("ws://{address}/")).connect().await.expect("open");
    drop(stop);
    assert_eq!(within(session.receive()).await.expect("a clean end"), None);
    let received = session.outcome().received.map(|reason| reason.code());
    assert_eq!(received, Some(CloseCode::GOING_AWAY));
    let report = within(server).await.expect("no panic").expect("served");
    assert_eq!((report.sessions, report.aborted), (1, 0));
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_serves_sessions() {
    use tokio::net::{UnixListener, UnixStream};

    let directory = std::env::temp_dir().join(format!("drivetrain-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let path = directory.join("server.sock");
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).expect("a socket");
    let upgrader = Upgrader::new(NativeFraming::new());
    tokio::spawn(serve(listener, upgrader.service(echo)).into_future());
    let stream = UnixStream::connect(&path).await.expect("connected");
    let client = client(engine::Native::over(stream));
    let session = client.web_socket("ws://localhost/").connect().await.expect("a session");
    talk(session, "a Unix socket").await;
    std::fs::remove_dir_all(&directory).expect("removed");
}

/// hyper on smol: no tokio runtime is anywhere near.
#[test]
fn sessions_run_on_smol() {
    use drivetrain_connect::IntoTokio;
    use hyper_util::rt::TokioIo;

    smol::block_on(async {
        let engine = engine::NativeSmol::new();
        let runtime = engine.runtime().expect("smol's");
        let upgrader = Upgrader::new(engine.clone()).runtime(Arc::clone(&runtime));
        let listener = smol::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        smol::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let upgrader = upgrader.clone();
                let service = hyper::service::service_fn(move |mut request| {
                    let response = match upgrader.upgrade(&mut request) {
                        Ok(upgrade) => upgrade.run(echo),
                        Err(refusal) => refusal.response(),
                    };
                    async { Ok::<_, std::convert::Infallible>(response) }
                });
                smol::spawn(async move {
                    let stream = TokioIo::new(IntoTokio(socket));
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(stream, service).with_upgrades().await;
                })
                .detach();
            }
        })
        .detach();
        let client = client(engine);
        let mut session =
            client.web_socket(format!("ws://{address}/")).connect().await.expect("a session");
        session.send("hello").await.expect("sent");
        let got = session.receive().await.expect("a frame").expect("no close");
        assert_eq!(got.read_text(), Some("hello"));
        let outcome = session.close(CloseReason::normal()).await.expect("closed");
        assert!(outcome.clean);
    });
}
