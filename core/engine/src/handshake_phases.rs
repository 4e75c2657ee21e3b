//! How long the phases of a handshake took.

use std::time::Duration;

/// How long the phases of opening a WebSocket took, in the extensions of the response that accepted or refused the
/// handshake. A phase that there was none of is `None`: DNS for an IP address, TLS for `ws`, and all but
/// [`upgrade`](Self::upgrade) on a connection that was open already.
///
/// They follow each other in this order. After redirects they are those of the last handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandshakePhases {
    /// Resolving the name of the host, or of the proxy on the way to it.
    pub dns: Option<Duration>,
    /// Connecting by TCP, with every address that was tried, or to a Unix socket.
    pub tcp: Option<Duration>,
    /// TLS with the proxy, and opening the tunnel.
    pub proxy: Option<Duration>,
    /// TLS with the host.
    pub tls: Option<Duration>,
    /// The request of the handshake and the head of its response.
    pub upgrade: Option<Duration>,
}
