//! A server for programs without a framework.

use std::{
    error::Error as StdError,
    fmt,
    future::{Future, IntoFuture, pending, poll_fn},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinSet,
    time,
};
use tower_service::Service;

use crate::{
    listener::{Listener, SecureStream},
    sessions::{Sessions, ShutdownReport},
    upgrader::Peer,
};

pub(crate) type BoxError = Box<dyn StdError + Send + Sync>;

/// How long a request's head may take, if nothing else is said.
const HEAD: Duration = Duration::from_secs(10);

/// How often an HTTP/2 connection is pinged, and how long its peer may take to answer.
#[cfg(feature = "http2")]
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// How long a shutdown waits for the next connection that the system has accepted, and the most of them: closed with the
/// listener, they would be reset.
const LAST_ACCEPT: Duration = Duration::from_millis(5);
const MOST_LAST: usize = 4096;

/// How long a connection whose request has not come yet has for it in a shutdown.
const LAST_REQUEST: Duration = Duration::from_secs(1);

/// How long to wait after a failed accept: the process has no descriptor left, most likely.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves HTTP/1.1, and HTTP/2 with feature `http2`, on a listener: a tower service answers every request. Awaiting it runs
/// the server, for ever unless [`until`](Serve::until) is set.
///
/// A TCP socket gets `TCP_NODELAY`, and each of its requests has the address of the client as a [`Peer`] in its extensions.
/// Unix sockets and other listeners work too: see [`Listener`]. [`tls`](Serve::tls) is for `wss`.
///
/// ```no_run
/// # async fn example<S>(app: S) -> std::io::Result<()>
/// # where
/// #     S: tower_service::Service<
/// #             http::Request<hyper::body::Incoming>,
/// #             Response = http::Response<http_body_util::Full<bytes::Bytes>>,
/// #             Error = std::convert::Infallible,
/// #         > + Clone + Send + 'static,
/// #     S::Future: Send,
/// # {
/// use drivetrain_server::{Sessions, serve};
///
/// let sessions = Sessions::new();
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
/// serve(listener, app)
///     .max_connections(20_000)
///     .sessions(&sessions)
///     .until(async { drop(tokio::signal::ctrl_c().await) })
///     .await?;
/// # Ok(())
/// # }
/// ```
pub fn serve<S, L: Listener>(listener: L, service: S) -> Serve<S, L> {
    Serve {
        listener,
        service,
        tls: None,
        header_read_timeout: HEAD,
        max_connections: Semaphore::MAX_PERMITS,
        sessions: Sessions::new(),
        deadline: Duration::from_secs(10),
        signal: Box::pin(pending()),
    }
}

/// A server that is about to run: made by [`serve`](serve()).
#[must_use = "it runs when it is awaited"]
pub struct Serve<S, L: Listener = TcpListener> {
    listener: L,
    service: S,
    tls: Option<Handshake<L::Stream>>,
    header_read_timeout: Duration,
    max_connections: usize,
    sessions: Sessions,
    deadline: Duration,
    signal: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// A TLS handshake.
type Handshake<S> =
    Arc<dyn Fn(S) -> Pin<Box<dyn Future<Output = io::Result<SecureStream>> + Send>> + Send + Sync>;

impl<S, L: Listener> Serve<S, L> {
    /// Runs a TLS handshake on each accepted connection, in a task of its own and within
    /// [`header_read_timeout`](Self::header_read_timeout). Any TLS library will do. Default: clear text.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use drivetrain_server::{Serve, serve};
    /// # fn example<S>(
    /// #     listener: tokio::net::TcpListener,
    /// #     app: S,
    /// #     config: tokio_rustls::rustls::ServerConfig,
    /// # ) -> Serve<S> {
    /// // With tokio-rustls; the ALPN protocols `h2` and `http/1.1` are the configuration's.
    /// let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    /// serve(listener, app).tls(move |socket| acceptor.accept(socket))
    /// # }
    /// ```
    pub fn tls<F, Fut, T>(mut self, handshake: F) -> Self
    where
        F: Fn(L::Stream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<T>> + Send + 'static,
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.tls = Some(Arc::new(move |stream| {
            let secured = handshake(stream);
            Box::pin(async move { Ok(Box::new(secured.await?) as SecureStream) })
        }));
        self
    }

    /// Sets how long the head of a request may take, the wait for it and the TLS handshake included: a client that says
    /// nothing, or one byte at a time, is disconnected then. Default: 10 s.
    pub fn header_read_timeout(mut self, timeout: Duration) -> Self {
        self.header_read_timeout = timeout;
        self
    }

    /// Sets the most HTTP connections at a time; further ones wait in the system's queue. A WebSocket is no HTTP connection
    /// any more: [`Sessions::max_sessions`] limits those. Default: no limit.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// Sets the registry that is shut down with the server: the one of its [`Upgrader`](crate::Upgrader). Default: none.
    pub fn sessions(mut self, sessions: &Sessions) -> Self {
        self.sessions = sessions.clone();
        self
    }

    /// Shuts the server down when this future is ready: no connection is accepted any more, requests in progress are
    /// answered, and sessions end as [`Sessions::shutdown`] says. A client that has connected by then has another second for
    /// its first request; a handshake is answered with 503. Default: never.
    pub fn until(mut self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        self.signal = Box::pin(signal);
        self
    }

