//! Plain HTTP over the engine.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    pin::pin,
    sync::mpsc,
    task::{Context, Waker},
    time::{Duration, Instant},
};

use crate::server::{Result, Server, expect, header, is_closed, read_head};
use ::http::Request;
use bytes::Bytes;
use drivetrain_engine::{
    Body, Capability, ConnectTimeout, Engine, Error, ErrorKind, Handshake, Proxy, Support,
};
use drivetrain_reqwest::{Hop, Reqwest};
use http_body_util::BodyExt;

fn get(url: &str) -> Request<Body> {
    Request::get(url).body(Body::empty()).expect("a valid request")
}

/// A body that yields what a channel brings.
fn channel_body() -> (tokio::sync::mpsc::Sender<Result<Bytes, Error>>, Body) {
    struct Channel(tokio::sync::mpsc::Receiver<Result<Bytes, Error>>);
    impl http_body::Body for Channel {
        type Data = Bytes;
        type Error = Error;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Error>>> {
            self.0.poll_recv(cx).map(|item| item.map(|item| item.map(http_body::Frame::data)))
        }
    }
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    (sender, Body::streaming(Channel(receiver)))
}

#[tokio::test]
async fn a_get_streams_its_response() -> Result {
    let (go, gone) = mpsc::channel::<()>();
    let server = Server::plain(move |stream| {
        read_head(stream)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nX-A: b\r\n\r\nfirst")?;
        gone.recv().ok();
        stream.write_all(b"later")
    });
    let response = Reqwest::new().execute(get(&server.url("http"))).await?;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-a"], "b");
    let mut body = response.into_body();
    assert_eq!(http_body::Body::size_hint(&body).exact(), Some(10));
    let first = body.frame().await.ok_or("no frame")??.into_data().map_err(|_| "no data")?;
    assert_eq!(first, "first", "the body is there before its end");
    go.send(())?;
    assert_eq!(body.collect().await?.to_bytes(), "later");
    Ok(())
}

#[tokio::test]
async fn a_body_in_memory_is_sent_with_its_length() -> Result {
    let (seen, sees) = mpsc::channel();
    let server = Server::plain(move |stream| {
        let head = read_head(stream)?;
        let mut body = [0; 5];
        stream.read_exact(&mut body)?;
        seen.send((head, body)).ok();
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
    });
    let request = Request::post(server.url("http")).body(Body::from("hello"))?;
    let response = Reqwest::new().execute(request).await?;
    assert_eq!(response.status(), 204);
    let (head, body) = expect(&sees);
    assert!(head.starts_with("POST /path?q=1 HTTP/1.1\r\n"), "{head}");
    assert_eq!((header(&head, "content-length"), &body), (Some("5"), b"hello"));
    assert_eq!(header(&head, "transfer-encoding"), None);
    Ok(())
}

#[tokio::test]
async fn a_request_body_streams_while_it_is_made() -> Result {
    let (seen, sees) = mpsc::channel();
    let server = Server::plain(move |stream| {
        seen.send(read_head(stream)?).ok();
        let mut chunk = [0; 10];
        stream.read_exact(&mut chunk)?;
        seen.send(String::from_utf8_lossy(&chunk).into_owned()).ok();
        let mut end = [0; 5];
        stream.read_exact(&mut end)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    });
    let (sender, body) = channel_body();
    let request = Request::post(server.url("http")).body(body)?;
    let engine = Reqwest::new();
    let response = tokio::spawn(async move { engine.execute(request).await });
    let head = tokio::task::spawn_blocking(move || (expect(&sees), sees)).await?;
    assert_eq!(header(&head.0, "transfer-encoding"), Some("chunked"));
    sender.send(Ok(Bytes::from("chunk"))).await?;
    let sees = head.1;
    let chunk = tokio::task::spawn_blocking(move || expect(&sees)).await?;
    assert_eq!(chunk, "5\r\nchunk\r\n", "a chunk is on the wire before the body's end");
    drop(sender);
    assert_eq!(response.await??.status(), 200);
    Ok(())
}

#[tokio::test]
async fn an_error_of_the_callers_body_comes_back_as_it_is() -> Result {
    let server = Server::plain(|stream| {
        is_closed(stream);
        Ok(())
    });
    let (sender, body) = channel_body();
    sender.send(Err(Error::new(ErrorKind::Convert, "no more rows"))).await?;
    let request = Request::post(server.url("http")).body(body)?;
    let error = Reqwest::new().execute(request).await.expect_err("the body fails");
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Convert, "no more rows".into()));
    assert_eq!(error.engine(), Some("reqwest"));
    Ok(())
}

#[tokio::test]
async fn a_redirect_is_a_response() -> Result {
    let server = Server::plain(|stream| {
        read_head(stream)?;
        stream.write_all(b"HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n")
    });
    // A hook cannot switch it on.
    let engine =
        Reqwest::new().configure(|builder| builder.redirect(reqwest::redirect::Policy::limited(5)));
    let response = engine.execute(get(&server.url("http"))).await?;
    assert_eq!((response.status().as_u16(), server.connections()), (302, 1));
    Ok(())
}

#[tokio::test]
async fn connections_are_reused_and_clones_share_them() -> Result {
    let server = Server::plain(|stream| {
        while read_head(stream).is_ok() {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        }
        Ok(())
    });
    let engine = Reqwest::new();
    engine.execute(get(&server.url("http"))).await?;
    tokio::time::sleep(Duration::from_millis(20)).await;
    engine.clone().execute(get(&server.url("http"))).await?;
    assert_eq!(server.connections(), 1);
    Ok(())
}

