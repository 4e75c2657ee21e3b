//! The engine of [drivetrain](https://docs.rs/drivetrain) on tokio with fastwebsockets' frames.
//!
//! HTTP requests and handshakes go through reqwest ([`Reqwest`]). Frames are read by fastwebsockets and
//! encoded by it into a buffer that the engine writes, so that a burst costs one write and a dropped
//! future costs nothing.
//!
//! ```
//! use std::time::Duration;
//! use drivetrain_fastwebsockets::{FastWebSockets, Reqwest};
//!
//! let engine = FastWebSockets::new()
//!     .max_frame_size(1 << 20)
//!     .ping_interval(Duration::from_secs(20))
//!     .http(Reqwest::new().tcp_keepalive(Duration::from_secs(60)));
//! ```
//!
//! # What is different from the other engines
//!
//! Reserved bits are missing in both directions, hence extensions that need them: fastwebsockets cannot
//! write them and refuses frames that have them (1002). A text message in one frame is checked to be
//! UTF-8 by the library when all of it is there, on raw sessions too (1007). A frame above 1 GiB is too
//! big whatever the limits say, as the library reserves what is announced in one piece.

mod connect;
mod framer;
mod map;

use std::{fmt, sync::Arc, time::Duration};

use drivetrain_engine::{
    Answer, Body, Capability, Engine, EngineSettings, Error, ErrorKind, Handshake, NativeSetting,
    Result, Runtime, Support, async_trait,
};
use drivetrain_reqwest::Hop;
use tokio::io::{AsyncRead, AsyncWrite};

pub use drivetrain_reqwest::{Reqwest, reqwest};
/// The version of fastwebsockets that a hook of [`FastWebSockets::preconfigured`] speaks.
pub use fastwebsockets;
pub use framer::Gate;

use framer::LARGEST_FRAME;

const NAME: &str = "fastwebsockets";
/// HTTP and WebSockets on tokio: reqwest below, fastwebsockets' frames.
///
/// The value is its configuration: nothing is made, read or dialled before the first use. Clones share
/// their HTTP connections.
#[derive(Clone)]
pub struct FastWebSockets {
    hop: Hop,
    options: framer::Options,
    ping_interval: Option<Duration>,
}

impl FastWebSockets {
    /// The engine with the defaults of each option.
    pub fn new() -> Self {
        Self {
            hop: Hop::new(NAME, Reqwest::new()),
            options: framer::Options::default(),
            ping_interval: None,
        }
    }

    /// The engine over a stream that is connected already, for one WebSocket, once: clones share it.
    ///
    /// The URL only says what the handshake asks for. For `wss` the stream already is the TLS stream: it
    /// is used as it is. HTTP requests and a connect timeout are refused; options of
    /// [`http`](Self::http) are refused when the client is built. A second connect fails with
    /// [`ErrorKind::Connect`]; a connect that was dropped has used the stream.
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

    /// Sets the most payload bytes of an incoming data frame; the smallest limit set anywhere wins.
    /// Default: not set, but never above 1 GiB. Zero is refused when the client is built.
    ///
    /// fastwebsockets has this option under the name `max_message_size`, and counts frames all the same:
    /// a message of several frames is limited by `max_message_size` of the `WebSockets` plugin only.
    #[must_use]
    pub fn max_frame_size(mut self, bytes: usize) -> Self {
        self.options.max_frame_size = Some(bytes);
        self
    }

    /// Changes the library's socket that a WebSocket is read with; of several hooks each is called, in
    /// order. Default: nothing.
    ///
    /// It is called for each connection before its first frame, and again when a large read buffer is
    /// given back, so it must do the same each time. Of the socket's setters
    ///
    /// * `set_max_message_size` is honoured as the library means it: a single frame of that size *or
    ///   above*, control frames among them, is [`TooBig`](ErrorKind::TooBig). As the library does not
    ///   tell the value, `settings()` cannot list it: prefer [`max_frame_size`](Self::max_frame_size);
    /// * `set_auto_close` and `set_auto_pong` are set to `false` afterwards: the session answers;
    /// * `set_writev`, `set_writev_threshold` and `set_auto_apply_mask` mean nothing here: the socket
    ///   only reads, and the engine writes whole batches of frames.
    ///
    /// ```
    /// use drivetrain_fastwebsockets::FastWebSockets;
    ///
    /// let engine = FastWebSockets::new()
    ///     .preconfigured(|socket| socket.set_max_message_size(64 << 10));
    /// ```
    #[must_use]
    pub fn preconfigured(
        mut self,
        hook: impl Fn(&mut fastwebsockets::WebSocket<Gate>) + Send + Sync + 'static,
    ) -> Self {
        self.options.hooks.push(Arc::new(hook));
        self
    }
}

impl Default for FastWebSockets {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Engine for FastWebSockets {
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
            Capability::RsvBits | Capability::Extensions => Support::missing(map::NO_RSV),
            _ => Support::of_frames(capability),
        }
    }

    fn settings(&self) -> EngineSettings {
        let mut settings = EngineSettings::default();
        settings.ping_interval = self.ping_interval;
        settings.max_frame_size = self.options.max_frame_size.map(|most| most.min(LARGEST_FRAME));
        if !self.options.hooks.is_empty() {
            settings.native.push(
                NativeSetting::new("preconfigured", "a hook on fastwebsockets::WebSocket").with_note(
                    "reading only; its max_message_size limits frames, auto_close and auto_pong are off",
                ),
            );
        }
        settings.native.extend(self.hop.settings());
        settings
    }

    fn check(&self) -> Result<()> {
        let invalid =
            |message: String| Err(Error::new(ErrorKind::InvalidInput, message).with_engine(NAME));
        if self.ping_interval == Some(Duration::ZERO) {
            return invalid(
                "a ping_interval of zero is not possible: leave it out for no pings".into(),
            );
        }
        if self.options.max_frame_size == Some(0) {
            return invalid("max_frame_size must not be zero".into());
        }
        self.hop.check()
    }

    fn runtime(&self) -> Result<Arc<dyn Runtime>> {
        self.hop.runtime()
    }

    async fn execute(&self, request: http::Request<Body>) -> Result<http::Response<Body>> {
        self.hop.execute(request).await
    }

    async fn connect(&self, handshake: Handshake) -> Result<Answer> {
        connect::open(&self.hop, &self.options, &handshake).await
    }
}

impl fmt::Debug for FastWebSockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FastWebSockets")
            .field("hop", &self.hop)
            .field("max_frame_size", &self.options.max_frame_size)
            .field("preconfigured", &format_args!("{} hooks", self.options.hooks.len()))
            .field("ping_interval", &self.ping_interval)
            .finish()
    }
}
