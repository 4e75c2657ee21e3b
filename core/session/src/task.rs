//! The session task: the one small task of a session, and the only place that sleeps.
//!
//! While the application receives, its own polls do all the work, and the task sleeps. The task wakes for pings, the ping
//! and close timeouts, a pending flush, a socket that was full, and to read for an application that does not receive, or
//! not fast enough.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    thread,
    time::Duration,
};

use drivetrain_engine::{Error, ErrorKind, Instant, Timer};
use tracing::{Instrument as _, Span, instrument::Instrumented};

use super::{
    budget::FAIR_SHARE,
    inbound::read_ahead::OVERHEAD,
    lifecycle::lingering::{Linger, Lingering},
    shared::Shared,
    state::State,
};

/// How long the application may not receive, or lag, until the session task reads for it. A ping waits at most twice this
/// for its pong.
const GRACE: Duration = Duration::from_millis(400);

/// How often the session task checks whether another thread is still sending, at most, and for how long.
const MOST_CHECKS: usize = 32;
const LONGEST_WAIT: Duration = Duration::from_micros(50);

/// The least that a full turn of reading adds to the read-ahead buffer, in bytes.
const TURN: usize = FAIR_SHARE * OVERHEAD;

/// The spawned task: the session until its end, and then a client's transport until the server closes TCP.
pub(super) enum Task {
    /// Runs in the session's span, which closes at the session's end.
    Session(Instrumented<SessionTask>),
    Linger(Linger),
}

impl Task {
    pub(super) fn new(shared: Arc<Shared>, span: Span) -> Self {
        Self::Session(SessionTask::new(shared).instrument(span))
    }
}

impl Future for Task {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let task = self.get_mut();
        if let Self::Session(session) = task {
            match ready!(Pin::new(session).poll(cx)) {
                Some(linger) => *task = Self::Linger(linger),
                None => return Poll::Ready(()),
            }
        }
        match task {
            Self::Linger(linger) => Pin::new(linger).poll(cx),
            Self::Session(_) => Poll::Pending,
        }
    }
}

/// Runs a session until its end.
pub(super) struct SessionTask {
    shared: Arc<Shared>,
    timer: Option<(Instant, Box<dyn Timer>)>,
    /// The timer is armed.
    is_timed: bool,
    grace: Option<Grace>,
    /// How many turns of reading are left for an application that polls but lags.
    turns: usize,
}

/// A check whether the application still receives.
#[derive(Clone, Copy)]
struct Grace {
    until: Instant,
    app_comes: u64,
}

enum Next {
    /// The transport lingers on a client after both Closes.
    Ended(Option<Box<Lingering>>),
    More,
    Sleep(Option<Instant>),
}

