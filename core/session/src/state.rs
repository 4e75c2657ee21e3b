//! The state of a session behind its lock: [`Inbound`], [`Outbound`] and [`Lifecycle`], and the transport between them.
//!
//! This file has deadlines and waiters; `reading` takes frames from the transport (`batch` many at once),
//! `writing` gives frames to it, `transforming` takes the output of extensions, `ending` ends the session.

mod batch;
mod ending;
mod pushing;
mod reading;
mod transforming;
mod writing;

pub(super) use reading::FAIR_SHARE;

use std::{
    sync::Arc,
    task::{Poll, Waker},
    time::Duration,
};

use drivetrain_engine::{
    Connection, Duties, Error, ErrorKind, Frame, Instant, OpCode, Outcome, Progress, Result,
    Runtime, Transport,
};

use super::{
    config::SessionConfig,
    deferred::DeferredWork,
    extensions::Extensions,
    inbound::Inbound,
    lifecycle::{
        Lifecycle, Phase,
        keepalive::{Jitter, Step},
        lingering::Lingering,
    },
    outbound::{
        Outbound,
        queue::SendQueue,
        send_log::{SendLog, Unacknowledged},
    },
    stats::SessionStats,
    trace::{Trace, TraceEvent},
    waiters::{For, Place, PollWaker, Waiters},
    waiting::{Receiving, TaskHandle},
};

/// How long a woken sender may take to come until the next one is served.
const TURN: Duration = Duration::from_millis(100);

/// The charge to the cooperative budget for a transform's work without visible output.
const UNSEEN_WORK: usize = 64 << 10;

/// The state of a session. Its methods never block, never wake a task, and run no code of the user's but the polls of
/// custom streams and [`Runtime::now`]: wakers are cloned before the lock is taken ([`PollWaker`]), wakers to wake and values to drop are left in `deferred`, and extensions are taken out to run.
pub(super) struct State {
    /// `None` once the session has ended.
    transport: Option<Box<dyn Transport>>,
    duties: Duties,
    /// `None` without negotiated extensions, or if the engine applies them.
    extensions: Option<Box<Extensions>>,
    pub(super) inbound: Inbound,
    pub(super) outbound: Outbound,
    pub(super) lifecycle: Lifecycle,
    runtime: Arc<dyn Runtime>,
    receiving: Arc<Receiving>,
    receive_waker: Waker,
    task: Arc<TaskHandle>,
    send_waker: Waker,
    waiters: Waiters,
    /// When to check whether the first waiters have polled, and their places.
    turn: Option<Box<(Instant, [Option<u64>; 2])>>,
    trace: Trace,
    pub(super) deferred: DeferredWork,
}

impl State {
    pub(super) fn new(
        connection: Connection,
        config: &SessionConfig,
        runtime: Arc<dyn Runtime>,
        receiving: Arc<Receiving>,
        task: Arc<TaskHandle>,
        jitter: Jitter,
        trace: Trace,
    ) -> Self {
        let duties = connection.duties();
        Self {
            duties,
            extensions: None,
            inbound: Inbound::new(config, duties),
            outbound: Outbound::new(config, duties),
            lifecycle: Lifecycle::new(config, &connection, jitter, runtime.now()),
            runtime,
            receive_waker: Waker::from(Arc::clone(&receiving)),
            receiving,
            send_waker: Waker::from(Arc::clone(&task)),
            task,
            waiters: Waiters::default(),
            turn: None,
            trace,
            deferred: DeferredWork::default(),
            transport: Some(connection.into_transport()),
        }
    }

    /// Passes messages through these extensions.
    pub(super) fn with_extensions(mut self, extensions: Option<Extensions>) -> Self {
        let (fragment, limits) =
            (self.outbound.queue.fragment_size(), self.inbound.validator.limits());
        self.extensions =
            extensions.map(|extensions| Box::new(extensions.within(fragment, limits)));
        if let Some(transport) = &mut self.transport {
            // An extension without a reserved bit changes text unmarked: it cannot be checked on the wire.
            if self.extensions.as_ref().is_none_or(|extensions| extensions.mark_messages()) {
                transport.check_text_early();
            }
        }
        self
    }

