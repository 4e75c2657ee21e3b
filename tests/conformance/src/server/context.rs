//! The tools of a server's case.

use std::{
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use drivetrain::{Error, Result, Session, WebSockets};
use drivetrain_server::{RawSession, Sessions, Upgrader};

use super::subject::{Open, Running, ServerSubject, Site};
use crate::{
    Deviation,
    context::PATIENCE,
    failure::{Failure, Verdict},
    peer::Client,
};

/// The context of a case.
pub(super) struct ServerContext {
    subject: Arc<dyn ServerSubject>,
    /// The registries of the case, to check that no session remains.
    registries: Mutex<Vec<Sessions>>,
}

/// A server of a case. Dropped, it stops.
pub(super) struct Started {
    running: Running,
    pub(super) sessions: Sessions,
}

impl ServerContext {
    pub(super) fn new(subject: Arc<dyn ServerSubject>) -> Self {
        Self { subject, registries: Mutex::default() }
    }

    /// The server's configuration, to add to. A busy machine does not meet the default time limits.
    pub(super) fn upgrader(&self) -> Upgrader {
        let plugin = WebSockets::new().close_timeout(PATIENCE).handshake_timeout(PATIENCE);
        self.subject.upgrader().install(plugin)
    }

    pub(super) fn limits_heads(&self) -> bool {
        self.subject.limits_heads()
    }

    pub(super) fn speaks_http2(&self) -> bool {
        self.subject.speaks_http2()
    }

    /// Whether the subject declares this deviation.
    pub(super) fn deviates(&self, deviation: Deviation) -> bool {
        self.subject.deviations().contains(&deviation)
    }

    /// A server that echoes messages.
    pub(super) fn echo(&self) -> Started {
        self.start(self.upgrader(), echo)
    }

    /// A server whose sessions run this handler.
    pub(super) fn start<F, Fut>(&self, upgrader: Upgrader, handler: F) -> Started
    where
        F: Fn(Session) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        self.serve(upgrader, None, Arc::new(move |upgrade| upgrade.run(handler.clone())))
    }

    /// A server whose raw sessions run this handler.
    pub(super) fn start_raw<F, Fut>(&self, upgrader: Upgrader, handler: F) -> Started
    where
        F: Fn(RawSession) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        self.serve(upgrader, None, Arc::new(move |upgrade| upgrade.run_raw(handler.clone())))
    }

    /// A server that echoes messages, with this time for a request's head.
    pub(super) fn echo_with_head_limit(&self, limit: Duration) -> Started {
        let open: Open = Arc::new(move |upgrade| upgrade.run(echo));
        self.serve(self.upgrader(), Some(limit), open)
    }

    fn serve(
        &self,
        upgrader: Upgrader,
        header_read_timeout: Option<Duration>,
        open: Open,
    ) -> Started {
        let sessions = upgrader.registry().clone();
        let registries = &self.registries;
        registries.lock().unwrap_or_else(PoisonError::into_inner).push(sessions.clone());
        let running = self.subject.start(Site { upgrader, open, header_read_timeout });
        Started { running, sessions }
    }

    /// Runs a future on the subject's runtime, on another thread. The receiver gets its output.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Receiver<T> {
        let (done, output) = mpsc::channel();
        let subject = Arc::clone(&self.subject);
        thread::spawn(move || {
            // The case has ended.
            subject.block_on(Box::pin(async move { drop(done.send(future.await)) }));
        });
        output
    }

    /// All sessions end soon after their clients.
    pub(super) fn nothing_is_left_behind(&self) -> Verdict {
        let registries = self.registries.lock().unwrap_or_else(PoisonError::into_inner);
        for sessions in registries.iter() {
            eventually("every session has ended", || sessions.is_empty())?;
        }
        Ok(())
    }
}

impl Started {
    pub(super) fn address(&self) -> SocketAddr {
        self.running.address()
    }

    /// An open WebSocket.
    pub(super) fn client(&self) -> io::Result<Client> {
        Client::open(self.address(), "/")
    }

    /// How many sessions are open.
    pub(super) fn open(&self) -> usize {
        let mut open = 0;
        self.sessions.for_each(|_| open += 1);
        open
    }
}

/// Sends each message back.
pub(super) async fn echo(mut session: Session) -> Result<()> {
    while let Some(frame) = session.receive().await? {
        session.send(frame).await?;
    }
    Ok(())
}

/// Receives to the end.
pub(super) async fn drain(mut session: Session) -> Result<()> {
    while session.receive().await?.is_some() {}
    Ok(())
}

/// Waits a little, on any runtime, without the session.
pub(super) async fn pause() {
    let mut is_polled = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut is_polled, true) {
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(5));
            waker.wake();
        });
        Poll::Pending
    })
    .await;
}

/// The end of a handler's session, for the case.
#[derive(Clone)]
pub(super) struct Ends(Sender<Option<Error>>);

impl Ends {
    pub(super) fn new() -> (Self, Receiver<Option<Error>>) {
        let (send, receive) = mpsc::channel();
        (Self(send), receive)
    }

    /// Receives to the end, and reports it.
    pub(super) async fn of(self, session: Session) -> Result<()> {
        let result = drain(session).await;
        let _ = self.0.send(result.clone().err());
        result
    }
}

/// What a channel receives in time.
#[track_caller]
pub(super) fn within<T>(receiver: &Receiver<T>) -> Verdict<T> {
    receiver.recv_timeout(PATIENCE).map_err(Failure::from)
}

/// Waits for a condition that another thread makes true.
#[track_caller]
pub(super) fn eventually(what: &str, mut holds: impl FnMut() -> bool) -> Verdict {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() > deadline {
            return Err(Failure::new(format_args!("not so after {PATIENCE:?}: {what}")));
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
