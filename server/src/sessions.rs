//! The registry of a server's sessions: their number, their limit, and their end.

use std::{
    collections::BTreeMap,
    fmt,
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use drivetrain_engine::{CloseCode, CloseReason, Instant, Runtime, Timer, UpgradeRefusal};
use drivetrain_session::{SessionHandle, SessionStats};

/// How many sessions are closed at once in a shutdown, and how long after it the next ones are, if nothing else is said.
const BATCH: usize = 1000;
const BATCH_PAUSE: Duration = Duration::from_millis(100);

/// How long aborted handlers have to be dropped by the runtime.
const LAST_GRACE: Duration = Duration::from_secs(1);

/// The sessions of a server: how many there are, how many there may be, and how they end together.
///
/// A clone is the same registry. Every [`Upgrader`](crate::Upgrader) has one of its own unless it is given one with
/// [`Upgrader::sessions`](crate::Upgrader::sessions); several may share one. A session counts from the accepted handshake
/// until its handler has returned and its connection has ended.
///
/// ```no_run
/// # async fn example() {
/// use std::time::Duration;
/// use drivetrain_server::Sessions;
///
/// let sessions = Sessions::new().max_sessions(10_000);
/// // … serve …
/// let report = sessions.shutdown(Duration::from_secs(10)).await;
/// println!("{} sessions, {} aborted", report.sessions, report.aborted);
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Sessions(Arc<Registry>);

#[derive(Default)]
struct Registry {
    state: Mutex<State>,
}

struct State {
    entries: BTreeMap<u64, Arc<Entry>>,
    next: u64,
    max: Option<usize>,
    code: CloseCode,
    batch: usize,
    pause: Duration,
    /// New sessions are refused.
    closed: bool,
    /// Time for the shutdown, of the first session that there was.
    runtime: Option<Arc<dyn Runtime>>,
    /// Who waits for the number of sessions to be zero.
    waiting: Vec<Waker>,
    refused: u64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            next: 0,
            max: None,
            code: CloseCode::GOING_AWAY,
            batch: BATCH,
            pause: BATCH_PAUSE,
            closed: false,
            runtime: None,
            waiting: Vec::new(),
            refused: 0,
        }
    }
}

/// One session, from the handshake on.
struct Entry {
    id: u64,
    path: Box<str>,
    peer: Option<SocketAddr>,
    ends: Ends,
    label: OnceLock<Box<str>>,
    session: OnceLock<SessionHandle>,
    end: Mutex<End>,
}

/// How a handler ends in a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// By the Close of its session, or at the deadline.
    ByClose,
    /// At once: an event stream has no farewell.
    AtOnce,
}

/// Whether a handler is to end, and who drives it.
#[derive(Default)]
struct End {
    asked: bool,
    waker: Option<Waker>,
}

/// What a [`shutdown`](Sessions::shutdown) has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// How many sessions there were when it began.
    pub sessions: usize,
    /// How many of them ended in time.
    pub drained: usize,
    /// How many were cut off at the deadline.
    pub aborted: usize,
}

/// One session in the registry. It does not keep the session alive.
#[derive(Clone)]
pub struct SessionInfo(Arc<Entry>);

impl Sessions {
    /// A registry without a limit.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the most sessions at a time; a handshake above it gets 503. Default: no limit.
    #[must_use]
    pub fn max_sessions(self, sessions: usize) -> Self {
        self.lock().max = Some(sessions);
        self
    }

    /// Sets the code of the Close that [`shutdown`](Self::shutdown) sends, such as 1012 for clients that know it. Default:
    /// 1001, going away. A code that must not travel is ignored.
    #[must_use]
    pub fn shutdown_code(self, code: CloseCode) -> Self {
        if code.may_travel() {
            self.lock().code = code;
        }
        self
    }

    /// Sets how many sessions [`shutdown`](Self::shutdown) closes at once, and the pause before the next ones, so that not
    /// all clients reconnect at the same moment. Default: 1000, every 100 ms. Zero is taken as one.
    #[must_use]
    pub fn shutdown_batches(self, sessions: usize, pause: Duration) -> Self {
        {
            let mut state = self.lock();
            (state.batch, state.pause) = (sessions.max(1), pause);
        }
        self
    }

