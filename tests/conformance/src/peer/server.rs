//! The listener: a thread a connection, and the counters.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::conn::Conn;
use super::stream::Socket;
use super::tls::{self, TestCa};

/// Only touched pages are memory, so these bound address space: 5 000 threads take 1.2 GiB of it.
const STACK: usize = 256 * 1024;
/// A TLS handshake in an unoptimized build needs more.
const TLS_STACK: usize = 1024 * 1024;
/// The listener's queue; std's 128 overflows when thousands connect at once.
const BACKLOG: i32 = 4096;
/// How long a drop waits for handlers that do not notice their sockets' end.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// A server on a free port of 127.0.0.1 that runs `handler` for each connection on its own thread.
///
/// When the handler returns, the connection ends gracefully: what was fed is flushed, the writing
/// side is shut down, and what still arrives is discarded until the client closes, for at most 20
/// seconds. [`Conn::close`] and [`Conn::reset`] end it otherwise. An error from the handler ends the
/// connection the same way and is not reported; a panic is printed by the thread and ends it at once.
///
/// Dropping the server stops accepting, shuts all sockets down and waits for the handlers, at most
/// a minute.
pub struct Server {
    addr: SocketAddr,
    tls: bool,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server for `ws` and `http`. Panics if no port can be bound.
    pub fn start(handler: impl Fn(&mut Conn) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::launch(Arc::new(handler), None)
    }

    /// Starts a server for `wss` and `https` with a certificate of `ca`. The handler runs after a
    /// successful TLS handshake; a failed one counts in [`connections`](Self::connections) only.
    pub fn start_tls(
        handler: impl Fn(&mut Conn) -> io::Result<()> + Send + Sync + 'static,
        ca: &TestCa,
    ) -> Self {
        Self::launch(Arc::new(handler), Some(ca.server_config()))
    }

    /// As [`start_tls`](Self::start_tls), with a configuration such as
    /// [`TestCa::tls_1_2_server_config`].
    pub fn start_with_tls(
        handler: impl Fn(&mut Conn) -> io::Result<()> + Send + Sync + 'static,
        config: Arc<rustls::ServerConfig>,
    ) -> Self {
        Self::launch(Arc::new(handler), Some(config))
    }

    /// As [`start_tls`](Self::start_tls), and refuses clients without a certificate of `ca`.
    pub fn start_mutual_tls(
        handler: impl Fn(&mut Conn) -> io::Result<()> + Send + Sync + 'static,
        ca: &TestCa,
    ) -> Self {
        Self::launch(Arc::new(handler), Some(ca.mutual_server_config()))
    }

    fn launch(handler: Arc<Handler>, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = listen().expect("a free port on 127.0.0.1");
        let addr = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared::default());
        let is_tls = tls.is_some();
        let acceptor = thread::Builder::new()
            .name("peer-accept".into())
            .spawn({
                let shared = Arc::clone(&shared);
                move || accept(&listener, &shared, &handler, tls.as_ref())
            })
            .expect("a thread for the listener");
        Self { addr, tls: is_tls, shared, acceptor: Some(acceptor) }
    }

    /// Where the server listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `ws://127.0.0.1:port` or `wss://localhost:port`, followed by `path`, which starts with `/`.
    pub fn ws_url(&self, path: &str) -> String {
        self.url("ws", path)
    }

    /// `http://127.0.0.1:port` or `https://localhost:port`, followed by `path`, which starts with `/`.
    pub fn http_url(&self, path: &str) -> String {
        self.url("http", path)
    }

    fn url(&self, scheme: &str, path: &str) -> String {
        let port = self.addr.port();
        if self.tls {
            format!("{scheme}s://localhost:{port}{path}")
        } else {
            format!("{scheme}://127.0.0.1:{port}{path}")
        }
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.state().accepted
    }

    /// Connections whose handler has not ended yet.
    pub fn open(&self) -> usize {
        self.shared.state().running
    }

    /// HTTP request heads parsed so far, handshakes included.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Data messages received so far, over all connections. A connection adds what it received before
    /// it writes, before it waits for input, and when it ends.
    pub fn messages(&self) -> u64 {
        self.shared.messages.load(Ordering::SeqCst)
    }

    /// Payload bytes of data frames received so far; counted as [`messages`](Self::messages) are.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::SeqCst)
    }

    /// Waits until every connection has ended and its socket is closed; `false` if `timeout` passes
    /// before. A client that has connected is seen at once only after the server accepted it: wait
    /// for an answer first.
    pub fn wait_until_idle(&self, timeout: Duration) -> bool {
        self.shared.wait_until_idle(timeout)
    }

    /// Releases every connection in [`Conn::hold`], also later ones.
    pub fn release(&self) {
        self.shared.state().released = true;
        self.shared.gate.notify_all();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.stopping = true;
        for socket in state.sockets.values() {
            // Fails only if the connection is gone already.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
        drop(state);
        self.shared.gate.notify_all();
        // `accept` has no timeout: a connection wakes it. If this fails, the listener has failed too.
        let woken = TcpStream::connect_timeout(&self.addr, Duration::from_secs(1));
        if let (Some(acceptor), true) = (self.acceptor.take(), woken.is_ok()) {
            // A panic in it was printed there; drop must not panic again.
            let _ = acceptor.join();
        }
        self.shared.wait_until_idle(STOP_TIMEOUT);
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addr", &self.addr)
            .field("tls", &self.tls)
            .field("connections", &self.connections())
            .field("open", &self.open())
            .field("requests", &self.requests())
            .finish()
    }
}

