//! The client.

use std::{
    fmt,
    path::Path,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use drivetrain_engine::{
    Body, Capability, Engine, Error, ErrorKind, Result, Runtime, Support, UnixSocket,
};
use drivetrain_session::{AppliedBy, SessionConfig, SetBy, Setting, Settings, WebSockets};
use http::HeaderValue;
use tower::{Layer, Service, ServiceExt as _};

use crate::{
    capability::require,
    options,
    pipeline::{Hook, HttpService, Pipeline, Redirects, Unauthorized, Wrap, erase},
    plugin::{Installed, Plugin},
    proxy::Proxies,
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An HTTP and WebSocket client on one engine.
///
/// A clone is cheap (an `Arc`) and shares the engine and its connections.
///
/// # Example
/// ```no_run
/// # #[cfg(feature = "tungstenite")]
/// # async fn example() -> drivetrain::Result<()> {
/// use std::time::Duration;
/// use drivetrain::{HttpClient, WebSockets, engine::Tungstenite};
///
/// let client = HttpClient::builder(Tungstenite::new())
///     .install(WebSockets::new().ping_interval(Duration::from_secs(20)))
///     .build()?;
/// let response = client.get("http://127.0.0.1:8080/").send().await?;
/// println!("{}", response.text().await?);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct HttpClient(Arc<Inner>);

struct Inner {
    engine: Arc<dyn Engine>,
    installed: Installed,
    /// The services of every call, down to the engine.
    stack: HttpService,
    /// The rows of the stack for `settings()`.
    described: Vec<Setting>,
    /// The options of sessions that override none; resolved once.
    session_config: OnceLock<Arc<SessionConfig>>,
}

impl HttpClient {
    /// A client on this engine with [`WebSockets`] installed.
    ///
    /// Never fails, blocks or panics, even outside a runtime: resources that need I/O are created at first use.
    pub fn new(engine: impl Engine) -> Self {
        let installed = Installed { web_sockets: Some(WebSockets::new()), ..Installed::default() };
        Self::assembled(Arc::new(engine), installed, Pipeline::default())
    }

    /// Builds a client on this engine, with nothing installed.
    pub fn builder(engine: impl Engine) -> HttpClientBuilder {
        HttpClientBuilder {
            engine: Arc::new(engine),
            installed: Installed::default(),
            pipeline: Pipeline::default(),
        }
    }

    fn assembled(engine: Arc<dyn Engine>, installed: Installed, pipeline: Pipeline) -> Self {
        let described = pipeline.settings();
        let stack = pipeline.over(Arc::clone(&engine), &installed);
        let session_config = OnceLock::new();
        Self(Arc::new(Inner { engine, installed, stack, described, session_config }))
    }

    /// Whether the engine offers a capability.
    pub fn support(&self, capability: Capability) -> Support {
        self.engine().support(capability)
    }

    /// Every option of this client with its value in force, who set it and who applies it. A request may override some.
    /// `Display` prints the table.
    pub fn settings(&self) -> Settings {
        let timeout = self.installed().timeout;
        let mut settings = self.session_config(&WebSockets::new()).settings.clone();
        for (name, limit, applied_by) in [
            ("connect_timeout", timeout.connect, AppliedBy::Engine),
            ("request_timeout", timeout.request, AppliedBy::Client),
            ("socket_timeout", timeout.socket, AppliedBy::Client),
        ] {
            let (value, set_by) = match limit {
                Some(limit) => (format!("{limit:?}"), SetBy::Plugin),
                None => ("off".into(), SetBy::Default),
            };
            settings.push(Setting::new(name, value, set_by, applied_by));
        }
        for setting in &self.0.described {
            settings.push(setting.clone());
        }
        let (value, set_by) = match self.installed().max_response_size {
            Some(bytes) => (format!("{bytes} bytes"), SetBy::Client),
            None => ("off".into(), SetBy::Default),
        };
        settings.push(Setting::new("max_response_size", value, set_by, AppliedBy::Client));
        let proxies = &self.installed().proxies;
        let set_by = if proxies.is_empty() { SetBy::Default } else { SetBy::Client };
        settings.push(Setting::new("proxy", proxies.to_string(), set_by, AppliedBy::Engine));
        for setting in proxies.unused() {
            settings.push(setting);
        }
        let (value, set_by) = match &self.installed().unix_socket {
            Some(socket) => (socket.path().display().to_string(), SetBy::Client),
            None => ("none".into(), SetBy::Default),
        };
        settings.push(Setting::new("unix_socket", value, set_by, AppliedBy::Engine));
        settings
    }

    /// The engine's name.
    pub fn engine_name(&self) -> &str {
        self.engine().name()
    }

    pub(crate) fn engine(&self) -> &dyn Engine {
        &*self.0.engine
    }

    pub(crate) fn installed(&self) -> &Installed {
        &self.0.installed
    }

    /// Refuses a WebSocket on an engine or a client that has none.
    pub(crate) fn check_web_sockets(&self) -> Result<()> {
        require(self.engine(), Capability::WebSockets)?;
        if self.installed().web_sockets.is_some() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidInput,
            "WebSockets is not installed: call .install(WebSockets::new())",
        ))
    }

    /// The options in force of a session whose request sets these.
    pub(crate) fn session_config(&self, request: &WebSockets) -> Arc<SessionConfig> {
        let resolve = || {
            let default = WebSockets::new();
            let plugin = self.installed().web_sockets.as_ref().unwrap_or(&default);
            Arc::new(options::config(self.engine(), plugin, request))
        };
        match request.is_empty() {
            true => Arc::clone(self.0.session_config.get_or_init(resolve)),
            false => resolve(),
        }
    }

    /// Checks the engine before anything is sent. Returns its runtime.
    pub(crate) fn ready(&self, secure: bool) -> Result<Arc<dyn Runtime>> {
        self.engine().check()?;
        if secure {
            require(self.engine(), Capability::Tls)?;
        }
        self.engine().runtime()
    }

    /// One call through the whole stack.
    pub(crate) async fn call(&self, request: http::Request<Body>) -> Result<http::Response<Body>> {
        self.0.stack.clone().oneshot(request).await
    }

    /// Adds the engine's name to an error without one.
    pub(crate) fn named(&self, error: Error) -> Error {
        if error.engine().is_some() {
            return error;
        }
        error.with_engine(self.engine_name().to_owned())
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient")
            .field("engine", &self.0.engine)
            .field("installed", &self.0.installed)
            .finish()
    }
}

