//! The connector: what an engine holds, and what it hands on.

use std::{fmt, future::Future, marker::PhantomData, sync::Arc};

use drivetrain_engine::{
    Body, ByteStream, Capability, ConnectTimeout, Connector, Error, ErrorKind, Handshake,
    NativeSetting, Proxy, Result, Runtime, Support, UpgradeResult,
};
use http::{Request, Response, Uri};

#[cfg(feature = "http2")]
use crate::over_http2::Http2Connections;
use crate::{
    dial::dial,
    executor::Executor,
    options::ConnectOptions,
    pool::Pool,
    route::Route,
    send,
    stream::{ConnectedStream, Once},
    tls::{Made, TlsConnector},
};

/// The connector of drivetrain's engines: it dials, speaks HTTP/1.1 and sends handshakes on the runtime `R`.
///
/// The value is its configuration: nothing is made, read or dialled before the first use. Clones share
/// their idle HTTP connections and TLS sessions; setting an option on a clone gives that clone its
/// own. Of two calls that set the same thing the later wins.
///
/// ```
/// # #[cfg(feature = "smol")] {
/// use drivetrain_connect::{HttpConnector, SmolExecutor};
///
/// #[derive(Clone, Debug)]
/// pub struct MyEngine {
///     connector: HttpConnector<SmolExecutor>,
/// }
///
/// impl MyEngine {
///     pub fn new() -> Self {
///         Self { connector: HttpConnector::new("mine") }
///     }
/// }
/// # }
/// ```
pub struct HttpConnector<R> {
    pub(crate) engine: &'static str,
    pub(crate) shared: Arc<Shared>,
    pub(crate) caller: Option<Once>,
    runtime: PhantomData<fn() -> R>,
}

/// The options, and what is made of them when it is first needed.
pub(crate) struct Shared {
    pub(crate) options: ConnectOptions,
    tls: Made,
    pub(crate) pool: Pool,
    #[cfg(feature = "http2")]
    pub(crate) http2: Http2Connections,
}

impl Shared {
    pub(crate) fn new(options: ConnectOptions) -> Arc<Self> {
        Arc::new(Self {
            pool: Pool::new(options.pool),
            options,
            tls: Made::default(),
            #[cfg(feature = "http2")]
            http2: Http2Connections::default(),
        })
    }

    /// TLS for HTTP/1.1 alone.
    pub(crate) fn tls(&self) -> Result<TlsConnector> {
        self.tls.get(|| self.options.tls.connector(&["http/1.1"]))
    }
}

pub(crate) const ONE_STREAM: &str = "it runs over one custom stream, which carries one WebSocket";
pub(crate) const NOTHING_TO_DIAL: &str = "a custom stream is connected already";
pub(crate) const NO_UNIX_SOCKETS: &str = "this platform has none that it can use";
const OWN_TLS: &str =
    "a stream that the caller brings has its own TLS: present the certificate there";

impl<R: Executor> HttpConnector<R> {
    /// The connector with the defaults of each option, for the engine of this name. Does no I/O and does not fail.
    pub fn new(engine: &'static str) -> Self {
        let shared = Shared::new(ConnectOptions::new());
        Self { engine, shared, caller: None, runtime: PhantomData }
    }

    /// The connector over a stream that is connected already: for one handshake, once, by whichever clone comes
    /// first. It has no HTTP.
    pub fn over(engine: &'static str, stream: impl ByteStream + 'static) -> Self {
        Self { caller: Some(Once::new(stream)), ..Self::new(engine) }
    }

    /// The same connector for the engine of this name.
    #[must_use]
    pub fn named(self, engine: &'static str) -> Self {
        Self { engine, ..self }
    }

    /// The same connector with these options.
    #[must_use]
    pub fn with_options(self, options: ConnectOptions) -> Self {
        Self { shared: Shared::new(options), ..self }
    }

