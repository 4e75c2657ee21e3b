//! Everything about one session that is behind its lock. Here is what is due; `reading` is what comes in (`batch` when much is here),
//! `writing` what goes out, `ending` how it ends.

mod batch;
mod ending;
mod reading;
mod writing;

pub(super) use reading::FAIR_SHARE;

use std::{sync::Arc, task::Waker};

use drivetrain_engine::{
    Connection, Duties, Error, ErrorKind, Frame, Instant, Limits, OpCode, Outcome, RawFrame,
    Result, Runtime, Transport,
};

use super::{
    after::AfterUnlock,
    assembler::Assembler,
    closing::Closing,
    config::SessionConfig,
    cork::Cork,
    extensions::Extensions,
    fairness::Fairness,
    gathered::Gathered,
    inbox::Inbox,
    journal::{Journal, Unconfirmed},
    keepalive::{Keepalive, Pings, Stagger, Step},
    outbox::{FRAGMENT, Outbox},
    stats::{Counter, SessionStats},
    trace::{Note, Trace},
    waiting::{Keeper, Receiving, Sending},
};

/// The state of a session. Its methods never block, never run a user's code, and never wake a task:
/// whoever is to be woken is left in `wake`, for after the lock.
pub(super) struct State {
    /// `None` once the session has ended.
    transport: Option<Box<dyn Transport>>,
    duties: Duties,
    assembler: Assembler,
    /// `None` if none was agreed on, or the engine applies them.
    extensions: Option<Box<Extensions>>,
    limits: Limits,
    pub(super) outbox: Outbox,
    /// Only where somebody asks for what may be lost.
    journal: Option<Box<Journal>>,
    closing: Closing,
    keepalive: Keepalive,
    pub(super) pings: Pings,
    inbox: Inbox,
    /// What `receive` has of a message in fragments; what is in the inbox comes after it.
    gathered: Gathered,
    /// A reader is in the middle of a message.
    has_reader: bool,
    /// The rest of the message that is coming in is thrown away.
    skips: bool,
    counted_in: Counter,
    counted_out: Counter,
    /// The receiving half is gone: what comes in is thrown away.
    pub(super) discards: bool,
    discarded: u64,
    /// Something was given to the transport that is not written yet.
    dirty: bool,
    pub(super) cork: Cork,
    /// What was received last came from the socket, not from what an earlier read had brought.
    pub(super) from_socket: bool,
    /// Nothing is buffered: receiving was pending.
    starved: bool,
    /// How many wake-ups there had been when receiving was pending, if it was when it was tried last.
    pending_after: Option<u64>,
    /// The keeper was asked to write the burst; `keeper.burst` says it to who has not the lock.
    is_armed: bool,
    /// What came behind a batch and is no whole message.
    held_back: Option<Result<RawFrame>>,
    pub(super) keeper_reads: bool,
    /// Counts the application's polls, so that the keeper sees whether it is there.
    pub(super) app_polls: u64,
    pub(super) received: Fairness,
    pub(super) sent: Fairness,
    closed_here: bool,
    /// The engine sends Pings.
    sends_pings: bool,
    end: Option<Outcome>,
    runtime: Arc<dyn Runtime>,
    receiving: Arc<Receiving>,
    receive_waker: Waker,
    keeper: Arc<Keeper>,
    send_waker: Waker,
    watchers: Vec<Waker>,
    trace: Trace,
    pub(super) after: AfterUnlock,
}

