//! The connector at work: it sends an HTTP request, or the handshake that opens a WebSocket.

use std::{future::Future, sync::Arc};

use drivetrain_engine::{
    Body, Capability, ConnectTimeout, Connector, Error, ErrorKind, Handshake, HandshakePhases,
    NativeSetting, NewConnection, Protocol, Proxy, Replay, Result, Runtime, Support, UnixSocket,
    UpgradeResult,
};
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version, header};

use crate::{
    destination::Destination,
    dial::{Stopwatch, destination, dial},
    exchange::{PoolReturn, answered},
    executor::Executor,
    http_connector::{HttpConnector, NOTHING_TO_DIAL, ONE_STREAM},
    http1::{During, spelled},
    http1_connection::Http1Connection,
    map,
    route::Route,
    stream::ConnectedStream,
    tls::TlsConnector,
};

impl<R: Executor> HttpConnector<R> {
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
        self.with_name(R::within(self.engine, execute(self, request)).await)
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
            let destination = destination(uri, route)?;
            let runtime = R::runtime(self.engine)?;
            dial::<R>(&*runtime, &self.shared, &destination, limit, tls).await
        };
        self.with_name(R::within(self.engine, dialling).await)
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
                if let Some(result) =
                    R::upgrade_over_http2(self.engine, &self.shared, handshake).await?
                {
                    return Ok(result);
                }
            }
            upgrade(self, handshake).await
        };
        self.with_name(R::within(self.engine, upgrading).await)
    }
}

/// Sends a request over a connection that is kept, or over a new one.
pub(crate) async fn execute<R: Executor>(
    connector: &HttpConnector<R>,
    request: Request<Body>,
) -> Result<Response<Body>> {
    if connector.caller.is_some() {
        return Err(Error::not_offered(Capability::Http1, ONE_STREAM));
    }
    let runtime = R::runtime(connector.engine)?;
    let route = |is_secure| Route::of(request.extensions(), is_secure, false);
    let destination = destination(request.uri(), route)?;
    let limit = request.extensions().get().copied();
    let is_new = request.extensions().get::<NewConnection>().is_some() || !R::KEEPS_CONNECTIONS;
    let limits = connector.options().limits();
    let mut request = on_the_wire(request, &destination);
    loop {
        let kept =
            if is_new { None } else { connector.shared.pool.take(&destination, runtime.now()) };
        let (mut connection, is_kept) = match kept {
            Some(connection) => (connection, true),
            None => (fresh(connector, &*runtime, &destination, limit).await?.0, false),
        };
        match connection.send(request).await {
            Ok(answer) => {
                let shared = Arc::clone(&connector.shared);
                let pool_return =
                    R::KEEPS_CONNECTIONS.then_some(PoolReturn { destination, shared, runtime });
                return answered(connector.engine, limits, answer, connection, pool_return);
            }
            Err(failed) => match failed.unsent {
                // The server closed it while it was idle.
                Some(unsent) if is_kept => request = unsent,
                unsent => {
                    let error = map::exchange(During::Request, limits, failed.error);
                    return Err(match (unsent.is_some(), is_kept && failed.is_silent) {
                        (true, _) => error.with_replay(Replay::NotProcessed),
                        (_, true) => error.with_replay(Replay::Unanswered),
                        _ => error,
                    });
                }
            },
        }
    }
}

/// Sends a handshake over a connection of its own, or over the custom stream.
pub(crate) async fn upgrade<R: Executor>(
    connector: &HttpConnector<R>,
    handshake: &Handshake,
) -> Result<UpgradeResult> {
    let limits = connector.options().limits();
    let failed = |error| map::exchange(During::Handshake, limits, error);
    let extensions = handshake.extensions();
    let limit = extensions.get::<ConnectTimeout>();
    let route = |is_secure| Route::of(extensions, is_secure, true);
    let destination = destination(handshake.uri(), route);
    let runtime = R::runtime(connector.engine)?;
    let (destination, mut connection, mut phases) = match &connector.caller {
        Some(caller) => {
            let asked = extensions.get::<Proxy>().map(Proxy::capability);
            let asked = asked.or(limit.map(|_| Capability::ConnectTimeout));
            let socket = extensions.get::<UnixSocket>();
            let asked = asked.or(socket.map(|_| Capability::UnixSockets));
            if let Some(capability) = asked {
                return Err(Error::not_offered(capability, NOTHING_TO_DIAL));
            }
            let stream = caller.take().ok_or_else(|| {
                let message = "the custom stream was used already: it carries one \
                               WebSocket, once";
                Error::new(ErrorKind::Connect, message)
            })?;
            let connection = Http1Connection::new(stream, limits).await.map_err(failed)?;
            (Destination::of(handshake.uri())?, connection, HandshakePhases::default())
        }
        None => {
            let destination = destination?;
            let limit = limit.copied();
            let (connection, phases) = fresh(connector, &*runtime, &destination, limit).await?;
            (destination, connection, phases)
        }
    };
    let request = on_the_wire(handshake.request().map(|()| Body::empty()), &destination);
    let mut clock = Stopwatch::new(&*runtime);
    let mut answer = connection
        .send(spelled(request).await)
        .await
        .map_err(|unanswered| failed(unanswered.error))?;
    phases.upgrade = clock.lap();
    answer.extensions_mut().insert(phases);
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return answered(connector.engine, limits, answer, connection, None)
            .map(UpgradeResult::Refused);
    }
    limits.allow(answer.headers())?;
    let response = answer.map(drop);
    let accepted = handshake.verify(&response)?;
    let (stream, read_ahead) = connection
        .into_stream()
        .await
        .map_err(failed)?
        .ok_or_else(|| Error::new(ErrorKind::Io, "the connection ended with the handshake"))?;
    let (stream, protocol) = (stream.into_bytes(), Protocol::H1);
    Ok(UpgradeResult::upgraded(stream, read_ahead, protocol, response, accepted))
}

async fn fresh<R: Executor>(
    connector: &HttpConnector<R>,
    runtime: &dyn Runtime,
    destination: &Destination,
    limit: Option<ConnectTimeout>,
) -> Result<(Http1Connection, HandshakePhases)> {
    let tls = || connector.shared.tls();
    let stream = dial::<R>(runtime, &connector.shared, destination, limit, tls).await?;
    let limits = connector.options().limits();
    let failed = |error| map::exchange(During::Handshake, limits, error);
    let phases = stream.phases();
    Ok((Http1Connection::new(stream, limits).await.map_err(failed)?, phases))
}

/// The request as hyper is to write it: a path for a target (or all of the URI, for a proxy that sends
/// it on), and a `Host`.
fn on_the_wire(mut request: Request<Body>, destination: &Destination) -> Request<Body> {
    *request.version_mut() = Version::HTTP_11;
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let target = match &destination.route {
        Route::Forwarded(_) => format!("http://{}{target}", destination.authority()).parse(),
        Route::Direct | Route::Tunnel(_) | Route::Socket(_) => target.parse(),
    };
    if let Ok(target) = target {
        *request.uri_mut() = target;
    }
    let headers = request.headers_mut();
    // A URI's host has no character that a header may not have.
    if let Ok(host) = HeaderValue::try_from(destination.authority()) {
        headers.entry(header::HOST).or_insert(host);
    }
    if let Route::Forwarded(proxy) = &destination.route {
        if let Some(credentials) = proxy.authorization() {
            headers.insert(header::PROXY_AUTHORIZATION, credentials);
        }
    }
    request
}
