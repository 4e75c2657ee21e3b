//! WebSockets over HTTP/2 (RFC 8441): the sockets of a host share a connection.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use drivetrain_engine::{
    Body, BoxStream, ConnectTimeout, Error, ErrorKind, Handshake, HandshakePhases, HeadLimits,
    Protocol, Result, UpgradeResult,
};
use h2::{
    Ping, PingPong, RecvStream, SendStream,
    client::{self, SendRequest},
};
use http::{Response, StatusCode, Uri};
use http_body::Frame;
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{sleep, timeout},
};

use crate::{
    connector_state::ConnectorState,
    destination::Destination,
    dial::{Stopwatch, destination, dial},
    executor::Executor,
    http1::During,
    map,
    options::ConnectOptions,
    route::Route,
    stream::ConnectedStream,
    tokio_io::IntoTokio,
    tokio_runtime::Tokio,
};

pub(crate) mod connections;
mod settings;
mod socket;

use self::{
    connections::{CONNECTION_WINDOW, Found, Http2Connection, STREAM_WINDOW, named},
    settings::Watched,
    socket::Socket,
};

/// What is read of a head. A larger one would cost the connection, and with it the other sockets, so that the limit
/// itself is checked later.
const READ: u32 = 1 << 20;
/// How long a connection may take to answer a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Opens a socket; `None` if it is not wanted, or if the host has to be asked over HTTP/1.1.
pub(crate) async fn upgrade<R: Executor>(
    engine: &'static str,
    shared: &ConnectorState,
    handshake: &Handshake,
) -> Result<Option<UpgradeResult>> {
    let (options, uri) = (&shared.options, handshake.uri());
    let is_possible = uri.scheme_str() == Some("https") || options.http2.prior_knowledge;
    let extensions = handshake.extensions();
    let is_direct = matches!(Route::of(extensions, true, true), Route::Direct);
    if !options.http2.is_on || !is_possible || !is_direct {
        return Ok(None);
    }
    let Some(request) = named(handshake.http2_request()) else { return Ok(None) };
    let handle = Tokio::handle(engine)?;
    let limit = extensions.get().copied();
    let mut is_again = false;
    let runtime = R::runtime(engine)?;
    let (connection, response, send) = loop {
        let connection = connection::<R>(engine, shared, uri, limit, &handle).await?;
        let Some((connection, mut phases)) = connection else { return Ok(None) };
        let mut clock = Stopwatch::new(&*runtime);
        match connection.ask(request.clone()).await {
            Ok((mut response, send)) => {
                phases.upgrade = clock.lap();
                response.extensions_mut().insert(phases);
                break (connection, response, send);
            }
            // The server has said that it has not looked at it, as the connection is going away.
            Err(error) if !is_again && is_not_processed(&error) => {
                is_again = true;
                connection.is_leaving.store(true, Ordering::Relaxed);
            }
            Err(error) => return Err(failed(options.limits(), error)),
        }
    };
    options.limits().allow(response.headers())?;
    if response.status() != StatusCode::OK {
        // The body keeps its stream, and so its connection.
        let limits = options.limits();
        let response = response.map(|recv| {
            if recv.is_end_stream() {
                return Body::empty();
            }
            Body::streaming(RefusalBody {
                engine,
                limits,
                recv,
                _send: send,
                _connection: connection,
            })
        });
        return Ok(Some(UpgradeResult::Refused(response)));
    }
    let accepted = handshake.verify_http2(&response)?;
    let (head, recv) = response.into_parts();
    let response = Response::from_parts(head, ());
    let stream = Box::new(Socket::new(send, recv, connection, &handle));
    let (read_ahead, protocol) = (Bytes::new(), Protocol::H2);
    Ok(Some(UpgradeResult::upgraded(stream, read_ahead, protocol, response, accepted)))
}

fn failed(limits: HeadLimits, error: h2::Error) -> Error {
    map::exchange(During::Handshake, limits, error)
}

/// The server says that it has not looked at the request (RFC 9113 sections 6.8 and 8.7).
fn is_not_processed(error: &h2::Error) -> bool {
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    // A server that asks for calm is not to be asked again at once.
    let gone = error.is_go_away() && error.reason() != Some(h2::Reason::ENHANCE_YOUR_CALM);
    error.is_remote() && (refused || gone)
}

/// The connection to this host that has room, or a new one, with how long opening it took. Of several that come at
/// once one dials.
async fn connection<R: Executor>(
    engine: &'static str,
    shared: &ConnectorState,
    uri: &Uri,
    limit: Option<ConnectTimeout>,
    handle: &Handle,
) -> Result<Option<(Arc<Http2Connection>, HandshakePhases)>> {
    let connections = &shared.http2;
    let key = (handle.id(), destination(uri, |_| Route::Direct)?);
    loop {
        let cell = connections.cell(&key);
        // Held until the socket is open, as those that wait for it have not got hold of it yet.
        let mut made = None;
        let found = cell.get_or_try_init(|| async {
            let connection = open::<R>(engine, shared, limit, &key.1).await?.map(Arc::new);
            let found = connection
                .as_ref()
                .map_or(Found::NotAllowed, |connection| Found::Allowed(Arc::downgrade(connection)));
            made = connection;
            Ok::<_, Error>(found)
        });
        let found = found.await?.clone();
        if let Some(made) = made {
            let phases = made.phases;
            return Ok(Some((made, phases)));
        }
        match found {
            Found::NotAllowed => return Ok(None),
            Found::Allowed(connection) => {
                match connection.upgrade().filter(Http2Connection::has_room) {
                    Some(connection) => {
                        return Ok(Some((connection, HandshakePhases::default())));
                    }
                    None => connections.forget(&key, &cell),
                }
            }
        }
    }
}

