//! What is set, and what is refused because it cannot be honoured.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::mpsc,
    time::{Duration, Instant},
};

use crate::server::{Result, Server, expect, get, header, read_head};
use drivetrain_engine::{
    Capability, ConnectTimeout, Connector as _, Engine, ErrorKind, Handshake, Proxy, Support,
};
use drivetrain_reqwest::{Reqwest, ReqwestConnector};

#[tokio::test]
async fn names_can_be_resolved_by_hand() -> Result {
    let server = Server::plain(|stream| {
        read_head(stream)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    });
    let zero = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let engine = Reqwest::new()
        .resolve("somewhere.invalid", [zero])
        .local_address(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let url = format!("http://somewhere.invalid:{}/", server.address.port());
    assert_eq!(engine.execute(get(&url)).await?.status(), 200);
    Ok(())
}

/// After how many seconds of silence the system probes the connection of the socket at this address.
#[cfg(target_os = "linux")]
fn probes_after(address: SocketAddr) -> Result<Option<u64>> {
    let local = format!(":{:04X}", address.port());
    loop {
        let table = std::fs::read_to_string("/proc/net/tcp")?;
        let mut rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
        let row = rows.find(|row| row[1].ends_with(&local)).ok_or("no such socket")?;
        match row[5].split_once(':').ok_or("no timer")? {
            ("00", _) => return Ok(None),
            // In hundredths of a second.
            ("02", left) => return Ok(Some(u64::from_str_radix(left, 16)?.div_ceil(100))),
            // What was sent has not arrived.
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Requests are dialled by reqwest, handshakes by the connector: both obey the option, and have one default.
#[tokio::test]
#[cfg(target_os = "linux")]
async fn connections_are_probed_as_is_set_or_documented() -> Result {
    use std::io::Write as _;

    for (engine, expected) in [
        (Reqwest::new(), Some(15_u64)),
        (Reqwest::new().tcp_keepalive(Duration::from_secs(60)), Some(60)),
        (Reqwest::new().tcp_keepalive(None), None),
    ] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (tells, told) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                read_head(&mut stream).expect("a head");
                let after = probes_after(stream.peer_addr().expect("a peer"));
                tells.send(after.expect("the system's table")).ok();
                let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
                stream.write_all(answer).expect("an answer");
            }
        });
        let started = Instant::now();
        engine.execute(get(&format!("http://{address}/"))).await?;
        let handshake = Handshake::new(format!("ws://{address}/").parse()?)?;
        ReqwestConnector::new("outer", engine).upgrade(&handshake).await?;
        for dialled_for in ["a request", "a handshake"] {
            let after = expect(&told);
            // The time to the next probe runs from the dialling on, and the machine may be slow.
            let gone = started.elapsed().as_secs() + 1;
            let is_it = match (after, expected) {
                (Some(after), Some(expected)) => {
                    (expected.saturating_sub(gone)..=expected).contains(&after)
                }
                (after, expected) => after == expected,
            };
            assert!(is_it, "{dialled_for}: {after:?} and not {expected:?}");
        }
    }
    Ok(())
}

/// A listener whose backlog is full: the kernel drops further SYNs.
fn deaf() -> Result<(Vec<Box<dyn std::any::Any>>, SocketAddr)> {
    let runtime = tokio::runtime::Handle::current();
    let _entered = runtime.enter();
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind("127.0.0.1:0".parse()?)?;
    let listener = socket.listen(1)?;
    let address = listener.local_addr()?;
    let mut held: Vec<Box<dyn std::any::Any>> = vec![Box::new(listener)];
    for _ in 0..8 {
        match std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            Ok(stream) => held.push(Box::new(stream)),
            Err(_) => break,
        }
    }
    Ok((held, address))
}

#[tokio::test]
async fn a_connect_timeout_ends_the_dialling() -> Result {
    let (_held, address) = deaf()?;
    let engine = Reqwest::new();
    let limit = ConnectTimeout(Duration::from_millis(150));
    let mut request = get(&format!("http://{address}/"));
    request.extensions_mut().insert(limit);
    let started = Instant::now();
    let error = engine.execute(request).await.expect_err("nobody answers");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");

    let mut handshake = Handshake::new(format!("ws://{address}/").parse()?)?;
    handshake.extensions_mut().insert(limit);
    let error = ReqwestConnector::new("outer", engine)
        .upgrade(&handshake)
        .await
        .expect_err("nobody answers");
    assert_eq!((error.kind(), error.engine()), (ErrorKind::Timeout, Some("outer")), "{error:?}");
    // The system gives up after more than two minutes.
    assert!(started.elapsed() < Duration::from_secs(60));
    Ok(())
}

