//! The engine at work: HTTP requests, and what a request and a handshake have in common.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use drivetrain_connect::{
    Tokio, Within,
    http1::{During, chain},
};
use drivetrain_engine::{
    Answer, Body, Capability, ConnectTimeout, Engine, EngineSettings, Error, ErrorKind, Handshake,
    NewConnection, Proxy, Replay, Result, Runtime, Support, UnixSocket, async_trait,
};
use http::{Request, Response, Uri};
use tokio::time;

use crate::{
    engine::Reqwest,
    host::Host,
    map,
    purpose::Purpose,
    replay::Sent,
    tunnelled,
    upload::{self, Underway},
};

#[async_trait]
impl Engine for Reqwest {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn support(&self, capability: Capability) -> Support {
        const TLS: bool = cfg!(any(feature = "rustls", feature = "native-tls"));
        const NO_TLS: &str =
            "it was built without TLS: switch on cargo feature `rustls` or `native-tls`";
        match capability {
            Capability::Http1 => Support::Offered,
            Capability::ConnectionReuse if self.options().pool_max_idle_per_host == Some(0) => {
                Support::missing("pool_max_idle_per_host is 0: no connection is kept")
            }
            Capability::ConnectionReuse => Support::Offered,
            Capability::Tls | Capability::ClientCertificates if TLS => Support::Offered,
            Capability::Tls | Capability::ClientCertificates => Support::missing(NO_TLS),
            Capability::Http2 if self.options().http1_only => {
                Support::missing("http1_only was called")
            }
            Capability::Http2 if TLS => Support::Offered,
            Capability::Http2 => Support::missing(NO_TLS),
            Capability::ConnectTimeout if self.options().preconfigured.is_some() => {
                Support::missing(Self::PRECONFIGURED_TIMEOUT)
            }
            Capability::Proxies | Capability::HttpsProxies | Capability::SocksProxies
                if self.options().preconfigured.is_some() =>
            {
                Support::missing(Self::PRECONFIGURED_PROXY)
            }
            Capability::Resolver if self.options().preconfigured.is_some() => {
                Support::missing(Self::PRECONFIGURED_RESOLVER)
            }
            Capability::UnixSockets if self.options().preconfigured.is_some() => {
                Support::missing(Self::PRECONFIGURED_UNIX_SOCKET)
            }
            Capability::UnixSockets => self.options().dialer.support(capability),
            Capability::HttpsProxies if !TLS => Support::missing(NO_TLS),
            Capability::ConnectTimeout
            | Capability::Proxies
            | Capability::HttpsProxies
            | Capability::SocksProxies
            | Capability::Resolver => Support::Offered,
            _ => Support::missing(Self::NO_WEB_SOCKETS),
        }
    }

    fn settings(&self) -> EngineSettings {
        let mut settings = EngineSettings::default();
        settings.native = self.native_settings(false);
        settings
    }

    fn check(&self) -> Result<()> {
        self.check_options(Self::NAME, false)
    }

    fn runtime(&self) -> Result<Arc<dyn Runtime>> {
        Tokio::current(Self::NAME)
    }

    async fn execute(&self, request: Request<Body>) -> Result<Response<Body>> {
        execute(Self::NAME, self, request).await
    }

    async fn connect(&self, _: Handshake) -> Result<Answer> {
        Err(Error::unsupported(Self::NAME, Capability::WebSockets, Self::NO_WEB_SOCKETS))
    }
}

impl Reqwest {
    /// Whether a request with this body goes over a connection of the engine's own.
    pub(crate) fn tunnels(&self, purpose: &Purpose, body: &Body) -> bool {
        let is_needed = purpose.proxy.is_some()
            || body.as_bytes().is_none()
            || matches!(purpose.host, Host::InUri(_));
        is_needed && self.may_tunnel(purpose)
    }