/// A new connection; `None` if it cannot carry WebSockets.
async fn open<R: Executor>(
    engine: &'static str,
    shared: &ConnectorState,
    limit: Option<ConnectTimeout>,
    destination: &Destination,
) -> Result<Option<Http2Connection>> {
    let options = &shared.options;
    let dialling = async {
        let tls = || options.tls().connector(&["h2", "http/1.1"]);
        let stream = dial::<R>(&*R::runtime(engine)?, shared, destination, None, tls).await?;
        if destination.is_secure && !stream.is_http2() {
            return Ok(None);
        }
        shake_hands(options, stream, destination).await
    };
    let Some(ConnectTimeout(limit)) = limit else { return dialling.await };
    timeout(limit, dialling).await.unwrap_or_else(|_| {
        let message = format!("connecting to {} took too long", destination.authority());
        Err(Error::new(ErrorKind::Timeout, message))
    })
}

/// HTTP/2 on a new connection; `None` if the server does not allow WebSockets over it.
async fn shake_hands(
    options: &ConnectOptions,
    stream: ConnectedStream,
    destination: &Destination,
) -> Result<Option<Http2Connection>> {
    let phases = stream.phases();
    let (saw, seen) = oneshot::channel();
    let (sender, mut connection) = client::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(READ)
        .enable_push(false)
        .handshake(Watched::new(IntoTokio(stream.into_bytes()), saw))
        .await
        .map_err(|error| failed(options.limits(), error))?;
    let pings = options.http2.keep_alive_interval.zip(connection.ping_pong());
    let is_leaving = Arc::new(AtomicBool::new(false));
    let (tell, told) = oneshot::channel();
    let asked = Asked { sender: sender.clone(), seen, allows: None, tell };
    tokio::spawn(drive(connection, pings, asked, Arc::clone(&is_leaving)));
    let is_allowed = told.await.map_err(|_| {
        let authority = destination.authority();
        Error::new(ErrorKind::Io, format!("{authority} ended the connection before HTTP/2 began"))
    })?;
    Ok(is_allowed.then_some(Http2Connection { sender, is_leaving, phases }))
}

type Driven = client::Connection<Watched<IntoTokio<BoxStream>>, Bytes>;

/// Does a connection's work, and tells whether it allows WebSockets once that is known. How it ends is
/// seen by those who use it.
async fn drive(
    mut connection: Driven,
    pings: Option<(Duration, PingPong)>,
    asked: Asked,
    is_leaving: Arc<AtomicBool>,
) {
    let mut asked = Some(asked);
    let mut dead = pin!(async {
        match pings {
            Some((interval, pings)) => is_dead(pings, interval).await,
            None => std::future::pending().await,
        }
    });
    poll_fn(|cx| {
        let ended = Pin::new(&mut connection).poll(cx).map(drop);
        asked = asked.take().and_then(|asked| asked.poll(cx));
        if ended.is_ready() { ended } else { dead.as_mut().poll(cx) }
    })
    .await;
    is_leaving.store(true, Ordering::Relaxed);
}

/// Waits until a ping is not answered in time.
async fn is_dead(mut pings: PingPong, interval: Duration) {
    loop {
        sleep(interval).await;
        if !matches!(timeout(PING_TIMEOUT, pings.ping(Ping::opaque())).await, Ok(Ok(_))) {
            return;
        }
    }
}

/// The question whether a server allows WebSockets.
struct Asked {
    sender: SendRequest<Bytes>,
    seen: oneshot::Receiver<bool>,
    /// What its first frame says; the library applies it a little later.
    allows: Option<bool>,
    tell: oneshot::Sender<bool>,
}

impl Asked {
    /// Looks for the answer, behind the connection's own work; `None` once it was told. Who waited may have given up.
    fn poll(mut self, cx: &mut Context<'_>) -> Option<Self> {
        if self.tell.poll_closed(cx).is_ready() {
            return None;
        }
        if self.allows.is_none() {
            match Pin::new(&mut self.seen).poll(cx) {
                Poll::Pending => return Some(self),
                Poll::Ready(Ok(allows)) => self.allows = Some(allows),
                // The stream is gone: who waits learns that something failed.
                Poll::Ready(Err(_)) => return None,
            }
        }
        let is_applied = self.sender.is_extended_connect_protocol_enabled();
        if self.allows == Some(true) && !is_applied {
            return Some(self);
        }
        let _ = self.tell.send(is_applied);
        None
    }
}

/// The body of a refusal, with its stream.
struct RefusalBody {
    engine: &'static str,
    limits: HeadLimits,
    recv: RecvStream,
    _send: SendStream<Bytes>,
    _connection: Arc<Http2Connection>,
}

impl http_body::Body for RefusalBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>>>> {
        let Self { engine, limits, recv, .. } = &mut *self;
        let data = ready!(recv.poll_data(cx));
        Poll::Ready(data.map(|data| match data {
            Ok(chunk) => {
                // It fails where the stream is over.
                let _ = recv.flow_control().release_capacity(chunk.len());
                Ok(Frame::data(chunk))
            }
            Err(error) => Err(map::exchange(During::Body, *limits, error).with_engine(*engine)),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.recv.is_end_stream()
    }
}
