//! The server over real sockets, against a client without any library.

mod peer;

use std::{
    cell::RefCell,
    convert::Infallible,
    future::{self, Future},
    hash::{Hash, Hasher},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use drivetrain_engine::{
    CloseCode, CloseReason, Error, ErrorKind, Frame, OpCode, RawFrame, Result,
};
use drivetrain_native::NativeFraming;
use drivetrain_server::{
    Broadcast, Events, Lag, Origins, Peer as Address, RawSession, ServerEvent, Session, Sessions,
    ShutdownReport, Topics, Upgrader, WebSockets, serve,
};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, oneshot},
    task::JoinHandle,
};
use tower::service_fn;

use crate::peer::{BINARY, CLOSE, PING, PONG, Peer, TEXT, eventually, frame, handshake, within};

/// Factors of a time that a machine may be too slow for: then the next one is tried.
const FACTORS: [u32; 3] = [1, 10, 100];

/// A busy machine does not meet the default time limits.
fn sockets() -> Upgrader {
    let plugin = WebSockets::new().close_timeout(peer::LONG).handshake_timeout(peer::LONG);
    Upgrader::new(NativeFraming::new()).install(plugin)
}

/// A running server; dropped, it ends with the test.
struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<std::io::Result<ShutdownReport>>,
}

impl Server {
    /// Every request opens a session with this handler.
    async fn start<F, Fut>(sockets: &Upgrader, handler: F) -> Self
    where
        F: Fn(Session) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        Self::answer(sockets.registry(), sockets.service(handler), |serve| serve).await
    }

    async fn answer<S, B>(
        sessions: &Sessions,
        service: S,
        with: impl FnOnce(drivetrain_server::Serve<S>) -> drivetrain_server::Serve<S>,
    ) -> Self
    where
        S: tower_service::Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send,
        B: http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let server = serve(listener, service).sessions(sessions).until(async {
            let _ = stopped.await;
        });
        let server = with(server.header_read_timeout(peer::LONG).shutdown_deadline(peer::LONG / 2));
        let served = tokio::spawn(server.into_future());
        Self { address, stop: Some(stop), served }
    }

    async fn stop(mut self) -> ShutdownReport {
        drop(self.stop.take());
        within(self.served).await.expect("no panic").expect("it served")
    }
}

async fn echo(mut session: Session) -> Result<()> {
    while let Some(frame) = session.receive().await? {
        session.send(frame).await?;
    }
    Ok(())
}

async fn waits(mut session: Session) -> Result<()> {
    while session.receive().await?.is_some() {}
    Ok(())
}

#[tokio::test]
async fn messages_come_back_and_the_server_ends_the_connection() {
    let sockets = sockets();
    let server = Server::start(&sockets, echo).await;
    let mut peer = Peer::open(server.address, "/").await;
    for size in [0, 1, 125, 126, 0xc123, 0xcdef, 0x1_0001] {
        peer.send(TEXT, &vec![b'x'; size]).await;
        assert_eq!(peer.text().await.len(), size);
    }
    peer.send(BINARY, b"\0\xff").await;
    assert_eq!(peer.receive().await, (BINARY, b"\0\xff".to_vec()));
    for payload in ["", "one", "two"] {
        peer.send(PING, payload.as_bytes()).await;
        assert_eq!(peer.receive().await, (PONG, payload.as_bytes().to_vec()));
    }
    assert_eq!(sockets.registry().len(), 1);
    peer.close(1000).await;
    assert_eq!(peer.closed().await.0, 1000);
    peer.ended().await;
    eventually("the session is gone", || sockets.registry().is_empty()).await;
}

#[tokio::test]
async fn fragments_with_a_ping_between_are_one_message() {
    let server = Server::start(&sockets(), echo).await;
    let mut peer = Peer::open(server.address, "/").await;
    peer.write(&frame(0x01, b"ABC")).await;
    peer.write(&frame(0x89, b"ping")).await;
    peer.write(&frame(0x00, b"12")).await;
    peer.write(&frame(0x80, b"3")).await;
    assert_eq!(peer.receive().await, (PONG, b"ping".to_vec()));
    assert_eq!(peer.text().await, "ABC123");
}

#[tokio::test]
async fn what_is_sent_with_the_request_is_not_lost() {
    let server = Server::start(&sockets(), echo).await;
    let mut peer = Peer::dial(server.address).await;
    let mut bytes = handshake("/", &server.address.to_string(), "").into_bytes();
    bytes.extend(frame(0x81, b"early"));
    bytes.extend(frame(0x81, b"bird"));
    peer.write(&bytes).await;
    assert_eq!(peer.head().await.status, 101);
    assert_eq!((peer.text().await, peer.text().await), ("early".into(), "bird".into()));
}

#[tokio::test]
async fn a_request_that_comes_byte_by_byte_is_answered() {
    let server = Server::start(&sockets(), echo).await;
    let mut peer = Peer::dial(server.address).await;
    for byte in handshake("/", &server.address.to_string(), "").bytes() {
        peer.write(&[byte]).await;
    }
    assert_eq!(peer.head().await.status, 101);
    for byte in frame(0x81, b"slow") {
        peer.write(&[byte]).await;
    }
    assert_eq!(peer.text().await, "slow");
}

