//! Honest engines that lack something, or do something by themselves: the suite passes on each.

use drivetrain::{Capability, engine::Duties};
use drivetrain_conformance::Subject;

use crate::altered::Altered;

/// Those of every run: what one lacks, another one has.
pub(crate) fn subjects() -> Vec<Box<dyn Subject>> {
    boxed(&[MESSAGES, BROWSER_LIKE, SOCKETS_ONLY])
}

/// One for each capability and for each duty. A run of the suite for each takes minutes, so they run when they are asked
/// for: `DRIVETRAIN_LACKING=1`.
pub(crate) fn one_by_one() -> Vec<Box<dyn Subject>> {
    boxed(ONE_BY_ONE)
}

fn boxed(all: &[Altered]) -> Vec<Box<dyn Subject>> {
    all.iter().map(|&altered| Box::new(altered) as Box<dyn Subject>).collect()
}

/// A library that hands out messages and keeps their limit.
const MESSAGES: Altered = {
    use Capability::*;
    let lacks: &[Capability] = &[
        SendFragments,
        MaxFrameSize,
        RawSessions,
        RsvBits,
        Extensions,
        Tls,
        ClientCertificates,
        Http2,
        HttpsProxies,
        WebSocketOverHttp2,
    ];
    Altered::lacking("messages", lacks).doing(Duties::messages())
};

/// A library of a system's own HTTP stack, which shows little.
const BROWSER_LIKE: Altered = {
    use Capability::*;
    let lacks: &[Capability] = &[
        ClientCertificates,
        HandshakeHeaders,
        HandshakeResponse,
        PluginPing,
        EnginePing,
        SendPing,
        RawSessions,
        RsvBits,
        Extensions,
        CallerStream,
        ConnectTimeout,
        HandshakePhases,
        HttpsProxies,
        Resolver,
        SocksProxies,
        UnixSockets,
    ];
    let duties = Duties::frames().answering_ping().echoing_close().applying_extensions();
    Altered::lacking("browser-like", lacks).doing(duties)
};

/// A library of WebSockets alone.
const SOCKETS_ONLY: Altered = {
    use Capability::*;
    let lacks: &[Capability] = &[
        Http1,
        Http2,
        ConnectionReuse,
        Subprotocols,
        MaxFrameSize,
        SendFragments,
        Proxies,
        WebSocketOverHttp2,
        BatchedWrites,
    ];
    let duties = Duties::frames().sending_close();
    Altered::lacking("sockets-only", lacks).doing(duties)
};

/// A library that answers Pings by itself and cannot send any.
const ANSWERING: Duties = Duties::frames().answering_ping();

/// Each lacks the capability that it is named after, and what cannot be there without it.
const ONE_BY_ONE: &[Altered] = {
    use Capability::*;
    const WEB_SOCKETS: &[Capability] = &[
        WebSockets,
        HandshakeHeaders,
        HandshakePhases,
        HandshakeResponse,
        Subprotocols,
        MaxFrameSize,
        MaxMessageSize,
        PluginPing,
        EnginePing,
        SendPing,
        SendFragments,
        RawSessions,
        RsvBits,
        Extensions,
        CallerStream,
        WebSocketOverHttp2,
        BatchedWrites,
    ];
    const NO_TLS: &[Capability] =
        &[Tls, ClientCertificates, Http2, HttpsProxies, WebSocketOverHttp2];
    const NO_FRAGMENTS: &[Capability] =
        &[SendFragments, MaxFrameSize, RawSessions, RsvBits, Extensions];
    &[
        Altered::lacking("lacking-http1", &[Http1, Http2, ConnectionReuse]),
        Altered::lacking("lacking-http2", &[Http2]),
        Altered::lacking("lacking-connection-reuse", &[ConnectionReuse, Http2]),
        Altered::lacking("lacking-web-sockets", WEB_SOCKETS),
        Altered::lacking("lacking-tls", NO_TLS),
        Altered::lacking("lacking-client-certificates", &[ClientCertificates]),
        Altered::lacking("lacking-handshake-headers", &[HandshakeHeaders]),
        Altered::lacking("lacking-handshake-response", &[HandshakeResponse, HandshakePhases]),
        Altered::lacking("lacking-subprotocols", &[Subprotocols]),
        Altered::lacking("lacking-max-frame-size", &[MaxFrameSize]),
        Altered::lacking("lacking-engine-ping", &[EnginePing]),
        Altered::lacking("lacking-send-ping", &[SendPing, PluginPing, EnginePing, RawSessions])
            .doing(ANSWERING),
        Altered::lacking("lacking-send-fragments", &[SendFragments]),
        Altered::lacking("lacking-raw-sessions", &[RawSessions]).doing(ANSWERING),
        Altered::lacking("lacking-rsv-bits", &[RsvBits, Extensions]),
        Altered::lacking("lacking-custom-streams", &[CallerStream]),
        Altered::lacking("lacking-connect-timeout", &[ConnectTimeout]),
        Altered::lacking("lacking-handshake-phases", &[HandshakePhases]),
        Altered::lacking("lacking-unix-sockets", &[UnixSockets]),
        Altered::lacking("lacking-resolver", &[Resolver]),
        Altered::lacking("lacking-https-proxies", &[HttpsProxies]),
        Altered::lacking("lacking-proxies", &[Proxies]),
        Altered::lacking("lacking-socks-proxies", &[SocksProxies]),
        Altered::lacking("lacking-http2-sockets", &[WebSocketOverHttp2]),
        Altered::lacking("lacking-batched-writes", &[BatchedWrites]),
        Altered::lacking("doing-messages", NO_FRAGMENTS).doing(Duties::messages()),
        Altered::lacking("doing-echo", &[RawSessions]).doing(Duties::frames().echoing_close()),
        Altered::lacking("doing-close", &[]).doing(Duties::frames().sending_close()),
        Altered::lacking("doing-utf8", &[]).doing(Duties::frames().validating_utf8()),
        Altered::lacking("doing-extensions", &[RsvBits, Extensions])
            .doing(Duties::frames().applying_extensions()),
    ]
};