#[tokio::test]
async fn many_connect_timeouts_still_work() -> Result {
    let server = Server::plain(|stream| {
        read_head(stream)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    });
    let engine = Reqwest::new();
    for seconds in (1..=12).chain(1..=2) {
        let mut request = get(&server.url("http"));
        request.extensions_mut().insert(ConnectTimeout(Duration::from_secs(seconds)));
        assert_eq!(engine.execute(request).await?.status(), 200);
    }
    Ok(())
}

#[tokio::test]
async fn a_preconfigured_client_serves_requests_and_refuses_a_connect_timeout() -> Result {
    let (seen, sees) = mpsc::channel();
    let server = Server::plain(move |stream| {
        seen.send(read_head(stream)?).ok();
        stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    });
    // It needs a TLS of its own where none is installed; `http` never uses it.
    let builder = reqwest::Client::builder().user_agent("theirs").no_proxy();
    #[cfg(feature = "rustls")]
    let builder = {
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        builder.tls_backend_preconfigured(
            rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth(),
        )
    };
    let engine = Reqwest::new().preconfigured(builder.build()?);
    engine.check()?;
    engine.execute(get(&server.url("http"))).await?;
    assert_eq!(header(&expect(&sees), "user-agent"), Some("theirs"));

    let mut request = get(&server.url("http"));
    request.extensions_mut().insert(ConnectTimeout(Duration::from_secs(1)));
    let error = engine.execute(request).await.expect_err("it cannot be applied");
    assert_eq!(error.engine(), Some("reqwest"));
    assert_eq!(error.capability(), Some(Capability::ConnectTimeout));
    assert!(!engine.support(Capability::ConnectTimeout).is_offered());
    for proxy in ["http://127.0.0.1:1", "socks5://127.0.0.1:1"] {
        let proxy = Proxy::parse(proxy)?;
        let mut request = get(&server.url("http"));
        request.extensions_mut().insert(proxy.clone());
        let error = engine.execute(request).await.expect_err("it cannot be applied");
        assert_eq!(error.capability(), Some(proxy.capability()));
        assert!(!engine.support(proxy.capability()).is_offered());
    }
    assert_eq!(server.connections(), 1, "refused before anything was dialled");

    let both = engine.tcp_keepalive(None);
    let error = both.check().expect_err("it would have no effect");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("tcp_keepalive"), "{error}");
    let connector = ReqwestConnector::new("outer", both);
    connector.check()?;
    let notes: Vec<_> =
        connector.settings().into_iter().filter_map(|setting| setting.note).collect();
    assert_eq!(
        notes,
        ["serves HTTP only; handshakes are dialled by the engine", "handshakes only"]
    );
    assert!(
        ReqwestConnector::new("outer", connector.http().clone().pool_max_idle_per_host(1))
            .check()
            .is_err()
    );
    Ok(())
}

#[tokio::test]
async fn the_limits_for_heads_can_be_set() -> Result {
    let server = Server::plain(|stream| {
        read_head(stream)?;
        let fields = "x-field: value\r\n".repeat(300);
        let head = format!("HTTP/1.1 403 No\r\n{fields}content-length: 0\r\n\r\n");
        stream.write_all(head.as_bytes())
    });
    let shake =
        || Handshake::new(server.url("ws").parse()?).map_err(Box::<dyn std::error::Error>::from);
    for (engine, option) in [
        (Reqwest::new(), Some("max_headers")),
        (Reqwest::new().max_headers(301), None),
        (Reqwest::new().max_headers(301).max_header_size(1000), Some("max_header_size")),
    ] {
        engine.check()?;
        let connector = ReqwestConnector::new("outer", engine);
        let (request, handshake) =
            (connector.execute(get(&server.url("http"))).await, connector.upgrade(&shake()?).await);
        let stream = tokio::net::TcpStream::connect(server.address).await?;
        let over = ReqwestConnector::over("outer", stream).with_http(connector.http().clone());
        let over = over.upgrade(&shake()?).await;
        for error in [request.err(), handshake.err(), over.err()] {
            assert_eq!(error.is_some(), option.is_some(), "{error:?}");
            let Some((error, option)) = error.zip(option) else { continue };
            assert_eq!(
                (error.kind(), error.engine()),
                (ErrorKind::TooBig, Some("outer")),
                "{error:?}"
            );
            assert!(error.to_string().contains(option), "{error}");
        }
    }
    for (engine, option) in [
        (Reqwest::new().max_headers(0), "max_headers"),
        (Reqwest::new().max_header_size(0), "max_header_size"),
        (Reqwest::new().max_header_size(1 << 20), "max_header_size"),
    ] {
        let error = engine.check().expect_err(option);
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(option), "{error}");
    }
    let over = ReqwestConnector::over("outer", tokio::io::duplex(1).0);
    assert!(over.clone().with_http(Reqwest::new().max_headers(9)).check().is_ok());
    assert!(over.with_http(Reqwest::new().http1_only()).check().is_err());
    Ok(())
}

