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
//! # HTTP and handshakes
//!
//! Both are drivetrain-hyper's: one hop over HTTP/1.1, connections that are kept for another request,
//! a connection of its own for each WebSocket.
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

mod flavour;

use std::{fmt, sync::Arc, time::Duration};

#[cfg(feature = "rustls")]
use drivetrain_engine::TlsVersion;
use drivetrain_engine::{
    Accepted, Answer, Body, Capability, Duties, Engine, EngineSettings, Error, ErrorKind,
    Handshake, Result, Role, Runtime, Support, async_trait,
};
use drivetrain_hyper::Hop;
use drivetrain_tungstenite_common::{Framer, Options as Framing};
use futures_io::{AsyncRead, AsyncWrite};

pub use crate::flavour::Flavour;
/// tungstenite's own configuration, as async-tungstenite 0.35 exports it.
pub use async_tungstenite::tungstenite::protocol::WebSocketConfig;
#[cfg(feature = "async-std")]
pub use drivetrain_hyper::OnAsyncStd;
#[cfg(feature = "smol")]
pub use drivetrain_hyper::OnSmol;

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
    hop: Hop<R>,
    framing: Framing,
    ping_interval: Option<Duration>,
}

impl<R: Flavour> FuturesIo<R> {
    /// The engine with the system's CA certificates, no client certificate, and the defaults of each
    /// option. Does no I/O and does not fail.
    pub fn new() -> Self {
        Self { hop: Hop::new(R::ENGINE), framing: Framing::default(), ping_interval: None }
    }

    /// The engine over a stream that is connected already, for one WebSocket, once: clones share it.
    ///
    /// The URI only says what the handshake asks for. For `wss` the stream already is the TLS stream: it
    /// is used as it is. HTTP requests, TLS options and a connect timeout are refused. A second
    /// connect fails with [`ErrorKind::Connect`]; a connect that was dropped has used the stream.
    pub fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        Self { hop: Hop::over(R::ENGINE, stream), ..Self::new() }
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
    pub fn root_certificate_pem(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.hop = self.hop.root_certificate_pem(pem);
        self
    }

    /// Trusts the certificate in `der` as well as the system's. Default: none.
    ///
    /// What cannot be read is told when the client is built.
    #[must_use]
    pub fn root_certificate_der(mut self, der: impl AsRef<[u8]>) -> Self {
        self.hop = self.hop.root_certificate_der(der);
        self
    }

    /// Trusts the root certificates that were given, and not the system's. Default: both.
    #[must_use]
    pub fn only_these_roots(mut self) -> Self {
        self.hop = self.hop.only_these_roots();
        self
    }

    /// Refuses servers that only speak an older TLS. Default: [`TlsVersion::V1_2`].
    #[must_use]
    pub fn min_tls_version(mut self, version: TlsVersion) -> Self {
        self.hop = self.hop.min_tls_version(version);
        self
    }

    /// **Accepts whatever certificate a server shows, for any name: anybody in between can read and change
    /// everything.** For tests alone. Default: certificates are verified. Roots cannot be set beside it.
    #[must_use]
    pub fn danger_accept_any_certificate(mut self) -> Self {
        self.hop = self.hop.danger_accept_any_certificate();
        self
    }

    /// Presents this certificate to a server that asks for one. Default: none.
    ///
    /// `chain_and_key` is one PEM text with the chain, leaf first, and the private key, not encrypted.
    /// What cannot be read is told when the client is built.
    #[must_use]
    pub fn client_certificate_pem(mut self, chain_and_key: impl AsRef<[u8]>) -> Self {
        self.hop = self.hop.client_certificate_pem(chain_and_key);
        self
    }

    /// Uses this configuration of rustls, with its own provider, roots and client certificate; only its
    /// ALPN list is overwritten, with `http/1.1`. Default: none. The other TLS options cannot be set
    /// beside it.
    #[must_use]
    pub fn rustls_config(mut self, config: Arc<rustls::ClientConfig>) -> Self {
        self.hop = self.hop.rustls_config(config);
        self
    }
}

#[async_trait]
impl<R: Flavour> Engine for FuturesIo<R> {
    fn name(&self) -> &str {
        R::ENGINE
    }

    fn support(&self, capability: Capability) -> Support {
        match capability {
            Capability::Http1
            | Capability::Http2
            | Capability::Tls
            | Capability::ClientCertificates
            | Capability::ConnectTimeout
            | Capability::Proxies
            | Capability::SocksProxies
            | Capability::WebSocketOverHttp2 => self.hop.support(capability),
            _ => Support::of_frames(capability),
        }
    }

    fn settings(&self) -> EngineSettings {
        let mut settings = EngineSettings::default();
        settings.ping_interval = self.ping_interval;
        (settings.max_frame_size, settings.max_message_size) = self.framing.limits();
        settings.native = self.framing.settings();
        settings.native.extend(self.hop.settings());
        settings
    }

    fn check(&self) -> Result<()> {
        if self.ping_interval == Some(Duration::ZERO) {
            let message = "ping_interval must not be zero: leave it out to switch pings off";
            return Err(Error::new(ErrorKind::InvalidInput, message).with_engine(R::ENGINE));
        }
        self.framing.check().map_err(|error| error.with_engine(R::ENGINE))?;
        self.hop.check()
    }

    fn runtime(&self) -> Result<Arc<dyn Runtime>> {
        Ok(self.hop.runtime())
    }

    async fn execute(&self, request: http::Request<Body>) -> Result<http::Response<Body>> {
        self.hop.execute(request).await
    }

    async fn connect(&self, handshake: Handshake) -> Result<Answer> {
        let frame = |stream, read_ahead, _: &Accepted| {
            Framer::with_leftover(stream, read_ahead, Role::Client, &self.framing)
        };
        self.hop.connect(&handshake, Duties::frames(), frame).await
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
            hop: self.hop.clone(),
            framing: self.framing.clone(),
            ping_interval: self.ping_interval,
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
        if self.hop.is_over() {
            debug.field("over", &format_args!("a stream the caller brought"));
        }
        debug.finish()
    }
}
