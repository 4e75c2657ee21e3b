//! The configuration of a WebSocket server, and the check of one request.

use std::{
    convert::Infallible,
    fmt,
    future::{self, Future, Ready},
    net::SocketAddr,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use drivetrain_connect::Tokio;
use drivetrain_engine::{
    Capability, Error, IntoFraming, Origins, RefusalKind, Result, Role, Runtime, Support,
    UpgradeRefusal, UpgradeRules,
};
use drivetrain_session::{Session, SessionConfig, SetBy, Settings, WebSockets};
use http::{Request, Response};
use http_body_util::Full;
use hyper::upgrade::OnUpgrade;

use crate::{
    frames::Frames,
    refusal::Refusal,
    sessions::{Ends, Sessions},
    upgrade::WebSocketUpgrade,
};

/// The name of the engine in errors, and of this end in `settings()`.
const NAME: &str = "server";

/// Pings are on: without them a peer that has vanished keeps its session for ever.
const PING: Duration = Duration::from_secs(20);

/// The address of the peer of a connection, in the extensions of its requests: [`serve`](crate::serve()) puts it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// The WebSocket half of a server: whose frames it speaks, whom it lets in, and the options of its sessions.
///
/// The value is its configuration, as an engine is; a clone is cheap and may be configured differently, for a route of
/// its own. Four ways lead from here to a session:
///
/// | with | use |
/// |---|---|
/// | axum | `web_socket(handler)` on a route, or `WebSocketUpgrade` as an extractor, with feature `axum` |
/// | tower, or hyper without a framework | [`service`](Self::service) |
/// | a handler of one's own for requests | [`upgrade`](Self::upgrade) |
///
/// Sessions ping every 20 s and give a peer 20 s to answer, unless the plugin says otherwise. All other defaults are those
/// of the client: a public server should set `max_message_size` to what its clients need, such as 1 MiB.
///
/// ```
/// # fn example(native: impl drivetrain_engine::IntoFraming) {
/// use drivetrain_server::{Origins, Sessions, Upgrader};
/// use drivetrain_session::WebSockets;
///
/// let sessions = Sessions::new().max_sessions(10_000);
/// let sockets = Upgrader::new(native) // such as Native::new()
///     .install(WebSockets::new().max_message_size(1 << 20))
///     .origins(Origins::same_host().and("https://app.example.com"))
///     .subprotocols(["chat.v2", "chat.v1"])
///     .sessions(&sessions);
/// # }
/// ```
#[derive(Clone)]
pub struct Upgrader(Arc<Config>);

#[derive(Clone)]
struct Config {
    frames: Arc<dyn Frames>,
    plugin: WebSockets,
    route: WebSockets,
    rules: UpgradeRules,
    sessions: Sessions,
    runtime: Option<Arc<dyn Runtime>>,
    keeps_requests: bool,
    resolved: OnceLock<Resolved>,
}

/// The effective configuration.
#[derive(Clone)]
struct Resolved {
    session: Arc<SessionConfig>,
    rules: UpgradeRules,
    error: Option<Error>,
}

impl Upgrader {
    /// A server with the frames of this engine, such as `Native::new()`, or of a framing alone. Of an engine's value only
    /// the options of its frames count here.
    pub fn new(frames: impl IntoFraming) -> Self {
        Self(Arc::new(Config {
            frames: Arc::new(frames.into_framing()),
            plugin: WebSockets::new(),
            route: WebSockets::new(),
            rules: UpgradeRules::new(),
            sessions: Sessions::new(),
            runtime: None,
            keeps_requests: false,
            resolved: OnceLock::new(),
        }))
    }

    /// Installs the plugin: its options are those of all sessions. Installed again, the later options win.
    #[must_use]
    pub fn install(self, plugin: WebSockets) -> Self {
        self.map(|config| config.plugin = std::mem::take(&mut config.plugin).overridden_by(plugin))
    }

    /// The same server with other options for one route: they win over the plugin's, and of limits the smallest. Registry
    /// and limits of the number of sessions stay common.
    #[must_use]
    pub fn route(&self, options: WebSockets) -> Self {
        self.clone()
            .map(|config| config.route = std::mem::take(&mut config.route).overridden_by(options))
    }

    /// Sets the pages that may open a WebSocket. Default: those of the host that is asked for, [`Origins::same_host`].
    #[must_use]
    pub fn origins(self, origins: Origins) -> Self {
        self.map(|config| config.rules = std::mem::take(&mut config.rules).origins(origins))
    }

    /// Sets the hosts that requests may name: see [`UpgradeRules::hosts`]. Default: any, which is open to DNS rebinding on
    /// localhost and in private networks.
    #[must_use]
    pub fn hosts(self, hosts: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.map(|config| config.rules = std::mem::take(&mut config.rules).hosts(hosts))
    }

    /// Sets the subprotocols, the preferred one first. Default: none, so that offers are ignored.
    #[must_use]
    pub fn subprotocols(self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.map(|config| config.rules = std::mem::take(&mut config.rules).subprotocols(names))
    }

    /// Refuses clients without a subprotocol in common, with 400. Default: they are accepted without one.
    #[must_use]
    pub fn require_subprotocol(self) -> Self {
        self.map(|config| config.rules = std::mem::take(&mut config.rules).require_subprotocol())
    }

    /// Sets the registry of the sessions, to share it or to shut it down. Default: one of its own, without a limit.
    #[must_use]
    pub fn sessions(self, sessions: &Sessions) -> Self {
        self.map(|config| config.sessions = sessions.clone())
    }

    /// Sets the runtime of sessions and handlers. Default: the tokio runtime in which the handshake comes in.
    #[must_use]
    pub fn runtime(self, runtime: Arc<dyn Runtime>) -> Self {
        self.map(|config| config.runtime = Some(runtime))
    }

    /// Keeps the method, the target and the headers of each handshake for [`Session::request`], as long as the session lasts.
    /// Default: they are dropped, as most handlers need them before the handshake or never.
    #[must_use]
    pub fn keep_requests(self) -> Self {
        self.map(|config| config.keeps_requests = true)
    }

    /// The registry of the sessions.
    pub fn registry(&self) -> &Sessions {
        &self.0.sessions
    }

    /// The options in force: their values, who set them, and who applies them.
    pub fn settings(&self) -> &Settings {
        &self.resolved().session.settings
    }

    /// Refuses a configuration that can never work; without this call, every handshake fails with 500 and an event says
    /// why.
    ///
    /// # Errors
    /// [`InvalidInput`](drivetrain_engine::ErrorKind::InvalidInput) saying which option and what would be right,
    /// [`Unsupported`](drivetrain_engine::ErrorKind::Unsupported) for what the framing does not offer.
    pub fn check(&self) -> Result<()> {
        self.resolved().error.clone().map_or(Ok(()), Err)
    }

    /// Checks a request and takes what is needed to open the session from it. Nothing is answered yet.
    ///
    /// # Errors
    /// The refusal, to be answered with its [`response`](crate::Refusal::response). It is counted and logged.
    pub fn upgrade<B>(&self, request: &mut Request<B>) -> Result<WebSocketUpgrade, Refusal> {
        let on_upgrade = request.extensions_mut().remove::<OnUpgrade>();
        let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
        let checked = self.check_request(request, on_upgrade, peer);
        if let Err(refusal) = &checked {
            self.0.sessions.count_refusal();
            tell(request, refusal, peer);
        }
        checked.map_err(Refusal::from)
    }

    /// A service that opens a session for every request, and answers what is not a handshake with its refusal.
    ///
    /// `handler` runs in a task of its own. When it returns `Ok`, the session is closed with 1000; after an `Err` with the
    /// error's [`close_code`](Error::close_code), or 1011; after a panic with 1011.
    pub fn service<F, Fut>(&self, handler: F) -> WebSocketService<F>
    where
        F: Fn(Session) -> Fut,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        WebSocketService { upgrader: self.clone(), handler }
    }

    fn map(mut self, with: impl FnOnce(&mut Config)) -> Self {
        let config = Arc::make_mut(&mut self.0);
        config.resolved = OnceLock::new();
        with(config);
        self
    }

    fn resolved(&self) -> &Resolved {
        self.0.resolved.get_or_init(|| self.0.resolve())
    }

    fn check_request<B>(
        &self,
        request: &Request<B>,
        on_upgrade: Option<OnUpgrade>,
        peer: Option<SocketAddr>,
    ) -> Result<WebSocketUpgrade, UpgradeRefusal> {
        let resolved = self.resolved();
        if let Some(error) = &resolved.error {
            return Err(UpgradeRefusal::wiring(error.to_string()));
        }
        let runtime = match &self.0.runtime {
            Some(runtime) => Arc::clone(runtime),
            None => runtime_of(request)?,
        };
        // First, so that a server that is full or shutting down says so whatever is asked.
        let slot = self.0.sessions.reserve(&runtime, request.uri().path(), peer, Ends::ByClose)?;
        let upgrade = resolved.rules.check(request, protocol(request))?;
        let Some(on_upgrade) = on_upgrade else {
            return Err(UpgradeRefusal::wiring(
                "the connection cannot be upgraded: serve it with hyper's `with_upgrades` or \
                 `serve_connection_with_upgrades`, and let no layer take the upgrade from the request",
            ));
        };
        Ok(WebSocketUpgrade::new(
            self.0.keeps_requests.then(|| head(request)),
            upgrade,
            on_upgrade,
            slot,
            Arc::clone(&self.0.frames),
            Arc::clone(&resolved.session),
            runtime,
            request.uri().path(),
            peer,
        ))
    }
}

