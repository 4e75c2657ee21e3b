//! The connector of engines on tokio: HTTP by reqwest, handshakes by the dialer of all engines.

use std::{fmt, sync::Arc};

use drivetrain_connect::{FromTokio, HttpConnector, TokioExecutor};
use drivetrain_engine::{
    Body, Capability, Connector, Engine as _, Error, ErrorKind, Handshake, NativeSetting, Result,
    Runtime, Support, UpgradeResult,
};
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Reqwest, request};

/// A stream of tokio's, whatever it is. A session polls it under its lock: see
/// [`ByteStream`](drivetrain_engine::ByteStream).
pub trait CustomStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> CustomStream for S {}

/// The connector of engines on tokio: everything they do before the first frame.
///
/// ```
/// # use drivetrain_engine::{Body, Result, Runtime};
/// # use drivetrain_reqwest::{ReqwestConnector, Reqwest};
/// # use std::sync::Arc;
/// #[derive(Clone, Debug)]
/// pub struct MyEngine {
///     connector: ReqwestConnector,
/// }
///
/// impl MyEngine {
///     pub fn new() -> Self {
///         Self { connector: ReqwestConnector::new("mine", Reqwest::new()) }
///     }
///
///     /// Sets the options of HTTP requests, and of the connection that a handshake is sent on.
///     pub fn http(mut self, http: Reqwest) -> Self {
///         self.connector = self.connector.with_http(http);
///         self
///     }
/// }
/// ```
#[derive(Clone)]
pub struct ReqwestConnector {
    engine: &'static str,
    http: Reqwest,
    dialer: HttpConnector<TokioExecutor>,
}

impl ReqwestConnector {
    /// The connector of the engine of this name, with these options.
    pub fn new(engine: &'static str, http: Reqwest) -> Self {
        let dialer = http.options().dialer.clone().named(engine);
        Self { engine, http, dialer }
    }

    /// The connector of the engine of this name over a stream that is connected already: for one handshake,
    /// once, by whichever clone comes first. It has no HTTP.
    pub fn over(engine: &'static str, stream: impl CustomStream + 'static) -> Self {
        let dialer = HttpConnector::over(engine, FromTokio(stream));
        Self { engine, http: Reqwest::new(), dialer }
    }

    /// The same connector with these options.
    #[must_use]
    pub fn with_http(self, http: Reqwest) -> Self {
        match self.dialer.is_over() {
            true => {
                let options = http.options().dialer.options().clone();
                Self { http, dialer: self.dialer.with_options(options), ..self }
            }
            false => Self::new(self.engine, http),
        }
    }

    /// The options.
    pub fn http(&self) -> &Reqwest {
        &self.http
    }

    /// Whether it offers a capability that [belongs to connectors](Capability::is_of_connectors).
    pub fn support(&self, capability: Capability) -> Support {
        match capability {
            _ if self.dialer.is_over() => self.dialer.support(capability),
            Capability::WebSocketOverHttp2 => self.http.over_http2(),
            Capability::HandshakePhases => self.dialer.support(capability),
            _ => self.http.support(capability),
        }
    }

    /// The options that were set, for [`EngineSettings::native`](drivetrain_engine::EngineSettings).
    pub fn settings(&self) -> Vec<NativeSetting> {
        match self.dialer.is_over() {
            true => vec![NativeSetting::new("over", "a custom stream")],
            false => self.http.native_settings(true),
        }
    }

    /// Refuses options that can never work, for [`Engine::check`](drivetrain_engine::Engine::check).
    /// No I/O. Options of the connection and of TLS are fine beside a preconfigured client, as they
    /// apply to handshakes.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`], saying which option and what would be right.
    pub fn check(&self) -> Result<()> {
        let settings = self.http.native_settings(true);
        // The limits for an answer's head hold there too.
        let dead = settings.iter().find(|set| !set.name.starts_with("max_header"));
        if let (true, Some(set)) = (self.dialer.is_over(), dead) {
            let message = format!("{} has no effect on a stream that the caller brings", set.name);
            return Err(Error::new(ErrorKind::InvalidInput, message).with_engine(self.engine));
        }
        self.http.check_options(self.engine, true)
    }

    /// The runtime for the sessions on the engine.
    ///
    /// # Errors
    /// [`ErrorKind::Other`] outside a tokio runtime.
    pub fn runtime(&self) -> Result<Arc<dyn Runtime>> {
        self.dialer.runtime()
    }

    /// Sends one HTTP request, as [`Engine::execute`](drivetrain_engine::Engine::execute) asks for.
    ///
    /// # Errors
    /// [`ErrorKind::Other`] outside a tokio runtime, [`ErrorKind::Unsupported`] for what the build or
    /// the preconfigured client cannot do, [`ErrorKind::Connect`], [`ErrorKind::Tls`],
    /// [`ErrorKind::Timeout`], [`ErrorKind::Protocol`] or [`ErrorKind::Io`] where the exchange failed,
    /// [`ErrorKind::InvalidInput`] for a request that cannot be sent. An error that the request's own
    /// body gave is returned as it is.
    ///
    /// # Cancel safety
    /// Dropping the future ends the request.
    pub async fn execute(&self, request: Request<Body>) -> Result<Response<Body>> {
        match self.dialer.is_over() {
            true => self.dialer.execute(request).await,
            false => request::execute(self.engine, &self.http, request).await,
        }
    }
}

impl Connector for ReqwestConnector {
    fn support(&self, capability: Capability) -> Support {
        self.support(capability)
    }

    fn settings(&self) -> Vec<NativeSetting> {
        self.settings()
    }

    fn check(&self) -> Result<()> {
        self.check()
    }

    fn runtime(&self) -> Result<Arc<dyn Runtime>> {
        self.runtime()
    }

    async fn execute(&self, request: Request<Body>) -> Result<Response<Body>> {
        self.execute(request).await
    }

    /// Sends a handshake over a connection of its own (`TCP_NODELAY`, HTTP/1.1 unless
    /// [`Reqwest::web_socket_over_http2`] says otherwise), or over the custom stream, and verifies the
    /// answer. A preconfigured client and a hook have no part in it.
    ///
    /// # Errors
    /// As for [`execute`](ReqwestConnector::execute), and [`ErrorKind::Protocol`] for a 101 that is not a valid
    /// answer; the connection is then closed. [`ErrorKind::Connect`] if the custom stream has been used.
    /// Any other status is [`UpgradeResult::Refused`].
    async fn upgrade(&self, handshake: &Handshake) -> Result<UpgradeResult> {
        self.dialer.upgrade(handshake).await
    }
}

impl fmt::Debug for ReqwestConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReqwestConnector")
            .field("engine", &self.engine)
            .field("http", &self.http)
            .field("over", &self.dialer.is_over().then_some("a custom stream"))
            .finish()
    }
}
