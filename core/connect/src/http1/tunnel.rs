//! A tunnel through a proxy.

use std::{
    future::{Future as _, poll_fn},
    pin::pin,
    task::Poll,
};

use drivetrain_engine::{Body, Bytes, Error, ErrorKind, HeadLimits, Proxy, Result};
use http::{Method, Request, header};
use hyper::{
    client::conn::http1::Connection,
    rt::{Read, Write},
};
use tokio_socks::{Error as Socks, io::AsyncSocket, tcp::Socks5Stream};

use super::{builder::builder, failure::too_large, spelling::spelled};

/// Asks an HTTP proxy, on a connection to it, for a tunnel to this host (RFC 9110 section 9.3.6), and
/// gives the stream back.
///
/// # Errors
/// [`ErrorKind::Connect`], naming the proxy; for an answer other than 2xx with that answer.
/// [`ErrorKind::TooBig`] if the head of the answer is above the limits. [`ErrorKind::InvalidInput`] for a host that cannot be
/// asked for.
///
/// # Cancel safety
/// Dropping the future drops the stream.
pub async fn connect<T>(
    stream: T,
    proxy: &Proxy,
    host: &str,
    port: u16,
    limits: HeadLimits,
) -> Result<T>
where
    T: Read + Write + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| {
        if error.is_parse_too_large() {
            let whose = format!("of the answer of the proxy {}", proxy.authority());
            return too_large(limits, &whose).with_source(error);
        }
        // Another try changes nothing where the proxy does not speak HTTP.
        let (what, is_transient) = match error.is_parse() {
            true => ("does not answer in HTTP", false),
            false => ("ended the connection before the tunnel was open", true),
        };
        proxy.failed(what).with_transient(is_transient).with_source(error)
    };
    let request = spelled(request(proxy, host, port)?).await;
    let handshake = builder(limits).handshake(stream);
    let (mut sender, connection) = handshake.await.map_err(broken)?;
    let mut answer = pin!(sender.send_request(request));
    let (mut connection, mut parts, mut failure) = (Some(connection), None, None);
    let answer = poll_fn(|cx| {
        // Not its `poll`, which would end the writing direction of what is to be a tunnel.
        let over = connection.as_mut().map(|connection| connection.poll_without_shutdown(cx));
        if let Some(Poll::Ready(result)) = over {
            failure = result.err();
            // Taken apart it answers what it has left unanswered.
            parts = connection.take().map(Connection::into_parts);
        }
        answer.as_mut().poll(cx)
    })
    .await;
    let answer = answer.map_err(|error| broken(failure.unwrap_or(error)))?;
    if !answer.status().is_success() {
        return Err(proxy.refused(answer.map(|_| Bytes::new())));
    }
    // The server behind the tunnel speaks second, with TLS as with WebSockets.
    parts
        .or_else(|| connection.map(Connection::into_parts))
        .filter(|parts| parts.read_buf.is_empty())
        .map(|parts| parts.io)
        .ok_or_else(|| proxy.failed("did not open the tunnel properly"))
}

fn request(proxy: &Proxy, host: &str, port: u16) -> Result<Request<Body>> {
    let authority =
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(authority.as_str())
        .header(header::HOST, authority.as_str());
    if let Some(credentials) = proxy.authorization() {
        request = request.header(header::PROXY_AUTHORIZATION, credentials);
    }
    request.body(Body::empty()).map_err(|error| {
        let message = "the URL's host cannot be asked of a proxy";
        Error::new(ErrorKind::InvalidInput, message).with_source(error)
    })
}

/// Asks a SOCKS5 proxy, on a connection to it, for a tunnel to this host (RFC 1928), whose name the proxy
/// resolves.
///
/// # Errors
/// [`ErrorKind::Connect`], naming the proxy; transient where the proxy says that the host cannot be reached,
/// and not where it has a rule against it or does not take the credentials.
///
/// # Cancel safety
/// Dropping the future drops the stream.
pub async fn socks<S>(stream: S, proxy: &Proxy, host: &str, port: u16) -> Result<S>
where
    S: AsyncSocket + Unpin,
{
    let target = (host, port);
    let opened = match proxy.credentials() {
        None => Socks5Stream::connect_with_socket(stream, target).await,
        Some((user, password)) => {
            Socks5Stream::connect_with_password_and_socket(stream, target, user, password).await
        }
    };
    opened.map(Socks5Stream::into_inner).map_err(|error| {
        let failed = proxy.failed(format_args!("did not open the tunnel: {error}"));
        failed.with_transient(may_pass(&error)).with_source(error)
    })
}

fn may_pass(error: &Socks) -> bool {
    matches!(
        error,
        Socks::Io(_)
            | Socks::ProxyServerUnreachable
            | Socks::GeneralSocksServerFailure
            | Socks::NetworkUnreachable
            | Socks::HostUnreachable
            | Socks::ConnectionRefused
            | Socks::TtlExpired
    )
}
