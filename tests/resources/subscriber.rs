//! A subscriber of `tracing` is a program's own code: it may use the session that it is told about, and the
//! session survives its panic.

use std::{
    pin::pin,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use drivetrain::{CloseReason, HttpClient, Outgoing, WebSockets};
use drivetrain_conformance::peer::{EchoServer, Server};
use tracing::{Event, Metadata, Subscriber, span};

/// The session that the subscriber uses.
static SESSION: Mutex<Option<Outgoing>> = Mutex::new(None);
static USED: AtomicUsize = AtomicUsize::new(0);
static PANICS: AtomicBool = AtomicBool::new(false);

/// Uses the session whenever it hears of one.
struct Meddler(AtomicU64);

impl Meddler {
    fn meddle(&self) {
        let Some(session) = SESSION.lock().unwrap().clone() else { return };
        session.stats();
        poll_once(session.feed("from the subscriber"));
        poll_once(session.close(CloseReason::normal()));
        USED.fetch_add(1, Ordering::SeqCst);
    }
}

impl Subscriber for Meddler {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("drivetrain")
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(self.0.fetch_add(1, Ordering::SeqCst))
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {
        self.meddle();
    }
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &Event<'_>) {
        self.meddle();
        // A second panic while the first unwinds is the end of any program.
        let panics = PANICS.load(Ordering::SeqCst) && !thread::panicking();
        assert!(!panics, "the subscriber panics, as it should");
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
    fn try_close(&self, _: span::Id) -> bool {
        self.meddle();
        true
    }
}

fn poll_once<T>(future: impl Future<Output = T>) {
    let _: Poll<T> = pin!(future).poll(&mut Context::from_waker(Waker::noop()));
}

/// What `work` does in time; a deadlock is a failure, not a test that hangs.
fn in_time(work: impl FnOnce() + Send + 'static) {
    let (done, waiting) = mpsc::channel();
    let worker = thread::spawn(move || {
        work();
        done.send(()).unwrap();
    });
    match waiting.recv_timeout(Duration::from_secs(600)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        _ => worker.join().unwrap(),
    }
}

pub(crate) fn it_may_use_the_session_and_may_panic() {
    tracing::subscriber::set_global_default(Meddler(AtomicU64::new(1))).unwrap();
    in_time(|| {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(async {
            for path in ["/echo", "/close?code=1000", "/drop"] {
                for (panics, receives) in [(false, true), (true, true), (true, false)] {
                    on_each(path, panics, receives).await;
                }
            }
        });
    });
    assert!(USED.load(Ordering::SeqCst) > 20, "{USED:?}");
}

async fn on_each(path: &str, panics: bool, receives: bool) {
    let server = Server::start(EchoServer::serve);
    for engine in crate::engines() {
        let name = engine.name().to_owned();
        let client = HttpClient::builder(engine).install(WebSockets::new()).build().unwrap();
        let session = client.web_socket(server.ws_url(path)).connect().await.unwrap();
        let (outgoing, mut incoming) = session.split();
        *SESSION.lock().unwrap() = Some(outgoing.clone());
        PANICS.store(panics, Ordering::SeqCst);
        let using = tokio::spawn(async move {
            outgoing.send("hello").await?;
            outgoing.flush().await?;
            if !receives {
                // The session's own task does the rest.
                poll_once(outgoing.close(CloseReason::normal()));
                return outgoing.closed().await.map(drop);
            }
            while incoming.receive().await?.is_some() {
                drop(outgoing.close(CloseReason::normal()).await);
            }
            Ok(())
        });
        let ended = tokio::time::timeout(Duration::from_secs(60), using).await;
        let ended = ended.unwrap_or_else(|_| panic!("{name} {path} hangs, panics: {panics}"));
        assert!(ended.is_ok(), "{name} {path}, panics: {panics}");
        PANICS.store(false, Ordering::SeqCst);
        // It is not poisoned, and has ended.
        let left = SESSION.lock().unwrap().take().unwrap();
        let closed = tokio::time::timeout(Duration::from_secs(60), left.closed()).await;
        closed.unwrap_or_else(|_| panic!("{name} {path} does not end, panics: {panics}")).unwrap();
    }
}
