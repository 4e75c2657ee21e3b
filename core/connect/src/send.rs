//! What is sent to a host: an HTTP request, or the handshake that opens a WebSocket.

use std::sync::Arc;

use drivetrain_engine::{
    Body, Capability, ConnectTimeout, Error, ErrorKind, Handshake, HandshakePhases, NewConnection,
    Protocol, Proxy, Replay, Result, Runtime, UnixSocket, UpgradeResult,
};
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version, header};

use crate::{
    dial::{Destination, Stopwatch, dial},
    exchange::{Http1Connection, PoolReturn, answered},
    executor::Executor,
    http_connector::{HttpConnector, NO_UNIX_SOCKETS, NOTHING_TO_DIAL, ONE_STREAM},
    http1::{During, spelled},
    map,
    route::Route,
    tls,
};

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

/// Where a request goes, by the route that is made once it is known whether the host is secure. Refuses what cannot be reached before anything is dialled.
pub(crate) fn destination(uri: &Uri, route: impl FnOnce(bool) -> Route) -> Result<Destination> {
    let mut destination = Destination::of(uri)?;
    if destination.is_secure && !tls::IS_BUILT {
        return Err(Error::not_offered(Capability::Tls, tls::NO_TLS));
    }
    destination.route = route(destination.is_secure);
    if cfg!(not(unix)) && matches!(destination.route, Route::Socket(_)) {
        return Err(Error::not_offered(Capability::UnixSockets, NO_UNIX_SOCKETS));
    }
    if destination.route.https_proxy().is_some() && !tls::IS_BUILT {
        return Err(Error::not_offered(Capability::HttpsProxies, tls::NO_TLS));
    }
    Ok(destination)
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
