//! What a case works with: clients, servers, time.

use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    thread,
    time::Duration,
};

use drivetrain::{HttpClient, Session, WebSockets};
use drivetrain_engine::{Capability, Engine, Runtime, TlsVersion};
use futures_channel::oneshot;
use futures_util::{
    FutureExt as _,
    future::{Either, RemoteHandle, select},
};

use crate::{
    CountedStream, Subject,
    failure::{Failure, Verdict},
    peer::{Conn, EchoServer, Server, TestCa},
    script::{Manners, Script},
    watched::{Tasks, Watched},
};

/// How long a case waits for what must come, on a machine that is busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What a case is given. A clone is the same.
#[derive(Clone)]
pub(crate) struct Context(Arc<Inner>);

struct Inner {
    subject: Arc<dyn Subject>,
    runtime: Arc<dyn Runtime>,
    tasks: Tasks,
    /// Those of the case, to see that nothing is left on them.
    servers: Mutex<Vec<Arc<Server>>>,
}

impl Context {
    /// Called on the subject's runtime.
    pub(crate) fn new(subject: Arc<dyn Subject>) -> Verdict<Self> {
        let runtime = subject.engine().runtime()?;
        let (tasks, servers) = Default::default();
        Ok(Self(Arc::new(Inner { subject, runtime, tasks, servers })))
    }

    /// The engine under test, with its defaults.
    pub(crate) fn engine(&self) -> Watched {
        self.watch(self.0.subject.engine())
    }

    /// A client on it.
    pub(crate) fn client(&self) -> HttpClient {
        HttpClient::new(self.engine())
    }

    /// A client on it with these options.
    pub(crate) fn client_with(&self, plugin: WebSockets) -> Verdict<HttpClient> {
        Ok(HttpClient::builder(self.engine()).install(plugin).build()?)
    }

    /// The engine that trusts this authority; `None` says that it has no TLS.
    pub(crate) fn engine_with_root(&self, ca: &TestCa) -> Option<Watched> {
        self.0.subject.with_root(ca.ca_pem().as_bytes()).map(|engine| self.watch(engine))
    }

    /// The engine that trusts this authority and nothing older than this version of TLS.
    pub(crate) fn engine_with_min_tls_version(
        &self,
        ca: &TestCa,
        version: TlsVersion,
    ) -> Option<Watched> {
        let engine = self.0.subject.with_min_tls_version(ca.ca_pem().as_bytes(), version)?;
        Some(self.watch(engine))
    }

    /// The engine that trusts this authority and opens WebSockets over HTTP/2.
    pub(crate) fn engine_over_http2(&self, ca: &TestCa) -> Option<Watched> {
        self.0.subject.over_http2(ca.ca_pem().as_bytes()).map(|engine| self.watch(engine))
    }

    /// The engine that accepts any certificate.
    pub(crate) fn engine_accepting_any_certificate(&self) -> Option<Watched> {
        self.0.subject.accepting_any_certificate().map(|engine| self.watch(engine))
    }

    /// The engine that trusts this authority and has a certificate of it.
    pub(crate) fn engine_with_client_certificate(&self, ca: &TestCa) -> Option<Watched> {
        let engine = self
            .0
            .subject
            .with_client_certificate(ca.ca_pem().as_bytes(), ca.client_pem().as_bytes())?;
        Some(self.watch(engine))
    }

    /// The engine with an engine-level ping interval.
    pub(crate) fn engine_with_ping_interval(&self, interval: Duration) -> Option<Watched> {
        self.0.subject.with_ping_interval(interval).map(|engine| self.watch(engine))
    }

    /// The engine over a stream.
    pub(crate) fn engine_over(&self, stream: CountedStream) -> Option<Watched> {
        self.0.subject.over(stream).map(|engine| self.watch(engine))
    }

    /// Whether the engine, with its defaults, offers a capability.
    pub(crate) fn offers(&self, capability: Capability) -> bool {
        self.0.subject.engine().support(capability).is_offered()
    }

    /// The ready-made server.
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

    /// Looks after a server of the case's.
    pub(crate) fn keep(&self, server: Server) -> Arc<Server> {
        let server = Arc::new(server);
        self.servers().push(Arc::clone(&server));
        server
    }

    /// A server that accepts each WebSocket, does `first` on it, and then tells what it sees.
    pub(crate) fn peer(
        &self,
        manners: Manners,
        first: impl Fn(&mut Conn) -> io::Result<()> + Send + Sync + 'static,
    ) -> Script {
        Script::start(self, manners, first)
    }

    /// A session with the ready-made server.
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

    /// What the future gives; a failure that says what did not happen if it takes longer.
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

    /// Waits for something that has no event of its own.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn() -> bool) -> Verdict {
        let waiting = async {
            while !holds() {
                self.sleep(Duration::from_millis(2)).await;
            }
        };
        self.within(PATIENCE, what, waiting).await
    }

    /// Runs a task of its own. A panic in it is one of whoever awaits it.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> RemoteHandle<T> {
        let (task, handle) = future.remote_handle();
        self.0.runtime.spawn(Box::pin(task));
        handle
    }

    /// Nothing of the case is left on its servers, and no task of a session. The clients are gone.
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

/// Lets others run.
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

/// What `work` gives, done on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Verdict<T> {
    let (sender, receiver) = oneshot::channel();
    let thread = thread::Builder::new().spawn(move || {
        // The case that waited for it has failed.
        let _ = sender.send(work());
    })?;
    let done = receiver.await?;
    // It has nothing more to do; nothing of it is left when the process ends.
    let _ = thread.join();
    Ok(done)
}
