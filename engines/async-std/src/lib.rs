//! The engine of [drivetrain](https://docs.rs/drivetrain) on async-std, and on smol.
//!
//! `AsyncStd` speaks HTTP/1.1 with hyper and WebSocket with tungstenite's codec over futures-io
//! streams; `Smol` is the same code on smol. There is no tokio runtime below either.
//!
//! ```no_run
//! use drivetrain_async_std::AsyncStd;
//! use drivetrain_engine::{Body, Engine};
//!
//! # async fn example() -> drivetrain_engine::Result<()> {
//! let engine = AsyncStd::new().read_buffer_size(64 << 10);
//! let mut request = http::Request::new(Body::empty());
//! *request.uri_mut() = http::Uri::from_static("http://127.0.0.1:8080/");
//! let response = engine.execute(request).await?;
//! assert!(response.status().is_success());
//! # Ok(())
//! # }
//! ```
//!
//! # HTTP
//!
//! One hop over HTTP/1.1. Up to 32 connections wait for another request to their host, 30 s each; as
//! there is no task that watches them, those that are older are closed by the next request. A request
//! that meets one which the server had closed is sent over another, if not a byte of it was sent. A body
//! that is uploaded goes on while the response is read; if the response ends first, a task sees the
//! upload through. A response dropped before its end closes its connection.
//!
//! # WebSockets
//!
//! Each has a connection of its own. Addresses are tried in the resolver's order, the next one as soon
//! as one fails or has not answered for 250 ms; `TCP_NODELAY` is on.
//!
//! # Runtime
//!
//! Sockets and timers are driven by async-io's own thread: an engine can be used under any executor.
//! Tasks run on the global executor of async-std or smol, which starts when it is first needed.
//!
//! # Features
//!
//! | | |
//! |---|---|
//! | `rustls` (default) | `https` and `wss` with rustls and ring; nothing of rustls' process-wide state is used |
//! | `async-std` (default) | `AsyncStd` |
//! | `smol` | `Smol`, the engine on smol; without async-std if that is switched off |
//!
//! Without `rustls`, `https` and `wss` are refused before anything is dialled.

mod adapter;
#[cfg(feature = "async-std")]
mod async_std;
mod connect;
mod dial;
mod exchange;
mod map;
mod pool;
mod proxied;
mod runtime;
#[cfg(feature = "smol")]
mod smol;
mod stream;
mod tls;

use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

#[cfg(feature = "rustls")]
use drivetrain_engine::TlsVersion;
use drivetrain_engine::{
    Answer, Body, Capability, Engine, EngineSettings, Error, ErrorKind, Handshake, NativeSetting,
    Result, Runtime, Support, async_trait,
};
use drivetrain_tungstenite_common::Options as Framing;
use futures_io::{AsyncRead, AsyncWrite};

#[cfg(feature = "async-std")]
pub use crate::async_std::OnAsyncStd;
pub use crate::runtime::Flavour;
#[cfg(feature = "smol")]
pub use crate::smol::OnSmol;
/// tungstenite's own configuration, as async-tungstenite 0.35 exports it.
pub use async_tungstenite::tungstenite::protocol::WebSocketConfig;

/// The engine on [async-std](https://docs.rs/async-std).
///
/// ```
/// use std::time::Duration;
/// use drivetrain_async_std::AsyncStd;
///
/// let engine = AsyncStd::new().ping_interval(Duration::from_secs(20)).write_buffer_size(64 << 10);
/// ```
#[cfg(feature = "async-std")]
pub type AsyncStd = FuturesIo<OnAsyncStd>;

/// The engine on smol: `AsyncStd` with another runtime below.
#[cfg(feature = "smol")]
pub type Smol = FuturesIo<OnSmol>;

/// HTTP/1.1 and WebSockets over futures-io; to be named as `AsyncStd` or `Smol`.
///
/// The value is its configuration: nothing is made, read or dialled before the first use. Clones share
/// their idle HTTP connections and TLS sessions; setting a TLS option on a clone gives that clone its
/// own. Of two calls that set the same thing the later wins.
pub struct FuturesIo<R> {
    ping_interval: Option<Duration>,
    framing: Framing,
    secure: tls::Secure,
    caller: Option<stream::Once>,
    pool: Arc<pool::Pool>,
    runtime: PhantomData<fn() -> R>,
}

const NO_TLS: &str = "it was built without TLS: switch on cargo feature `rustls`";

impl<R: Flavour> FuturesIo<R> {
    const ONE_STREAM: &'static str =
        "it runs over one stream that the caller brought: it opens one WebSocket";
    const NOTHING_TO_DIAL: &'static str = "a stream that the caller brings is connected already";
    const OWN_TLS: &'static str =
        "a stream that the caller brings has its own TLS: present the certificate there";

