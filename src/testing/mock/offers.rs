//! The capabilities of a mock.

use drivetrain_engine::{Capability, Support};

/// The default capabilities of a mock.
pub(super) fn offers(capability: Capability) -> Support {
    match capability {
        Capability::Http1 | Capability::Tls | Capability::ConnectTimeout => Support::Offered,
        Capability::Http2 | Capability::WebSocketOverHttp2 => {
            Support::missing("a mock answers as an HTTP/1.1 server does")
        }
        Capability::ConnectionReuse => {
            Support::missing("there are no connections in memory: each request finds its route")
        }
        Capability::ClientCertificates => {
            Support::missing("there is no TLS in memory: https and wss work without it")
        }
        Capability::CallerStream => {
            Support::missing("a mock is the peer itself: use an engine for a custom stream")
        }
        Capability::Proxies | Capability::HttpsProxies | Capability::SocksProxies => {
            Support::missing(
                "a mock opens no connections, so there is nothing to send through a proxy",
            )
        }
        Capability::HandshakePhases => {
            Support::missing("nothing is dialled in memory: there are no phases to time")
        }
        Capability::Resolver => Support::missing("a mock answers for every host: none is resolved"),
        Capability::UnixSockets => {
            Support::missing("a mock opens no connections, so there is no socket to connect to")
        }
        _ => Support::of_frames(capability),
    }
}