    /// Whether a request may do so: not where a hook may have set what reqwest alone knows, unless reqwest does not take
    /// such a proxy.
    pub(crate) fn may_tunnel(&self, purpose: &Purpose) -> bool {
        const TLS: bool = cfg!(any(feature = "rustls", feature = "native-tls"));
        let has_hooks = !self.options().hooks.is_empty();
        match &purpose.proxy {
            Some(proxy) => (!has_hooks || !TLS) && (purpose.secure || !proxy.is_http()),
            None => !has_hooks && purpose.unix_socket.is_none(),
        }
    }

    /// Whether such a connection may be one of HTTP/2.
    pub(crate) fn may_speak_http2_itself(&self, purpose: &Purpose) -> bool {
        let options = self.options();
        let is_possible = purpose.secure || options.http2_prior_knowledge;
        self.may_tunnel(purpose) && is_possible && !options.http1_only
    }
}

/// [`ReqwestConnector::execute`], for the engine of this name.
pub(crate) async fn execute(
    engine: &'static str,
    http: &Reqwest,
    mut request: Request<Body>,
) -> Result<Response<Body>> {
    let handle = Tokio::handle(engine)?;
    let exchange = async {
        let uri = request.uri().clone();
        let secure = is_secure(engine, http, &uri)?;
        let connect_timeout = timeout(request.extensions());
        let is_new = request.extensions().get::<NewConnection>().is_some();
        let unix_socket = request.extensions().get::<UnixSocket>().cloned();
        let proxy = match unix_socket {
            None => request.extensions().get::<Proxy>().cloned(),
            Some(_) => None,
        };
        let asked = [
            connect_timeout.map(|_| Capability::ConnectTimeout),
            proxy.as_ref().map(Proxy::capability),
            unix_socket.as_ref().map(|_| Capability::UnixSockets),
        ];
        for capability in asked.into_iter().flatten() {
            if let Support::Missing(reason) = http.support(capability) {
                return Err(Error::unsupported(engine, capability, &reason));
            }
        }
        let (client, is_http2) = match http.preconfigured_client() {
            Some(client) => (client.clone(), false),
            None => {
                let mut purpose = Purpose {
                    secure,
                    connect_timeout,
                    proxy: proxy.clone(),
                    unix_socket: unix_socket.clone(),
                    host: Host::of(&request),
                    is_new,
                    runtime: handle.id(),
                };
                if purpose.host == Host::Header && http.may_speak_http2_itself(&purpose) {
                    if let Some(host) = Host::into_uri(&mut request, !secure) {
                        purpose.host = host;
                    }
                }
                if http.tunnels(&purpose, request.body()) {
                    return through_tunnel(engine, http, request, &uri, purpose, &handle).await;
                }
                let is_http2 = http.options().speaks_http2_alone(&purpose);
                (http.client(engine, purpose)?, is_http2)
            }
        };
        let (by, socket) = (proxy.as_ref(), unix_socket.as_ref());
        let limits = http.options().limits();
        let sent = sent(request.body(), is_http2);
        let failed = |error: reqwest::Error| {
            let replay = http.answered().replay(sent, &error);
            let error = map::failed(engine, During::Request, Some(&uri), by, socket, limits, error);
            with_replay(error, replay)
        };
        let (head, body) = request.into_parts();
        let (body, sending) = match http.is_configured_by_others() {
            true => (upload::plain(body), None),
            false => {
                let (body, sending) = upload::paused(body);
                (body, Some(sending).filter(|_| !is_new))
            }
        };
        let request = reqwest::Request::try_from(Request::from_parts(head, body));
        let exchange = client.execute(request.map_err(failed)?);
        let response = taken(engine, sending.as_ref(), connect_timeout, exchange).await?;
        let response = Response::from(response.map_err(failed)?);
        http.answered().note(response.extensions());
        map::reusable(engine, &handle, limits, response)
    };
    Within::new(engine, handle.clone(), exchange).await
}

