//! What is set, and what is refused because it cannot be honoured.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::mpsc,
    time::{Duration, Instant},
};

use crate::server::{Result, Server, expect, get, header, read_head};
use drivetrain_engine::{Capability, ConnectTimeout, Engine, ErrorKind, Handshake, Proxy, Support};
use drivetrain_reqwest::{Hop, Reqwest};

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
    let error = Hop::new("outer", engine).open(&handshake).await.expect_err("nobody answers");
    assert_eq!((error.kind(), error.engine()), (ErrorKind::Timeout, Some("outer")), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(3));
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
    let hop = Hop::new("outer", both);
    hop.check()?;
    let notes: Vec<_> = hop.settings().into_iter().filter_map(|setting| setting.note).collect();
    assert_eq!(
        notes,
        ["serves HTTP only; handshakes use a client of the engine's own", "handshakes only"]
    );
    assert!(Hop::new("outer", hop.http().clone().pool_max_idle_per_host(1)).check().is_err());
    Ok(())
}

#[tokio::test]
async fn a_hook_and_a_tunnel_for_ws_exclude_each_other() -> Result {
    let proxy = Server::plain(|_| Ok(()));
    let hop = Hop::new("outer", Reqwest::new().configure(|builder| builder.user_agent("mine")));
    let mut handshake = Handshake::new("ws://127.0.0.1:1/".parse()?)?;
    handshake.extensions_mut().insert(Proxy::http("localhost", proxy.address.port())?);
    let error = hop.open(&handshake).await.err().ok_or("it connected")?;
    assert_eq!(error.capability(), Some(Capability::Proxies));
    assert!(error.to_string().contains("hook"), "{error}");
    assert_eq!(proxy.connections(), 0, "refused before anything was dialled");
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
    refused(Hop::new("outer", over().configure(|builder| builder)).check(), "configure");
    #[cfg(feature = "native-tls")]
    refused(Hop::new("outer", over().native_tls()).check(), "native_tls");
    let capability = Capability::WebSocketOverHttp2;
    let hop = Hop::new("outer", over());
    assert!(hop.check().is_ok() && hop.support(capability).is_offered());
    assert!(!Hop::new("outer", Reqwest::new()).support(capability).is_offered());
}

#[tokio::test]
async fn a_refused_tunnel_carries_the_proxys_answer() -> Result {
    let proxy = Server::plain(|stream| {
        read_head(stream)?;
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\nx-why: policy\r\ncontent-length: 0\r\n\r\n")
    });
    // The proxy's name is resolved as any other: by what was set, first.
    let addr = proxy.address;
    let hop = Hop::new("outer", Reqwest::new().resolve("proxy.test", [addr]));
    let mut handshake = Handshake::new("ws://127.0.0.1:1/".parse()?)?;
    handshake.extensions_mut().insert(Proxy::http("proxy.test", addr.port())?);
    let error = hop.open(&handshake).await.err().ok_or("it connected")?;
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.to_string().contains("403"), "{error}");
    let response = error.response().ok_or("it has no response")?;
    assert_eq!(response.headers()["x-why"], "policy");
    Ok(())
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
                | Capability::Tls
                | Capability::ClientCertificates
                | Capability::ConnectTimeout
                | Capability::Proxies
                | Capability::SocksProxies
        );
        let tls = cfg!(any(feature = "rustls", feature = "native-tls"));
        let needs_tls = matches!(
            capability,
            Capability::Http2 | Capability::Tls | Capability::ClientCertificates
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