impl State {
    pub(super) fn new(
        connection: Connection,
        config: &SessionConfig,
        runtime: Arc<dyn Runtime>,
        receiving: Arc<Receiving>,
        keeper: Arc<Keeper>,
        stagger: Stagger,
        trace: Trace,
    ) -> Self {
        let duties = connection.duties();
        let now = runtime.now();
        Self {
            duties,
            assembler: Assembler::new(config.limits, duties),
            extensions: None,
            limits: config.limits,
            outbox: Outbox::new(duties.unit, config.limits, config.outgoing_capacity),
            journal: None,
            closing: Closing::new(config.close_timeout),
            keepalive: Keepalive::new(config.ping_interval, config.ping_timeout, stagger, now),
            pings: Pings::default(),
            inbox: Inbox::new(config.incoming_capacity),
            gathered: Gathered::default(),
            has_reader: false,
            skips: false,
            counted_in: Counter::default(),
            counted_out: Counter::default(),
            discards: false,
            discarded: 0,
            dirty: false,
            cork: Cork::new(),
            from_socket: false,
            starved: false,
            pending_after: None,
            is_armed: false,
            held_back: None,
            keeper_reads: false,
            app_polls: 0,
            received: Fairness::default(),
            sent: Fairness::default(),
            closed_here: false,
            sends_pings: config.no_pings.is_none(),
            end: None,
            runtime,
            receive_waker: Waker::from(Arc::clone(&receiving)),
            receiving,
            send_waker: Waker::from(Arc::new(Sending(Arc::clone(&keeper)))),
            keeper,
            watchers: Vec::new(),
            trace,
            after: AfterUnlock::default(),
            transport: Some(connection.into_transport()),
        }
    }

    /// The same, with messages that pass through these.
    pub(super) fn with_extensions(mut self, extensions: Option<Extensions>) -> Self {
        let (unit, limits) = (self.duties.unit, self.limits);
        self.extensions = extensions.map(|extensions| Box::new(extensions.within(unit, limits)));
        if let Some(transport) = &mut self.transport {
            // Text that passes through an extension without a bit to say so is not text yet.
            if self.extensions.as_ref().is_none_or(|extensions| extensions.mark_messages()) {
                transport.check_text_early();
            }
        }
        self
    }

    /// How the session ended, once it has.
    pub(super) fn end(&self) -> Option<&Outcome> {
        self.end.as_ref()
    }

    /// The outcome as it stands, also before the end.
    pub(super) fn outcome(&self) -> Outcome {
        self.end.clone().unwrap_or_else(|| self.closing.report(None))
    }

    /// What was carried so far.
    pub(super) fn stats(&self) -> SessionStats {
        SessionStats {
            received: self.counted_in.traffic(),
            sent: self.counted_out.traffic(),
            latency: self.pings.latency(),
            smoothed_latency: self.pings.smoothed_latency(),
        }
    }

    /// Keeps what is accepted from now on until it is known to have arrived.
    pub(super) fn keep_journal(&mut self, capacity: usize) {
        self.journal = Some(Box::new(Journal::new(capacity, self.accepted())));
    }

    /// How many messages were accepted, with those that wait.
    fn accepted(&self) -> u64 {
        let ready = self.extensions.as_ref().map_or(0, |extensions| extensions.messages_ready());
        self.counted_out.traffic().messages + ready + self.outbox.messages()
    }

    /// Takes this message down, which is accepted now, if there is a journal.
    #[inline]
    pub(super) fn note(&mut self, frame: Option<&Frame>) {
        if let (Some(journal), Some(frame)) = (&mut self.journal, frame) {
            journal.accept(frame, self.counted_out.traffic().messages);
        }
    }

    /// What was accepted and is not known to have arrived; the journal is over.
    pub(super) fn take_unconfirmed(&mut self) -> Unconfirmed {
        let Some(journal) = self.journal.take() else { return Unconfirmed::default() };
        journal.report(self.counted_out.traffic().messages)
    }

    /// The same if nothing is certain.
    pub(super) fn take_doubtful(&mut self) -> Unconfirmed {
        self.journal.take().map(|journal| journal.report(u64::MAX)).unwrap_or_default()
    }

    /// Whether this end closed, and before a Close of the peer's came in.
    pub(super) fn closed_here(&self) -> bool {
        self.closed_here
    }