    /// How many sessions there are, those whose handshake is not complete and event streams included.
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many handshakes were refused so far, for whatever reason.
    pub fn refused(&self) -> u64 {
        self.lock().refused
    }

    /// Calls `visit` for each open session, in the order in which they came.
    pub fn for_each(&self, mut visit: impl FnMut(&SessionInfo)) {
        self.open().iter().for_each(&mut visit);
    }

    /// Closes the sessions for which `choose` holds, without waiting for their end. Returns how many.
    pub fn close_where(
        &self,
        reason: &CloseReason,
        mut choose: impl FnMut(&SessionInfo) -> bool,
    ) -> usize {
        let chosen = self.open().into_iter().filter(|info| choose(info));
        chosen.filter(|info| info.close(reason.clone())).count()
    }

    /// Ends all sessions: new handshakes get 503 from here on, every session gets a Close 1001, in batches, and each
    /// handler sees its `receive()` return `None` once the peer has answered. At the deadline handlers and connections that
    /// are left are dropped. Raw sessions get no Close, which is their handlers'; event streams end at once.
    ///
    /// # Cancel safety
    /// Dropped while pending, new handshakes are refused all the same, and Closes that were sent stay sent. It may be called
    /// again.
    pub async fn shutdown(&self, deadline: Duration) -> ShutdownReport {
        let (runtime, reason, batch, pause) = {
            let mut state = self.lock();
            state.closed = true;
            let reason = CloseReason::truncated(state.code, "server is shutting down");
            (state.runtime.clone(), reason, state.batch, state.pause)
        };
        let entries: Vec<_> = self.lock().entries.values().cloned().collect();
        // Without a session there was no runtime, and nothing to end.
        let Some(runtime) = runtime else { return ShutdownReport::default() };
        let sessions = entries.len();
        let until = runtime.now() + deadline;
        let mut timer = runtime.timer(until);
        for (i, batch) in entries.chunks(batch).enumerate() {
            if i > 0 {
                let next = (runtime.now() + pause).min(until);
                self.wait_until(&*runtime, &mut *timer, next).await;
            }
            for entry in batch {
                entry.go_away(&reason);
            }
        }
        self.wait_until(&*runtime, &mut *timer, until).await;
        let left: Vec<_> = self.lock().entries.values().cloned().collect();
        let aborted = left.len();
        left.iter().for_each(|entry| entry.ask_to_end());
        drop((left, entries));
        if aborted > 0 {
            let until = runtime.now() + LAST_GRACE;
            self.wait_until(&*runtime, &mut *timer, until).await;
        }
        let report =
            ShutdownReport { sessions, drained: sessions.saturating_sub(aborted), aborted };
        tracing::info!(
            target: "drivetrain::server",
            sessions = report.sessions,
            drained = report.drained,
            aborted = report.aborted,
            "server shut down"
        );
        report
    }

    /// Until there is no session, or this moment.
    async fn wait_until(&self, runtime: &dyn Runtime, timer: &mut dyn Timer, until: Instant) {
        timer.reset(until);
        poll_fn(|cx| {
            let waker = cx.waker().clone();
            {
                let mut state = self.lock();
                if state.entries.is_empty() {
                    return Poll::Ready(());
                }
                state.waiting.push(waker);
            }
            while timer.poll(cx).is_ready() {
                if runtime.now() >= until {
                    return Poll::Ready(());
                }
                timer.reset(until); // it was early
            }
            Poll::Pending
        })
        .await;
    }

    /// Takes a place for a session.
    ///
    /// # Errors
    /// 503 if there is none, or never again.
    pub(crate) fn reserve(
        &self,
        runtime: &Arc<dyn Runtime>,
        path: &str,
        peer: Option<SocketAddr>,
        ends: Ends,
    ) -> Result<Slot, UpgradeRefusal> {
        let mut state = self.lock();
        if state.closed {
            let message = "the server is shutting down";
            return Err(UpgradeRefusal::unavailable(message, Duration::from_secs(5)));
        }
        if state.max.is_some_and(|max| state.entries.len() >= max) {
            let message = "the server has as many sessions as it may have";
            return Err(UpgradeRefusal::unavailable(message, Duration::from_secs(5)));
        }
        state.runtime.get_or_insert_with(|| Arc::clone(runtime));
        let id = state.next;
        state.next += 1;
        let entry = Arc::new(Entry {
            id,
            path: path.into(),
            peer,
            ends,
            label: OnceLock::new(),
            session: OnceLock::new(),
            end: Mutex::default(),
        });
        state.entries.insert(id, Arc::clone(&entry));
        Ok(Slot { sessions: self.clone(), entry })
    }

