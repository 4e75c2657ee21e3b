//! `docs/reference/limitations-server.md`: what each framing does on each HTTP server. The page is made of the same tables
//! that are tested here over sockets, both ways. `UPDATE=1 cargo test --features full --test reports docs` writes it.

#[path = "../../support/servers.rs"]
mod servers;

use std::{
    fmt::Write as _,
    future::Future,
    io::{ErrorKind as IoErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::mpsc,
    time::Duration,
};

use drivetrain::{
    Capability, Error, ErrorKind, HttpClient, OpCode, Protocol, RawFrame, Result, Session, Support,
    WebSockets,
    engine::{
        self, Engine as _, fastwebsockets::FastWebSocketsFraming, native::NativeFraming,
        tungstenite::TungsteniteFraming,
    },
    extension::PermessageDeflate,
    server::{RawSession, Upgrader, web_socket},
};
use drivetrain_engine::{Framing, Rsv};

use self::servers::{Http, RUNTIME, Served, on_async_std, on_axum, on_smol, on_tokio};
use super::{limitations::deviations, read, root};

/// A framing: its name, an upgrader with it, and its answer about a capability.
struct Frames(&'static str, fn() -> Upgrader, fn(Capability) -> Support);

const FRAMES: [Frames; 3] = [
    Frames(
        "native",
        || Upgrader::new(NativeFraming::new()),
        |capability| Framing::support(&NativeFraming::new(), capability),
    ),
    Frames(
        "tungstenite",
        || Upgrader::new(TungsteniteFraming::new()),
        |capability| Framing::support(&TungsteniteFraming::new(), capability),
    ),
    Frames(
        "fastwebsockets",
        || Upgrader::new(FastWebSocketsFraming::new()),
        |capability| Framing::support(&FastWebSocketsFraming::new(), capability),
    ),
];

/// An HTTP server, and what works with each framing on it.
struct Place {
    runtime: &'static str,
    server: &'static str,
    http1: bool,
    http2: bool,
    /// Whether the server ends a connection whose request does not come in time.
    ends_slow_heads: bool,
    start: fn(Upgrader) -> Served,
}

/// How long a request's head may take, where that can be set.
const HEAD: Duration = Duration::from_millis(200);

const PLACES: [Place; 6] = [
    Place {
        runtime: "tokio",
        server: "`serve`",
        http1: true,
        http2: true,
        ends_slow_heads: true,
        start: |upgrader| on_tokio(move |request| answer(&upgrader, request), Some(HEAD)),
    },
    Place {
        runtime: "tokio",
        server: "`axum::serve`",
        http1: true,
        http2: true,
        ends_slow_heads: false,
        start: |upgrader| {
            let route = axum::routing::any(web_socket(echo));
            on_axum(axum::Router::new().route("/", route).with_state(upgrader))
        },
    },
    Place {
        runtime: "smol",
        server: "hyper's `http1::Builder`",
        http1: true,
        http2: false,
        ends_slow_heads: false,
        start: |upgrader| on_smol_with(upgrader, Http::One),
    },
    Place {
        runtime: "smol",
        server: "hyper's `http2::Builder`",
        http1: false,
        http2: true,
        ends_slow_heads: false,
        start: |upgrader| on_smol_with(upgrader, Http::Two),
    },
    Place {
        runtime: "async-std",
        server: "hyper's `http1::Builder`",
        http1: true,
        http2: false,
        ends_slow_heads: false,
        start: |upgrader| on_async_std_with(upgrader, Http::One),
    },
    Place {
        runtime: "async-std",
        server: "hyper's `http2::Builder`",
        http1: false,
        http2: true,
        ends_slow_heads: false,
        start: |upgrader| on_async_std_with(upgrader, Http::Two),
    },
];

fn on_smol_with(upgrader: Upgrader, http: Http) -> Served {
    let upgrader = upgrader.runtime(engine::NativeSmol::new().runtime().expect("smol's"));
    on_smol(move |request| answer(&upgrader, request), http)
}

fn on_async_std_with(upgrader: Upgrader, http: Http) -> Served {
    let runtime = engine::NativeAsyncStd::new().runtime().expect("async-std's");
    let upgrader = upgrader.runtime(runtime);
    on_async_std(move |request| answer(&upgrader, request), http)
}

fn answer<B>(
    upgrader: &Upgrader,
    request: &mut drivetrain::http::Request<B>,
) -> drivetrain::http::Response<http_body_util::Full<drivetrain::Bytes>> {
    match upgrader.upgrade(request) {
        Ok(upgrade) => upgrade.run(echo),
        Err(refusal) => refusal.response(),
    }
}

async fn echo(mut session: Session) -> Result<()> {
    while let Some(frame) = session.receive().await? {
        session.send(frame).await?;
    }
    Ok(())
}

/// Runs a future on tokio, and fails instead of hanging.
fn within<T>(future: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(20);
    RUNTIME.block_on(async { tokio::time::timeout(limit, future).await.expect("in time") })
}

/// A client that speaks this version of HTTP.
fn client(protocol: Protocol) -> HttpClient {
    match protocol {
        Protocol::H2 => {
            let http = engine::Reqwest::new().web_socket_over_http2().http2_prior_knowledge();
            HttpClient::new(engine::Native::new().http(http))
        }
        _ => HttpClient::new(engine::Native::new()),
    }
}

async fn talks(address: SocketAddr, protocol: Protocol) -> Result<()> {
    let request = client(protocol).web_socket(format!("ws://{address}/"));
    let connected = tokio::time::timeout(Duration::from_secs(10), request.connect()).await;
    let mut session = connected.map_err(|_| Error::other("no answer"))??;
    assert_eq!(session.protocol(), protocol);
    for size in [1, 200, 70_000] {
        let text = "x".repeat(size);
        session.send(text.clone()).await?;
        assert_eq!(
            session.receive().await?.and_then(|it| it.read_text().map(str::len)),
            Some(size)
        );
    }
    let outcome = session.close(drivetrain::CloseReason::normal()).await?;
    assert!(outcome.clean, "{outcome}");
    Ok(())
}

#[test]
fn each_framing_works_where_the_page_says_so_and_nowhere_else() {
    for place in &PLACES {
        for Frames(name, upgrader, _) in &FRAMES {
            let what = format!("{name} on {} with {}", place.runtime, place.server);
            let (address, stop) = (place.start)(upgrader());
            for (protocol, works) in [(Protocol::H1, place.http1), (Protocol::H2, place.http2)] {
                match within(talks(address, protocol)) {
                    Ok(()) => assert!(works, "{what} works over {protocol:?}"),
                    Err(error) => assert!(!works, "{what} over {protocol:?}: {error:#}"),
                }
            }
            stop();
        }
    }
}

#[test]
fn slow_heads_are_ended_where_the_page_says_so_and_nowhere_else() {
    for place in PLACES.iter().filter(|place| place.http1) {
        let what = format!("{} with {}", place.runtime, place.server);
        let (address, stop) = (place.start)((FRAMES[0].1)());
        let mut socket = TcpStream::connect(address).expect("connected");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
        let written = socket.write_all(b"GET / HTTP/1.1\r\n");
        if !place.ends_slow_heads {
            written.expect("written");
            std::thread::sleep(HEAD * 3);
            socket.write_all(b"Host: a\r\n\r\n").expect("written");
        }
        let mut seen = [0; 12];
        match socket.read_exact(&mut seen) {
            Ok(()) if place.ends_slow_heads => assert_eq!(&seen, b"HTTP/1.1 408", "{what}"),
            Ok(()) => assert_eq!(&seen, b"HTTP/1.1 426", "{what}"),
            Err(error) => {
                let is_end = [IoErrorKind::UnexpectedEof, IoErrorKind::ConnectionReset];
                assert!(place.ends_slow_heads && is_end.contains(&error.kind()), "{what}: {error}");
            }
        }
        stop();
    }
}

/// The capabilities that a server has of its framing.
fn capabilities() -> impl Iterator<Item = Capability> {
    let others = [
        Capability::WebSockets,
        Capability::HandshakeHeaders,
        Capability::HandshakeResponse,
        Capability::Subprotocols,
        Capability::CallerStream,
    ];
    let all = Capability::ALL.iter().copied();
    all.filter(move |capability| !capability.is_of_connectors() && !others.contains(capability))
}

/// What is missing is refused by name, before any handshake; what is there is accepted.
#[test]
fn options_are_refused_by_name_where_the_page_says_no() {
    let options = [
        (Capability::MaxFrameSize, WebSockets::new().max_frame_size(1000)),
        (Capability::MaxMessageSize, WebSockets::new().max_message_size(1000)),
        (Capability::PluginPing, WebSockets::new().ping_interval(Duration::from_secs(5))),
        (Capability::Extensions, WebSockets::new().extension(PermessageDeflate::new())),
    ];
    for Frames(name, upgrader, support) in &FRAMES {
        for (capability, plugin) in &options {
            let checked = upgrader().install(plugin.clone()).check();
            match support(*capability) {
                Support::Offered => checked.unwrap_or_else(|error| panic!("{name}: {error:#}")),
                Support::Missing(reason) => {
                    let error = checked.expect_err("refused");
                    assert_eq!(error.kind(), ErrorKind::Unsupported, "{name}: {error}");
                    let says = error.to_string();
                    assert!(says.contains(capability.name()) && says.contains(&*reason), "{says}");
                }
            }
        }
    }
}

/// A raw session sends a reserved bit, or refuses to.
#[test]
fn reserved_bits_are_sent_where_the_page_says_so_and_nowhere_else() {
    for Frames(name, upgrader, support) in &FRAMES {
        let (results, result) = mpsc::channel();
        let upgrader = upgrader();
        let (address, stop) = on_tokio(
            move |request| {
                let results = results.clone();
                let upgrade = match upgrader.upgrade(request) {
                    Ok(upgrade) => upgrade,
                    Err(refusal) => return refusal.response(),
                };
                upgrade.run_raw(move |mut session: RawSession| async move {
                    let mut frame = RawFrame::new(OpCode::Text, "reserved");
                    frame.rsv = Rsv::RSV1;
                    let sent = session.send(frame).await;
                    let _ = results.send(sent.map_err(|error| error.kind()));
                    Ok(())
                })
            },
            None,
        );
        let seen = within(async {
            let request = client(Protocol::H1).web_socket(format!("ws://{address}/"));
            request.connect_raw().await.expect("open").receive().await
        });
        let sent = result.recv_timeout(Duration::from_secs(20)).expect("a handler");
        match support(Capability::RsvBits) {
            Support::Offered => {
                let frame = seen.expect("a frame").expect("a frame");
                assert!(sent == Ok(()) && frame.rsv == Rsv::RSV1, "{name}: {frame:?}");
            }
            Support::Missing(_) => assert_eq!(sent, Err(ErrorKind::Unsupported), "{name}"),
        }
        stop();
    }
}

#[test]
fn the_page_is_what_is_tested() {
    let path = root().join("docs/reference/limitations-server.md");
    let page = page();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &page).expect("written");
    }
    assert!(
        read("docs/reference/limitations-server.md") == page,
        "docs/reference/limitations-server.md is out of date: run UPDATE=1 cargo test --features full --test reports docs"
    );
}

