//! WebSockets over HTTP/2 (RFC 8441): the sockets of a host share a connection.

use std::{
    collections::HashMap,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError, Weak,
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
    ext,
};
use http::{Request, Response, StatusCode, Uri, header, uri::Authority};
use http_body::Frame;
use tokio::{
    runtime::{Handle, Id},
    sync::{OnceCell, oneshot},
    time::{sleep, timeout},
};

use crate::{
    dial::{Destination, Stopwatch},
    http_connector::HttpConnector,
    http1::During,
    map,
    route::Route,
    stream::ConnectedStream,
    tokio::{Tokio, TokioExecutor},
    tokio_io::IntoTokio,
};

mod settings;
mod socket;

use settings::Watched;
use socket::Socket;

/// What one socket may have on its way to the application.
const STREAM_WINDOW: u32 = 256 << 10;
/// And all of a connection's together: the most that HTTP/2 has, so that streams that nobody reads hold up no other.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// More sockets than this would share the connection's window after all.
const SOCKETS: usize = (CONNECTION_WINDOW / STREAM_WINDOW) as usize;
/// What is read of a head. A larger one would cost the connection, and with it the other sockets, so that the limit
/// itself is checked later.
const READ: u32 = 1 << 20;
/// How long a connection may take to answer a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// More hosts than this are not remembered.
const KEPT: usize = 256;

/// The connections of one engine value.
#[derive(Default)]
pub(crate) struct Http2Connections(Mutex<Cells>);

/// The sockets of a destination share a connection, in the runtime that drives it.
type Cells = HashMap<(Id, Destination), Arc<OnceCell<Found>>>;

/// What was found out about a host.
#[derive(Clone)]
enum Found {
    /// It allows WebSockets over HTTP/2. The connection is its sockets'.
    Allowed(Weak<Http2Connection>),
    /// It speaks HTTP/1.1, or HTTP/2 without that.
    NotAllowed,
}

/// A connection; it ends when nobody holds it.
struct Http2Connection {
    sender: SendRequest<Bytes>,
    /// It takes no more sockets.
    is_leaving: Arc<AtomicBool>,
    /// How long opening it took.
    phases: HandshakePhases,
}

impl Http2Connection {
    /// Whether it can carry one more socket. Its sockets hold it, and so does who asks.
    fn has_room(self: &Arc<Self>) -> bool {
        let most = self.sender.current_max_send_streams().min(SOCKETS);
        !self.is_leaving.load(Ordering::Relaxed) && Arc::strong_count(self) <= most
    }

    /// Asks for a socket.
    async fn ask(
        &self,
        handshake: &Handshake,
    ) -> std::result::Result<(Response<RecvStream>, SendStream<Bytes>), h2::Error> {
        let mut request: Request<()> = named(handshake.http2_request());
        request.extensions_mut().insert(ext::Protocol::from_static("websocket"));
        let mut sender = self.sender.clone().ready().await?;
        let (response, send) = sender.send_request(request, false)?;
        drop(sender);
        Ok((response.await?, send))
    }
}

