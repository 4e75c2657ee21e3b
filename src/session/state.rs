//! Everything about one session that is behind its lock. Here is what comes in and what is due; `writing` is
//! what goes out, `ending` how it ends.

mod ending;
mod writing;

use std::{
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use drivetrain_engine::{
    Connection, Duties, Error, ErrorKind, Frame, Instant, OpCode, Outcome, Result, Runtime,
    Transport,
};

use super::{
    after::AfterUnlock,
    assembler::{Assembler, Event},
    closing::Closing,
    config::SessionConfig,
    cork::Cork,
    fairness::Fairness,
    inbox::Inbox,
    journal::{Journal, Unconfirmed},
    keepalive::{Keepalive, Pings, Stagger, Step},
    outbox::Outbox,
    stats::{Counter, SessionStats},
    trace::{Note, Trace},
    waiting::Receiving,
};

/// The state of a session. Its methods never block, never run a user's code, and never wake a task:
/// whoever is to be woken is left in `wake`, for after the lock.
pub(super) struct State {
    /// `None` once the session has ended.
    transport: Option<Box<dyn Transport>>,
    duties: Duties,
    assembler: Assembler,
    pub(super) outbox: Outbox,
    /// Only where somebody asks for what may be lost.
    journal: Option<Box<Journal>>,
    closing: Closing,
    keepalive: Keepalive,
    pub(super) pings: Pings,
    inbox: Inbox,
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
    /// The keeper was asked to write the tail of a burst.
    pub(super) flush_armed: bool,
    pub(super) keeper_reads: bool,
    /// Counts the application's polls, so that the keeper sees whether it is there.
    pub(super) app_polls: u64,
    pub(super) received: Fairness,
    pub(super) sent: Fairness,
    closed_here: bool,
    end: Option<Outcome>,
    runtime: Arc<dyn Runtime>,
    receiving: Arc<Receiving>,
    receive_waker: Waker,
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
        send_waker: Waker,
        stagger: Stagger,
        trace: Trace,
    ) -> Self {
        let duties = connection.duties();
        let now = runtime.now();
        Self {
            duties,
            assembler: Assembler::new(config.limits, duties),
            outbox: Outbox::new(
                duties.unit,
                config.limits.max_frame_size,
                config.outgoing_capacity,
            ),
            journal: None,
            closing: Closing::new(config.close_timeout),
            keepalive: Keepalive::new(config.ping_interval, config.ping_timeout, stagger, now),
            pings: Pings::default(),
            inbox: Inbox::new(config.incoming_capacity),
            counted_in: Counter::default(),
            counted_out: Counter::default(),
            discards: false,
            discarded: 0,
            dirty: false,
            cork: Cork::new(),
            from_socket: false,
            starved: false,
            flush_armed: false,
            keeper_reads: false,
            app_polls: 0,
            received: Fairness::default(),
            sent: Fairness::default(),
            closed_here: false,
            end: None,
            runtime,
            receive_waker: Waker::from(Arc::clone(&receiving)),
            receiving,
            send_waker,
            watchers: Vec::new(),
            trace,
            after: AfterUnlock::default(),
            transport: Some(connection.into_transport()),
        }
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
        let accepted = self.counted_out.traffic().messages + self.outbox.messages();
        self.journal = Some(Box::new(Journal::new(capacity, accepted)));
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
        journal.report(self.counted_out.traffic().messages, self.end.as_ref())
    }

    /// Whether this end closed, and before a Close of the peer's came in.
    pub(super) fn closed_here(&self) -> bool {
        self.closed_here
    }

    /// What `receive` says once the session has ended: `None` after a clean end.
    pub(super) fn last_word(&self) -> Result<Option<Frame>> {
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

    /// Takes a message that the keeper has read.
    #[inline]
    pub(super) fn take_read(&mut self) -> Option<Frame> {
        if self.inbox.is_empty() {
            return None; // as it is while the application receives
        }
        let was_full = self.inbox.is_full();
        let frame = self.inbox.pop()?;
        self.after.wake_keeper |= was_full && self.keeper_reads;
        Some(frame)
    }

    /// Reads one frame and acts on it. `Ready(None)`: something happened, but no message came of it;
    /// whoever polls looks at [`end`](Self::end) and polls again.
    #[inline]
    pub(super) fn poll_message(&mut self) -> Poll<Option<Frame>> {
        let Some(transport) = &mut self.transport else { return Poll::Ready(None) };
        if self.closing.has_received() || !self.closing.is_readable() {
            return Poll::Pending;
        }
        let max_payload = self.assembler.max_payload();
        let buffered = match self.starved {
            true => None,
            false => transport.try_receive_buffered(max_payload),
        };
        self.from_socket = buffered.is_none();
        let received = match buffered {
            Some(received) => received.map(Some),
            None => {
                self.starved = true;
                let mut cx = Context::from_waker(&self.receive_waker);
                ready!(transport.poll_receive(&mut cx, max_payload))
            }
        };
        self.starved = false;
        let frame = match received {
            Ok(Some(frame)) => frame,
            Ok(None) => return self.read_ended(None),
            Err(error) => return self.read_failed(error),
        };
        self.keepalive.saw_life();
        self.counted_in.frame(frame.payload.len());
        match self.assembler.accept(frame) {
            Ok(Event::Message(frame)) if self.closing.delivers() => Poll::Ready(Some(frame)),
            event => self.act_on(event),
        }
    }

    /// Acts on what is no message for the application.
    fn act_on(&mut self, event: Result<Event>) -> Poll<Option<Frame>> {
        match event {
            Ok(Event::Message(_)) => self.discarded += 1,
            Ok(Event::Fragment) => self.counted_in.apart(OpCode::Continuation),
            Ok(Event::Ping(payload)) => {
                self.counted_in.apart(OpCode::Ping);
                if !self.duties.answers_ping {
                    self.outbox.push_control(OpCode::Pong, payload);
                }
            }
            Ok(Event::Pong(payload)) => {
                self.counted_in.apart(OpCode::Pong);
                if self.pings.is_waiting() && self.pings.answer(&payload, self.runtime.now()) {
                    if let Some(journal) = &mut self.journal {
                        journal.confirm(self.pings.confirmed());
                    }
                    self.wake_watchers();
                }
            }
            Ok(Event::Close(reason)) => {
                self.counted_in.apart(OpCode::Close);
                self.peer_closed(reason);
            }
            Err(error) => {
                self.counted_in.apart(OpCode::Continuation); // whatever it was, it is no message
                return self.read_failed(error);
            }
        }
        Poll::Ready(None)
    }

    /// Reads what there is into the inbox, on the application's behalf. Returns whether there may be
    /// more, after a fair share.
    pub(super) fn read_ahead(&mut self) -> bool {
        const FAIR_SHARE: usize = 64;
        for _ in 0..FAIR_SHARE {
            if self.end.is_some()
                || (self.inbox.is_full() && self.closing.is_open() && !self.discards)
            {
                return false;
            }
            match self.poll_message() {
                Poll::Pending => return false,
                Poll::Ready(None) => {}
                Poll::Ready(Some(_)) if self.discards || self.inbox.is_full() => {
                    self.discarded += 1;
                }
                Poll::Ready(Some(frame)) => {
                    self.inbox.push(frame);
                    self.after.wake.extend(self.receiving.take_app());
                }
            }
        }
        true
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
        if self.closing.is_open() { self.keepalive.deadline() } else { self.closing.deadline() }
    }

    /// Does what is due at `now`: pings, the dead peer, the end of closing.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.closing.is_open() && self.keepalive.deadline().is_some_and(|due| now >= due) {
            // Nothing is judged by what merely was not read yet.
            self.read_ahead();
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