fn page() -> String {
    let yes = |is: bool| if is { "yes" } else { "no" };
    let mut page = String::from(BEGIN);
    for place in &PLACES {
        let protocols: Vec<_> = [(place.http1, "HTTP/1.1"), (place.http2, "HTTP/2")]
            .into_iter()
            .filter_map(|(works, name)| works.then_some(name))
            .collect();
        let protocols = protocols.join(", ");
        writeln!(
            page,
            "| {} | {} | {protocols} | {protocols} | {protocols} | {} |",
            place.runtime,
            place.server,
            yes(place.ends_slow_heads)
        )
        .expect("written");
    }
    page.push_str(SERVERS);
    page.push_str("| | `native` | `tungstenite` | `fastwebsockets` |\n| --- | --- | --- | --- |\n");
    for capability in capabilities() {
        let cells = FRAMES.map(|Frames(_, _, support)| yes(support(capability).is_offered()));
        writeln!(page, "| {} | {} |", capability.name(), cells.join(" | ")).expect("written");
    }
    page.push('\n');
    for Frames(name, _, support) in &FRAMES {
        let mut grouped: Vec<(String, Vec<&str>)> = Vec::new();
        for capability in capabilities() {
            if let Support::Missing(reason) = support(capability) {
                match grouped.iter_mut().find(|(known, _)| *known == reason) {
                    Some((_, names)) => names.push(capability.name()),
                    None => grouped.push((reason.into_owned(), vec![capability.name()])),
                }
            }
        }
        for (reason, names) in grouped {
            writeln!(page, "- `{name}`: {}: {reason}.", names.join(", ")).expect("written");
        }
        for deviation in deviations::of(name) {
            writeln!(page, "- `{name}`: {deviation}.").expect("written");
        }
    }
    page.push_str(OTHERS);
    page
}

