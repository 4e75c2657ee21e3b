//! The tools of a case: clients, servers, time.

use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use drivetrain::{HttpClient, HttpClientBuilder, Session, WebSockets};
use drivetrain_engine::{Capability, Engine, Resolver, Runtime, TlsVersion};
use futures_channel::oneshot;
use futures_util::{
    FutureExt as _,
    future::{Either, RemoteHandle, select},
};

use crate::{
    CountedStream, Deviation, Subject,
    failure::{Failure, Verdict},
    peer::{Conn, EchoServer, Server, TestCa},
    pretending::Pretending,
    script::{PeerBehaviour, Script},
    watched::{Tasks, Watched},
};

/// How long a case waits for an expected event, on a busy machine: a guard against hanging, and no measure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Factors of a time limit within which something has to happen first: a machine that was too slow for one tries the next.
pub(crate) const FACTORS: [u32; 3] = [1, 10, 60];

/// How often [`at_pace`] tries.
const TRIES: usize = 10;

/// How long a peer that has to keep moving has rested, at the most.
#[derive(Clone, Default)]
pub(crate) struct Pace(Arc<Mutex<(Option<Instant>, Duration)>>);

impl Pace {
    /// The peer has moved.
    pub(crate) fn step(&self) {
        let mut steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        steps.1 = steps.1.max(steps.0.map_or(Duration::ZERO, |last| now - last));
        steps.0 = Some(now);
    }

    /// Its longest rest, which may be the one that is not over.
    fn longest_rest(&self) -> Duration {
        self.step();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}

/// The verdict of an attempt whose peer moves all the time. An attempt that fails proves nothing if the machine kept its peer
/// from moving for longer than `rest`: then it is made again.
pub(crate) async fn at_pace<F>(rest: Duration, attempt: impl Fn(Pace) -> F) -> Verdict
where
    F: Future<Output = Verdict>,
{
    for _ in 1..TRIES {
        let pace = Pace::default();
        match attempt(pace.clone()).await {
            Err(_) if pace.longest_rest() > rest => {}
            verdict => return verdict,
        }
    }
    attempt(Pace::default()).await
}

/// A client's builder for this engine. The time limits that sessions have by default are raised to [`PATIENCE`]: a case that
/// is not about them must not meet them on a machine that stands still for seconds.
pub(crate) fn builder_for(engine: impl Engine) -> HttpClientBuilder {
    let has_sockets = engine.support(Capability::WebSockets).is_offered();
    let builder = HttpClient::builder(engine);
    if has_sockets {
        builder.install(WebSockets::new().handshake_timeout(PATIENCE).close_timeout(PATIENCE))
    } else {
        builder
    }
}

/// A client of [`builder_for`] this engine.
pub(crate) fn client_for(engine: impl Engine) -> HttpClient {
    let engine: Arc<dyn Engine> = Arc::new(engine);
    // An engine that is refused says so at each call of the other one.
    builder_for(Arc::clone(&engine)).build().unwrap_or_else(|_| HttpClient::new(engine))
}

/// The context of a case. A clone is the same context.
#[derive(Clone)]
pub(crate) struct Context(Arc<Inner>);

struct Inner {
    subject: Arc<dyn Subject>,
    runtime: Arc<dyn Runtime>,
    tasks: Tasks,
    /// The servers of the case, to check that no connection remains.
    servers: Mutex<Vec<Arc<Server>>>,
}

impl Context {
    /// Creates the context. Must be called on the subject's runtime.
    pub(crate) fn new(subject: Arc<dyn Subject>) -> Verdict<Self> {
        let runtime = subject.engine().runtime()?;
        let (tasks, servers) = Default::default();
        Ok(Self(Arc::new(Inner { subject, runtime, tasks, servers })))
    }

    /// The same context with engines that claim this capability.
    pub(crate) fn pretending(&self, capability: Capability) -> Verdict<Self> {
        let subject = Arc::clone(&self.0.subject);
        Self::new(Arc::new(Pretending { subject, capability }))
    }

    /// The engine under test with default options.
    pub(crate) fn engine(&self) -> Watched {
        self.watch(self.0.subject.engine())
    }

    /// A client with this engine.
    pub(crate) fn client(&self) -> HttpClient {
        client_for(self.engine())
    }

    /// A client with this engine and these options.
    pub(crate) fn client_with(&self, plugin: WebSockets) -> Verdict<HttpClient> {
        Ok(builder_for(self.engine()).install(plugin).build()?)
    }

    /// An engine that trusts this authority; `None` without TLS.
    pub(crate) fn engine_with_root(&self, ca: &TestCa) -> Option<Watched> {
        self.0.subject.with_root(ca.ca_pem().as_bytes()).map(|engine| self.watch(engine))
    }

    /// An engine that resolves names so; `None` if it cannot.
    pub(crate) fn engine_with_resolver(&self, resolver: Resolver) -> Option<Watched> {
        self.0.subject.with_resolver(resolver).map(|engine| self.watch(engine))
    }

    /// An engine that trusts this authority and requires at least this TLS version.
    pub(crate) fn engine_with_min_tls_version(
        &self,
        ca: &TestCa,
        version: TlsVersion,
    ) -> Option<Watched> {
        let engine = self.0.subject.with_min_tls_version(ca.ca_pem().as_bytes(), version)?;
        Some(self.watch(engine))
    }

