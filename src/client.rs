//! The client.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use drivetrain_engine::{
    Capability, ConnectTimeout, Engine, Error, ErrorKind, Proxy, Result, Runtime, Support,
};
use http::{Method, Uri};

use crate::{
    Plugin, Proxies, RequestBuilder, Settings, WebSocketRequest, WebSockets,
    options::{Effective, SessionOptions, require},
    plugin::Installed,
    session::{AppliedBy, SetBy, Setting},
};

/// An HTTP and WebSocket client on one engine.
///
/// A clone is cheap (an `Arc`) and shares the engine with its connections.
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
    engine: Box<dyn Engine>,
    installed: Installed,
    /// What holds for sessions that override nothing; worked out once.
    effective: OnceLock<Effective>,
}

impl HttpClient {
    /// A client on this engine with [`WebSockets`] installed.
    ///
    /// Never fails, blocks or panics, outside a runtime too: what needs I/O is made at first use.
    pub fn new(engine: impl Engine) -> Self {
        let installed = Installed { web_sockets: Some(WebSockets::new()), ..Installed::default() };
        Self(Arc::new(Inner { engine: Box::new(engine), installed, effective: OnceLock::new() }))
    }

    /// Begins a client on this engine with nothing installed.
    pub fn builder(engine: impl Engine) -> HttpClientBuilder {
        HttpClientBuilder { engine: Box::new(engine), installed: Installed::default() }
    }

    /// Begins a GET request.
    pub fn get(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::GET, url)
    }

    /// Begins a POST request.
    pub fn post(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::POST, url)
    }

    /// Begins a PUT request.
    pub fn put(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::PUT, url)
    }

    /// Begins a PATCH request.
    pub fn patch(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::PATCH, url)
    }

    /// Begins a DELETE request.
    pub fn delete(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::DELETE, url)
    }

    /// Begins a HEAD request.
    pub fn head(&self, url: impl AsRef<str>) -> RequestBuilder {
        self.request(Method::HEAD, url)
    }

    /// Begins a request with any method. A URL that cannot be used is an error of
    /// [`send`](RequestBuilder::send).
    pub fn request(&self, method: Method, url: impl AsRef<str>) -> RequestBuilder {
        RequestBuilder::new(self.clone(), method, url.as_ref())
    }

    /// Begins a WebSocket. `http` means `ws` here, and `https` means `wss`; any other scheme, a missing
    /// host and a fragment are errors of [`connect`](WebSocketRequest::connect).
    ///
    /// The request owns a clone of the client, so that it may be moved into a task.
    pub fn web_socket(&self, url: impl AsRef<str>) -> WebSocketRequest {
        WebSocketRequest::new(self.clone(), url.as_ref())
    }

    /// Whether the engine offers a capability.
    pub fn support(&self, capability: Capability) -> Support {
        self.engine().support(capability)
    }

    /// Every option of this client with its effective value, who set it and who applies it, before what a
    /// request may override. `Display` prints the table.
    pub fn settings(&self) -> Settings {
        let timeout = self.installed().timeout;
        let mut settings = self.effective(&SessionOptions::default()).session.settings.clone();
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
        let proxies = &self.installed().proxies;
        let set_by = if proxies.is_empty() { SetBy::Default } else { SetBy::Plugin };
        settings.push(Setting::new("proxy", proxies.to_string(), set_by, AppliedBy::Engine));
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

    /// The options in force for a session that overrides these.
    pub(crate) fn effective(&self, request: &SessionOptions) -> Effective {
        let work_out = || {
            let plugin = self.installed().web_sockets.clone().unwrap_or_default();
            Effective::new(self.engine(), &plugin, request)
        };
        if *request != SessionOptions::default() {
            return work_out();
        }
        self.0.effective.get_or_init(work_out).clone()
    }

    /// What has to hold before anything is sent, and the runtime to wait on.
    pub(crate) fn ready(&self, secure: bool) -> Result<Arc<dyn Runtime>> {
        self.engine().check()?;
        if secure {
            require(self.engine(), Capability::Tls)?;
        }
        self.engine().runtime()
    }

    pub(crate) fn connect_timeout(&self) -> Option<ConnectTimeout> {
        self.installed().timeout.connect.map(ConnectTimeout)
    }

    /// The proxy to go through to this URL, in one hop.
    pub(crate) fn proxy_for(&self, uri: &Uri) -> Option<Proxy> {
        self.installed().proxies.proxy_for(uri).cloned()
    }

    /// Names the engine in an error that does not yet.
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

/// Collects what is installed on a client.
#[derive(Debug)]
pub struct HttpClientBuilder {
    engine: Box<dyn Engine>,
    installed: Installed,
}

impl HttpClientBuilder {
    /// Installs a plugin; of one installed already it overrides the options that it sets.
    #[must_use]
    pub fn install(mut self, plugin: impl Plugin) -> Self {
        plugin.install(&mut self.installed);
        self
    }

    /// Sets the proxies to go through: a [`Proxy`](crate::Proxy) or its URL for everything, or
    /// [`Proxies`] by scheme and with exceptions, such as [`Proxies::from_env`]. A second call replaces
    /// the first. Default: none; the environment is not read. Needs the engine's capability
    /// [`Proxies`](Capability::Proxies) or [`SocksProxies`](Capability::SocksProxies).
    #[must_use]
    pub fn proxy(mut self, proxies: impl Into<Proxies>) -> Self {
        self.installed.proxies = proxies.into();
        self
    }

    /// Makes the client. No I/O, no runtime needed.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for an option that can never work,
    /// [`ErrorKind::Unsupported`] for one that the engine does not offer.
    pub fn build(self) -> Result<HttpClient> {
        let Self { engine, installed } = self;
        engine.check()?;
        if let Some(plugin) = &installed.web_sockets {
            require(&*engine, Capability::WebSockets)?;
            plugin.options.check(&*engine)?;
        }
        installed.timeout.check()?;
        if installed.timeout.connect.is_some() {
            require(&*engine, Capability::ConnectTimeout)?;
        }
        installed.proxies.check(&*engine)?;
        installed.defaults.check()?;
        Ok(HttpClient(Arc::new(Inner { engine, installed, effective: OnceLock::new() })))
    }
}