impl SessionTask {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, timer: None, is_timed: false, grace: None, turns: 0 }
    }

    /// Waits up to 50 µs for another thread that is sending to finish, so that its messages go out in one write. The wait
    /// ends when that thread pauses or flushes by itself. Nobody sends on this thread while the session task runs.
    ///
    /// This blocks a worker, which a future must not do for long. Without it, a burst of 64 messages left in five writes
    /// instead of one on a runtime with several threads, because the sender and this task waited for each other's lock
    /// (`docs/adr/0008-lock-task-coalescing.md`; the suite's `outbox` cases count the writes).
    fn let_others_send(&self) {
        let pending_flush = &self.shared.task.pending_flush;
        if !pending_flush.is_requested_elsewhere() {
            return;
        }
        let until = self.shared.runtime.now() + LONGEST_WAIT;
        let mut seen = self.shared.accepted();
        for _ in 0..MOST_CHECKS {
            thread::yield_now();
            let accepted = self.shared.accepted();
            // The lock is checked last, because checking takes it.
            let goes_on =
                pending_flush.is_requested() && (accepted != seen || self.shared.is_busy());
            if !goes_on || self.shared.runtime.now() > until {
                return;
            }
            seen = accepted;
        }
    }

    /// Whether the task has work. A flush by another task is detected without the lock.
    fn has_to_come(&mut self, cx: &mut Context<'_>) -> bool {
        let task = &self.shared.task;
        let is_due = |(_, timer): &mut (Instant, Box<dyn Timer>)| timer.poll(cx).is_ready();
        task.take_request()
            || task.pending_flush.is_requested()
            || (self.is_timed && self.timer.as_mut().is_some_and(is_due))
    }

    fn step(&mut self) -> Next {
        let shared = Arc::clone(&self.shared);
        let now = shared.runtime.now();
        shared.with(|state| {
            state.flush_done();
            state.pump(true);
            state.tick(now);
            let was_reading = state.inbound.task_reads;
            let grace = self.look_after(state, now);
            // If the socket was drained, its waker will fire: do not poll it again.
            let is_told = was_reading && state.is_input_awaited();
            let more = !is_told && self.read(state);
            state.pump(true);
            let due = state.due();
            if state.end().is_some() {
                Next::Ended(state.take_lingering())
            } else if more {
                Next::More
            } else {
                Next::Sleep(due.into_iter().chain(grace).min())
            }
        })
    }

    /// Reads if it is the session task's turn. Returns whether it has to read more.
    fn read(&mut self, state: &mut State) -> bool {
        let reads = state.inbound.task_reads || self.turns > 0;
        let more = reads && state.fill_read_ahead();
        if !state.is_due() {
            self.turns = self.turns.saturating_sub(1); // else the turn is cut short by an extension
        }
        if more {
            return state.inbound.task_reads || self.turns > 0;
        }
        self.turns = 0;
        false
    }

    /// Decides whether the session task reads. Returns when to decide again.
    fn look_after(&mut self, state: &mut State, now: Instant) -> Option<Instant> {
        let receiving = &self.shared.receiving;
        let app_comes = self.shared.app_comes(state);
        if state.task_must_read() || (state.waits_for_pong() && !receiving.app_waits()) {
            state.inbound.task_reads = true;
        }
        if !state.inbound.task_reads && receiving.is_watched() {
            match self.grace {
                None => {
                    self.grace = Some(Grace { until: now + GRACE, app_comes });
                }
                Some(grace) if now >= grace.until => {
                    let came = app_comes.wrapping_sub(grace.app_comes);
                    // Unwatch first: input that wakes the application in between watches again.
                    receiving.unwatch();
                    if receiving.app_waits() {
                        self.grace = None;
                    } else {
                        receiving.watch_again();
                        state.inbound.task_reads = came == 0;
                        let capacity = self.shared.config.incoming_capacity;
                        if (1..capacity.div_ceil(OVERHEAD) as u64).contains(&came) {
                            // The application polls but lags: read ahead at most one buffer, so that pings behind
                            // it are answered. An application that takes as much as that in the meantime does not
                            // lag: it reaches them as soon.
                            self.turns = capacity.div_ceil(TURN);
                        }
                        self.grace = Some(Grace { until: now + GRACE, app_comes });
                    }
                }
                Some(_) => {}
            }
        }
        if state.inbound.task_reads || !receiving.is_watched() {
            self.grace = None;
        }
        receiving.set_task_reads(state.inbound.task_reads);
        self.grace.map(|grace| grace.until)
    }

    fn poll_timer(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let (due, timer) =
            self.timer.get_or_insert_with(|| (deadline, self.shared.runtime.timer(deadline)));
        if *due != deadline {
            *due = deadline;
            timer.reset(deadline);
        }
        timer.poll(cx)
    }
}

impl Future for SessionTask {
    type Output = Option<Linger>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Linger>> {
        self.shared.task.register(cx.waker());
        self.let_others_send();
        if !self.has_to_come(cx) {
            return Poll::Pending;
        }
        loop {
            let next = self.step();
            self.is_timed = matches!(next, Next::Sleep(Some(_)));
            match next {
                Next::Ended(lingering) => {
                    let runtime = || Arc::clone(&self.shared.runtime);
                    return Poll::Ready(lingering.map(|lingering| lingering.on(runtime())));
                }
                Next::More => {
                    self.shared.task.request_step();
                    return Poll::Pending;
                }
                Next::Sleep(None) => return Poll::Pending,
                Next::Sleep(Some(deadline)) => {
                    if self.poll_timer(deadline, cx).is_pending() {
                        return Poll::Pending;
                    }
                    if self.shared.runtime.now() < deadline {
                        // A timer may be early on a coarse clock: poll it again.
                        self.shared.task.request_step();
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl Drop for SessionTask {
    fn drop(&mut self) {
        // Without its task a session can neither ping nor time out: it ends now.
        let lingering = self.shared.with(|state| {
            if state.end().is_none() {
                state.abort(Error::new(
                    ErrorKind::Other,
                    "the runtime of the session has shut down",
                ));
            }
            state.take_lingering()
        });
        drop(lingering); // without the lock
    }
}