    /// An engine that trusts this authority and opens WebSockets over HTTP/2.
    pub(crate) fn engine_over_http2(&self, ca: &TestCa) -> Option<Watched> {
        self.0.subject.over_http2(ca.ca_pem().as_bytes()).map(|engine| self.watch(engine))
    }

    /// An engine that accepts any certificate.
    pub(crate) fn engine_accepting_any_certificate(&self) -> Option<Watched> {
        self.0.subject.accepting_any_certificate().map(|engine| self.watch(engine))
    }

    /// An engine that trusts this authority and has a client certificate from it.
    pub(crate) fn engine_with_client_certificate(&self, ca: &TestCa) -> Option<Watched> {
        let engine = self
            .0
            .subject
            .with_client_certificate(ca.ca_pem().as_bytes(), ca.client_pem().as_bytes())?;
        Some(self.watch(engine))
    }

    /// An engine with an engine-level ping interval.
    pub(crate) fn engine_with_ping_interval(&self, interval: Duration) -> Option<Watched> {
        self.0.subject.with_ping_interval(interval).map(|engine| self.watch(engine))
    }

    /// An engine over a custom stream.
    pub(crate) fn engine_over(&self, stream: CountedStream) -> Option<Watched> {
        self.0.subject.over(stream).map(|engine| self.watch(engine))
    }

    /// Whether the engine with default options offers a capability.
    pub(crate) fn offers(&self, capability: Capability) -> bool {
        self.0.subject.engine().support(capability).is_offered()
    }

    /// Whether the subject declares this deviation.
    pub(crate) fn deviates(&self, deviation: Deviation) -> bool {
        self.0.subject.deviations().contains(&deviation)
    }

    /// The default server.
    pub(crate) fn echo(&self) -> Arc<Server> {
        self.server(EchoServer::serve)
    }

    /// A server with this handler.
    pub(crate) fn server(
        &self,
        handler: impl Fn(&mut Conn) -> io::Result<()> + Send + Sync + 'static,
    ) -> Arc<Server> {
        self.keep(Server::start(handler))
    }

    /// Registers a server of the case.
    pub(crate) fn keep(&self, server: Server) -> Arc<Server> {
        let server = Arc::new(server);
        self.servers().push(Arc::clone(&server));
        server
    }

    /// A server that accepts each WebSocket, runs `first` on it, and then reports its input.
    pub(crate) fn peer(
        &self,
        behaviour: PeerBehaviour,
        first: impl Fn(&mut Conn) -> io::Result<()> + Send + Sync + 'static,
    ) -> Script {
        Script::start(self, behaviour, first)
    }

    /// A session with the default server.
    pub(crate) async fn session(&self, path: &str) -> Verdict<(Arc<Server>, Session)> {
        let server = self.echo();
        let session = self.client().web_socket(server.ws_url(path)).connect().await?;
        Ok((server, session))
    }

    /// Waits.
    pub(crate) async fn sleep(&self, time: Duration) {
        let mut timer = self.0.runtime.timer(self.0.runtime.now() + time);
        poll_fn(|cx| timer.poll(cx)).await;
    }

    /// The result of the future; after the time limit a failure that names the missing event.
    pub(crate) async fn within<T>(
        &self,
        limit: Duration,
        what: &str,
        future: impl Future<Output = T>,
    ) -> Verdict<T> {
        match select(pin!(future), pin!(self.sleep(limit))).await {
            Either::Left((output, _)) => Ok(output),
            Either::Right(_) => {
                Err(Failure::new(format_args!("it took longer than {limit:?}: {what}")))
            }
        }
    }

    /// Fails if the future is ready within `time`.
    pub(crate) async fn stays_pending<T>(
        &self,
        time: Duration,
        what: &str,
        future: impl Future<Output = T> + Unpin,
    ) -> Verdict {
        match select(future, pin!(self.sleep(time))).await {
            Either::Left(_) => Err(Failure::new(format_args!("too early: {what}"))),
            Either::Right(_) => Ok(()),
        }
    }

    /// Polls a condition that has no event.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn() -> bool) -> Verdict {
        let waiting = async {
            while !holds() {
                self.sleep(Duration::from_millis(2)).await;
            }
        };
        self.within(PATIENCE, what, waiting).await
    }

    /// Spawns a task. A panic in the task propagates to the awaiting code.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> RemoteHandle<T> {
        let (task, handle) = future.remote_handle();
        self.0.runtime.spawn(Box::pin(task));
        handle
    }

    /// Checks that no connection and no session task remains after the clients are dropped.
    pub(crate) async fn nothing_is_left_behind(&self) -> Verdict {
        let servers = std::mem::take(&mut *self.servers());
        for server in servers {
            server.release();
            let waiting = Arc::clone(&server);
            if !blocking(move || waiting.wait_until_idle(PATIENCE)).await? {
                let open = server.open();
                return Err(Failure::new(format_args!("{open} connections were left open")));
            }
        }
        self.until("the sessions' tasks end", || self.0.tasks.running() == 0).await
    }

    fn watch(&self, engine: Box<dyn Engine>) -> Watched {
        Watched::new(engine, self.0.tasks.clone())
    }

    fn servers(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Server>>> {
        self.0.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Yields to other tasks.
pub(crate) async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Runs `work` on a separate thread and returns its result.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Verdict<T> {
    let (sender, receiver) = oneshot::channel();
    let thread = thread::Builder::new().spawn(move || {
        // The waiting case has failed.
        let _ = sender.send(work());
    })?;
    let done = receiver.await?;
    // The thread has finished its work; the end of the process removes it.
    let _ = thread.join();
    Ok(done)
}
