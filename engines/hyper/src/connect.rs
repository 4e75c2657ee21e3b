//! What is sent to a host: an HTTP request, or the handshake that opens a WebSocket.

use std::sync::Arc;

use bytes::Bytes;
use drivetrain_engine::{
    Accepted, Answer, Body, Capability, ConnectTimeout, Connection, Duties, Error, ErrorKind,
    Handshake, Proxy, Result, Transport,
};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::Body as _;

use crate::{
    dial::{Place, dial},
    exchange::{Home, Link, answered},
    hop::{Hop, NO_TLS, NOTHING_TO_DIAL, ONE_STREAM},
    map::{self, During},
    proxied::Way,
    runtime::Flavour,
    stream::Stream,
};

/// Sends a request over a connection that is kept, or over a new one.
pub(crate) async fn execute<R: Flavour>(
    hop: &Hop<R>,
    request: Request<Body>,
) -> Result<Response<Body>> {
    if hop.caller.is_some() {
        return Err(Error::unsupported(hop.engine, Capability::Http1, ONE_STREAM));
    }
    let place = place(hop.engine, &request, false)?;
    let limit = request.extensions().get().copied();
    let mut request = on_the_wire(request, &place);
    loop {
        let (mut link, is_kept) = match hop.pool.take(&place) {
            Some(link) => (link, true),
            None => (fresh(hop, &place, limit).await?, false),
        };
        match link.send(request).await {
            Ok(answer) => {
                let home =
                    Home { place, pool: Arc::clone(&hop.pool), spawn: |task| R::spawn(task) };
                return Ok(answered(hop.engine, answer, link, Some(home)));
            }
            Err(failed) => match failed.unsent {
                // The server closed it while it was idle.
                Some(unsent) if is_kept => request = unsent,
                _ => return Err(map::exchange(hop.engine, During::Request, failed.error)),
            },
        }
    }
}

/// Sends a handshake over a connection of its own, or over the stream that the caller brought.
pub(crate) async fn open<R: Flavour, T: Transport + 'static>(
    hop: &Hop<R>,
    handshake: &Handshake,
    duties: Duties,
    frame: impl FnOnce(Stream, Bytes, &Accepted) -> T + Send,
) -> Result<Answer> {
    let failed = |error| failed(hop.engine, error);
    let request = handshake.request().map(|()| Body::empty());
    let mut link = match &hop.caller {
        Some(_) if request.extensions().get::<Proxy>().is_some() => {
            let capability =
                request.extensions().get().map_or(Capability::Proxies, Proxy::capability);
            return Err(Error::unsupported(hop.engine, capability, NOTHING_TO_DIAL));
        }
        Some(_) if request.extensions().get::<ConnectTimeout>().is_some() => {
            return Err(Error::unsupported(
                hop.engine,
                Capability::ConnectTimeout,
                NOTHING_TO_DIAL,
            ));
        }
        Some(caller) => {
            let stream = caller.take().ok_or_else(|| {
                let message = "the stream that the caller brought was used already: it carries one \
                               WebSocket, once";
                Error::new(ErrorKind::Connect, message).with_engine(hop.engine)
            })?;
            Link::new(stream).await.map_err(failed)?
        }
        None => {
            let limit = request.extensions().get().copied();
            fresh(hop, &place(hop.engine, &request, true)?, limit).await?
        }
    };
    let place = Place::of(request.uri()).map_err(|error| error.with_engine(hop.engine))?;
    let answer = link
        .send(on_the_wire(request, &place))
        .await
        .map_err(|unanswered| failed(unanswered.error))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Answer::Refused(answered(hop.engine, answer, link, None)));
    }
    let response = answer.map(drop);
    let accepted = handshake.verify(&response).map_err(|error| error.with_engine(hop.engine))?;
    let (stream, read_ahead) = link.into_stream().await.map_err(failed)?.ok_or_else(|| {
        Error::new(ErrorKind::Io, "the connection ended with the handshake").with_engine(hop.engine)
    })?;
    let transport = frame(stream, read_ahead, &accepted);
    let Accepted { subprotocol, extensions } = accepted;
    Ok(Answer::Open(
        Connection::new(transport)
            .with_subprotocol(subprotocol)
            .with_extensions(extensions)
            .with_response(response)
            .with_duties(duties),
    ))
}

async fn fresh<R: Flavour>(
    hop: &Hop<R>,
    place: &Place,
    limit: Option<ConnectTimeout>,
) -> Result<Link> {
    let stream = dial::<R>(place, &hop.secure, limit)
        .await
        .map_err(|error| error.with_engine(hop.engine))?;
    Link::new(stream).await.map_err(|error| failed(hop.engine, error))
}

fn failed(engine: &'static str, error: hyper::Error) -> Error {
    map::exchange(engine, During::Handshake, error)
}

/// Where a request goes; refuses what cannot be reached before anything is dialled.
fn place(engine: &'static str, request: &Request<Body>, is_handshake: bool) -> Result<Place> {
    let mut place = Place::of(request.uri()).map_err(|error| error.with_engine(engine))?;
    if place.is_secure && !cfg!(feature = "rustls") {
        return Err(Error::unsupported(engine, Capability::Tls, NO_TLS));
    }
    place.way = Way::through(request.extensions().get(), place.is_secure, is_handshake);
    Ok(place)
}

/// The request as hyper is to write it: a path for a target (or all of the URI, for a proxy that sends
/// it on), a `Host`, and a length where a server expects one.
fn on_the_wire(mut request: Request<Body>, place: &Place) -> Request<Body> {
    *request.version_mut() = Version::HTTP_11;
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let target = match &place.way {
        Way::Forwarded(_) => format!("http://{}{target}", place.authority()).parse(),
        Way::Direct | Way::Tunnel(_) => target.parse(),
    };
    if let Ok(target) = target {
        *request.uri_mut() = target;
    }
    // RFC 9110 section 8.6: also for nothing, where the method expects something.
    let expects_a_body = [Method::POST, Method::PUT, Method::PATCH].contains(request.method());
    let is_empty = expects_a_body && request.body().is_end_stream();
    let headers = request.headers_mut();
    if is_empty && !headers.contains_key(header::TRANSFER_ENCODING) {
        headers.entry(header::CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
    }
    // A URI's host has no character that a header may not have.
    if let Ok(host) = HeaderValue::try_from(place.authority()) {
        headers.entry(header::HOST).or_insert(host);
    }
    if let Way::Forwarded(proxy) = &place.way {
        if let Some(credentials) = proxy.authorization() {
            headers.insert(header::PROXY_AUTHORIZATION, credentials);
        }
    }
    request
}