impl Config {
    fn resolve(&self) -> Resolved {
        let defaults = WebSockets::new().ping_interval(PING).ping_timeout(PING);
        let from_engine = WebSockets::from(&self.frames.settings());
        let support = |capability: Capability| match capability.is_of_connectors() {
            true => Support::Offered,
            false => self.frames.support(capability),
        };
        let scopes = [
            (SetBy::Route, &self.route),
            (SetBy::Engine, &from_engine),
            (SetBy::Plugin, &self.plugin),
            (SetBy::Default, &defaults),
        ];
        let session = SessionConfig::resolve(Role::Server, NAME, &support, &scopes);
        let rules = self.rules.clone().extensions(session.extensions.iter().cloned());
        let error = self.check(&rules, &support).err();
        Resolved { session: Arc::new(session), rules, error }
    }

    fn check(&self, rules: &UpgradeRules, support: &dyn Fn(Capability) -> Support) -> Result<()> {
        self.frames.check()?;
        for options in [&self.plugin, &self.route] {
            options.check()?;
            for capability in options.needs() {
                if let Support::Missing(reason) = support(capability) {
                    return Err(Error::unsupported(NAME, capability, &reason));
                }
            }
        }
        rules.validate()
    }
}

impl fmt::Debug for Upgrader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrader")
            .field("frames", &self.0.frames)
            .field("plugin", &self.0.plugin)
            .field("route", &self.0.route)
            .field("rules", &self.0.rules)
            .field("sessions", &self.0.sessions)
            .finish_non_exhaustive()
    }
}