    /// The same connector with changed options.
    #[must_use]
    pub fn map_options(self, with: impl FnOnce(ConnectOptions) -> ConnectOptions) -> Self {
        let options = with(self.options().clone());
        self.with_options(options)
    }

    /// The options.
    pub fn options(&self) -> &ConnectOptions {
        &self.shared.options
    }

    /// Whether it is one over a custom stream.
    pub fn is_over(&self) -> bool {
        self.caller.is_some()
    }

    /// Whether it offers a capability that [belongs to connectors](Capability::is_of_connectors).
    pub fn support(&self, capability: Capability) -> Support {
        let is_over = self.is_over();
        match capability {
            Capability::Http1
            | Capability::Http2
            | Capability::ConnectionReuse
            | Capability::WebSocketOverHttp2
                if is_over =>
            {
                Support::missing(ONE_STREAM)
            }
            Capability::ConnectionReuse if !R::KEEPS_CONNECTIONS => {
                Support::missing("each request has a connection of its own on this runtime")
            }
            Capability::ConnectionReuse if self.options().pool.max_idle_per_host == 0 => {
                Support::missing("pool_max_idle_per_host is 0: no connection is kept")
            }
            Capability::ConnectTimeout
            | Capability::Proxies
            | Capability::HttpsProxies
            | Capability::SocksProxies
            | Capability::UnixSockets
            | Capability::Resolver
                if is_over =>
            {
                Support::missing(NOTHING_TO_DIAL)
            }
            Capability::ClientCertificates if is_over => Support::missing(OWN_TLS),
            #[cfg(feature = "http2")]
            Capability::WebSocketOverHttp2 if self.options().http2.is_on => Support::Offered,
            Capability::WebSocketOverHttp2 => {
                Support::missing("hyper over HTTP/1.1 only: use an engine on tokio for it")
            }
            Capability::Http2 => {
                Support::missing("hyper over HTTP/1.1 only: use an engine on tokio for HTTP/2")
            }
            // A custom stream already is the TLS stream: it is used as it is.
            Capability::Tls if is_over || R::HAS_TLS => Support::Offered,
            Capability::ClientCertificates | Capability::HttpsProxies if R::HAS_TLS => {
                Support::Offered
            }
            Capability::Tls | Capability::ClientCertificates | Capability::HttpsProxies => {
                Support::missing(R::NO_TLS)
            }
            Capability::Http1
            | Capability::ConnectionReuse
            | Capability::ConnectTimeout
            | Capability::Proxies
            | Capability::SocksProxies
            | Capability::Resolver
            | Capability::HandshakePhases => Support::Offered,
            Capability::UnixSockets if cfg!(unix) => Support::Offered,
            Capability::UnixSockets => Support::missing(NO_UNIX_SOCKETS),
            _ => Support::missing("this version of the engine does not know it"),
        }
    }

    /// The options that were set, in order, for
    /// [`EngineSettings::native`](drivetrain_engine::EngineSettings); never a key.
    pub fn settings(&self) -> Vec<NativeSetting> {
        self.options().settings().to_vec()
    }

    /// Refuses options that can never work, for [`Engine::check`](drivetrain_engine::Engine::check).
    /// No I/O.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`], saying which option and what would be right.
    pub fn check(&self) -> Result<()> {
        // The limits for the head of an answer hold there too.
        let dead = |set: &&NativeSetting| !set.name.starts_with("max_header");
        let checked = match (&self.caller, self.options().settings().iter().find(dead)) {
            (Some(_), Some(NativeSetting { name: option, .. })) => {
                let message = format!(
                    "{option} has no effect on a stream that the caller brings: set it on that stream"
                );
                Err(Error::new(ErrorKind::InvalidInput, message))
            }
            _ => self.options().check(),
        };
        self.with_name(checked)
    }

    /// The runtime for the sessions on the engine.
    ///
    /// # Errors
    /// [`ErrorKind::Other`] outside a tokio runtime, on tokio.
    pub fn runtime(&self) -> Result<Arc<dyn Runtime>> {
        R::runtime(self.engine)
    }