/// A hook changes reqwest's builder, and a handshake is not reqwest's.
#[tokio::test]
async fn a_hook_changes_requests_and_no_handshake() -> Result {
    let (seen, sees) = mpsc::channel();
    let server = Server::plain(move |stream| {
        seen.send(read_head(stream)?).ok();
        stream
            .write_all(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\ncontent-length: 0\r\n\r\n")
    });
    let connector = ReqwestConnector::new(
        "outer",
        Reqwest::new().configure(|builder| builder.user_agent("mine")),
    );
    connector.check()?;
    connector.execute(get(&server.url("http"))).await?;
    assert_eq!(header(&expect(&sees), "user-agent"), Some("mine"));
    connector.upgrade(&Handshake::new(server.url("ws").parse()?)?).await?;
    let head = expect(&sees);
    assert_eq!(header(&head, "user-agent"), None, "{head}");
    assert!(head.contains("\r\nSec-WebSocket-Key: "), "{head}");
    let notes: Vec<_> =
        connector.settings().into_iter().filter_map(|setting| setting.note).collect();
    assert_eq!(notes, ["HTTP only"]);
    Ok(())
}

#[test]
#[cfg(feature = "rustls")]
fn web_sockets_over_http_2_are_refused_where_they_cannot_be() {
    let over = || Reqwest::new().web_socket_over_http2();
    let refused = |checked: drivetrain_engine::Result<()>, says: &str| {
        let error = checked.expect_err(says);
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(says), "{error}");
    };
    refused(over().check(), "opens no WebSockets");
    #[cfg(feature = "native-tls")]
    refused(ReqwestConnector::new("outer", over().native_tls()).check(), "native_tls");
    let capability = Capability::WebSocketOverHttp2;
    let connector = ReqwestConnector::new("outer", over());
    assert!(connector.check().is_ok() && connector.support(capability).is_offered());
    assert!(!ReqwestConnector::new("outer", Reqwest::new()).support(capability).is_offered());
}

#[tokio::test]
async fn a_refused_tunnel_carries_the_proxys_answer() -> Result {
    let proxy = Server::plain(|stream| {
        read_head(stream)?;
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\nx-why: policy\r\ncontent-length: 0\r\n\r\n")
    });
    // The proxy's name is resolved as any other: by what was set, first.
    let addr = proxy.address;
    let connector = ReqwestConnector::new("outer", Reqwest::new().resolve("proxy.test", [addr]));
    let mut handshake = Handshake::new("ws://127.0.0.1:1/".parse()?)?;
    handshake.extensions_mut().insert(Proxy::http("proxy.test", addr.port())?);
    let error = connector.upgrade(&handshake).await.err().ok_or("it connected")?;
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.to_string().contains("403"), "{error}");
    let response = error.response().ok_or("it has no response")?;
    assert_eq!(response.headers()["x-why"], "policy");
    Ok(())
}

#[test]
fn without_a_pool_no_connection_is_used_again() {
    let keeps = |most| {
        let connector = ReqwestConnector::new("outer", Reqwest::new().pool_max_idle_per_host(most));
        connector.support(Capability::ConnectionReuse).is_offered()
    };
    assert!(keeps(1) && !keeps(0));
}

#[tokio::test]
async fn web_sockets_are_refused_by_name() -> Result {
    let engine = Reqwest::new();
    let error = engine.connect(Handshake::new("ws://127.0.0.1:1/".parse()?)?).await;
    let error = error.err().ok_or("it connected")?;
    assert_eq!(error.capability(), Some(Capability::WebSockets));
    assert!(error.to_string().contains("use Tungstenite or FastWebSockets"), "{error}");
    for &capability in Capability::ALL {
        let http = matches!(
            capability,
            Capability::Http1
                | Capability::Http2
                | Capability::ConnectionReuse
                | Capability::Tls
                | Capability::ClientCertificates
                | Capability::ConnectTimeout
                | Capability::Proxies
                | Capability::HttpsProxies
                | Capability::SocksProxies
                | Capability::UnixSockets
                | Capability::Resolver
        );
        let tls = cfg!(any(feature = "rustls", feature = "native-tls"));
        let needs_tls = matches!(
            capability,
            Capability::Http2
                | Capability::Tls
                | Capability::ClientCertificates
                | Capability::HttpsProxies
        );
        assert_eq!(engine.support(capability) == Support::Offered, http && (tls || !needs_tls));
    }
    Ok(())
}

#[tokio::test]
#[cfg(not(any(feature = "rustls", feature = "native-tls")))]
async fn https_without_tls_is_refused_before_anything_is_dialled() -> Result {
    let server = Server::plain(|_| Ok(()));
    let error = Reqwest::new().execute(get(&server.url("https"))).await.expect_err("refused");
    assert_eq!(error.capability(), Some(Capability::Tls));
    assert_eq!(server.connections(), 0);
    Ok(())
}
