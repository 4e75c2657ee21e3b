//! The engine on tokio.

use std::{sync::Arc, time::Duration};

use drivetrain_engine::{
    Answer, Body, Capability, Engine, EngineSettings, Handshake, Result, Runtime, Support,
    async_trait,
};
use drivetrain_reqwest::{Hop, Reqwest};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Framing, connect};

const NAME: &str = "native";

/// HTTP and WebSockets on tokio: reqwest below, drivetrain's own frames.
///
/// The value is its configuration: nothing is made, read or dialled before the first use. Clones share
/// their HTTP connections.
///
/// ```
/// use std::time::Duration;
/// use drivetrain_native::{Native, Reqwest};
///
/// let engine = Native::new()
///     .ping_interval(Duration::from_secs(20))
///     .http(Reqwest::new().tcp_keepalive(Duration::from_secs(60)));
/// ```
#[derive(Clone, Debug)]
pub struct Native {
    hop: Hop,
    framing: Framing,
}

impl Native {
    /// The engine with the defaults of each option.
    pub fn new() -> Self {
        Self { hop: Hop::new(NAME, Reqwest::new()), framing: Framing::default() }
    }

    /// The engine over a stream that is connected already, for one WebSocket, once: clones share it. Any duplex
    /// byte stream will do: a UNIX socket, TLS from elsewhere, a pipe in memory.
    ///
    /// The URL only says what the handshake asks for. For `wss` the stream already is the TLS stream: it
    /// is used as it is. HTTP requests and a connect timeout are refused. A second connect fails with
    /// [`ErrorKind::Connect`](drivetrain_engine::ErrorKind::Connect); a connect that was dropped has used the
    /// stream. Options of [`http`](Self::http) are refused when the client is built.
    pub fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        Self { hop: Hop::over(NAME, stream), framing: Framing::default() }
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
        self.framing = self.framing.ping_interval(interval);
        self
    }

    /// Sets the most bytes that one read of a WebSocket takes; a connection starts with 2 KiB, grows to it
    /// when reads fill what they were offered, and gives it back when it has to wait. Default: 64 KiB. Zero is
    /// refused when the client is built.
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
}

impl Default for Native {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Engine for Native {
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
        let mut settings = self.framing.settings();
        settings.native.extend(self.hop.settings());
        settings
    }

    fn check(&self) -> Result<()> {
        self.framing.check(NAME)?;
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