/// Opens a socket; `None` if it is not wanted, or if the host has to be asked over HTTP/1.1.
pub(crate) async fn upgrade(
    connector: &HttpConnector<TokioExecutor>,
    handshake: &Handshake,
) -> Result<Option<UpgradeResult>> {
    let (options, uri) = (connector.options(), handshake.uri());
    let is_possible = uri.scheme_str() == Some("https") || options.http2.prior_knowledge;
    let extensions = handshake.extensions();
    let is_direct = matches!(Route::of(extensions, true, true), Route::Direct);
    if !options.http2.is_on || !is_possible || !is_direct {
        return Ok(None);
    }
    let handle = Tokio::handle(connector.engine)?;
    let limit = extensions.get().copied();
    let mut is_again = false;
    let runtime = connector.runtime()?;
    let (connection, response, send) = loop {
        let connection = connector.shared.http2.connection(connector, uri, limit, &handle).await?;
        let Some((connection, mut phases)) = connection else { return Ok(None) };
        let mut clock = Stopwatch::new(&*runtime);
        match connection.ask(handshake).await {
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
        let (engine, limits) = (connector.engine, options.limits());
        let response = response.map(|recv| {
            if recv.is_end_stream() {
                return Body::empty();
            }
            Body::streaming(Refusal { engine, limits, recv, _send: send, _connection: connection })
        });
        return Ok(Some(UpgradeResult::Refused(response)));
    }
    let accepted = handshake.verify_http2(&response)?;
    let (head, recv) = response.into_parts();
    let response = Response::from_parts(head, ());
    let stream = Box::new(Socket::new(send, recv, connection, &handle));
    let (read_ahead, protocol) = (Bytes::new(), Protocol::H2);
    Ok(Some(UpgradeResult::Upgraded { stream, read_ahead, protocol, response, accepted }))
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

impl Http2Connections {
    /// The connection to this host that has room, or a new one, with how long opening it took. Of several that come at
    /// once one dials.
    async fn connection(
        &self,
        connector: &HttpConnector<TokioExecutor>,
        uri: &Uri,
        limit: Option<ConnectTimeout>,
        handle: &Handle,
    ) -> Result<Option<(Arc<Http2Connection>, HandshakePhases)>> {
        let key = (handle.id(), Destination::of(uri)?);
        loop {
            let cell = self.cell(&key);
            // Held until the socket is open, as those that wait for it have not got hold of it yet.
            let mut made = None;
            let found = cell.get_or_try_init(|| async {
                let connection = dial(connector, uri, limit, &key.1).await?.map(Arc::new);
                let found = connection.as_ref().map_or(Found::NotAllowed, |connection| {
                    Found::Allowed(Arc::downgrade(connection))
                });
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
                        None => self.forget(&key, &cell),
                    }
                }
            }
        }
    }

    fn cell(&self, key: &(Id, Destination)) -> Arc<OnceCell<Found>> {
        let mut cells = self.lock();
        if let Some(cell) = cells.get(key) {
            return Arc::clone(cell);
        }
        if cells.len() >= KEPT {
            // Connections are their sockets': what is lost is what was found out.
            cells.clear();
        }
        Arc::clone(cells.entry(key.clone()).or_default())
    }

    fn forget(&self, key: &(Id, Destination), cell: &Arc<OnceCell<Found>>) {
        let mut cells = self.lock();
        if cells.get(key).is_some_and(|now| Arc::ptr_eq(now, cell)) {
            cells.remove(key);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cells> {
        // No code of anyone else's runs under it, so that it is whole even if it were poisoned.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A `Host` of the caller's is the `:authority` (RFC 9113 section 8.3.1).
fn named<B>(mut request: Request<B>) -> Request<B> {
    let host = request.headers_mut().remove(header::HOST);
    let Some(authority) = host.and_then(|host| Authority::try_from(host.as_bytes()).ok()) else {
        return request;
    };
    let mut parts = request.uri().clone().into_parts();
    parts.authority = Some(authority);
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}

/// A new connection; `None` if it cannot carry WebSockets.
async fn dial(
    connector: &HttpConnector<TokioExecutor>,
    uri: &Uri,
    limit: Option<ConnectTimeout>,
    destination: &Destination,
) -> Result<Option<Http2Connection>> {
    let options = connector.options();
    let dialling = async {
        let tls = || options.tls().connector(&["h2", "http/1.1"]);
        let stream = connector.dial(uri, None, None, tls).await?;
        if destination.is_secure && !stream.is_http2() {
            return Ok(None);
        }
        shake_hands(connector, stream, destination).await
    };
    let Some(ConnectTimeout(limit)) = limit else { return dialling.await };
    timeout(limit, dialling).await.unwrap_or_else(|_| {
        let message = format!("connecting to {} took too long", destination.authority());
        Err(Error::new(ErrorKind::Timeout, message))
    })
}

/// HTTP/2 on a new connection; `None` if the server does not allow WebSockets over it.
async fn shake_hands(
    connector: &HttpConnector<TokioExecutor>,
    stream: ConnectedStream,
    destination: &Destination,
) -> Result<Option<Http2Connection>> {
    let (options, phases) = (connector.options(), stream.phases());
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
struct Refusal {
    engine: &'static str,
    limits: HeadLimits,
    recv: RecvStream,
    _send: SendStream<Bytes>,
    _connection: Arc<Http2Connection>,
}

impl http_body::Body for Refusal {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_of_the_callers_is_the_authority() {
        for (host, authority) in [(None, "a:1"), (Some("b.example"), "b.example")] {
            let mut request = Request::new(());
            *request.uri_mut() = Uri::from_static("https://a:1/path");
            if let Some(host) = host {
                request.headers_mut().insert(header::HOST, host.parse().expect("a value"));
            }
            let request = named(request);
            assert_eq!(request.uri().to_string(), format!("https://{authority}/path"));
            assert!(request.headers().is_empty());
        }
    }
}