const BEGIN: &str = "\
# Limitations of the server

`tests/reports/docs/server_limitations.rs` opens sessions for each cell of the first table, and asks each framing for the cells
of the second, both ways. `tests/servers` runs the server half of the conformance suite.

## HTTP servers

The protocols over which each framing opens sessions. HTTP/2 is RFC 8441.

| runtime | HTTP server | `native` | `tungstenite` | `fastwebsockets` | ends a slow request |
| --- | --- | --- | --- | --- | --- |
";

const SERVERS: &str = "
- `axum::serve` needs axum's feature `http2` for HTTP/2, and `any` instead of `get` on the route. It gives hyper no timer, so that
  hyper's limit for a request's head does not apply: put a proxy in front, or use `serve`.
- hyper's builders end slow requests with a `timer` of the runtime and `header_read_timeout`. `http2::Builder` needs
  `enable_connect_protocol`.
- TLS, Unix sockets, and limits for connections are options of `serve`. Elsewhere they are the HTTP server's.

## Framings

";

const OTHERS: &str = "
## Everywhere

- HTTP/3 (RFC 9220) is not supported.
- A raw session agrees on no extension. A `Broadcast` does not reach it.
- A session over HTTP/2 shares its connection. hyper allows 200 streams for each connection, so one TCP connection may hold 200
  sessions: `Sessions::max_sessions` counts sessions.
- Over HTTP/2 `flush` waits for the connection to take the frames, not for the socket.
- Behind a proxy that rewrites `Host`, list the public origins with `Origins`.
- After `Sessions::shutdown` a registry accepts no session any more.
";