    /// The engine with the system's CA certificates, no client certificate, and the defaults of each
    /// option. Does no I/O and does not fail.
    pub fn new() -> Self {
        Self {
            ping_interval: None,
            framing: Framing::default(),
            secure: Default::default(),
            caller: None,
            pool: Arc::default(),
            runtime: PhantomData,
        }
    }

    /// The engine over a stream that is connected already, for one WebSocket, once: clones share it.
    ///
    /// The URI only says what the handshake asks for. For `wss` the stream already is the TLS stream: it
    /// is used as it is. HTTP requests, TLS options and a connect timeout are refused. A second
    /// connect fails with [`ErrorKind::Connect`]; a connect that was dropped has used the stream.
    pub fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        Self { caller: Some(stream::Once::new(stream)), ..Self::new() }
    }

    /// Sets the engine-level ping interval, which wins over that of the `WebSockets` plugin; the session
    /// sends the pings. Default: not set. Zero is refused when the client is built.
    #[must_use]
    pub fn ping_interval(mut self, interval: Duration) -> Self {
        self.ping_interval = Some(interval);
        self
    }

    /// Sets the most bytes that one read of a WebSocket takes; a connection starts with 4 KiB and grows
    /// to it when reads fill what they were offered. Default: 16 KiB. Zero is refused when the client is
    /// built.
    #[must_use]
    pub fn read_buffer_size(mut self, bytes: usize) -> Self {
        self.framing = self.framing.read_buffer_size(bytes);
        self
    }

    /// Sets how many encoded bytes may wait before sending another frame writes them first.
    /// Default: 32 KiB. Zero is refused when the client is built.
    #[must_use]
    pub fn write_buffer_size(mut self, bytes: usize) -> Self {
        self.framing = self.framing.write_buffer_size(bytes);
        self
    }

    /// Takes over what is set in tungstenite's own configuration. Default: nothing.
    ///
    /// A field equal to tungstenite's default counts as not set; a limit of `None` is the largest there
    /// is. `max_write_buffer_size` and `accept_unmasked_frames` are refused when the client is built.
    #[must_use]
    pub fn preconfigured(mut self, config: WebSocketConfig) -> Self {
        self.framing = self.framing.preconfigured(config);
        self
    }
}

#[cfg(feature = "rustls")]
impl<R: Flavour> FuturesIo<R> {
    /// Trusts the certificates in `pem`, which may be a bundle, as well as the system's. Default: none.
    ///
    /// What cannot be read is told when the client is built.
    #[must_use]
    pub fn root_certificate_pem(self, pem: impl AsRef<[u8]>) -> Self {
        let value = format!("{} bytes", pem.as_ref().len());
        self.tls("root_certificate_pem", value, |tls| tls.root_certificate_pem(pem))
    }

    /// Trusts the certificate in `der` as well as the system's. Default: none.
    ///
    /// What cannot be read is told when the client is built.
    #[must_use]
    pub fn root_certificate_der(self, der: impl AsRef<[u8]>) -> Self {
        let value = format!("{} bytes", der.as_ref().len());
        self.tls("root_certificate_der", value, |tls| tls.root_certificate_der(der))
    }

    /// Trusts the root certificates that were given, and not the system's. Default: both.
    #[must_use]
    pub fn only_these_roots(self) -> Self {
        self.tls("only_these_roots", "true".into(), drivetrain_tls::Tls::only_these_roots)
    }

    /// Refuses servers that only speak an older TLS. Default: [`TlsVersion::V1_2`].
    #[must_use]
    pub fn min_tls_version(self, version: TlsVersion) -> Self {
        self.tls("min_tls_version", version.to_string(), |tls| tls.min_version(version))
    }

    /// **Accepts whatever certificate a server shows, for any name: anybody in between can read and change
    /// everything.** For tests alone. Default: certificates are verified. Roots cannot be set beside it.
    #[must_use]
    pub fn danger_accept_any_certificate(self) -> Self {
        let with = drivetrain_tls::Tls::danger_accept_any_certificate;
        self.tls("danger_accept_any_certificate", "true: NO VERIFICATION".into(), with)
    }

    /// Presents this certificate to a server that asks for one. Default: none.
    ///
    /// `chain_and_key` is one PEM text with the chain, leaf first, and the private key, not encrypted.
    /// What cannot be read is told when the client is built.
    #[must_use]
    pub fn client_certificate_pem(self, chain_and_key: impl AsRef<[u8]>) -> Self {
        self.tls("client_certificate_pem", "set".into(), |tls| {
            tls.client_certificate_pem(chain_and_key)
        })
    }

