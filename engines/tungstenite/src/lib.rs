//! The engine of [drivetrain](https://docs.rs/drivetrain) on tokio with tungstenite's frames.
//!
//! HTTP requests and handshakes go through reqwest ([`Reqwest`]); frames through tungstenite's public
//! header codec over buffers of our own, so that reserved bits, fragments and control frames are visible.
//!
//! ```
//! use std::time::Duration;
//! use drivetrain_tungstenite::{Reqwest, Tungstenite};
//!
//! let engine = Tungstenite::new()
//!     .read_buffer_size(64 << 10)
//!     .ping_interval(Duration::from_secs(20))
//!     .http(Reqwest::new().tcp_keepalive(Duration::from_secs(60)));
//! ```

mod connect;

use std::{fmt, sync::Arc, time::Duration};

use drivetrain_engine::{
    Answer, Body, Capability, Engine, EngineSettings, Error, ErrorKind, Handshake, Result, Runtime,
    Support, async_trait,
};
use drivetrain_reqwest::Hop;
use drivetrain_tungstenite_common::Options as Framing;
use tokio::io::{AsyncRead, AsyncWrite};

pub use drivetrain_reqwest::{Reqwest, reqwest};
/// tungstenite's own configuration, as tokio-tungstenite 0.30 exports it.
pub use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

const NAME: &str = "tungstenite";
/// HTTP and WebSockets on tokio: reqwest below, tungstenite's frames.
///
/// The value is its configuration: nothing is made, read or dialled before the first use. Clones share
/// their HTTP connections.
#[derive(Clone)]
pub struct Tungstenite {
    hop: Hop,
    framing: Framing,
    ping_interval: Option<Duration>,
}

impl Tungstenite {
    /// The engine with the defaults of each option.
    pub fn new() -> Self {
        Self {
            hop: Hop::new(NAME, Reqwest::new()),
            framing: Framing::default(),
            ping_interval: None,
        }
    }

    /// The engine over a stream that is connected already, for one WebSocket, once: clones share it.
    ///
    /// The URL only says what the handshake asks for. For `wss` the stream already is the TLS stream: it
    /// is used as it is. HTTP requests and a connect timeout are refused. A second connect fails with
    /// [`ErrorKind::Connect`]; a connect that was dropped has used the stream. Options of
    /// [`http`](Self::http) are refused when the client is built.
    pub fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        Self { hop: Hop::over(NAME, stream), ..Self::new() }
    }

    /// Sets the options of HTTP requests, and of the connection and the TLS of handshakes. Default:
    /// [`Reqwest::new`].
    #[must_use]
    pub fn http(mut self, http: Reqwest) -> Self {
        self.hop = self.hop.with_http(http);
        self
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

    /// Sets how many encoded bytes may wait before sending another frame writes them first. Default:
    /// 32 KiB. Zero is refused when the client is built.
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

impl Default for Tungstenite {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Engine for Tungstenite {
    fn name(&self) -> &str {
        NAME
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
            let message = "a ping_interval of zero is not possible: leave it out for no pings";
            return Err(Error::new(ErrorKind::InvalidInput, message).with_engine(NAME));
        }
        self.framing.check().map_err(|error| error.with_engine(NAME))?;
        self.hop.check()
    }

    fn runtime(&self) -> Result<Arc<dyn Runtime>> {
        self.hop.runtime()
    }

    async fn execute(&self, request: http::Request<Body>) -> Result<http::Response<Body>> {
        self.hop.execute(request).await
    }

    async fn connect(&self, handshake: Handshake) -> Result<Answer> {
        connect::open(&self.hop, &self.framing, &handshake).await
    }
}

impl fmt::Debug for Tungstenite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tungstenite")
            .field("hop", &self.hop)
            .field("framing", &self.framing)
            .field("ping_interval", &self.ping_interval)
            .finish()
    }
}
