//! What the halves of a session share: the lock, and the polls that go through it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, TryLockError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use drivetrain_engine::{
    CloseReason, Connection, Error, ErrorKind, Frame, Instant, NegotiatedExtension, OpCode,
    Outcome, Protocol, Result, Runtime, Unit,
};
use tracing::Span;

use super::{
    batch::Batch,
    config::SessionConfig,
    extensions::Extensions,
    inbox::Arrival,
    journal::Unconfirmed,
    keepalive::Stagger,
    state::State,
    stats::SessionStats,
    trace::Trace,
    waiting::{Keeper, Receiving},
};

/// One session: shared by its halves and by the keeper task.
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) keeper: Arc<Keeper>,
    pub(super) receiving: Arc<Receiving>,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) config: Arc<SessionConfig>,
    pub(super) facts: Facts,
    /// Counts what the application took of its batches, without the lock.
    pub(super) taken: AtomicU64,
    /// Counts the messages that were accepted, under the lock, to be looked at without it.
    accepted: AtomicU64,
}

/// What was agreed on when the connection was opened.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) protocol: Protocol,
    pub(super) subprotocol: Option<String>,
    pub(super) extensions: Vec<NegotiatedExtension>,
    pub(super) response: Option<http::Response<()>>,
    /// The connection takes whole messages only.
    pub(super) whole_messages: bool,
}

/// Whether a message is written at once if it is the first, or in any case with those after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// `send`: the first after waiting for input is written at once.
    Send,
    /// `feed`: none is.
    Feed,
}

impl Shared {
    pub(super) fn new(
        connection: Connection,
        extensions: Option<Extensions>,
        runtime: Arc<dyn Runtime>,
        config: Arc<SessionConfig>,
        stagger: Stagger,
        span: &Span,
    ) -> Arc<Self> {
        let keeper = Arc::new(Keeper::default());
        let receiving = Arc::new(Receiving::new(Arc::clone(&keeper)));
        let facts = Facts {
            protocol: connection.protocol(),
            subprotocol: connection.subprotocol().map(str::to_owned),
            extensions: connection.extensions().to_vec(),
            response: connection.response().cloned(),
            whole_messages: connection.duties().unit == Unit::Messages,
        };
        let state = State::new(
            connection,
            &config,
            Arc::clone(&runtime),
            Arc::clone(&receiving),
            Arc::clone(&keeper),
            stagger,
            Trace::new(span),
        )
        .with_extensions(extensions);
        Arc::new(Self {
            state: Mutex::new(state),
            keeper,
            receiving,
            runtime,
            config,
            facts,
            taken: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
        })
    }

    /// Runs `f` on the state, under the lock; wakes and drops what it left behind after it.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if a panic has left the lock poisoned.
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> Result<R> {
        let Ok(mut state) = self.state.lock() else {
            return Err(Error::new(ErrorKind::Io, "a panic has left the session unusable")
                .with_engine(self.config.engine.to_string()));
        };
        let result = f(&mut state);
        if !state.after.is_empty() {
            self.unlock(state);
        }
        Ok(result)
    }