    /// Uses this configuration of rustls, with its own provider, roots and client certificate; only its
    /// ALPN list is overwritten, with `http/1.1`. Default: none. The other TLS options cannot be set
    /// beside it.
    #[must_use]
    pub fn rustls_config(self, config: Arc<rustls::ClientConfig>) -> Self {
        self.tls("rustls_config", "a rustls::ClientConfig".into(), |tls| tls.preconfigured(config))
    }

    fn tls(
        mut self,
        name: &'static str,
        value: String,
        with: impl FnOnce(drivetrain_tls::Tls) -> drivetrain_tls::Tls,
    ) -> Self {
        self.secure.change(name, value, with);
        // A connection that was opened on other terms is not for this value.
        self.pool = Arc::default();
        self
    }
}

#[async_trait]
impl<R: Flavour> Engine for FuturesIo<R> {
    fn name(&self) -> &str {
        R::NAME
    }

    fn support(&self, capability: Capability) -> Support {
        let is_over = self.caller.is_some();
        match capability {
            Capability::Http1 if is_over => Support::missing(Self::ONE_STREAM),
            Capability::ConnectTimeout | Capability::Proxies | Capability::SocksProxies
                if is_over =>
            {
                Support::missing(Self::NOTHING_TO_DIAL)
            }
            Capability::ClientCertificates if is_over => Support::missing(Self::OWN_TLS),
            Capability::WebSocketOverHttp2 => {
                Support::missing("hyper over HTTP/1.1 only: use the Tungstenite engine for it")
            }
            Capability::Http2 => {
                Support::missing("hyper over HTTP/1.1 only: use the Tungstenite engine for HTTP/2")
            }
            Capability::Tls if is_over || cfg!(feature = "rustls") => Support::Offered,
            Capability::ClientCertificates if cfg!(feature = "rustls") => Support::Offered,
            Capability::Tls | Capability::ClientCertificates => Support::missing(NO_TLS),
            Capability::Http1
            | Capability::WebSockets
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
            | Capability::ConnectTimeout
            | Capability::Proxies
            | Capability::SocksProxies
            | Capability::BatchedWrites => Support::Offered,
            _ => Support::missing("this version of the engine does not know it"),
        }
    }

    fn settings(&self) -> EngineSettings {
        let mut settings = EngineSettings::default();
        settings.ping_interval = self.ping_interval;
        (settings.max_frame_size, settings.max_message_size) = self.framing.limits();
        settings.native = self.framing.settings();
        let tls = self.secure.set().iter();
        settings.native.extend(tls.map(|(name, value)| NativeSetting::new(*name, value.clone())));
        settings
    }

    fn check(&self) -> Result<()> {
        let invalid = |message: String| Err(Error::new(ErrorKind::InvalidInput, message));
        let checked = if self.ping_interval == Some(Duration::ZERO) {
            invalid("ping_interval must not be zero: leave it out to switch pings off".into())
        } else if let (Some(_), Some((option, _))) = (&self.caller, self.secure.set().first()) {
            invalid(format!(
                "{option} has no effect on a stream that the caller brings: bring the TLS stream"
            ))
        } else {
            self.framing.check().and_then(|()| self.secure.check())
        };
        checked.map_err(|error| error.with_engine(R::NAME))
    }

    fn runtime(&self) -> Result<Arc<dyn Runtime>> {
        Ok(Arc::new(runtime::Tasks::<R>::new()))
    }

    async fn execute(&self, request: http::Request<Body>) -> Result<http::Response<Body>> {
        connect::execute(self, request).await
    }

    async fn connect(&self, handshake: Handshake) -> Result<Answer> {
        connect::open(self, &handshake).await
    }
}

impl<R: Flavour> Default for FuturesIo<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R> Clone for FuturesIo<R> {
    fn clone(&self) -> Self {
        Self {
            ping_interval: self.ping_interval,
            framing: self.framing.clone(),
            secure: self.secure.clone(),
            caller: self.caller.clone(),
            pool: Arc::clone(&self.pool),
            runtime: PhantomData,
        }
    }
}

/// Prints what was set, never certificates or keys.
impl<R: Flavour> fmt::Debug for FuturesIo<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct(R::TYPE);
        if let Some(interval) = &self.ping_interval {
            debug.field("ping_interval", interval);
        }
        for setting in self.settings().native {
            debug.field(&setting.name, &format_args!("{}", setting.value));
        }
        if let Some(caller) = &self.caller {
            debug.field("over", caller);
        }
        debug.finish()
    }
}