#[tokio::test]
async fn a_closed_port_is_a_connect_error() -> Result {
    let closed = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let url = format!("http://user:secret@127.0.0.1:{}/?token=secret", closed.port());
    for result in [
        Reqwest::new().execute(get(&url)).await.err(),
        Hop::new("outer", Reqwest::new()).open(&Handshake::new(url.parse()?)?).await.err(),
    ] {
        let error = result.ok_or("it connected")?;
        assert_eq!(error.kind(), ErrorKind::Connect, "{error:?}");
        let printed = format!("{error} {error:?}");
        assert!(printed.contains(&closed.to_string()), "{printed}");
        assert!(!printed.contains("secret"), "{printed}");
    }
    Ok(())
}

#[tokio::test]
async fn an_unknown_name_is_a_connect_error() {
    let error = Reqwest::new().execute(get("http://no-such-host.invalid/")).await;
    let error = error.expect_err("the name does not exist");
    assert_eq!(error.kind(), ErrorKind::Connect, "{error:?}");
}

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

#[tokio::test]
async fn what_is_not_http_is_a_protocol_error() -> Result {
    let server = Server::plain(|stream| {
        read_head(stream)?;
        stream.write_all(b"220 mail.example ESMTP\r\n\r\n")
    });
    let error = Reqwest::new().execute(get(&server.url("http"))).await.expect_err("no HTTP");
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
    Ok(())
}

#[tokio::test]
async fn an_early_end_is_an_io_error() -> Result {
    let server = Server::plain(|stream| read_head(stream).map(|_| ()));
    let error = Reqwest::new().execute(get(&server.url("http"))).await.expect_err("no answer");
    assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");

    let server = Server::plain(|stream| {
        read_head(stream)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    });
    let response = Reqwest::new().execute(get(&server.url("http"))).await?;
    let error = response.into_body().collect().await.expect_err("half a body");
    assert_eq!((error.kind(), error.engine()), (ErrorKind::Io, Some("reqwest")), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn a_dropped_request_frees_the_socket() -> Result {
    let (seen, sees) = mpsc::channel();
    let server = Server::plain(move |stream| {
        read_head(stream)?;
        seen.send(true).ok();
        seen.send(is_closed(stream)).ok();
        Ok(())
    });
    let engine = Reqwest::new();
    let url = server.url("http");
    let request = tokio::spawn(async move { engine.execute(get(&url)).await.map(drop) });
    let sees = tokio::task::spawn_blocking(move || expect(&sees).then_some(sees)).await?;
    request.abort();
    let sees = sees.ok_or("it never arrived")?;
    assert!(tokio::task::spawn_blocking(move || expect(&sees)).await?);
    Ok(())
}

#[tokio::test]
async fn a_url_that_cannot_be_reached_is_invalid_input() {
    for url in ["ftp://localhost/", "/path", "localhost:80"] {
        let error = Reqwest::new().execute(get(url)).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}: {error:?}");
    }
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

#[test]
fn outside_a_runtime_every_call_is_an_error_that_names_the_engine() -> Result {
    let engine = Reqwest::new();
    let hop = Hop::new("outer", engine.clone());
    let handshake = Handshake::new("ws://127.0.0.1:1/".parse()?)?;
    let (near, _far) = tokio::io::duplex(64);

    let mut execute = pin!(engine.execute(get("http://127.0.0.1:1/")));
    let mut open = pin!(hop.open(&handshake));
    let mut open_over = pin!(hop.open_over(near, &handshake));
    let errors = [
        ("reqwest", execute.as_mut().poll_once().and_then(Result::err)),
        ("outer", open.as_mut().poll_once().and_then(Result::err)),
        ("outer", open_over.as_mut().poll_once().and_then(Result::err)),
        ("reqwest", engine.runtime().err()),
    ];
    for (name, error) in errors {
        let error = error.ok_or("no error")?;
        assert_eq!((error.kind(), error.engine()), (ErrorKind::Other, Some(name)));
        assert_eq!(
            error.to_string(),
            format!(
                "engine `{name}` needs a tokio runtime: call it from within one, such as under \
                 #[tokio::main]"
            )
        );
    }
    Ok(())
}

#[test]
fn a_request_begun_inside_may_be_polled_read_and_dropped_outside() -> Result {
    let server = Server::plain(|stream| {
        while read_head(stream).is_ok() {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")?;
        }
        Ok(())
    });
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let engine = Reqwest::new().configure(|b| b.read_timeout(Duration::from_secs(5)));
    for _ in 0..2 {
        let url = server.url("http");
        let request = engine.execute(get(&url));
        let mut request = Box::pin(request);
        let polled = {
            let _entered = runtime.enter();
            request.as_mut().poll_once()
        };
        // A kept connection may have brought the answer within the one poll.
        let response = match polled {
            Some(response) => response?,
            None => block_on(request)?,
        };
        assert_eq!(block_on(response.into_body().collect())?.to_bytes(), "hello");
        let mut dropped = Box::pin(engine.execute(get(&url)));
        {
            let _entered = runtime.enter();
            dropped.as_mut().poll_once();
        }
        drop(dropped);
    }
    Ok(())
}

/// Polls without tokio.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(std::sync::Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        if let std::task::Poll::Ready(output) =
            future.as_mut().poll(&mut Context::from_waker(&waker))
        {
            return output;
        }
        std::thread::park();
    }
}

trait PollOnce: Future {
    fn poll_once(self: std::pin::Pin<&mut Self>) -> Option<Self::Output> {
        match self.poll(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }
}

impl<F: Future> PollOnce for F {}