    /// Whether somebody has the lock now.
    pub(super) fn is_locked(&self) -> bool {
        matches!(self.state.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// Frees the lock, and then does what is left to do.
    #[cold]
    fn unlock(&self, mut state: MutexGuard<'_, State>) {
        let after = std::mem::take(&mut state.after);
        drop(state);
        if let Some(notes) = after.notes {
            notes.tell();
        }
        if after.wake_keeper {
            self.keeper.wake_task();
        }
        for waker in after.wake {
            waker.wake();
        }
    }

    /// The next message; `None` after a clean end. Those that are here with it go into the batch, whose turn is
    /// before that of the next call.
    pub(super) fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        batch: &mut Batch,
    ) -> Poll<Result<Option<Frame>>> {
        let size = |frame: &Frame| frame.payload().len();
        let fill = |state: &mut State| state.fill(batch);
        self.poll_incoming(cx, State::take_read, State::poll_message, size, fill)
    }

    /// The next message or fragment; `None` after a clean end.
    pub(super) fn poll_part(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Arrival>>> {
        self.poll_incoming(cx, State::take_part, State::poll_part, Arrival::len, |_| ())
    }

    /// What the keeper has read (`take`), or else what the transport has (`poll`), and then what it has with it
    /// (`fill`).
    #[inline(always)]
    fn poll_incoming<T>(
        &self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut State) -> Option<T>,
        poll: impl Fn(&mut State) -> Poll<Option<T>>,
        size: impl Fn(&T) -> usize,
        fill: impl FnOnce(&mut State),
    ) -> Poll<Result<Option<T>>> {
        self.with(|state| {
            state.app_polls += 1;
            if state.keeper_reads && !state.keeper_must_read() {
                state.keeper_reads = false;
                self.receiving.set_keeper_reads(false);
                self.receiving.disarm();
            }
            if let Some(taken) = take(state) {
                if self.receiving.arm() {
                    state.ask_keeper();
                }
                return Poll::Ready(Ok(Some(taken)));
            }
            let wakes = self.receiving.wakes();
            loop {
                if state.end().is_some() {
                    return Poll::Ready(state.last_word());
                }
                if state.received.is_exhausted() {
                    state.pump(true);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                match poll(state) {
                    Poll::Ready(came) => {
                        state.received.count(came.as_ref().map_or(0, &size));
                        if let Some(came) = came {
                            state.cork.receives(state.from_socket);
                            if self.receiving.arm() {
                                state.ask_keeper();
                            }
                            fill(state);
                            state.arm_flush();
                            return Poll::Ready(Ok(Some(came)));
                        }
                    }
                    Poll::Pending => break,
                }
            }
            state.pump(true);
            if state.end().is_some() {
                return Poll::Ready(state.last_word());
            }
            state.cork.waits();
            state.received.reset();
            state.sent.reset();
            if self.receiving.wait(cx.waker(), wakes) {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        })?
    }

    /// A number that changes whenever the application comes for a message. Called under the lock.
    pub(super) fn app_comes(&self, state: &State) -> u64 {
        state.app_polls.wrapping_add(self.taken.load(Ordering::Relaxed))
    }

    /// Takes the frame out of `slot` in the poll in which it is accepted, and not before.
    pub(super) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        slot: &mut Option<Frame>,
        urgency: Urgency,
    ) -> Poll<Result<()>> {
        self.with(|state| {
            if !state.pass(slot) {
                ready!(state.poll_accept(cx, slot, &self.config))?;
            }
            self.accepted.store(self.accepted() + 1, Ordering::Relaxed);
            if urgency == Urgency::Send && state.cork.lets_pass() {
                state.pump(true);
            } else {
                state.arm_flush();
            }
            Poll::Ready(Ok(()))
        })?
    }

    /// How many messages were accepted.
    #[inline]
    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Ready when no other message is streamed and one may be begun, which it then is.
    pub(super) fn poll_begin_stream(&self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.with(|state| {
            state.check_open()?;
            if state.outbox.is_streaming() {
                state.watch(cx.waker());
                return Poll::Pending;
            }
            state.begin_stream();
            Poll::Ready(Ok(()))
        })?
    }

    /// Takes a part of so many bytes of the streamed message: `take` is called in the poll in which it is
    /// accepted, and not before.
    pub(super) fn poll_send_part(
        &self,
        cx: &mut Context<'_>,
        size: usize,
        last: bool,
        take: impl FnOnce() -> (OpCode, Bytes),
    ) -> Poll<Result<()>> {
        self.with(|state| {
            state.check_open()?;
            if state.sent.is_exhausted() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if !state.outbox.has_room_for_part(size) {
                state.pump(true);
                state.check_open()?;
                if !state.outbox.has_room_for_part(size) {
                    state.watch(cx.waker());
                    return Poll::Pending;
                }
            }
            state.sent.count(size);
            let (opcode, payload) = take();
            state.accept_part(opcode, payload, last);
            if last && state.cork.lets_pass() {
                state.pump(true);
            } else {
                state.pump(false);
                state.arm_flush();
            }
            Poll::Ready(Ok(()))
        })?
    }

    /// Ready when everything accepted is written.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.with(|state| {
            state.pump(true);
            if let Some(error) = state.write_error() {
                return Poll::Ready(Err(error));
            }
            if state.is_flushed() {
                return Poll::Ready(Ok(()));
            }
            state.watch(cx.waker());
            Poll::Pending
        })?
    }

    /// Begins to close; the keeper goes on with it.
    pub(super) fn close(&self, reason: CloseReason) -> Result<()> {
        self.with(|state| state.close(reason))
    }

    /// Ready when the session has ended.
    pub(super) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<Result<Outcome>> {
        self.with(|state| match state.end() {
            Some(outcome) => Poll::Ready(Ok(outcome.clone())),
            None => {
                state.watch(cx.waker());
                Poll::Pending
            }
        })?
    }

    /// What was carried so far; nothing if a panic has left the session unusable.
    pub(super) fn stats(&self) -> SessionStats {
        self.with(|state| state.stats()).unwrap_or_default()
    }

    /// What was accepted and is not known to have arrived. After a panic nobody knows how far it got: all of
    /// it may have.
    pub(super) fn take_unconfirmed(&self) -> Unconfirmed {
        match self.state.lock() {
            Ok(mut state) => state.take_unconfirmed(),
            Err(poisoned) => poisoned.into_inner().take_doubtful(),
        }
    }

    /// Sends a ping and has the keeper look out for its pong.
    pub(super) fn start_ping(&self) -> Result<(u64, Instant)> {
        let now = self.runtime.now();
        self.with(|state| {
            state.check_open()?;
            state.pings.await_one();
            state.ask_keeper();
            Ok((state.ping(now), now))
        })?
    }

    /// Nobody waits any more for the ping that was started last.
    pub(super) fn stop_ping(&self) {
        // A poisoned session has no pings to count.
        let _ = self.with(|state| state.pings.awaited_one());
    }

    /// Ready with the round trip when the ping of this number is answered.
    pub(super) fn poll_pong(&self, cx: &mut Context<'_>, number: u64) -> Poll<Result<Duration>> {
        self.with(|state| {
            if state.pings.is_answered(number) {
                return Poll::Ready(Ok(state.pings.latency().unwrap_or_default()));
            }
            state.check_open()?;
            state.watch(cx.waker());
            Poll::Pending
        })?
    }

    /// The receiving half is gone, the sending half is not.
    pub(super) fn discard_incoming(&self, batch: &Batch) {
        // A poisoned session reads nothing that could be discarded.
        let _ = self.with(|state| state.discard_incoming(batch.len()));
    }

    /// The last half is gone.
    pub(super) fn abandon(&self) {
        // A poisoned session ends with the memory it is in.
        let _ = self.with(|state| state.abandon(CloseReason::going_away()));
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("engine", &self.config.engine).finish_non_exhaustive()
    }
}