    /// What `receive` says once the session has ended: `None` after a clean end.
    ///
    /// What was gathered of a message that can never be whole is nobody's from then on: the end comes last.
    pub(super) fn last_word<T>(&mut self) -> Result<Option<T>> {
        self.gathered.clear();
        let Some(end) = &self.end else { return Ok(None) };
        match &end.error {
            None => Ok(None),
            Some(error) => Err(error.clone().with_outcome(end.clone())),
        }
    }

    /// # Errors
    /// Why nothing can be sent any more: the error that ended the session, or
    /// [`ErrorKind::Closed`].
    #[inline]
    pub(super) fn check_open(&self) -> Result<()> {
        if self.closing.is_open() && self.end.is_none() {
            return Ok(());
        }
        let outcome = self.outcome();
        let error = match &outcome.error {
            Some(error) => error.clone(),
            None => Error::new(ErrorKind::Closed, format!("the session is closed: {outcome}")),
        };
        Err(error.with_outcome(outcome))
    }

    /// Sends a ping. Returns its number.
    pub(super) fn ping(&mut self, now: Instant) -> u64 {
        let (number, payload) = self.pings.start(now, self.counted_out.traffic().messages);
        self.outbox.push_control(OpCode::Ping, payload);
        self.pump(true);
        number
    }

    /// Changes the ping interval.
    pub(super) fn set_ping_interval(&mut self, interval: Option<std::time::Duration>) {
        self.keepalive.set_interval(interval, self.runtime.now());
        self.ask_keeper();
    }

    /// Has the keeper write what is not written yet, if nobody else does.
    #[inline]
    pub(super) fn arm_flush(&mut self) {
        if !self.is_armed && !self.is_flushed() {
            self.is_armed = true;
            self.keeper.burst.arm();
            self.after.wake_keeper = true;
        }
    }

    /// All is written, or the keeper writes it now.
    pub(super) fn disarm_flush(&mut self) {
        if std::mem::take(&mut self.is_armed) {
            self.keeper.burst.disarm();
        }
    }

    /// Has the keeper look at the session when the lock is free.
    pub(super) fn ask_keeper(&mut self) {
        self.keeper.ask_to_look();
        self.after.wake_keeper = true;
    }

    /// Whether the keeper is to read at once, whatever the application does.
    pub(super) fn keeper_must_read(&self) -> bool {
        self.discards || !self.closing.is_open() || self.pings.is_awaited()
    }

    /// Whether a pong is to come that would be timed too late if it were read only in a while.
    pub(super) fn waits_for_pong(&self) -> bool {
        self.pings.is_waiting()
    }

    /// When [`tick`](Self::tick) is to be called next.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.closing.is_open() { self.keepalive.deadline() } else { self.closing.look_due() }
    }

    /// Does what is due at `now`: pings, the dead peer, the end of closing.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.closing.is_open() && self.keepalive.deadline().is_some_and(|due| now >= due) {
            // Nothing is judged by what merely was not read yet, and what came before a ping is no answer to it.
            if self.keepalive.awaits_answer() || !self.is_input_awaited() {
                self.read_ahead();
            }
            if self.inbox.is_full() {
                self.keepalive.saw_life();
            }
            match self.keepalive.step(now) {
                Step::Wait => {}
                Step::Ping => {
                    self.ping(now);
                }
                Step::Dead => self.die(),
            }
        } else if self.closing.look_due().is_some_and(|due| now >= due) {
            self.read_ahead();
            self.closing.looked(now);
        }
        self.settle();
    }

    /// Wakes this task when something changes: room, a pong, the end.
    pub(super) fn watch(&mut self, waker: &Waker) {
        if !self.watchers.iter().any(|known| known.will_wake(waker)) {
            self.watchers.push(waker.clone());
        }
    }

    fn wake_watchers(&mut self) {
        self.after.wake.append(&mut self.watchers);
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("closing", &self.closing)
            .field("outbox", &self.outbox)
            .field("read_ahead", &self.inbox.len())
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}