#[tokio::test]
async fn refusals_have_their_status_and_are_counted() {
    let sockets = sockets().origins(Origins::same_host().and("https://app.test"));
    let server = Server::start(&sockets, echo).await;
    for (lines, status) in [
        ("Origin: https://evil.test\r\n", 403),
        ("Origin: null\r\n", 403),
        ("Sec-WebSocket-Version: 8\r\n", 400),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", 400),
        ("Sec-WebSocket-Protocol: a, a\r\n", 400),
        ("Content-Length: 3\r\n\r\nabc", 400),
        ("Origin: https://app.test\r\n", 101),
        ("Sec-WebSocket-Protocol: a\r\n", 101),
    ] {
        let (_, head) = Peer::ask(server.address, "/", lines).await;
        assert_eq!(head.status, status, "{lines}");
        assert_eq!(head.header("sec-websocket-protocol"), None);
    }
    let mut peer = Peer::dial(server.address).await;
    peer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let head = peer.head().await;
    assert_eq!((head.status, head.header("upgrade")), (426, Some("websocket")));
    // The connection stays open.
    peer.write(b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await;
    peer.until(b"\r\n\r\n").await;
    let text = String::from_utf8_lossy(peer.until(b"\r\n\r\n").await).into_owned();
    assert!(text.contains("405") && text.to_ascii_lowercase().contains("allow: get"), "{text}");
    assert_eq!(sockets.registry().refused(), 8);
}

#[tokio::test]
async fn a_server_that_is_full_says_so_until_there_is_room() {
    let sockets = sockets().sessions(&Sessions::new().max_sessions(1));
    let server = Server::start(&sockets, echo).await;
    let mut first = Peer::open(server.address, "/").await;
    let (_, head) = Peer::ask(server.address, "/", "").await;
    assert_eq!((head.status, head.header("retry-after")), (503, Some("5")));
    first.close(1000).await;
    first.closed().await;
    first.ended().await;
    eventually("there is room", || sockets.registry().is_empty()).await;
    Peer::open(server.address, "/").await;
}

#[tokio::test]
async fn a_wrong_configuration_is_an_error_of_check_and_lets_nobody_in() {
    let wrong = sockets().origins(Origins::any().and("https//typo.test"));
    assert!(wrong.check().expect_err("a typo").to_string().contains("https//typo.test"));
    let zero = sockets().install(WebSockets::new().max_message_size(0));
    assert_eq!(zero.check().expect_err("zero").kind(), ErrorKind::InvalidInput);
    assert!(sockets().check().is_ok());
    let server = Server::start(&wrong, echo).await;
    let (mut peer, head) = Peer::ask(server.address, "/", "").await;
    assert_eq!(head.status, 500);
    assert!(peer.until(b"internal error").await.ends_with(b"internal error\n"), "nothing is told");
}

#[tokio::test]
async fn options_of_a_route_win_and_limits_are_the_smallest() {
    let sockets = sockets().install(WebSockets::new().max_message_size(1000));
    let value =
        |sockets: &Upgrader, name| sockets.settings().get(name).expect("a row").value.to_string();
    assert_eq!(value(&sockets, "ping_interval"), "20s");
    let route = sockets
        .route(WebSockets::new().max_message_size(2000).ping_interval(Duration::from_secs(5)));
    assert_eq!(value(&route, "max_message_size"), "1000 bytes");
    assert_eq!(value(&route, "ping_interval"), "5s");
    assert_eq!(value(&sockets, "ping_interval"), "20s");
    let off = sockets.route(WebSockets::new().ping_interval(None));
    assert_eq!(value(&off, "ping_interval"), "off");
}

#[tokio::test]
async fn a_handler_that_returns_closes_with_1000() {
    let server =
        Server::start(&sockets(), async |session: Session| session.send("bye").await).await;
    let mut peer = Peer::open(server.address, "/").await;
    assert_eq!(peer.text().await, "bye");
    assert_eq!(peer.closed().await, (1000, String::new()));
    peer.close(1000).await;
    peer.ended().await;
}

#[tokio::test]
async fn a_handler_that_fails_closes_with_1011_or_its_code() {
    for (code, seen) in [(None, 1011), (Some(4001), 4001)] {
        let sockets = sockets();
        let server = Server::start(&sockets, move |_session| async move {
            let error = Error::other("no luck");
            Err(match code {
                Some(code) => error.with_close_code(CloseCode::try_from(code)?),
                None => error,
            })
        })
        .await;
        let mut peer = Peer::open(server.address, "/").await;
        let (code, text) = peer.closed().await;
        assert_eq!(code, seen);
        // The response does not say what failed unless the handler does.
        assert_eq!(text.is_empty(), seen == 1011, "{text}");
        peer.close(code).await;
        peer.ended().await;
        eventually("the session is gone", || sockets.registry().is_empty()).await;
    }
}

#[tokio::test]
async fn a_handler_that_panics_closes_with_1011() {
    for late in [false, true] {
        let sockets = sockets();
        let server = Server::start(&sockets, move |mut session: Session| {
            assert!(late, "a panic where the future is made");
            async move {
                session.receive().await?;
                panic!("a panic in the middle");
            }
        })
        .await;
        let mut peer = Peer::open(server.address, "/").await;
        if late {
            peer.send(TEXT, b"go").await;
        }
        assert_eq!(peer.closed().await.0, 1011);
        peer.close(1011).await;
        peer.ended().await;
        eventually("the session is gone", || sockets.registry().is_empty()).await;
    }
}

#[tokio::test]
async fn a_peer_that_never_answers_a_close_is_cut_off() {
    let sockets = sockets().install(WebSockets::new().close_timeout(Duration::from_millis(100)));
    let server = Server::start(&sockets, async |_| Ok(())).await;
    let mut peer = Peer::open(server.address, "/").await;
    assert_eq!(peer.closed().await.0, 1000);
    peer.rest().await;
    eventually("the session is gone", || sockets.registry().is_empty()).await;
}

#[tokio::test]
async fn a_silent_peer_is_pinged_and_given_up() {
    for factor in FACTORS {
        let options = WebSockets::new()
            .ping_interval(Duration::from_millis(50))
            .ping_timeout(factor * Duration::from_millis(200));
        let sockets = sockets().install(options);
        let server = Server::start(&sockets, waits).await;
        let mut peer = Peer::open(server.address, "/").await;
        let (first, payload) = peer.receive_raw().await.expect("a ping");
        assert_eq!(first, 0x80 | PING);
        peer.send(PONG, &payload).await;
        let another = peer.receive_raw().await.expect("another");
        if another.0 != 0x80 | PING && factor < FACTORS[2] {
            continue; // the pong came too late
        }
        assert_eq!(another.0, 0x80 | PING);
        assert_eq!(peer.closed().await, (1011, "Ping timeout".into()));
        peer.rest().await;
        return eventually("the session is gone", || sockets.registry().is_empty()).await;
    }
}

#[tokio::test]
async fn peers_that_break_the_rules_get_a_close_that_says_so() {
    let sockets = sockets().install(WebSockets::new().max_message_size(1023));
    let server = Server::start(&sockets, echo).await;
    let unmasked = b"\x81\x02hi".to_vec();
    let mut fragments = frame(0x01, &[b'x'; 1000]);
    fragments.extend(frame(0x80, &[b'x'; 24]));
    for (what, bytes, code) in [
        ("no mask", unmasked, 1002),
        ("a reserved opcode", frame(0x83, b""), 1002),
        ("a reserved bit", frame(0xc1, b"x"), 1002),
        ("a continuation of nothing", frame(0x80, b"x"), 1002),
        ("a fragmented ping", frame(0x09, b"x"), 1002),
        ("a long ping", frame(0x89, &[0; 126]), 1002),
        ("an odd close", frame(0x88, &[3]), 1002),
        ("a close with 1005", frame(0x88, &1005_u16.to_be_bytes()), 1002),
        ("no UTF-8", frame(0x81, b"\xc3\x28"), 1007),
        ("no UTF-8 in a close", frame(0x88, b"\x03\xe8\xff"), 1007),
        ("a large message", frame(0x82, &[0; 1024]), 1009),
        ("a large message in fragments", fragments, 1009),
        (
            "a header of a frame that cannot be held",
            b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0".to_vec(),
            1009,
        ),
    ] {
        let mut peer = Peer::open(server.address, "/").await;
        peer.write(&bytes).await;
        assert_eq!(peer.closed().await.0, code, "{what}");
        let _ = peer.stream.set_zero_linger();
    }
    eventually("all sessions are gone", || sockets.registry().is_empty()).await;
}

#[tokio::test]
async fn a_peer_that_vanishes_frees_its_session_whatever_the_handler_does() {
    let sockets = sockets();
    let server = Server::start(&sockets, waits).await;
    for reset in [false, true] {
        let peer = Peer::open(server.address, "/").await;
        eventually("a session", || sockets.registry().len() == 1).await;
        if reset {
            peer.stream.set_zero_linger().expect("a socket");
        }
        drop(peer);
        eventually("the session is gone", || sockets.registry().is_empty()).await;
    }
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_the_connection() {
    let sockets = sockets();
    for limit in FACTORS.map(|factor| factor * Duration::from_millis(100)) {
        let server = Server::answer(sockets.registry(), sockets.service(echo), |serve| {
            serve.header_read_timeout(limit)
        })
        .await;
        for begun in [&b""[..], b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: "] {
            let mut peer = Peer::dial(server.address).await;
            // It may have passed already.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut peer.stream, begun).await;
            peer.ended_somehow().await;
        }
        // A session is not bound by it.
        let Some(mut peer) = Peer::try_open(server.address, "/").await else { continue };
        tokio::time::sleep(2 * limit).await;
        peer.send(TEXT, b"still here").await;
        assert_eq!(peer.text().await, "still here");
        return;
    }
    panic!("no head comes in time");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let sockets = sockets();
    let server =
        Server::answer(sockets.registry(), sockets.service(echo), |serve| serve.max_connections(1))
            .await;
    let holder = Peer::dial(server.address).await;
    let mut waiting = Peer::dial(server.address).await;
    waiting.write(handshake("/", &server.address.to_string(), "").as_bytes()).await;
    let answered = tokio::time::timeout(Duration::from_millis(100), waiting.head()).await;
    assert!(answered.is_err(), "one at a time");
    drop(holder);
    assert_eq!(waiting.head().await.status, 101);
}

#[tokio::test]
async fn subprotocols_are_the_servers_choice() {
    let sockets = sockets().subprotocols(["v2", "v1"]).require_subprotocol();
    let server = Server::start(&sockets, async |session: Session| {
        session.send(session.subprotocol().unwrap_or("none").to_owned()).await
    })
    .await;
    let (mut peer, head) =
        Peer::ask(server.address, "/", "Sec-WebSocket-Protocol: v1, v2\r\n").await;
    assert_eq!((head.status, head.header("sec-websocket-protocol")), (101, Some("v2")));
    assert_eq!(peer.text().await, "v2");
    let (_, head) = Peer::ask(server.address, "/", "Sec-WebSocket-Protocol: v3\r\n").await;
    assert_eq!((head.status, head.header("sec-websocket-protocol")), (400, Some("v2, v1")));
}

/// An application that answers by itself.
fn by_hand(
    sockets: &Upgrader,
    open: impl Fn(drivetrain_server::WebSocketUpgrade) -> Response<Full<Bytes>>
    + Clone
    + Send
    + Sync
    + 'static,
) -> impl tower_service::Service<
    Request<Incoming>,
    Response = Response<Full<Bytes>>,
    Error = Infallible,
    Future: Send,
> + Clone
+ Send
+ Sync
+ 'static {
    let sockets = sockets.clone();
    service_fn(move |mut request: Request<Incoming>| {
        future::ready(Ok(match sockets.upgrade(&mut request) {
            Ok(upgrade) => open(upgrade),
            Err(refusal) => refusal.response(),
        }))
    })
}

#[tokio::test]
async fn a_handshake_is_accepted_by_hand_with_headers() {
    let sockets = sockets();
    let app = by_hand(&sockets, |mut upgrade| {
        upgrade.response_headers().insert("set-cookie", http::HeaderValue::from_static("a=b"));
        let (response, pending) = upgrade.label("ann").accept();
        tokio::spawn(async move {
            let session = pending.session().await?;
            session.send("by hand").await?;
            waits(session).await
        });
        response
    });
    let server = Server::answer(sockets.registry(), app, |serve| serve).await;
    let (mut peer, head) = Peer::ask(server.address, "/path", "").await;
    assert_eq!((head.status, head.header("set-cookie")), (101, Some("a=b")));
    assert_eq!(peer.text().await, "by hand");
    let mut seen = Vec::new();
    sockets.registry().for_each(|info| {
        seen.push((info.label().map(str::to_owned), info.path().to_owned(), info.peer()));
    });
    assert_eq!(seen, [(Some("ann".into()), "/path".into(), peer.stream.local_addr().ok())]);
    let reason = CloseReason::new(4002, "log out").expect("a code");
    assert_eq!(sockets.registry().close_where(&reason, |info| info.label() == Some("bob")), 0);
    assert_eq!(sockets.registry().close_where(&reason, |info| info.label() == Some("ann")), 1);
    assert_eq!(peer.closed().await, (4002, "log out".into()));
    peer.close(4002).await;
    peer.ended().await;
    eventually("the session is gone", || sockets.registry().is_empty()).await;
}

#[tokio::test]
async fn raw_sessions_see_every_frame_and_do_nothing_by_themselves() {
    let sockets = sockets();
    let app = by_hand(&sockets, |upgrade| {
        upgrade.run_raw(async |mut session: RawSession| {
            while let Some(frame) = session.receive().await? {
                let closes = frame.opcode == OpCode::Close;
                session.send(RawFrame { opcode: frame.opcode, ..frame }).await?;
                if closes {
                    return Ok(());
                }
            }
            Ok(())
        })
    });
    let server = Server::answer(sockets.registry(), app, |serve| serve).await;
    let mut peer = Peer::open(server.address, "/").await;
    for (first, payload) in [(0x89, &b"ping"[..]), (0x01, b"a"), (0x80, b"b"), (0x88, b"\x0f\xa1")]
    {
        peer.write(&frame(first, payload)).await;
        assert_eq!(peer.receive_raw().await, Some((first, payload.to_vec())));
    }
    peer.ended().await;
    eventually("the session is gone", || sockets.registry().is_empty()).await;
}

/// A raw session that echoes, Closes too, once it has done what its first frame asks for.
async fn raw_in_a_state(mut session: RawSession, busy: Arc<Semaphore>) -> Result<()> {
    let first = session.receive().await?.filter(|frame| frame.opcode != OpCode::Close);
    let Some(first) = first else { return Ok(()) };
    match &first.payload[..] {
        b"send" => loop {
            session.send(RawFrame::new(OpCode::Text, "more".repeat(10_000))).await?;
        },
        b"busy" => drop(busy.acquire().await),
        b"stuck" => future::pending().await,
        b"half" => session.send(RawFrame::new(OpCode::Text, "half").not_final()).await?,
        _ => {}
    }
    while let Some(frame) = session.receive().await? {
        let closes = frame.opcode == OpCode::Close;
        session.send(RawFrame { opcode: frame.opcode, ..frame }).await?;
        if closes {
            break;
        }
    }
    Ok(())
}

async fn raw_server(sockets: &Upgrader, busy: &Arc<Semaphore>) -> Server {
    let busy = Arc::clone(busy);
    let app = by_hand(sockets, move |upgrade| {
        let busy = Arc::clone(&busy);
        upgrade.run_raw(move |session| raw_in_a_state(session, busy))
    });
    Server::answer(sockets.registry(), app, |serve| serve).await
}

fn open(sessions: &Sessions) -> usize {
    let mut open = 0;
    sessions.for_each(|_| open += 1);
    open
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_tells_raw_sessions_whatever_they_do() {
    let sessions = Sessions::new();
    let options = WebSockets::new().close_timeout(peer::LONG);
    let busy = Arc::new(Semaphore::new(0));
    let server = raw_server(&sockets().sessions(&sessions).install(options), &busy).await;
    let mut peers = Vec::new();
    for state in ["idle", "send", "busy", "half", "fresh"] {
        let mut peer = Peer::open(server.address, "/").await;
        if state != "fresh" {
            peer.send(TEXT, state.as_bytes()).await;
        }
        peers.push((state, peer));
    }
    eventually("all are open", || open(&sessions) == 5).await;
    let shutdown = tokio::spawn({
        let sessions = sessions.clone();
        async move { sessions.shutdown(peer::LONG).await }
    });
    eventually("it has begun", || open(&sessions) == 0).await;
    busy.close();
    for (state, mut peer) in peers {
        loop {
            let (opcode, payload) = peer.receive().await;
            if opcode == CLOSE {
                assert_eq!(
                    (&payload[..2], &payload[2..]),
                    (&b"\x03\xe9"[..], &b"server is shutting down"[..]),
                    "{state}"
                );
                break;
            }
        }
        peer.close(1001).await;
        peer.ended().await;
    }
    let report = within(shutdown).await.expect("no panic");
    assert_eq!((report.sessions, report.drained, sessions.len()), (5, 5, 0), "{report:?}");
}

#[tokio::test]
async fn a_raw_session_that_is_cut_off_was_told() {
    let sessions = Sessions::new();
    let busy = Arc::new(Semaphore::new(0));
    let server = raw_server(&sockets().sessions(&sessions), &busy).await;
    let mut peer = Peer::open(server.address, "/").await;
    peer.send(TEXT, b"stuck").await;
    eventually("a session", || open(&sessions) == 1).await;
    let report = within(sessions.shutdown(Duration::from_millis(100))).await;
    assert_eq!((report.sessions, report.drained, report.aborted), (1, 0, 1));
    assert_eq!(peer.closed().await.0, 1001);
    peer.rest().await;
    assert!(sessions.is_empty());
}

#[tokio::test]
async fn a_registry_closes_raw_sessions_like_others() {
    let sockets = sockets();
    let busy = Arc::new(Semaphore::new(0));
    let server = raw_server(&sockets, &busy).await;
    let (mut one, mut other) =
        (Peer::open(server.address, "/one").await, Peer::open(server.address, "/other").await);
    let registry = sockets.registry();
    eventually("both are open", || open(registry) == 2).await;
    other.send(TEXT, b"first").await;
    other.send(TEXT, b"second").await;
    assert_eq!(other.text().await, "second");
    let reason = CloseReason::new(4002, "log out").expect("a code");
    assert_eq!(registry.close_where(&reason, |info| info.path() == "/one"), 1);
    assert_eq!(registry.close_where(&reason, |info| info.path() == "/one"), 0, "once");
    assert_eq!(one.closed().await, (4002, "log out".into()));
    one.close(4002).await;
    one.ended().await;
    // A Close of the peer's, or of the session's own, ends it too.
    assert_eq!(open(registry), 1);
    other.close(1000).await;
    assert_eq!(other.closed().await.0, 1000);
    other.ended().await;
    eventually("both are gone", || registry.is_empty()).await;
}

#[tokio::test]
async fn a_session_shows_its_request_where_it_is_kept() {
    for keeps in [false, true] {
        let sockets = if keeps { sockets().keep_requests() } else { sockets() };
        let server = Server::start(&sockets, async |session: Session| {
            let seen = session
                .request()
                .map(|request| format!("{} {:?}", request.uri(), request.headers().get("x-user")));
            session.send(seen.unwrap_or_else(|| "none".into())).await
        })
        .await;
        let (mut peer, head) = Peer::ask(server.address, "/a?b=c", "X-User: ann\r\n").await;
        assert_eq!(head.status, 101);
        assert_eq!(peer.text().await, if keeps { "/a?b=c Some(\"ann\")" } else { "none" });
    }
}

#[tokio::test]
async fn requests_know_the_address_of_their_client() {
    let app = service_fn(|request: Request<Incoming>| {
        let peer = request.extensions().get::<Address>().copied();
        future::ready(Ok(Response::new(Full::new(Bytes::from(format!("{peer:?}"))))))
    });
    let server = Server::answer(&Sessions::new(), app, |serve| serve).await;
    let mut peer = Peer::dial(server.address).await;
    peer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let own = format!("Some(Peer({}))", peer.stream.local_addr().expect("an address"));
    peer.until(own.as_bytes()).await;
}

/// Sessions in five states, and each is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_tells_every_session_whatever_it_does() {
    let sessions = Sessions::new().shutdown_batches(7, Duration::from_millis(1));
    let options = WebSockets::new().close_timeout(peer::LONG).ping_interval(None);
    let sockets = sockets().sessions(&sessions).install(options);
    let (started, busy) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let (seen, wait) = (Arc::clone(&started), Arc::clone(&busy));
    let server = Server::start(&sockets, move |mut session: Session| {
        let (seen, wait) = (Arc::clone(&seen), Arc::clone(&wait));
        async move {
            seen.fetch_add(1, Ordering::Relaxed);
            match session.receive().await?.map(|frame| frame.into_bytes()) {
                Some(what) if what == "send" => loop {
                    if session.send("more".repeat(10_000)).await.is_err() {
                        return Ok(());
                    }
                },
                Some(what) if what == "busy" => {
                    let _ = wait.acquire().await;
                    Ok(())
                }
                Some(what) if what == "close" => {
                    session.close(CloseReason::normal()).await.map(drop)
                }
                _ => waits(session).await,
            }
        }
    })
    .await;
    let mut peers = Vec::new();
    for i in 0..20 {
        for state in ["idle", "send", "busy", "close"] {
            let mut peer = Peer::open(server.address, "/").await;
            if state != "idle" {
                peer.send(TEXT, state.as_bytes()).await;
            }
            peers.push((state, i, peer));
        }
    }
    eventually("all are open", || started.load(Ordering::Relaxed) == 80).await;
    // The fifth: the request is not complete.
    let mut late = Peer::dial(server.address).await;
    let request = handshake("/", &server.address.to_string(), "");
    let (begin, end) = request.split_at(request.len() - 2);
    late.write(begin.as_bytes()).await;

    let shutdown = tokio::spawn({
        let sessions = sessions.clone();
        async move { sessions.shutdown(peer::LONG).await }
    });
    eventually("it has begun", || {
        let mut open = 0;
        sessions.for_each(|_| open += 1);
        open == 0
    })
    .await;
    late.write(end.as_bytes()).await;
    assert_eq!(late.head().await.status, 503);
    busy.close();
    let mut told = Vec::new();
    for (state, i, mut peer) in peers {
        told.push(tokio::spawn(async move {
            loop {
                let (opcode, payload) = peer.receive().await;
                if opcode == CLOSE {
                    let code = u16::from_be_bytes([payload[0], payload[1]]);
                    assert_eq!(code, if state == "close" { 1000 } else { 1001 }, "{state} {i}");
                    break;
                }
            }
            peer.close(1001).await;
            peer.ended().await;
        }));
    }
    for told in told {
        within(told).await.expect("told");
    }
    let report = within(shutdown).await.expect("no panic");
    assert_eq!((report.aborted, sessions.len()), (0, 0), "{report:?}");
    assert!(report.sessions >= 60, "{report:?}");
}

#[tokio::test]
async fn a_shutdown_cuts_off_at_its_deadline() {
    let sessions = Sessions::new();
    let sockets = sockets().sessions(&sessions);
    let server = Server::start(&sockets, async |_session: Session| future::pending().await).await;
    let mut peer = Peer::open(server.address, "/").await;
    eventually("a session", || sessions.len() == 1).await;
    let report = within(sessions.shutdown(Duration::from_millis(100))).await;
    assert_eq!((report.sessions, report.drained, report.aborted), (1, 0, 1));
    assert!(sessions.is_empty());
    assert_eq!(peer.closed().await.0, 1001);
    peer.rest().await;
}

#[tokio::test]
async fn the_server_stops_with_its_sessions() {
    let sessions = Sessions::new();
    let sockets = sockets().sessions(&sessions);
    let server = Server::start(&sockets, waits).await;
    let address = server.address;
    let mut peer = Peer::open(address, "/").await;
    eventually("a session", || sessions.len() == 1).await;
    let told = tokio::spawn(async move {
        assert_eq!(peer.closed().await, (1001, "server is shutting down".into()));
        peer.close(1001).await;
        peer.ended().await;
    });
    let report = server.stop().await;
    assert_eq!((report.sessions, report.drained), (1, 1));
    within(told).await.expect("told");
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens");
}

/// Handlers that subscribe and then wait.
async fn subscribers(news: &Broadcast, lag: Lag, options: WebSockets) -> (Upgrader, Server) {
    let sockets = sockets().install(options.ping_interval(None));
    let news = news.clone();
    let server = Server::start(&sockets, move |session: Session| {
        let (news, lag) = (news.clone(), lag.clone());
        async move {
            let _subscription = news.subscribe(&session, lag);
            waits(session).await
        }
    })
    .await;
    (sockets, server)
}

#[tokio::test]
async fn a_broadcast_reaches_every_subscriber_in_order() {
    let news = Broadcast::new();
    let (_sockets, server) = subscribers(&news, Lag::disconnect(1 << 20), WebSockets::new()).await;
    let mut peers = Vec::new();
    for _ in 0..5 {
        peers.push(Peer::open(server.address, "/").await);
    }
    eventually("all have subscribed", || news.len() == 5).await;
    for i in 0..200 {
        let delivered = news.publish(i.to_string());
        assert_eq!((delivered.queued, delivered.dropped), (5, 0));
    }
    news.publish(Bytes::from_static(b"\0"));
    assert_eq!(news.publish(Frame::Ping(Bytes::new())).queued, 0);
    for peer in &mut peers {
        for i in 0..200 {
            assert_eq!(peer.text().await, i.to_string());
        }
        assert_eq!(peer.receive().await, (BINARY, b"\0".to_vec()));
    }
    let mut gone = peers.pop().expect("one");
    gone.close(1000).await;
    eventually("one has left", || news.len() == 4).await;
    assert_eq!(news.publish("after").queued, 4);
}

#[tokio::test]
async fn whoever_publishes_need_not_hear_it() {
    let news = Broadcast::new();
    let sockets = sockets();
    let hub = news.clone();
    let server = Server::start(&sockets, move |mut session: Session| {
        let hub = hub.clone();
        async move {
            let _subscription = hub.subscribe(&session, Lag::disconnect(1 << 20));
            while let Some(frame) = session.receive().await? {
                hub.publish_except(&session, frame);
            }
            Ok(())
        }
    })
    .await;
    let (mut one, mut other) =
        (Peer::open(server.address, "/").await, Peer::open(server.address, "/").await);
    eventually("both have subscribed", || news.len() == 2).await;
    one.send(TEXT, b"from one").await;
    assert_eq!(other.text().await, "from one");
    other.send(TEXT, b"from the other").await;
    assert_eq!(one.text().await, "from the other");
}

/// Publishes to a peer that reads nothing until the policy does something, and more than that.
async fn overwhelm(news: &Broadcast, payload: &str) -> drivetrain_server::Delivered {
    let mut all = drivetrain_server::Delivered::default();
    for i in 0..200_000 {
        let delivered = news.publish_latest(7, format!("{i} {payload}"));
        all.queued += delivered.queued;
        all.dropped += delivered.dropped;
        all.disconnected += delivered.disconnected;
        if all.dropped >= 50 || all.disconnected > 0 {
            return all;
        }
        if i % 16 == 0 {
            tokio::task::yield_now().await; // the session's task writes
        }
    }
    panic!("nothing is ever dropped: {all:?}");
}

#[tokio::test]
async fn a_subscriber_that_lags_is_disconnected_and_nothing_follows_the_close() {
    let news = Broadcast::new();
    let options = WebSockets::new().close_timeout(peer::LONG);
    let (sockets, server) = subscribers(&news, Lag::disconnect(64 << 10), options).await;
    let mut slow = Peer::open(server.address, "/").await;
    eventually("it has subscribed", || news.len() == 1).await;
    let all = overwhelm(&news, &"x".repeat(4000)).await;
    assert_eq!((all.disconnected, news.disconnected()), (1, 1));
    assert_eq!(news.publish("after").queued, 0);
    let mut messages = 0;
    let code = loop {
        match slow.receive().await {
            (TEXT, _) => messages += 1,
            (CLOSE, payload) => break payload,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((u16::from_be_bytes([code[0], code[1]]), &code[2..]), (1013, &b"lagging"[..]));
    assert!(messages < all.queued, "what waited was dropped");
    slow.close(1013).await;
    slow.ended().await;
    eventually("the session is gone", || sockets.registry().is_empty()).await;
}

#[tokio::test]
async fn each_policy_keeps_to_its_limit() {
    for policy in ["newest", "oldest", "latest"] {
        let lag = match policy {
            "newest" => Lag::drop_newest(64 << 10),
            "oldest" => Lag::drop_oldest(64 << 10),
            _ => Lag::latest(64 << 10),
        };
        let news = Broadcast::new();
        let (waiting, kept) = (Arc::new(AtomicUsize::new(0)), news.clone());
        let most = Arc::clone(&waiting);
        let sockets = sockets().install(WebSockets::new().ping_interval(None));
        let server = Server::start(&sockets, move |mut session: Session| {
            let (hub, lag, most) = (kept.clone(), lag.clone(), Arc::clone(&most));
            async move {
                let subscription = hub.subscribe(&session, lag);
                loop {
                    let next =
                        tokio::time::timeout(Duration::from_millis(1), session.receive()).await;
                    most.fetch_max(subscription.waiting(), Ordering::Relaxed);
                    if let Ok(received) = next {
                        if received?.is_none() {
                            return Ok(());
                        }
                    }
                }
            }
        })
        .await;
        let mut slow = Peer::open(server.address, "/").await;
        eventually("it has subscribed", || news.len() == 1).await;
        let all = overwhelm(&news, &"x".repeat(4000)).await;
        assert_eq!((all.disconnected, news.dropped()), (0, all.dropped as u64), "{policy}");
        eventually("the wait is seen", || waiting.load(Ordering::Relaxed) > 0).await;
        assert!(waiting.load(Ordering::Relaxed) <= 64 << 10, "{policy}");
        let published = news.published() as usize;
        let mut seen = Vec::new();
        while seen.len() < published - all.dropped {
            let text = slow.text().await;
            seen.push(
                text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(usize::MAX),
            );
        }
        assert!(seen.is_sorted(), "{policy}: order is kept");
        let last = published - 1;
        assert_eq!(
            seen.last() == Some(&last),
            policy != "newest",
            "{policy}: {:?} of {last}",
            seen.last()
        );
    }
}

#[tokio::test]
async fn topics_are_there_as_long_as_they_have_subscribers() {
    let rooms: Topics<String> = Topics::new();
    let sockets = sockets();
    let topics = rooms.clone();
    let server = Server::start(&sockets, move |mut session: Session| {
        let topics = topics.clone();
        async move {
            let Some(room) = session.receive().await? else { return Ok(()) };
            let room = room.read_text().unwrap_or_default().to_owned();
            let _seat = topics.subscribe(room, &session, Lag::disconnect(1 << 20));
            waits(session).await
        }
    })
    .await;
    let mut peers = Vec::new();
    for room in ["a", "a", "b"] {
        let mut peer = Peer::open(server.address, "/").await;
        peer.send(TEXT, room.as_bytes()).await;
        peers.push(peer);
    }
    eventually("all are in", || {
        rooms.get("a").map(|room| room.len()) == Some(2) && rooms.len() == 2
    })
    .await;
    assert_eq!(rooms.publish("a", "to a").queued, 2);
    assert_eq!(rooms.publish("b", "to b").queued, 1);
    assert_eq!(rooms.publish("c", "to c").queued, 0);
    assert_eq!(peers[1].text().await, "to a");
    assert_eq!(peers[2].text().await, "to b");
    peers.truncate(2);
    eventually("the room is gone", || rooms.get("b").is_none()).await;
    assert_eq!(rooms.len(), 1);
}

/// A session that the test owns; the peer keeps its connection.
async fn session() -> (Session, Peer, Server) {
    let (give, mut take) = mpsc::channel(1);
    let server = Server::start(&sockets(), move |session: Session| {
        let give = give.clone();
        async move {
            let _ = give.send(session).await;
            future::pending().await
        }
    })
    .await;
    let peer = Peer::open(server.address, "/").await;
    (within(take.recv()).await.expect("it is open"), peer, server)
}

/// What a topic's code does when it runs next.
type Trap = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// A topic of a user's: all have one hash, and its code runs what is in the trap.
#[derive(Clone)]
struct Room {
    name: &'static str,
    of_hash: Trap,
    of_eq: Trap,
}

impl Room {
    fn new(name: &'static str) -> Self {
        Self { name, of_hash: Trap::default(), of_eq: Trap::default() }
    }

    fn spring(trap: &Trap) {
        let run = trap.lock().expect("no panic under it").take();
        if let Some(run) = run {
            run();
        }
    }
}

impl PartialEq for Room {
    fn eq(&self, other: &Self) -> bool {
        Self::spring(&self.of_eq);
        Self::spring(&other.of_eq);
        self.name == other.name
    }
}

impl Eq for Room {}

impl Hash for Room {
    fn hash<H: Hasher>(&self, _: &mut H) {
        Self::spring(&self.of_hash);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        DROPPED.with_borrow(|visit| visit.as_ref().map(|visit| visit()));
    }
}

thread_local! {
    /// What a topic does on this thread when it is dropped.
    static DROPPED: RefCell<Option<Box<dyn Fn()>>> = const { RefCell::new(None) };
}

/// Runs this on a thread of its own: a deadlock is a failure.
fn ends<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> std::thread::Result<T> {
    let thread = std::thread::spawn(run);
    let start = std::time::Instant::now();
    while !thread.is_finished() {
        assert!(start.elapsed() < Duration::from_secs(20), "it hangs");
        std::thread::yield_now();
    }
    thread.join()
}

#[tokio::test]
async fn a_topic_may_use_the_topics_from_its_own_code() {
    let (session, mut peer, _server) = session().await;
    let session = Arc::new(session);
    let topics: Topics<Room> = Topics::new();
    let lag = || Lag::disconnect(1 << 20);
    let first = topics.subscribe(Room::new("a"), &session, lag());
    for which in ["hash", "eq"] {
        let topic = Room::new("a");
        let (all, member, trapped) = (topics.clone(), Arc::clone(&session), topic.clone());
        let used = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&used);
        let trap = if which == "hash" { &topic.of_hash } else { &topic.of_eq };
        *trap.lock().expect("it is free") = Some(Box::new(move || {
            assert_eq!((all.len(), all.is_empty()), (1, false));
            let (there, other) = (Room::new("a"), Room::new("b"));
            assert_eq!(all.get(&there).map(|room| room.len()), Some(1));
            drop(all.subscribe(other.clone(), &member, lag()));
            // The topic that is subscribed to, in the same bucket.
            drop(all.subscribe(there, &member, lag()));
            assert!(all.get(&other).is_none());
            count.fetch_add(1, Ordering::Relaxed);
        }));
        let (all, member) = (topics.clone(), Arc::clone(&session));
        let second = ends(move || {
            let second = all.subscribe(trapped, &member, lag());
            let visited = all.clone();
            DROPPED.set(Some(Box::new(move || assert!(!visited.is_empty()))));
            drop(all.subscribe(Room::new("c"), &member, lag()));
            DROPPED.set(None);
            second
        });
        let second = second.expect("no panic");
        assert_eq!(used.load(Ordering::Relaxed), 1, "{which}");
        assert_eq!((topics.len(), topics.publish(&topic, "to both").queued), (1, 2), "{which}");
        for _ in 0..2 {
            assert_eq!(peer.text().await, "to both", "{which}");
        }
        drop(second);
    }
    drop(first);
    assert!(topics.is_empty());
}

#[tokio::test]
async fn a_topic_whose_code_panics_changes_nothing() {
    let (session, mut peer, _server) = session().await;
    let session = Arc::new(session);
    let topics: Topics<Room> = Topics::new();
    let lag = || Lag::disconnect(1 << 20);
    let first = topics.subscribe(Room::new("a"), &session, lag());
    type Use = fn(&Topics<Room>, Room, &Session);
    let uses: [Use; 3] = [
        |topics, topic, session| drop(topics.subscribe(topic, session, Lag::disconnect(1 << 20))),
        |topics, topic, _| assert_eq!(topics.publish(&topic, "to nobody").queued, 0),
        |topics, topic, _| drop(topics.get(&topic)),
    ];
    for (i, run) in uses.into_iter().enumerate() {
        for is_hash in [true, false] {
            let topic = Room::new("a");
            let trap = if is_hash { &topic.of_hash } else { &topic.of_eq };
            *trap.lock().expect("it is free") = Some(Box::new(|| panic!("a topic's own")));
            let (all, member) = (topics.clone(), Arc::clone(&session));
            ends(move || run(&all, topic, &member)).expect_err("it reaches the caller");
            let text = format!("{i} {is_hash}");
            assert_eq!(topics.publish(&Room::new("a"), &*text).queued, 1, "{text}");
            assert_eq!((peer.text().await, topics.len()), (text, 1));
        }
    }
    drop(first);
    assert!(topics.is_empty());
}

/// A topic ends and begins meanwhile, beside another one with the same hash.
#[tokio::test]
async fn subscriptions_at_once_are_all_reached() {
    let (session, _peer, _server) = session().await;
    let session = Arc::new(session);
    let topics: Topics<Room> = Topics::new();
    let threads: Vec<_> = (0..8)
        .map(|i| {
            let (all, member) = (topics.clone(), Arc::clone(&session));
            std::thread::spawn(move || {
                for _ in 0..500 {
                    let topic = Room::new(["a", "b"][i % 2]);
                    let seat = all.subscribe(topic.clone(), &member, Lag::drop_newest(1));
                    let room = all.get(&topic).expect("it has a subscriber");
                    assert!((1..=4).contains(&room.len()), "{}", room.len());
                    drop(seat);
                }
            })
        })
        .collect();
    for thread in threads {
        within(tokio::task::spawn_blocking(|| thread.join()))
            .await
            .expect("it ran")
            .expect("no panic");
    }
    assert!(topics.is_empty());
}

#[tokio::test]
async fn events_are_streamed_with_a_heartbeat_until_the_shutdown() {
    let sessions = Sessions::new();
    let registry = sessions.clone();
    let app = service_fn(move |request: Request<Incoming>| {
        let since = Events::last_event_id(request.headers()).unwrap_or("none").to_owned();
        let events = [ServerEvent::new(format!("since {since}")).id("1"), ServerEvent::new("two")];
        let events = futures_stream(events);
        let events = Events::new(events).heartbeat(Duration::from_millis(20));
        future::ready(Ok(events.answer(&request, &registry)))
    });
    let server = Server::answer(&sessions, app, |serve| serve).await;
    let mut peer = Peer::dial(server.address).await;
    peer.write(b"GET / HTTP/1.1\r\nHost: a\r\nLast-Event-ID: 7\r\n\r\n").await;
    let head = peer.head().await;
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!(head.header("cache-control"), Some("no-store"));
    peer.until(b"id: 1\ndata: since 7\n\ndata: two\n\n").await;
    peer.until(b": heartbeat\n\n").await;
    assert_eq!(sessions.len(), 1);
    let told = tokio::spawn(async move { peer.rest().await });
    let report = server.stop().await;
    assert_eq!((report.sessions, report.drained), (1, 1));
    let rest = within(told).await.expect("ended");
    assert!(rest.ends_with(b"0\r\n\r\n"), "a whole answer");
}

/// These events, and then nothing, for ever.
fn futures_stream(
    events: impl IntoIterator<Item = ServerEvent>,
) -> impl futures_core::Stream<Item = ServerEvent> + Send {
    struct Events(std::collections::VecDeque<ServerEvent>);
    impl futures_core::Stream for Events {
        type Item = ServerEvent;

        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<ServerEvent>> {
            self.0
                .pop_front()
                .map_or(std::task::Poll::Pending, |event| std::task::Poll::Ready(Some(event)))
        }
    }
    Events(events.into_iter().collect())
}
