//! The server over real sockets, against a client without any library. What each framing has to do is in the server half of
//! `drivetrain-conformance`.

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
use drivetrain_engine::{CloseReason, ErrorKind, Frame, OpCode, RawFrame, Result};
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

use crate::peer::{BINARY, CLOSE, Peer, TEXT, eventually, handshake, within};

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

#[tokio::test]
async fn clients_that_have_connected_are_answered_in_a_shutdown() {
    let server = Server::start(&sockets(), echo).await;
    let mut peers = Vec::new();
    for _ in 0..20 {
        peers.push(Peer::dial(server.address).await);
    }
    let request = handshake("/", "a", "");
    for peer in &peers {
        // Without waiting, so that the shutdown begins before the server has read it.
        let written = peer.stream.try_write(request.as_bytes()).expect("writes");
        assert_eq!(written, request.len());
    }
    let stopped = tokio::spawn(server.stop());
    for mut peer in peers {
        match peer.head().await.status {
            101 => {
                assert_eq!(peer.closed().await.0, 1001);
                peer.close(1001).await;
                peer.ended().await;
            }
            status => assert_eq!(status, 503),
        }
    }
    within(stopped).await.expect("no panic");
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
    for policy in ["newest", "oldest", "latest", "wait"] {
        let lag = match policy {
            "newest" => Lag::drop_newest(64 << 10),
            "oldest" => Lag::drop_oldest(64 << 10),
            "wait" => Lag::wait(64 << 10), // and nobody waits
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
            policy != "newest" && policy != "wait",
            "{policy}: {:?} of {last}",
            seen.last()
        );
    }
}

/// More than what a session and the buffers of two sockets hold.
const MANY: u64 = 1000;
const LARGE: usize = 32 << 10;

/// Publishes [`MANY`] large messages in a task of its own.
fn publish_many(news: &Broadcast) -> JoinHandle<usize> {
    let news = news.clone();
    tokio::spawn(async move {
        let mut queued = 0;
        for i in 0..MANY {
            let delivered = news.publish_and_wait(format!("{i} {}", "x".repeat(LARGE))).await;
            assert_eq!(delivered.dropped, 0);
            queued += delivered.queued;
        }
        queued
    })
}

/// Waits until the publisher waits. On a slow machine it may only be slow, which makes the test weaker, not wrong.
async fn until_it_waits(news: &Broadcast) -> u64 {
    let mut before = 0;
    within(async {
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let published = news.published();
            if published > 0 && published == before {
                return published;
            }
            before = published;
        }
    })
    .await
}

#[tokio::test]
async fn a_publisher_waits_for_a_subscriber_that_lags_and_nothing_is_lost() {
    let news = Broadcast::new();
    let limit = 256 << 10;
    let sockets = sockets().install(WebSockets::new().ping_interval(None));
    let (hub, most) = (news.clone(), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&most);
    let server = Server::start(&sockets, move |mut session: Session| {
        let (hub, seen) = (hub.clone(), Arc::clone(&seen));
        async move {
            let subscription = hub.subscribe(&session, Lag::wait(limit));
            loop {
                let next = tokio::time::timeout(Duration::from_millis(1), session.receive()).await;
                seen.fetch_max(subscription.waiting(), Ordering::Relaxed);
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
    let mut fast = Peer::open(server.address, "/").await;
    eventually("both have subscribed", || news.len() == 2).await;
    let reads = tokio::spawn(async move {
        for i in 0..MANY {
            assert!(fast.text().await.starts_with(&format!("{i} ")));
        }
        fast
    });
    let publisher = publish_many(&news);
    assert!(until_it_waits(&news).await < MANY, "nothing waits");
    assert!(most.load(Ordering::Relaxed) <= limit);
    let mut numbers = Vec::new();
    while numbers.len() < MANY as usize {
        let text = slow.text().await;
        numbers.extend(text.split(' ').next().and_then(|number| number.parse::<u64>().ok()));
    }
    assert!(numbers.into_iter().eq(0..MANY));
    assert_eq!(within(publisher).await.expect("no panic"), 2 * MANY as usize);
    drop(within(reads).await);
}

#[tokio::test]
async fn a_publisher_does_not_wait_for_a_subscriber_that_leaves() {
    for vanishes in [true, false] {
        let news = Broadcast::new();
        let sockets = sockets().install(WebSockets::new().ping_interval(None));
        let leaves = Arc::new(Semaphore::new(0));
        let (hub, leave) = (news.clone(), Arc::clone(&leaves));
        let server = Server::start(&sockets, move |session: Session| {
            let (hub, leave) = (hub.clone(), Arc::clone(&leave));
            async move {
                let subscription = hub.subscribe(&session, Lag::wait(64 << 10));
                // The session stays when it has unsubscribed.
                let _ = leave.acquire().await;
                drop(subscription);
                session.closed().await.map(drop)
            }
        })
        .await;
        let slow = Peer::open(server.address, "/").await;
        eventually("it has subscribed", || news.len() == 1).await;
        let publisher = publish_many(&news);
        assert!(until_it_waits(&news).await < MANY, "nothing waits");
        if vanishes {
            slow.stream.set_zero_linger().expect("a socket");
            drop(slow);
            let queued = within(publisher).await.expect("no panic");
            assert!(queued < MANY as usize, "{queued}");
        } else {
            leaves.close();
            let queued = within(publisher).await.expect("no panic");
            assert!(queued < MANY as usize, "{queued}");
            drop(slow);
        }
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
    assert_eq!(rooms.publish_and_wait("b", "to b again").await.queued, 1);
    assert_eq!(rooms.publish_and_wait("c", "to c").await.queued, 0);
    assert_eq!(peers[1].text().await, "to a");
    assert_eq!(peers[2].text().await, "to b");
    assert_eq!(peers[2].text().await, "to b again");
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
