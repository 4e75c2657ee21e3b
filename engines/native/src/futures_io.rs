//! The engine on async-std and smol.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
#[cfg(feature = "rustls")]
use drivetrain_engine::TlsVersion;
use drivetrain_engine::{
    Accepted, Answer, Body, Capability, Duties, Engine, EngineSettings, Handshake, Result, Role,
    Runtime, Support, async_trait,
};
use drivetrain_hyper::{Hop, Stream};
use futures_io::{AsyncRead, AsyncWrite};

use crate::{Flavour, Framer, Framing};

/// The engine on [async-std](https://docs.rs/async-std), without tokio.
///
/// ```
/// use std::time::Duration;
/// use drivetrain_native::NativeAsyncStd;
///
/// let engine =
///     NativeAsyncStd::new().ping_interval(Duration::from_secs(20)).write_buffer_size(64 << 10);
/// ```
#[cfg(feature = "async-std")]
pub type NativeAsyncStd = FuturesIo<drivetrain_hyper::OnAsyncStd>;

/// The engine on [smol](https://docs.rs/smol), without tokio.
///
/// ```
/// use std::time::Duration;
/// use drivetrain_native::NativeSmol;
///
/// let engine =
///     NativeSmol::new().ping_interval(Duration::from_secs(20)).write_buffer_size(64 << 10);
/// ```
#[cfg(feature = "smol")]
pub type NativeSmol = FuturesIo<drivetrain_hyper::OnSmol>;

/// HTTP/1.1 by hyper and drivetrain's own frames over futures-io; to be named as `NativeAsyncStd` or
/// `NativeSmol`.
///
/// The value is its configuration: nothing is made, read or dialled before the first use. Clones share
/// their idle HTTP connections and TLS sessions; setting a TLS option on a clone gives that clone its
/// own. Of two calls that set the same thing the later wins.
pub struct FuturesIo<R> {
    hop: Hop<R>,
    framing: Framing,
}

impl<R: Flavour> FuturesIo<R> {
    /// The engine with the system's CA certificates, no client certificate, and the defaults of each
    /// option. Does no I/O and does not fail.
    pub fn new() -> Self {
        Self { hop: Hop::new(R::ENGINE), framing: Framing::default() }
    }

    /// The engine over a stream that is connected already, for one WebSocket, once: clones share it. Any
    /// duplex byte stream will do: a UNIX socket, TLS from elsewhere, a pipe in memory; one of tokio's
    /// through `tokio-util`'s compat.
    ///
    /// The URL only says what the handshake asks for. For `wss` the stream already is the TLS stream: it
    /// is used as it is. HTTP requests, TLS options and a connect timeout are refused. A second connect
    /// fails with [`ErrorKind::Connect`](drivetrain_engine::ErrorKind::Connect); a connect that was
    /// dropped has used the stream.
    ///
    /// ```no_run
    /// # #[cfg(all(unix, feature = "smol"))]
    /// # async fn example() -> std::io::Result<()> {
    /// use async_io::Async;
    /// use drivetrain_native::NativeSmol;
    /// use std::os::unix::net::UnixStream;
    ///
    /// let engine = NativeSmol::over(Async::<UnixStream>::connect("/run/app.sock").await?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        Self { hop: Hop::over(R::ENGINE, stream), framing: Framing::default() }
    }

    /// Sets the engine-level ping interval, which wins over that of the `WebSockets` plugin; the session
    /// sends the pings. Default: not set. Zero is refused when the client is built.
    #[must_use]
    pub fn ping_interval(mut self, interval: Duration) -> Self {
        self.framing = self.framing.ping_interval(interval);
        self
    }

    /// Sets the most bytes that one read of a WebSocket takes; a connection starts with 2 KiB, grows to
    /// it when reads fill what they were offered, and gives it back when it has to wait. Default: 64 KiB.
    /// Zero is refused when the client is built.
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
        let mut settings = self.framing.settings();
        settings.native.extend(self.hop.settings());
        settings
    }

    fn check(&self) -> Result<()> {
        self.framing.check(R::ENGINE)?;
        self.hop.check()
    }

    fn runtime(&self) -> Result<Arc<dyn Runtime>> {
        Ok(self.hop.runtime())
    }

    async fn execute(&self, request: http::Request<Body>) -> Result<http::Response<Body>> {
        self.hop.execute(request).await
    }

    async fn connect(&self, handshake: Handshake) -> Result<Answer> {
        let frame = |stream: Stream, read_ahead: Bytes, _: &Accepted| {
            Framer::new(stream, &read_ahead, Role::Client, &self.framing)
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
        Self { hop: self.hop.clone(), framing: self.framing.clone() }
    }
}

/// Prints what was set, never certificates or keys.
impl<R: Flavour> fmt::Debug for FuturesIo<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(R::TYPE).field("hop", &self.hop).field("framing", &self.framing).finish()
    }
}