    /// Sends one HTTP request, as [`Engine::execute`](drivetrain_engine::Engine::execute) asks for, over a
    /// connection that is kept or over a new one.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for `https` in a build without TLS, and over a custom stream;
    /// [`ErrorKind::Connect`], [`ErrorKind::Tls`], [`ErrorKind::Timeout`], [`ErrorKind::Protocol`] or
    /// [`ErrorKind::Io`] where the exchange failed, [`ErrorKind::InvalidInput`] for a request that cannot
    /// be sent. An error that the request's own body gave is returned as it is.
    ///
    /// # Cancel safety
    /// Dropping the future ends the request.
    pub async fn execute(&self, request: Request<Body>) -> Result<Response<Body>> {
        self.with_name(R::within(self.engine, send::execute(self, request)).await)
    }

    /// Opens a stream to the host of this URI, through the proxy in a tunnel, within the limit. `tls` makes the TLS
    /// for `https`, once the host is reached.
    ///
    /// # Errors
    /// [`ErrorKind::Connect`], [`ErrorKind::Timeout`] or [`ErrorKind::Tls`] where dialling failed, and
    /// [`ErrorKind::InvalidInput`] for a URI that has no host or another scheme.
    ///
    /// # Cancel safety
    /// Dropping the future frees the socket.
    pub async fn dial(
        &self,
        uri: &Uri,
        proxy: Option<&Proxy>,
        limit: Option<ConnectTimeout>,
        tls: impl FnOnce() -> Result<TlsConnector> + Send,
    ) -> Result<ConnectedStream> {
        let dialling = async {
            let route = |is_secure| Route::through(proxy, is_secure, true);
            let destination = send::destination::<R>(uri, route)?;
            let runtime = R::runtime(self.engine)?;
            dial::<R>(&*runtime, &self.shared, &destination, limit, tls).await
        };
        self.with_name(R::within(self.engine, dialling).await)
    }

    fn with_name<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| match self.engine {
            "" => error,
            engine => error.with_engine(engine),
        })
    }
}

/// Without a name: the engine that owns it names the errors.
impl<R: Executor> Default for HttpConnector<R> {
    fn default() -> Self {
        Self::new("")
    }
}

impl<R: Executor> Connector for HttpConnector<R> {
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

    fn execute(
        &self,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Body>>> + Send {
        self.execute(request)
    }

    /// Sends a handshake over a connection of its own, or over the custom stream.
    ///
    /// # Errors
    /// As for [`execute`](HttpConnector::execute), and [`ErrorKind::Protocol`] for a 101 that is not a valid
    /// answer; the connection is then closed. [`ErrorKind::Connect`] if the custom stream has
    /// been used, [`ErrorKind::Unsupported`] for a proxy or a connect timeout over it. Any other status is
    /// [`UpgradeResult::Refused`].
    async fn upgrade(&self, handshake: &Handshake) -> Result<UpgradeResult> {
        let upgrading = async {
            if self.caller.is_none() {
                if let Some(result) = R::upgrade_over_http2(self, handshake).await? {
                    return Ok(result);
                }
            }
            send::upgrade(self, handshake).await
        };
        self.with_name(R::within(self.engine, upgrading).await)
    }
}

impl<R> Clone for HttpConnector<R> {
    fn clone(&self) -> Self {
        Self {
            engine: self.engine,
            shared: Arc::clone(&self.shared),
            caller: self.caller.clone(),
            runtime: PhantomData,
        }
    }
}

/// Prints what was set, never certificates or keys.
impl<R: Executor> fmt::Debug for HttpConnector<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("HttpConnector");
        debug.field("engine", &self.engine).field("runtime", &R::NAME);
        for set in self.options().settings() {
            debug.field(&set.name, &format_args!("{}", set.value));
        }
        if let Some(caller) = &self.caller {
            debug.field("over", caller);
        }
        debug.finish()
    }
}