/// [`execute`] for what goes over a connection of the engine's own.
async fn through_tunnel(
    engine: &'static str,
    http: &Reqwest,
    request: Request<Body>,
    uri: &Uri,
    purpose: Purpose,
    handle: &tokio::runtime::Handle,
) -> Result<Response<Body>> {
    let limits = http.options().limits();
    let sent = sent(request.body(), http.options().speaks_http2_alone(&purpose));
    let Purpose { is_new, connect_timeout, .. } = purpose;
    let client = http.tunnelled(purpose).map_err(|error| error.with_engine(engine))?;
    let (head, body) = request.into_parts();
    let (body, sending) = upload::watched(body);
    let request = Request::from_parts(head, body);
    let watched = Some(&sending).filter(|_| !is_new);
    let exchange = tunnelled::send(&client, request);
    let response = taken(engine, watched, connect_timeout, exchange).await?.map_err(|error| {
        // Another connection changes nothing where the way there has failed.
        let is_own = chain(&error).any(|cause| cause.is::<Error>());
        let replay = if is_own { None } else { http.answered().replay(sent, &error) };
        with_replay(map::failed_in_tunnel(engine, uri, limits, error), replay)
    })?;
    http.answered().note(response.extensions());
    map::reusable(engine, handle, limits, tunnelled::ending(sending, response, handle))
}

fn with_replay(error: Error, replay: Option<Replay>) -> Error {
    match replay {
        Some(replay) => error.with_replay(replay),
        None => error,
    }
}

/// How long a request waits for a connection that takes it, beside its connect timeout.
///
/// hyper hands requests to the task of a connection of HTTP/2 through a channel of tokio's. One that is sent while that
/// task ends, as it does after a GOAWAY, stays in the channel for as long as the request waits for its answer, which is
/// for ever (hyper 1.12, tokio 1.54).
const PATIENCE: Duration = Duration::from_secs(30);

/// The result of an exchange, if a connection takes its request in time.
async fn taken<T>(
    engine: &'static str,
    sending: Option<&Underway>,
    connect_timeout: Option<Duration>,
    exchange: impl Future<Output = T>,
) -> Result<T> {
    let Some(sending) = sending else { return Ok(exchange.await) };
    let mut exchange = pin!(exchange);
    let patience = PATIENCE.saturating_add(connect_timeout.unwrap_or_default());
    match time::timeout(patience, &mut exchange).await {
        Ok(result) => Ok(result),
        Err(_) if sending.has_begun() => Ok(exchange.await),
        Err(_) => {
            let message = format!("no connection took the request within {patience:?}");
            let error = Error::new(ErrorKind::Timeout, message).with_engine(engine);
            Err(error.with_replay(Replay::NotProcessed))
        }
    }
}

fn sent(body: &Body, is_http2: bool) -> Sent {
    Sent { has_body: !http_body::Body::is_end_stream(body), is_http2 }
}

/// Whether the URI is one for TLS; refuses what cannot be reached before anything is dialled.
pub(crate) fn is_secure(engine: &'static str, http: &Reqwest, uri: &Uri) -> Result<bool> {
    let invalid =
        |message: String| Err(Error::new(ErrorKind::InvalidInput, message).with_engine(engine));
    if uri.host().is_none_or(str::is_empty) {
        return invalid("the URL has no host".into());
    }
    match uri.scheme_str() {
        Some("http") => Ok(false),
        Some("https") => match http.support(Capability::Tls) {
            Support::Offered => Ok(true),
            Support::Missing(why) => Err(Error::unsupported(engine, Capability::Tls, &why)),
        },
        Some(other) => invalid(format!("scheme `{other}` is not one for HTTP: use http or https")),
        None => invalid("the URL has no scheme: use http:// or https://".into()),
    }
}

pub(crate) fn timeout(extensions: &http::Extensions) -> Option<Duration> {
    extensions.get::<ConnectTimeout>().map(|limit| limit.0)
}
