//! What an engine may or may not be able to do: the one table behind every check, error, test and row.

use std::{borrow::Cow, fmt};

/// Whether an engine can do something; if not, why, and what the user can do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// It works on this engine.
    Offered,
    /// It does not, for this reason: one clause that can stand after a colon.
    Missing(Cow<'static, str>),
}

impl Support {
    /// [`Missing`](Self::Missing) with a reason.
    pub fn missing(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Missing(reason.into())
    }

    /// What an engine offers that takes and shows whole frames, beside what its HTTP side does: all of WebSockets
    /// over HTTP/1.1 and over a stream of the caller's. [`Missing`](Self::Missing) for any other capability.
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

/// What it means for a capability to be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Requirement {
    /// Asking for it is refused with [`Unsupported`](crate::ErrorKind::Unsupported) before a byte is
    /// sent, or there is no method to ask with.
    Option,
    /// It is not asked for: it is observably there or observably absent.
    Behaviour,
}

macro_rules! capabilities {
    ($($(#[doc = $doc:literal])+ $variant:ident: $requirement:ident, $name:literal;)+) => {
        /// Something an engine can or cannot do; a row of `docs/limitations.md`.
        ///
        /// An engine answers [`Support::Missing`] to a capability it does not know: the table grows.
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

            /// What it means for it to be missing.
            pub const fn requirement(self) -> Requirement {
                match self { $(Self::$variant => Requirement::$requirement,)+ }
            }

            /// What it is, in a sentence.
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
    /// Opening WebSockets.
    WebSockets: Option, "WebSockets";
    /// `https` and `wss`, with the system's roots or roots of the caller's.
    Tls: Option, "TLS";
    /// Presenting a client certificate.
    ClientCertificates: Option, "client certificates";
    /// Headers of the caller's on the handshake.
    HandshakeHeaders: Option, "handshake headers";
    /// The response that accepted the handshake is visible on the session.
    HandshakeResponse: Behaviour, "handshake response";
    /// Offering subprotocols and seeing the one chosen.
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
    /// Raw sessions: frames as they are, fragments and control frames among them.
    RawSessions: Option, "raw sessions";
    /// Reserved bits in both directions, for extensions.
    RsvBits: Option, "RSV bits";
    /// Extensions that the session applies, such as permessage-deflate (RFC 7692).
    Extensions: Option, "extensions";
    /// Running over a stream that the caller brings.
    CallerStream: Option, "streams the caller brings";
    /// A time limit for opening the connection.
    ConnectTimeout: Option, "connect timeout";
    /// Going through an HTTP proxy, with and without basic auth: a tunnel for `https`, `ws` and `wss`.
    Proxies: Option, "HTTP proxies";
    /// Going through a SOCKS5 proxy, with and without a password, which resolves the target's name.
    SocksProxies: Option, "SOCKS5 proxies";
    /// WebSockets over HTTP/2 where the server allows it (RFC 8441): one connection, many sockets.
    WebSocketOverHttp2: Behaviour, "WebSocket over HTTP/2";
    /// A burst of small messages costs fewer writes than messages.
    BatchedWrites: Behaviour, "batched writes";
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
