//! The way to a host: straight, or through a proxy.

use drivetrain_engine::{Body, Error, ErrorKind, Proxy, ProxyScheme, Result};
use http::{Method, Request, header};
use tokio_socks::{io::Compat, tcp::Socks5Stream};

use crate::{
    dial::Place,
    exchange::Link,
    stream::{Stream, Tcp},
};

/// How a request comes to its host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Way {
    #[default]
    Direct,
    /// An HTTP proxy sends it on: it goes out in absolute form.
    Forwarded(Proxy),
    /// A proxy carries the bytes.
    Tunnel(Proxy),
}

impl Way {
    /// The way through this proxy. A handshake always has a tunnel (RFC 6455 section 4.1).
    pub(crate) fn through(proxy: Option<&Proxy>, is_secure: bool, is_handshake: bool) -> Self {
        match proxy {
            None => Self::Direct,
            Some(proxy) if proxy.scheme() == ProxyScheme::Http && !is_secure && !is_handshake => {
                Self::Forwarded(proxy.clone())
            }
            Some(proxy) => Self::Tunnel(proxy.clone()),
        }
    }

    pub(crate) fn proxy(&self) -> Option<&Proxy> {
        match self {
            Self::Direct => None,
            Self::Forwarded(proxy) | Self::Tunnel(proxy) => Some(proxy),
        }
    }
}

/// Asks the proxy, on a connection to it, for a tunnel to this place.
pub(crate) async fn tunnel(stream: Tcp, proxy: &Proxy, place: &Place) -> Result<Tcp> {
    match proxy.scheme() {
        ProxyScheme::Http => connect(stream, proxy, place).await,
        ProxyScheme::Socks5 => socks(stream, proxy, place).await,
        _ => Err(failed(proxy, "is of a kind that this version of the engine does not know")),
    }
}

/// RFC 9110 section 9.3.6.
async fn connect(stream: Tcp, proxy: &Proxy, place: &Place) -> Result<Tcp> {
    let broken = |error: hyper::Error| {
        let what = match error.is_parse() {
            true => "does not answer in HTTP",
            false => "ended the connection before the tunnel was open",
        };
        failed(proxy, what).with_source(error)
    };
    let authority = place.full_authority();
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(authority.as_str())
        .header(header::HOST, authority.as_str());
    if let Some(credentials) = proxy.authorization() {
        request = request.header(header::PROXY_AUTHORIZATION, credentials);
    }
    let request = request.body(Body::empty()).map_err(|error| {
        let message = "the URL's host cannot be asked of a proxy";
        Error::new(ErrorKind::InvalidInput, message).with_source(error)
    })?;
    let mut link = Link::new(Stream::plain(stream)).await.map_err(broken)?;
    let answer = link.send(request).await.map_err(|unanswered| broken(unanswered.error))?;
    if !answer.status().is_success() {
        let refused = failed(proxy, &format!("refused the tunnel with {}", answer.status()));
        return Err(refused.with_response(answer.map(|_| bytes::Bytes::new())));
    }
    let opened = link.into_stream().await.map_err(broken)?;
    // Whoever is behind the tunnel speaks second, with TLS as with WebSockets.
    opened
        .filter(|(_, early)| early.is_empty())
        .and_then(|(stream, _)| stream.into_plain())
        .ok_or_else(|| failed(proxy, "did not open the tunnel properly"))
}

/// RFC 1928; the proxy resolves the name.
async fn socks(stream: Tcp, proxy: &Proxy, place: &Place) -> Result<Tcp> {
    let stream = Compat::new(stream);
    let target = (place.host.as_str(), place.port);
    let opened = match proxy.credentials() {
        None => Socks5Stream::connect_with_socket(stream, target).await,
        Some((user, password)) => {
            Socks5Stream::connect_with_password_and_socket(stream, target, user, password).await
        }
    };
    match opened {
        Ok(opened) => Ok(opened.into_inner().into_inner()),
        Err(error) => {
            let what = format!("did not open the tunnel: {error}");
            Err(failed(proxy, &what).with_source(error))
        }
    }
}

fn failed(proxy: &Proxy, what: &str) -> Error {
    Error::new(ErrorKind::Connect, format!("the proxy {} {what}", proxy.authority()))
}
