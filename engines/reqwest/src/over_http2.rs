//! WebSockets over HTTP/2 (RFC 8441): the sockets of a host share a connection.

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::ready,
    time::Duration,
};

use bytes::Bytes;
use drivetrain_engine::{Body, Error, ErrorKind, Handshake, Result};
use http::{StatusCode, Uri};
use hyper::{client::conn::http2, ext::Protocol};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::{
    net::TcpStream,
    runtime::Handle,
    sync::{OnceCell, oneshot},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{Upgrade, dial::dial, map, opened::Opened, options::Options};

mod settings;
mod socket;

use settings::Watched;
pub(crate) use socket::Socket;

/// What one socket may have on its way to the application.
const STREAM_WINDOW: u32 = 256 << 10;
/// And all of a connection's together.
const CONNECTION_WINDOW: u32 = 4 << 20;
/// More hosts than this are not remembered.
const KEPT: usize = 256;

/// The connections of one engine value.
#[derive(Default)]
pub(crate) struct Links(Mutex<HashMap<String, Arc<OnceCell<Found>>>>);

/// What was found out about a host.
#[derive(Clone)]
enum Found {
    /// It allows WebSockets over HTTP/2. The connection is its sockets'.
    Allowed(Weak<Link>),
    /// It speaks HTTP/1.1, or HTTP/2 without that.
    NotAllowed,
}

/// A connection; it ends when nobody holds it.
struct Link {
    sender: http2::SendRequest<Body>,
    /// How many streams the server allows.
    most: Arc<AtomicUsize>,
    /// It takes no more of them.
    is_leaving: AtomicBool,
}

impl Link {
    /// Whether it can carry one more socket. Its sockets hold it, and so does who asks.
    fn has_room(self: &Arc<Self>) -> bool {
        let takes_more = !self.sender.is_closed() && !self.is_leaving.load(Ordering::Relaxed);
        takes_more && Arc::strong_count(self) <= self.most.load(Ordering::Relaxed)
    }
}

impl Links {
    /// Opens a socket; `None` if the host has to be asked over HTTP/1.1.
    pub(crate) async fn open(
        &self,
        engine: &'static str,
        options: &Options,
        handshake: &Handshake,
        limit: Option<Duration>,
        handle: &Handle,
    ) -> Result<Option<Opened<Socket>>> {
        let failed = |error| map::failed_over(engine, error);
        let mut is_again = false;
        let (link, mut response) = loop {
            let link = self.link(options, handshake.uri(), limit).await?;
            let Some(link) = link else { return Ok(None) };
            let mut request = handshake.http2_request().map(|()| Body::empty());
            request.extensions_mut().insert(Protocol::from_static("websocket"));
            match link.sender.clone().try_send_request(request).await {
                Ok(response) => break (link, response),
                Err(mut error) => {
                    let is_unsent = error.take_message().is_some();
                    if is_again || !is_unsent {
                        return Err(failed(error.into_error()));
                    }
                    // The server has said that the connection is going away.
                    is_again = true;
                    link.is_leaving.store(true, Ordering::Relaxed);
                }
            }
        };
        if response.status() != StatusCode::OK {
            // The body keeps its stream, and so its connection.
            return Ok(Some(Opened::Refused(map::response(engine, handle, response))));
        }
        let accepted = handshake.verify_http2(&response)?;
        let upgrade = hyper::upgrade::on(&mut response);
        let response = response.map(drop);
        let stream = Upgrade::from(upgrade.await.map_err(failed)?);
        let stream = Socket::new(stream, link, handle);
        Ok(Some(Opened::Upgraded { stream, read_ahead: Bytes::new(), response, accepted }))
    }

    /// The connection to this host that has room, or a new one. Of several that come at once one dials.
    async fn link(
        &self,
        options: &Options,
        uri: &Uri,
        limit: Option<Duration>,
    ) -> Result<Option<Arc<Link>>> {
        let place = map::place(uri);
        loop {
            let cell = self.cell(&place);
            // Held until the socket is open, as those that wait for it have not got hold of it yet.
            let mut made = None;
            let found = cell.get_or_try_init(|| async {
                let link = within(limit, &place, link(options, uri, &place)).await?.map(Arc::new);
                let found = link
                    .as_ref()
                    .map_or(Found::NotAllowed, |link| Found::Allowed(Arc::downgrade(link)));
                made = link;
                Ok::<_, Error>(found)
            });
            let found = found.await?.clone();
            if made.is_some() {
                return Ok(made);
            }
            match found {
                Found::NotAllowed => return Ok(None),
                Found::Allowed(link) => match link.upgrade().filter(Link::has_room) {
                    Some(link) => return Ok(Some(link)),
                    None => self.forget(&place, &cell),
                },
            }
        }
    }

    fn cell(&self, place: &str) -> Arc<OnceCell<Found>> {
        let mut cells = self.lock();
        if let Some(cell) = cells.get(place) {
            return Arc::clone(cell);
        }
        if cells.len() >= KEPT {
            // Connections are their sockets': what is lost is what was found out.
            cells.clear();
        }
        Arc::clone(cells.entry(place.to_owned()).or_default())
    }

    fn forget(&self, place: &str, cell: &Arc<OnceCell<Found>>) {
        let mut cells = self.lock();
        if cells.get(place).is_some_and(|now| Arc::ptr_eq(now, cell)) {
            cells.remove(place);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<OnceCell<Found>>>> {
        // No code of anyone else's runs under it, so that it is whole even if it were poisoned.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn within<T>(
    limit: Option<Duration>,
    place: &str,
    dialling: impl Future<Output = Result<T>>,
) -> Result<T> {
    match limit {
        None => dialling.await,
        Some(limit) => tokio::time::timeout(limit, dialling).await.unwrap_or_else(|_| {
            let message = format!("connecting to {place} took too long");
            Err(Error::new(ErrorKind::Timeout, message))
        }),
    }
}

/// A new connection; `None` if it cannot carry WebSockets.
async fn link(options: &Options, uri: &Uri, place: &str) -> Result<Option<Link>> {
    let stream = secure(options, uri, place).await?;
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Ok(None);
    }
    let (saw, seen) = oneshot::channel();
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(options.http2_keep_alive_interval)
        .handshake(Watched::new(TokioIo::new(stream), saw))
        .await
        .map_err(|error| map::failed_over("", error))?;
    let most = Arc::new(AtomicUsize::new(connection.current_max_send_streams()));
    let (tell, told) = oneshot::channel();
    tokio::spawn(drive(connection, Arc::clone(&most), seen, tell));
    let is_allowed = told.await.map_err(|_| {
        Error::new(ErrorKind::Io, format!("{place} ended the connection before HTTP/2 began"))
    })?;
    Ok(is_allowed.then_some(Link { sender, most, is_leaving: AtomicBool::new(false) }))
}

/// A connection of the library's, to be polled.
type Connection = http2::Connection<Watched<TokioIo<TlsStream<TcpStream>>>, Body, TokioExecutor>;

/// Does a connection's work, and tells whether it allows WebSockets once that is known. How it ends is
/// seen by those who use it.
async fn drive(
    mut connection: Connection,
    most: Arc<AtomicUsize>,
    mut seen: oneshot::Receiver<bool>,
    tell: oneshot::Sender<bool>,
) {
    let mut tell = Some(tell);
    let mut is_seen = false;
    let mut again = pin!(tokio::time::sleep(Duration::ZERO));
    poll_fn(|cx| {
        loop {
            let ended = Pin::new(&mut connection).poll(cx).map(drop);
            most.store(connection.current_max_send_streams(), Ordering::Relaxed);
            if ended.is_ready() || tell.is_none() {
                return ended;
            }
            let is_allowed = if is_seen {
                connection.is_extended_connect_protocol_enabled().then_some(true)
            } else {
                match ready!(Pin::new(&mut seen).poll(cx)) {
                    Ok(true) => {
                        is_seen = true;
                        continue;
                    }
                    Ok(false) => Some(false),
                    Err(_) => {
                        // The stream is gone: whoever waits learns that something failed.
                        tell = None;
                        continue;
                    }
                }
            };
            match (is_allowed, tell.take()) {
                (Some(is_allowed), Some(tell)) => {
                    // Whoever waited may have given up.
                    let _ = tell.send(is_allowed);
                }
                (_, waiting) => {
                    // The settings were read; the library's own task is about to apply them.
                    tell = waiting;
                    ready!(again.as_mut().poll(cx));
                    again.as_mut().reset(tokio::time::Instant::now() + Duration::from_millis(1));
                }
            }
        }
    })
    .await;
}

async fn secure(options: &Options, uri: &Uri, place: &str) -> Result<TlsStream<TcpStream>> {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(|error| {
        let message = format!("`{host}` is not a name that TLS can verify");
        Error::new(ErrorKind::InvalidInput, message).with_source(error)
    })?;
    let config = options.secure.rustls_config(&[b"h2", b"http/1.1"])?;
    let stream = dial(options, uri.clone()).await.map_err(|error| {
        Error::new(ErrorKind::Connect, format!("cannot connect to {place}")).with_source(error)
    })?;
    TlsConnector::from(config).connect(name, stream).await.map_err(|error| {
        let what = map::tls(&error);
        let what = what.unwrap_or_else(|| "the connection ended".to_owned());
        Error::new(ErrorKind::Tls, format!("TLS with {place} failed: {what}")).with_source(error)
    })
}
