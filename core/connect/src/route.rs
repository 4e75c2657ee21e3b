//! The route to a host: straight, or through a proxy.

use drivetrain_engine::{HeadLimits, Proxy, ProxyScheme, Result, UnixSocket};
use http::Extensions;
use tokio_socks::io::Compat;

use crate::{
    adapter::ForHyper,
    http1::{connect, socks},
    stream::ConnectedStream,
};

/// How a request reaches its host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Route {
    #[default]
    Direct,
    /// An HTTP proxy sends it on: it goes out in absolute form.
    Forwarded(Proxy),
    /// A proxy carries the bytes.
    Tunnel(Proxy),
    /// A Unix socket leads there.
    Socket(UnixSocket),
}

impl Route {
    /// The route that the extensions of a request ask for. A handshake always has a tunnel (RFC 6455 section 4.1).
    pub(crate) fn of(extensions: &Extensions, is_secure: bool, is_handshake: bool) -> Self {
        if let Some(socket) = extensions.get::<UnixSocket>() {
            return Self::Socket(socket.clone());
        }
        Self::through(extensions.get(), is_secure, is_handshake)
    }

    /// The route through this proxy.
    pub(crate) fn through(proxy: Option<&Proxy>, is_secure: bool, is_handshake: bool) -> Self {
        match proxy {
            None => Self::Direct,
            Some(proxy) if proxy.is_http() && !is_secure && !is_handshake => {
                Self::Forwarded(proxy.clone())
            }
            Some(proxy) => Self::Tunnel(proxy.clone()),
        }
    }

    /// The proxy, if it is reached over TLS.
    pub(crate) fn https_proxy(&self) -> Option<&Proxy> {
        self.proxy().filter(|proxy| proxy.scheme() == ProxyScheme::Https)
    }

    pub(crate) fn proxy(&self) -> Option<&Proxy> {
        match self {
            Self::Direct | Self::Socket(_) => None,
            Self::Forwarded(proxy) | Self::Tunnel(proxy) => Some(proxy),
        }
    }
}

/// Asks the proxy, on a connection to it, for a tunnel to this host.
pub(crate) async fn tunnel(
    stream: ConnectedStream,
    proxy: &Proxy,
    host: &str,
    port: u16,
    limits: HeadLimits,
) -> Result<ConnectedStream> {
    match proxy.scheme() {
        ProxyScheme::Http | ProxyScheme::Https => {
            let stream = connect(ForHyper::new(stream), proxy, host, port, limits).await?;
            Ok(stream.into_inner())
        }
        ProxyScheme::Socks5 => {
            let stream = socks(Compat::new(stream), proxy, host, port).await?;
            Ok(stream.into_inner())
        }
        _ => Err(proxy.failed("is of a kind that this version of the engine does not know")),
    }
}