    /// The outcome, once the session has ended.
    pub(super) fn end(&self) -> Option<&Outcome> {
        self.lifecycle.end.as_deref()
    }

    /// The transport that outlives the session until the server closes TCP, if there is one.
    pub(super) fn take_lingering(&mut self) -> Option<Box<Lingering>> {
        self.lifecycle.lingering.take()
    }

    /// The outcome, preliminary before the end.
    pub(super) fn outcome(&self) -> Outcome {
        self.lifecycle.outcome()
    }

    /// The counters so far.
    pub(super) fn stats(&self) -> SessionStats {
        SessionStats {
            received: self.inbound.counted.traffic(),
            sent: self.outbound.counted.traffic(),
            latency: self.lifecycle.pings.latency(),
            smoothed_latency: self.lifecycle.pings.smoothed_latency(),
        }
    }

    /// Keeps accepted messages from now on until the peer acknowledges them.
    pub(super) fn keep_send_log(&mut self, capacity: usize) {
        self.outbound.send_log = Some(Box::new(SendLog::new(capacity, self.accepted())));
    }

    /// How many messages were accepted, queued ones included.
    fn accepted(&self) -> u64 {
        let ready = self.extensions.as_ref().map_or(0, |extensions| extensions.messages_ready());
        self.outbound.counted.traffic().messages + ready + self.outbound.queue.messages()
    }

    /// Adds an accepted message to the send log, if there is one.
    #[inline]
    pub(super) fn note(&mut self, frame: Option<&Frame>) {
        if let (Some(send_log), Some(frame)) = (&mut self.outbound.send_log, frame) {
            send_log.accept(frame, self.outbound.counted.traffic().messages, &mut self.deferred);
        }
    }

    /// Takes the unacknowledged messages, and the send log with them.
    pub(super) fn take_unacknowledged(&mut self) -> Unacknowledged {
        let Some(send_log) = self.outbound.send_log.take() else {
            return Unacknowledged::default();
        };
        // After a panic it is unknown how much was sent.
        send_log.report(if self.lifecycle.panicked {
            u64::MAX
        } else {
            self.outbound.counted.traffic().messages
        })
    }

    /// Whether this end closed before the peer's Close came in.
    pub(super) fn closed_here(&self) -> bool {
        self.lifecycle.closed_here
    }

    /// The final result of `receive`: `None` after a clean end, else the error. Drops a partial message.
    pub(super) fn last_word<T>(&mut self) -> Result<Option<T>> {
        self.inbound.reassembly.clear();
        self.lifecycle.end_error().map_or(Ok(None), Err)
    }

    /// # Errors
    /// The reason why sending fails: the error that ended the session, or
    /// [`ErrorKind::Closed`].
    #[inline]
    pub(super) fn poll_open(&mut self, waker: &mut PollWaker) -> Poll<Result<()>> {
        if self.is_open() {
            return Poll::Ready(Ok(()));
        }
        self.poll_why_closed(waker).map(Err)
    }