/// Builds an [`HttpClient`].
pub struct HttpClientBuilder {
    engine: Arc<dyn Engine>,
    installed: Installed,
    pipeline: Pipeline,
}

impl HttpClientBuilder {
    /// Installs a plugin. Installed a second time, it overrides the options that it sets.
    #[must_use]
    pub fn install(mut self, plugin: impl Plugin) -> Self {
        plugin.install(&mut self.installed);
        self
    }

    /// Wraps all calls of this client, plain requests and handshakes, in a [`tower::Layer`]: one of tower-http or your
    /// own. The layer added first is the outermost. Layers are outside of redirects, the answer to a 401, and cookies:
    /// a layer sees one call, not each request of it.
    ///
    /// ```
    /// # #[cfg(feature = "tungstenite")]
    /// # fn example() -> drivetrain::Result<()> {
    /// use drivetrain::{HttpClient, engine::Tungstenite, http::{HeaderValue, header}};
    /// use tower_http::set_header::SetRequestHeaderLayer;
    ///
    /// let agent = HeaderValue::from_static("my-program/1.0");
    /// let client = HttpClient::builder(Tungstenite::new())
    ///     .layer(SetRequestHeaderLayer::if_not_present(header::USER_AGENT, agent))
    ///     .build()?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn layer<L, B>(mut self, layer: L) -> Self
    where
        L: Layer<HttpService> + Send + 'static,
        L::Service: Service<http::Request<Body>, Response = http::Response<B>>,
        L::Service: Clone + Send + Sync + 'static,
        <L::Service as Service<http::Request<Body>>>::Error: Into<BoxError>,
        <L::Service as Service<http::Request<Body>>>::Future: Send + 'static,
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let wrap: Wrap = Box::new(move |inner| erase(layer.layer(inner)));
        self.pipeline.layers.push(wrap);
        self
    }

    /// Which redirects are followed. Default: at most 10, not from `https` to `http`.
    #[must_use]
    pub fn redirects(mut self, redirects: Redirects) -> Self {
        self.pipeline.redirects = redirects;
        self
    }

    /// Keeps cookies in this jar, and sends them with requests and handshakes. Default: none are kept.
    #[cfg(feature = "cookies")]
    #[must_use]
    pub fn cookie_jar(mut self, jar: crate::cookie_jar::CookieJar) -> Self {
        self.pipeline.cookies = Some(jar);
        self
    }

    /// Answers a 401: `hook` returns the value of a new `Authorization` header, and the request or handshake is repeated
    /// with it, once. If it returns `None`, or the body is a stream, the 401 is the response. Default: no hook.
    ///
    /// The hook is called for every origin that the client calls: check [`Unauthorized::uri`] before returning a token.
    /// After a redirect to another origin (another scheme, host or port) it is not called any more in that call: see
    /// [`Redirects::ask_unauthorized_across_origins`].
    ///
    /// Concurrent calls that are answered with 401 each call the hook. Renew a token once for all of them, for example
    /// behind an async mutex.
    ///
    /// ```
    /// # #[cfg(feature = "tungstenite")]
    /// # async fn new_token() -> drivetrain::Result<String> { Ok("new".into()) }
    /// # #[cfg(feature = "tungstenite")]
    /// # fn example() -> drivetrain::Result<()> {
    /// use drivetrain::{Error, HttpClient, engine::Tungstenite, http::HeaderValue};
    ///
    /// let client = HttpClient::builder(Tungstenite::new())
    ///     .on_unauthorized(|unauthorized| async move {
    ///         if unauthorized.uri().host() != Some("api.example.com") {
    ///             return Ok(None);
    ///         }
    ///         let token = new_token().await?;
    ///         HeaderValue::try_from(format!("Bearer {token}")).map(Some).map_err(Error::other)
    ///     })
    ///     .build()?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn on_unauthorized<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(Unauthorized) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<HeaderValue>>> + Send + 'static,
    {
        self.pipeline.unauthorized = Some(Hook::new(hook));
        self
    }

    /// Switches decompression off. Default: the client asks for the encodings whose features are on (`gzip`, `brotli`,
    /// `zstd`) and decompresses responses.
    ///
    /// The response to a request with an `Accept-Encoding` of its own is not decoded. A request with a `Range` asks for
    /// `identity`, as a part of an encoded body cannot be decoded. A body that is incomplete or not encoded as its
    /// `Content-Encoding` says ends with [`ErrorKind::Protocol`].
    #[must_use]
    pub fn no_decompression(mut self) -> Self {
        self.pipeline.without_decompression = true;
        self
    }

    /// The largest body of a response, in bytes after decoding. With a larger one [`bytes`](crate::Response::bytes),
    /// [`text`](crate::Response::text) and the others fail with [`ErrorKind::TooBig`], before reading anything if the
    /// announced length is larger. A request may override it; event streams have [a limit of their own](crate::sse::SseRequest::max_event_size).
    /// Default: no limit.
    #[must_use]
    pub fn max_response_size(mut self, bytes: u64) -> Self {
        self.installed.max_response_size = Some(bytes);
        self
    }

    /// Sets the proxies to go through: a [`Proxy`](crate::Proxy) or its URL for everything, or
    /// [`Proxies`] by scheme and with exceptions, such as [`Proxies::from_env`]. A second call replaces
    /// the first. Default: none; the environment is not read. Needs the engine's capability
    /// [`Proxies`](Capability::Proxies), [`HttpsProxies`](Capability::HttpsProxies) or
    /// [`SocksProxies`](Capability::SocksProxies).
    #[must_use]
    pub fn proxy(mut self, proxies: impl Into<Proxies>) -> Self {
        self.installed.proxies = proxies.into();
        self
    }

    /// Connects to the Unix socket with this path, for every request and WebSocket, whatever host the URL or a redirect
    /// names; DNS is not asked. The `Host` is the URL's, and `https` and `wss` use TLS with that host. Default: none.
    /// Needs the engine's capability [`UnixSockets`](Capability::UnixSockets). A [`proxy`](Self::proxy) beside it is
    /// refused, and so is a path that no socket can have.
    #[must_use]
    pub fn unix_socket(mut self, path: impl AsRef<Path>) -> Self {
        self.installed.unix_socket = Some(UnixSocket::new(path));
        self
    }

    /// Makes the client. No I/O, no runtime needed.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for an option that can never work,
    /// [`ErrorKind::Unsupported`] for one that the engine does not offer.
    pub fn build(self) -> Result<HttpClient> {
        let Self { engine, mut installed, pipeline } = self;
        engine.check()?;
        if let Some(plugin) = &installed.web_sockets {
            require(&*engine, Capability::WebSockets)?;
            options::check(plugin, &*engine)?;
        }
        installed.timeout.check()?;
        if installed.timeout.connect.is_some() {
            require(&*engine, Capability::ConnectTimeout)?;
        }
        installed.proxies.check(&*engine)?;
        if let Some(socket) = &installed.unix_socket {
            require(&*engine, Capability::UnixSockets)?;
            socket.check()?;
            if !installed.proxies.is_empty() {
                let message = "unix_socket and proxy contradict: leave one of them out";
                return Err(Error::new(ErrorKind::InvalidInput, message));
            }
        }
        installed.defaults.check()?;
        Ok(HttpClient::assembled(engine, installed, pipeline))
    }
}

impl fmt::Debug for HttpClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClientBuilder")
            .field("engine", &self.engine)
            .field("installed", &self.installed)
            .finish_non_exhaustive()
    }
}
