//! The capabilities of engines: one table behind every check, error, test and row.

use std::{borrow::Cow, fmt};

/// Whether an engine offers a capability; if not, the reason and the user's alternative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// The engine offers it.
    Offered,
    /// The engine does not offer it, for this reason: one clause that fits after a colon.
    Missing(Cow<'static, str>),
}

impl Support {
    /// [`Missing`](Self::Missing) with a reason.
    pub fn missing(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Missing(reason.into())
    }

    /// The capabilities of an engine of whole frames, beside its HTTP side: all of WebSockets
    /// over HTTP/1.1 and over a custom stream. [`Missing`](Self::Missing) for any other capability.
    pub fn of_frames(capability: Capability) -> Self {
        match capability {
            Capability::WebSockets
            | Capability::HandshakeHeaders
            | Capability::HandshakeResponse
            | Capability::Subprotocols
            | Capability::MaxFrameSize
            | Capability::MaxMessageSize
            | Capability::PluginPing
            | Capability::EnginePing
            | Capability::SendPing
            | Capability::SendFragments
            | Capability::RawSessions
            | Capability::RsvBits
            | Capability::Extensions
            | Capability::CallerStream
            | Capability::BatchedWrites => Self::Offered,
            _ => Self::missing("this version of the engine does not know it"),
        }
    }

    /// Whether it is [`Offered`](Self::Offered).
    pub const fn is_offered(&self) -> bool {
        matches!(self, Self::Offered)
    }
}

/// The consequence of a missing capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Requirement {
    /// A call that needs it fails with [`Unsupported`](crate::ErrorKind::Unsupported) before a byte is
    /// sent, or no method exists.
    Option,
    /// It is observably present or observably absent.
    Behaviour,
}

macro_rules! capabilities {
    ($($(#[doc = $doc:literal])+ $variant:ident: $requirement:ident, $name:literal;)+) => {
        /// A capability of an engine; a row of `docs/reference/limitations.md`.
        ///
        /// An engine answers [`Support::Missing`] to an unknown capability, because this table grows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Capability {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Capability {
            /// Every capability, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name in tables and errors.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The consequence of a missing capability.
            pub const fn requirement(self) -> Requirement {
                match self { $(Self::$variant => Requirement::$requirement,)+ }
            }

            /// Whether the capability belongs to an engine's connector. Otherwise it belongs to the framing.
            pub const fn is_of_connectors(self) -> bool {
                matches!(
                    self,
                    Self::Http1
                        | Self::Http2
                        | Self::ConnectionReuse
                        | Self::Tls
                        | Self::ClientCertificates
                        | Self::ConnectTimeout
                        | Self::Proxies
                        | Self::HttpsProxies
                        | Self::SocksProxies
                        | Self::UnixSockets
                        | Self::Resolver
                        | Self::WebSocketOverHttp2
                        | Self::HandshakePhases
                )
            }

            /// One sentence for tables.
            pub fn description(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

capabilities! {
    /// Plain HTTP requests over HTTP/1.1.
    Http1: Option, "HTTP/1.1";
    /// Plain HTTP requests over HTTP/2 where the server negotiates it (ALPN).
    Http2: Behaviour, "HTTP/2";
    /// Later requests reuse an HTTP connection.
    ConnectionReuse: Behaviour, "connection reuse";
    /// Opening WebSockets.
    WebSockets: Option, "WebSockets";
    /// `https` and `wss`, with the system's roots or the user's.
    Tls: Option, "TLS";
    /// Presenting a client certificate.
    ClientCertificates: Option, "client certificates";
    /// The user's headers on the handshake.
    HandshakeHeaders: Option, "handshake headers";
    /// The response that accepted the handshake is visible on the session.
    HandshakeResponse: Behaviour, "handshake response";
    /// Offering subprotocols and reading the server's choice.
    Subprotocols: Option, "subprotocols";
    /// A limit for incoming frames.
    MaxFrameSize: Option, "max frame size";
    /// A limit for incoming messages.
    MaxMessageSize: Option, "max message size";
    /// A ping interval set on the `WebSockets` plugin or on one request.
    PluginPing: Option, "plugin ping";
    /// A ping interval set on the engine value (OkHttp's preconfigured ping).
    EnginePing: Option, "engine-level ping";
    /// Sending Ping and Pong frames.
    SendPing: Option, "send Ping and Pong";
    /// A long message goes out in fragments, with control frames between them.
    SendFragments: Behaviour, "send fragments";
    /// Raw sessions: all frames unchanged, including fragments and control frames.
    RawSessions: Option, "raw sessions";
    /// Reserved bits in both directions, for extensions.
    RsvBits: Option, "RSV bits";
    /// Extensions that the session applies, such as permessage-deflate (RFC 7692).
    Extensions: Option, "extensions";
    /// Running over a custom stream.
    CallerStream: Option, "custom streams";
    /// A time limit for opening the connection.
    ConnectTimeout: Option, "connect timeout";
    /// HTTP proxies, with and without basic authentication: a tunnel for `https`, `ws` and `wss`.
    Proxies: Option, "HTTP proxies";
    /// HTTP proxies that are reached over TLS, by an `https://` URL.
    HttpsProxies: Option, "HTTPS proxies";
    /// SOCKS5 proxies, with and without a password. The proxy resolves the target's name.
    SocksProxies: Option, "SOCKS5 proxies";
    /// Connecting to a Unix socket instead of the URL's host.
    UnixSockets: Option, "Unix sockets";
    /// Resolving host names by a function of the user's.
    Resolver: Option, "resolver";
    /// WebSockets over HTTP/2 where the server allows it (RFC 8441): one connection, many sockets.
    WebSocketOverHttp2: Behaviour, "WebSocket over HTTP/2";
    /// The response to a handshake says how long DNS, TCP, the proxy, TLS and the upgrade took.
    HandshakePhases: Behaviour, "handshake phases";
    /// A burst of small messages costs fewer writes than messages.
    BatchedWrites: Behaviour, "batched writes";
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