    pub(crate) fn count_refusal(&self) {
        self.lock().refused += 1;
    }

    fn going_away(&self) -> Option<CloseReason> {
        let state = self.lock();
        state.closed.then(|| CloseReason::truncated(state.code, "server is shutting down"))
    }

    /// Those that are open: what is called for each may take the lock.
    fn open(&self) -> Vec<SessionInfo> {
        let entries: Vec<_> = self.lock().entries.values().cloned().map(SessionInfo).collect();
        entries.into_iter().filter(SessionInfo::is_open).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Sessions")
            .field("len", &state.entries.len())
            .field("max_sessions", &state.max)
            .field("refused", &state.refused)
            .field("closed", &state.closed)
            .finish_non_exhaustive()
    }
}

impl Entry {
    /// The server shuts down: a session gets a Close, an event stream ends.
    fn go_away(&self, reason: &CloseReason) {
        if self.ends == Ends::AtOnce {
            self.ask_to_end();
        }
        if let Some(session) = self.session.get() {
            session.close(reason.clone());
        }
    }

    fn ask_to_end(&self) {
        let waker = {
            let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
            end.asked = true;
            end.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl SessionInfo {
    /// A number that no other session of the registry has.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// The path of the request.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// The address of the peer, where the server told it: see [`Peer`](crate::Peer).
    pub fn peer(&self) -> Option<SocketAddr> {
        self.0.peer
    }

    /// What [`WebSocketUpgrade::label`](crate::WebSocketUpgrade::label) set, such as the user's name.
    pub fn label(&self) -> Option<&str> {
        self.0.label.get().map(|label| &**label)
    }

    /// What the session has carried so far; `None` for a raw session.
    pub fn stats(&self) -> Option<SessionStats> {
        self.0.session.get()?.stats()
    }

    /// Closes the session without waiting for its end. Returns whether it was open.
    pub fn close(&self, reason: CloseReason) -> bool {
        self.0.session.get().is_some_and(|session| session.close(reason))
    }

    fn is_open(&self) -> bool {
        self.0.session.get().is_some_and(SessionHandle::is_open)
    }
}

impl fmt::Debug for SessionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionInfo")
            .field("id", &self.id())
            .field("path", &self.path())
            .field("peer", &self.peer())
            .finish_non_exhaustive()
    }
}

/// A place in the registry, which is free again when this is dropped.
pub(crate) struct Slot {
    sessions: Sessions,
    entry: Arc<Entry>,
}

impl Slot {
    /// The session is open. If the server is shutting down by now, it is closed.
    pub(crate) fn open(&self, session: SessionHandle) {
        let session = self.entry.session.get_or_init(|| session);
        if let Some(reason) = self.sessions.going_away() {
            session.close(reason);
        }
    }

    pub(crate) fn set_label(&self, label: Box<str>) {
        let _ = self.entry.label.set(label); // the first one stays
    }

    /// Drives a future until it is ready, or the handler is to end: `None`.
    pub(crate) async fn unless_ended<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        poll_fn(|cx| self.poll_unless_ended(cx, future.as_mut())).await
    }

    fn poll_unless_ended<F: Future>(
        &self,
        cx: &mut Context<'_>,
        future: Pin<&mut F>,
    ) -> Poll<Option<F::Output>> {
        if self.poll_ended(cx).is_ready() {
            return Poll::Ready(None);
        }
        future.poll(cx).map(Some)
    }

    /// Ready when the handler is to end.
    pub(crate) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        // What is replaced is dropped after the lock.
        let mut waker = Some(cx.waker().clone());
        let mut end = self.entry.end.lock().unwrap_or_else(PoisonError::into_inner);
        if end.asked {
            return Poll::Ready(());
        }
        std::mem::swap(&mut end.waker, &mut waker);
        Poll::Pending
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.sessions.lock();
            state.entries.remove(&self.entry.id);
            match state.entries.is_empty() {
                true => std::mem::take(&mut state.waiting),
                false => Vec::new(),
            }
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}
