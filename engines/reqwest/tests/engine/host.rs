//! A `Host` of the request's own: the `:authority` where HTTP/2 is spoken.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::server::{Result, get};
use ::http::{Method, Request, Response, header};
use bytes::Bytes;
use drivetrain_engine::{Body, Engine, ErrorKind, NewConnection, Proxy};
use drivetrain_reqwest::Reqwest;
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A server in clear text that speaks what its client does, and answers with what it is told: the version, the
/// authority or the `Host`, and over HTTP/2 a field `host` that is beside it.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream));
            }
        });
        Ok(Self { address, connections })
    }

    fn url(&self) -> String {
        format!("http://localhost:{}/x", self.address.port())
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

type Served = Result<(), Box<dyn std::error::Error + Send + Sync>>;

async fn serve(mut stream: TcpStream) -> Served {
    let mut first = [0; 3];
    while stream.peek(&mut first).await? < first.len() {
        stream.readable().await?;
        tokio::task::yield_now().await;
    }
    if &first == b"PRI" {
        return serve_http2(stream).await;
    }
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head)?;
    let target = head.split(' ').nth(1).ok_or("no target")?;
    let host = crate::server::header(&head, "host").unwrap_or_default();
    let text = format!("HTTP/1.1 {target} {host}");
    let length = text.len();
    let answer =
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{text}");
    stream.write_all(answer.as_bytes()).await?;
    // Until the client has gone, so that an upload meets no reset.
    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
    Ok(())
}

async fn serve_http2(stream: TcpStream) -> Served {
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(request) = connection.accept().await {
        let (request, mut respond) = request?;
        let host = request.headers().get(header::HOST);
        let host = host.map(|host| format!(" and the field {host:?}")).unwrap_or_default();
        let text = format!("HTTP/2 {}{host}", request.uri());
        respond.send_response(Response::new(()), false)?.send_data(Bytes::from(text), true)?;
    }
    Ok(())
}

/// A body that streams.
fn stream() -> Body {
    let body = http_body_util::Full::new(Bytes::from_static(b"streams"));
    Body::streaming(body.map_err(|never: Infallible| match never {}))
}

async fn told(engine: &Reqwest, request: Request<Body>) -> Result<String> {
    let body = engine.execute(request).await?.into_body().collect().await?;
    Ok(String::from_utf8(body.to_bytes().to_vec())?)
}

fn with_host(url: &str, host: &str) -> Request<Body> {
    let mut request = get(url);
    request.headers_mut().insert(header::HOST, host.parse().expect("a value"));
    request
}

#[tokio::test]
async fn it_is_the_authority_with_prior_knowledge() -> Result {
    let server = Server::start().await?;
    let engine = Reqwest::new().http2_prior_knowledge();
    for host in ["b.test", "b.test:80", "[::1]:8080", "b.test"] {
        let text = told(&engine, with_host(&server.url(), host)).await?;
        assert_eq!(text, format!("HTTP/2 http://{host}/x"));
    }
    assert_eq!(server.connections(), 3, "requests for one name share a connection");
    let mut upload = with_host(&server.url(), "b.test");
    (*upload.method_mut(), *upload.body_mut()) = (Method::POST, stream());
    assert_eq!(told(&engine, upload).await?, "HTTP/2 http://b.test/x");
    assert_eq!(server.connections(), 3);
    let mut apart = with_host(&server.url(), "b.test");
    apart.extensions_mut().insert(NewConnection);
    assert_eq!(told(&engine, apart).await?, "HTTP/2 http://b.test/x");
    assert_eq!(server.connections(), 4);
    Ok(())
}

#[tokio::test]
async fn it_is_a_header_where_http_1_is_spoken() -> Result {
    let server = Server::start().await?;
    let clear = Reqwest::new();
    let hooked = clear.clone().http2_prior_knowledge().configure(|builder| builder);
    for engine in [clear, hooked] {
        let text = told(&engine, with_host(&server.url(), "b.test")).await?;
        assert_eq!(text, "HTTP/1.1 /x b.test");
    }
    // The target of a request to a proxy that sends it on is the URL's, in HTTP/1.1.
    let mut request = with_host("http://a.test/x", "b.test");
    request.extensions_mut().insert(Proxy::parse(&format!("http://{}", server.address))?);
    let engine = Reqwest::new().http2_prior_knowledge();
    assert_eq!(told(&engine, request).await?, "HTTP/1.1 http://a.test/x b.test");
    Ok(())
}

/// HTTP/2 has no place for it, also where the body streams.
#[tokio::test]
async fn one_that_is_no_authority_is_a_header() -> Result {
    let server = Server::start().await?;
    let engine = Reqwest::new().http2_prior_knowledge();
    for host in ["user@b.test", "b.test/x"] {
        for body in [Body::empty(), stream()] {
            let mut request = with_host(&server.url(), host);
            (*request.method_mut(), *request.body_mut()) = (Method::POST, body);
            assert_eq!(told(&engine, request).await?, format!("HTTP/1.1 /x {host}"));
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_origin_that_is_not_reached_is_named() -> Result {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let engine = Reqwest::new().http2_prior_knowledge();
    let request = with_host(&format!("http://localhost:{port}/"), "b.test");
    let error = engine.execute(request).await.expect_err("nobody listens");
    assert_eq!((error.kind(), error.engine()), (ErrorKind::Connect, Some("reqwest")), "{error:?}");
    let message = error.to_string();
    assert!(message.contains(&format!("localhost:{port}")), "{message}");
    assert!(!message.contains("b.test"), "{message}");
    Ok(())
}

/// The origin that was used the longest ago is forgotten first.
#[tokio::test]
async fn the_connections_of_64_origins_are_kept() -> Result {
    let server = Server::start().await?;
    let mut engine = Reqwest::new().http2_prior_knowledge();
    for origin in 0..65 {
        engine = engine.resolve(format!("{origin}.test"), [server.address]);
    }
    let port = server.address.port();
    let ask = async |origin| {
        let request = with_host(&format!("http://{origin}.test:{port}/"), "b.test");
        assert_eq!(told(&engine, request).await?, "HTTP/2 http://b.test/");
        Ok::<_, Box<dyn std::error::Error>>(server.connections())
    };
    for origin in 0..65 {
        assert_eq!(ask(origin).await?, origin + 1);
    }
    assert_eq!(ask(64).await?, 65);
    assert_eq!(ask(1).await?, 65);
    assert_eq!(ask(0).await?, 66, "it was forgotten");
    Ok(())
}