type Handler = dyn Fn(&mut Conn) -> io::Result<()> + Send + Sync;

fn listen() -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn accept(
    listener: &TcpListener,
    shared: &Arc<Shared>,
    handler: &Arc<Handler>,
    tls: Option<&Arc<rustls::ServerConfig>>,
) {
    let stack = if tls.is_some() { TLS_STACK } else { STACK };
    loop {
        let socket = match listener.accept() {
            Ok((socket, _)) => Socket(Arc::new(socket)),
            Err(_) if shared.state().stopping => return,
            Err(_) => {
                // Out of file descriptors: the next attempt needs one to be freed first.
                thread::sleep(Duration::from_millis(10));
                continue;
            }
        };
        let Some(ticket) = Ticket::register(shared, &socket) else {
            return;
        };
        let (handler, tls) = (Arc::clone(handler), tls.cloned());
        // If no thread can be started, the ticket is dropped with the closure, and the socket with it.
        let _ = thread::Builder::new().name("peer-connection".into()).stack_size(stack).spawn(
            move || {
                // An error ends the connection, which is where the client sees it.
                let _ = serve(socket, &*handler, tls, &ticket);
            },
        );
    }
}

fn serve(
    socket: Socket,
    handler: &Handler,
    tls: Option<Arc<rustls::ServerConfig>>,
    ticket: &Ticket,
) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let (stream, session) = tls::accept(socket.clone(), tls).inspect_err(|_| socket.linger())?;
    // From here on the connection's handle is the only one beside the server's.
    drop(socket);
    let mut conn = Conn::new(stream, session, Arc::clone(&ticket.shared), ticket.id);
    let result = handler(&mut conn);
    conn.finish();
    result
}

/// What the server and its connections share.
#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    idle: Condvar,
    gate: Condvar,
    pub(super) requests: AtomicUsize,
    pub(super) messages: AtomicU64,
    pub(super) bytes: AtomicU64,
}

#[derive(Default)]
struct State {
    stopping: bool,
    released: bool,
    accepted: usize,
    running: usize,
    /// The sockets to shut down when the server stops. A connection's own handle is the only other one.
    sockets: HashMap<usize, Socket>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the connection the only handle to its socket.
    pub(super) fn forget(&self, id: usize) {
        self.state().sockets.remove(&id);
    }

    /// Waits for `release`, or until `timeout`. An error if the server stops meanwhile.
    pub(super) fn hold(&self, timeout: Option<Duration>) -> io::Result<()> {
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut state = self.state();
        loop {
            if state.stopping {
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the server stops"));
            }
            state = match deadline {
                None if state.released => return Ok(()),
                None => self.gate.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(());
                    }
                    self.gate.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn wait_until_idle(&self, timeout: Duration) -> bool {
        let (state, _) = self
            .idle
            .wait_timeout_while(self.state(), timeout, |state| state.running > 0)
            .unwrap_or_else(PoisonError::into_inner);
        state.running == 0
    }
}

/// A connection's entry in the counters; dropped, also by a panic, it counts as ended.
struct Ticket {
    shared: Arc<Shared>,
    id: usize,
}

impl Ticket {
    /// `None` if the server is stopping.
    fn register(shared: &Arc<Shared>, socket: &Socket) -> Option<Self> {
        let mut state = shared.state();
        if state.stopping {
            return None;
        }
        state.accepted += 1;
        state.running += 1;
        let id = state.accepted;
        state.sockets.insert(id, socket.clone());
        Some(Self { shared: Arc::clone(shared), id })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.sockets.remove(&self.id);
        state.running -= 1;
        if state.running == 0 {
            self.shared.idle.notify_all();
        }
    }
}