/// A tower service that opens a session for every handshake: made by [`Upgrader::service`].
#[derive(Clone)]
pub struct WebSocketService<F> {
    upgrader: Upgrader,
    handler: F,
}

impl<B, F, Fut> tower_service::Service<Request<B>> for WebSocketService<F>
where
    F: Fn(Session) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let response = match self.upgrader.upgrade(&mut request) {
            Ok(upgrade) => upgrade.run(self.handler.clone()),
            Err(refusal) => refusal.response(),
        };
        future::ready(Ok(response))
    }
}

impl<F> fmt::Debug for WebSocketService<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketService").field("upgrader", &self.upgrader).finish_non_exhaustive()
    }
}

/// The runtime of the connection of a request, in its extensions: without it, the current one of tokio.
#[cfg(feature = "testing")]
#[derive(Clone)]
pub(crate) struct OnRuntime(pub(crate) Arc<dyn Runtime>);

/// The runtime of what a request begins.
///
/// # Errors
/// 500 outside a tokio runtime.
pub(crate) fn runtime_of<B>(request: &Request<B>) -> Result<Arc<dyn Runtime>, UpgradeRefusal> {
    #[cfg(feature = "testing")]
    if let Some(OnRuntime(runtime)) = request.extensions().get() {
        return Ok(Arc::clone(runtime));
    }
    let _ = request;
    Tokio::current(NAME).map_err(|error| UpgradeRefusal::wiring(error.to_string()))
}

/// The `:protocol` of an extended CONNECT (RFC 8441).
#[cfg(feature = "http2")]
fn protocol<B>(request: &Request<B>) -> Option<&str> {
    request.extensions().get::<hyper::ext::Protocol>().map(hyper::ext::Protocol::as_str)
}

#[cfg(not(feature = "http2"))]
fn protocol<B>(_: &Request<B>) -> Option<&str> {
    None
}

/// Method, target and headers.
fn head<B>(request: &Request<B>) -> Request<()> {
    let mut head = Request::new(());
    *head.method_mut() = request.method().clone();
    *head.uri_mut() = request.uri().clone();
    *head.version_mut() = request.version();
    *head.headers_mut() = request.headers().clone();
    head
}

/// What was refused, and to whom: of the request only what is no secret.
fn tell<B>(request: &Request<B>, refusal: &UpgradeRefusal, peer: Option<SocketAddr>) {
    let origin = request.headers().get(http::header::ORIGIN);
    let origin = origin.map(|origin| String::from_utf8_lossy(origin.as_bytes()));
    let (reason, status) = (refusal.kind().name(), refusal.status().as_u16());
    let (path, peer) = (request.uri().path(), peer.map(tracing::field::display));
    if refusal.kind() == RefusalKind::Wiring {
        tracing::error!(
            target: "drivetrain::server",
            reason, status, path, peer, origin = origin.as_deref(), detail = %refusal,
            "handshake refused"
        );
    } else {
        tracing::warn!(
            target: "drivetrain::server",
            reason, status, path, peer, origin = origin.as_deref(), detail = %refusal,
            "handshake refused"
        );
    }
}
