//! The connector: what an engine holds, and what it hands on.

use std::{fmt, marker::PhantomData, sync::Arc};

use drivetrain_engine::{
    ByteStream, Capability, Error, ErrorKind, NativeSetting, Result, Runtime, Support,
};

use crate::{
    connector_state::ConnectorState, dial::NO_UNIX_SOCKETS, executor::Executor,
    options::ConnectOptions, stream::Once, tls,
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
    pub(crate) shared: Arc<ConnectorState>,
    pub(crate) caller: Option<Once>,
    runtime: PhantomData<fn() -> R>,
}

pub(crate) const ONE_STREAM: &str = "it runs over one custom stream, which carries one WebSocket";
pub(crate) const NOTHING_TO_DIAL: &str = "a custom stream is connected already";
const OWN_TLS: &str =
    "a stream that the caller brings has its own TLS: present the certificate there";

impl<R: Executor> HttpConnector<R> {
    /// The connector with the defaults of each option, for the engine of this name. Does no I/O and does not fail.
    pub fn new(engine: &'static str) -> Self {
        let shared = ConnectorState::new(ConnectOptions::new());
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
        Self { shared: ConnectorState::new(options), ..self }
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
            Capability::Tls if is_over || tls::IS_BUILT => Support::Offered,
            Capability::ClientCertificates | Capability::HttpsProxies if tls::IS_BUILT => {
                Support::Offered
            }
            Capability::Tls | Capability::ClientCertificates | Capability::HttpsProxies => {
                Support::missing(tls::NO_TLS)
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

    pub(crate) fn with_name<T>(&self, result: Result<T>) -> Result<T> {
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