    /// Whether the session accepts messages.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.lifecycle.phase() == Phase::Open
    }

    #[cold]
    fn poll_why_closed(&mut self, waker: &mut PollWaker) -> Poll<Error> {
        self.read_last_words();
        if self.lifecycle.end.is_none()
            && (self.is_due() || self.lifecycle.closing.awaits_last_words(self.runtime.now()))
        {
            self.deferred.repeat(waker);
            return Poll::Pending;
        }
        let outcome = self.outcome();
        let closed = || Error::new(ErrorKind::Closed, format!("the session is closed: {outcome}"));
        let error = outcome.error.clone().filter(|_| !self.lifecycle.closing.ended_by_peer());
        Poll::Ready(error.unwrap_or_else(closed).with_outcome(outcome))
    }

    /// Writing failed: reads available input, because the peer's Close decides.
    fn read_last_words(&mut self) {
        const MOST_TURNS: usize = 16;
        if self.lifecycle.closing.is_writable() || self.lifecycle.end.is_some() {
            return;
        }
        for _ in 0..MOST_TURNS {
            if !self.fill_read_ahead() {
                return;
            }
        }
    }

    /// Sends a ping. Returns its number.
    pub(super) fn ping(&mut self, now: Instant) -> u64 {
        let (number, payload) =
            self.lifecycle.pings.start(now, self.outbound.counted.traffic().messages);
        self.outbound.queue.push_control(OpCode::Ping, payload);
        self.pump(true);
        number
    }

    /// Changes the ping interval.
    pub(super) fn set_ping_interval(&mut self, interval: Option<std::time::Duration>) {
        self.lifecycle.keepalive.set_interval(interval, self.runtime.now());
        self.ask_task();
    }

    /// Asks the session task to flush, unless everything is flushed or it was asked already.
    #[inline]
    pub(super) fn request_flush(&mut self) {
        if !self.outbound.flush_requested && !self.is_flushed() {
            self.outbound.flush_requested = true;
            self.task.pending_flush.request();
            self.deferred.wake_task();
        }
    }

    /// Everything is written, or the session task writes it now.
    pub(super) fn flush_done(&mut self) {
        if std::mem::take(&mut self.outbound.flush_requested) {
            self.task.pending_flush.done();
        }
    }

    /// Has the session task look at the session when the lock is free.
    pub(super) fn ask_task(&mut self) {
        self.task.request();
        self.deferred.wake_task();
    }

    /// Whether the session task has to read even if the application receives.
    pub(super) fn task_must_read(&self) -> bool {
        self.inbound.discards
            || !self.lifecycle.closing.is_open()
            || self.lifecycle.pings.is_awaited()
    }

    /// Whether a ping is outstanding, so that input must be read promptly for an accurate round trip.
    pub(super) fn waits_for_pong(&self) -> bool {
        self.lifecycle.pings.is_waiting()
    }

    /// The next time to call [`tick`](Self::tick).
    pub(super) fn due(&self) -> Option<Instant> {
        let due = if self.lifecycle.closing.is_open() {
            self.lifecycle.keepalive.deadline()
        } else {
            self.lifecycle.closing.check_due()
        };
        let turn = self.turn.as_ref().map(|turn| turn.0);
        due.into_iter().chain(turn).min()
    }

    /// Handles deadlines at `now`: pings, the ping timeout, the close timeout. Pump first, so that nothing writable waits.
    pub(super) fn tick(&mut self, now: Instant) {
        self.pass_turns_on(now);
        if self.lifecycle.closing.is_open()
            && self.lifecycle.keepalive.deadline().is_some_and(|due| now >= due)
        {
            self.look_for_life();
            match self.lifecycle.keepalive.step(now) {
                Step::Wait => {}
                Step::Ping => {
                    self.ping(now);
                }
                Step::Dead => self.die(),
            }
            if let Some(progress) = self.progress() {
                self.lifecycle.keepalive.note(progress, !self.is_flushed());
            }
        } else if self.lifecycle.closing.check_due().is_some_and(|due| now >= due) {
            self.fill_read_ahead();
            self.lifecycle.closing.checked(now);
        }
        self.settle();
    }

    /// Drains the socket first: unread data must not count as a missed pong, and data older than the ping must not count as
    /// its answer.
    fn look_for_life(&mut self) {
        let reads = self.lifecycle.keepalive.awaits_answer() || !self.is_input_awaited();
        let is_behind = reads && (self.fill_read_ahead() || self.has_more());
        if is_behind || self.inbound.read_ahead.is_full() {
            self.lifecycle.keepalive.saw_life();
        }
        if let Some(progress) = self.progress() {
            self.lifecycle.keepalive.saw_progress(progress, !self.is_flushed());
        }
    }

    fn progress(&self) -> Option<Progress> {
        self.transport.as_ref()?.progress()
    }

    /// Registers a waiter.
    pub(super) fn wait(&mut self, place: &mut Place, what: For, waker: &mut PollWaker) {
        if place.is_taken() && !place.is(what) {
            self.leave(place);
        }
        self.waiters.wait(place, what, waker, &mut self.deferred);
        self.outbound.queue.set_awaited(self.waiters.has(For::Room));
        self.look_after_turns();
    }

    /// Removes a waiter. If it was its turn, the next one has it.
    #[inline]
    pub(super) fn leave(&mut self, place: &mut Place) {
        if place.is_taken() {
            self.free(place);
        }
    }

    #[cold]
    fn free(&mut self, place: &mut Place) {
        let left = self.waiters.leave(place, &mut self.deferred);
        self.outbound.queue.set_awaited(self.waiters.has(For::Room));
        // Only a sender that leaves frees a turn.
        if matches!(left, Some(For::Room | For::ControlRoom)) {
            self.give_turns();
        }
    }

    /// Whether no other waiter is before this one.
    pub(super) fn is_turn(&self, place: &Place, what: For) -> bool {
        self.waiters.is_turn(place, what)
    }

    /// Progress in writing: wakes waiters that can continue.
    #[inline]
    fn wake_waiters(&mut self) {
        if !self.waiters.is_empty() {
            self.wake_those_that_can_continue();
        }
    }

    #[inline(never)]
    fn wake_those_that_can_continue(&mut self) {
        self.give_turns();
        self.waiters.wake_all(For::FragmentRoom, &mut self.deferred);
        if self.is_flushed() {
            self.waiters.wake_all(For::Flush, &mut self.deferred);
        }
    }

    /// Wakes the first sender if there is room.
    fn give_turns(&mut self) {
        if self.outbound.queue.has_room(0) {
            self.waiters.wake_first(For::Room, &mut self.deferred);
        }
        if self.outbound.queue.has_control_room() {
            self.waiters.wake_first(For::ControlRoom, &mut self.deferred);
        }
        self.look_after_turns();
    }

    /// Has the session task check in a while whether the woken sender has come, if others wait behind it: its future may be
    /// kept and never polled again.
    fn look_after_turns(&mut self) {
        if self.turn.is_some() {
            return;
        }
        let awaited = [For::Room, For::ControlRoom].map(|what| self.waiters.awaited(what));
        if awaited != [None, None] {
            self.turn = Some(Box::new((self.runtime.now() + TURN, awaited)));
            self.ask_task();
        }
    }

    /// Passes over woken senders that have not come.
    fn pass_turns_on(&mut self, now: Instant) {
        let Some(turn) = self.turn.take_if(|turn| now >= turn.0) else { return };
        for (what, before) in [For::Room, For::ControlRoom].into_iter().zip(turn.1) {
            let awaited = self.waiters.awaited(what);
            if let Some(first) = awaited.filter(|_| awaited == before) {
                self.waiters.pass(first);
            }
        }
        self.give_turns();
    }

    /// Nothing more is accepted: wakes every waiter except those for the end.
    fn wake_all_waiters(&mut self) {
        for what in [For::Room, For::ControlRoom, For::FragmentRoom, For::Flush, For::Pong] {
            self.waiters.wake_all(what, &mut self.deferred);
        }
        self.outbound.queue.set_awaited(false);
    }

    /// Begins a poll of the transport: wake-ups in it are delivered when the lock is released.
    fn begin_poll(&self) {
        self.task.begin_poll();
    }

    fn end_poll(&mut self) {
        let woken = self.task.end_poll();
        self.deferred.note_woken(woken);
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("closing", &self.lifecycle.closing)
            .field("queue", &self.outbound.queue)
            .field("read_ahead", &self.inbound.read_ahead.len())
            .field("end", &self.lifecycle.end)
            .finish_non_exhaustive()
    }
}