    /// Sets how long sessions and requests have to end in a shutdown. Default: 10 s.
    pub fn shutdown_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    async fn run<B>(self) -> io::Result<ShutdownReport>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let Self { mut listener, service, tls, sessions, deadline, signal, .. } = self;
        let permits = Arc::new(Semaphore::new(self.max_connections));
        let (stop, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut signal = pin!(signal);
        let header_read_timeout = self.header_read_timeout;
        let connection = move |peer: Option<SocketAddr>| Connection {
            service: service.clone(),
            peer: peer.map(Peer),
            header_read_timeout,
            stopped: stopped.clone(),
        };
        loop {
            let accept = async {
                let permit = Arc::clone(&permits).acquire_owned().await;
                (listener.accept().await, permit)
            };
            let (accepted, permit) = tokio::select! {
                () = &mut signal => break,
                accepted = accept => accepted,
                Some(_) = connections.join_next() => continue,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let (connection, tls) = (connection(peer), tls.clone());
                    connections.spawn(async move {
                        let _permit = permit;
                        connection.begin(stream, tls).await;
                    });
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::error!(target: "drivetrain::server", %error, "cannot accept connections");
                    tokio::select! {
                        () = &mut signal => break,
                        () = time::sleep(PAUSE) => {}
                    }
                }
            }
        }
        for _ in 0..MOST_LAST {
            let accepted = time::timeout(LAST_ACCEPT, listener.accept()).await;
            let Ok(Ok((stream, peer))) = accepted else { break };
            connections.spawn(connection(peer).begin(stream, tls.clone()));
        }
        drop(listener);
        let until = time::Instant::now() + deadline;
        let _ = stop.send(true);
        let report = sessions.shutdown(deadline).await;
        let all_ended = async { while connections.join_next().await.is_some() {} };
        if time::timeout_at(until, all_ended).await.is_err() {
            connections.shutdown().await;
        }
        Ok(report)
    }
}

impl<S, B, L> IntoFuture for Serve<S, L>
where
    L: Listener,
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Output = io::Result<ShutdownReport>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl<S, L: Listener + fmt::Debug> fmt::Debug for Serve<S, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve")
            .field("listener", &self.listener)
            .field("tls", &self.tls.is_some())
            .field("header_read_timeout", &self.header_read_timeout)
            .field("max_connections", &self.max_connections)
            .field("sessions", &self.sessions)
            .field("shutdown_deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// A client that went away before it was accepted is ignored.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

struct Connection<S> {
    service: S,
    peer: Option<Peer>,
    header_read_timeout: Duration,
    stopped: watch::Receiver<bool>,
}

impl<S> Connection<S> {
    /// The connection, behind a TLS handshake if there is to be one.
    async fn begin<B, I>(self, stream: I, tls: Option<Handshake<I>>)
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        match tls {
            None => self.serve(stream).await,
            Some(handshake) => self.serve_tls(handshake(stream)).await,
        }
    }

    /// The handshake, then the connection.
    async fn serve_tls<B>(self, handshake: impl Future<Output = io::Result<SecureStream>>)
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        match time::timeout(self.header_read_timeout, handshake).await {
            Ok(Ok(stream)) => self.serve(stream).await,
            Ok(Err(error)) => self.log_failure(&error),
            Err(late) => self.log_failure(&late),
        }
    }

    async fn serve<B, I>(self, stream: I)
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let has_request = Arc::new(AtomicBool::new(false));
        let (peer, service) = (self.peer, self.service.clone());
        let seen = Arc::clone(&has_request);
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            seen.store(true, Ordering::Relaxed);
            if let Some(peer) = peer {
                request.extensions_mut().insert(peer);
            }
            let service = service.clone();
            call(service, request)
        });
        let builder = protocols(self.header_read_timeout);
        let mut connection =
            pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
        let mut stopped = self.stopped.clone();
        let mut stop = pin!(async move {
            // The server itself is gone otherwise, and this task with it.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        });
        let (mut is_stopping, mut is_told) = (false, false);
        let mut last_request = pin!(time::sleep(LAST_REQUEST));
        // hyper's own limit begins with the version of HTTP, which a silent client does not tell.
        let mut silence = pin!(time::sleep(self.header_read_timeout));
        let mut is_silent = true;
        let served = poll_fn(|cx| {
            if !is_stopping && stop.as_mut().poll(cx).is_ready() {
                is_stopping = true;
                last_request.as_mut().reset(time::Instant::now() + LAST_REQUEST);
            }
            loop {
                if let Poll::Ready(served) = connection.as_mut().poll(cx) {
                    return Poll::Ready(served);
                }
                // hyper would end a connection whose request has not come yet.
                let is_due = is_stopping
                    && !is_told
                    && (has_request.load(Ordering::Relaxed)
                        || last_request.as_mut().poll(cx).is_ready());
                if !is_due {
                    break;
                }
                is_told = true;
                connection.as_mut().graceful_shutdown();
            }
            is_silent = is_silent && !has_request.load(Ordering::Relaxed);
            if is_silent && silence.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err("no request came within header_read_timeout".into()));
            }
            Poll::Pending
        })
        .await;
        if let Err(error) = served {
            self.log_failure(&*error);
        }
    }

    fn log_failure(&self, error: &dyn StdError) {
        let peer = self.peer.map(|Peer(address)| tracing::field::display(address));
        tracing::debug!(target: "drivetrain::server", %error, peer, "a connection failed");
    }
}

/// The versions of HTTP, which a connection's first bytes tell apart.
fn protocols(header_read_timeout: Duration) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(header_read_timeout);
    #[cfg(feature = "http2")]
    builder
        .http2()
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    builder
}

/// Gives a request to the service when it is ready.
pub(crate) async fn call<S, B>(
    mut service: S,
    request: Request<Incoming>,
) -> Result<Response<B>, BoxError>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Error: Into<BoxError>,
{
    // Made one error at once, as the service's own need not be `Send`.
    poll_fn(|cx| service.poll_ready(cx).map_err(|error| -> BoxError { error.into() })).await?;
    service.call(request).await.map_err(Into::into)
}
