//! The state that the halves of a session and its task share: the lock, and the polls that take it.

use std::{
    fmt, mem,
    sync::{Arc, PoisonError, TryLockError, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use drivetrain_engine::{
    CloseReason, Connection, Error, ErrorKind, Frame, OpCode, Outcome, Result, Runtime,
};
use tracing::Span;

use super::{
    config::SessionConfig,
    extensions::Extensions,
    facts::Facts,
    inbound::batch::Batch,
    inbound::read_ahead::InboundItem,
    lane::{Lane, Overflow, Pushed},
    lifecycle::keepalive::Jitter,
    outbound::send_log::Unacknowledged,
    state::State,
    stats::SessionStats,
    sync::{AtomicU64, Mutex, MutexGuard},
    trace::Trace,
    waiters::{For, Place, PollWaker},
    waiting::{Receiving, TaskHandle},
};

/// One session: shared by its halves and by the session task.
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) task: Arc<TaskHandle>,
    pub(super) receiving: Arc<Receiving>,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) config: Arc<SessionConfig>,
    pub(super) facts: Facts,
    /// How many messages the application took out of its batches, counted without the lock.
    taken: AtomicU64,
    /// How many messages were accepted; written under the lock, read without it.
    accepted: AtomicU64,
}

/// Whether a message may be written at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// `send`: the first message after waiting for input is written at once.
    Send,
    /// `feed`: the message is written with later ones.
    Feed,
}

impl Shared {
    pub(super) fn new(
        connection: Connection,
        extensions: Option<Extensions>,
        runtime: Arc<dyn Runtime>,
        config: Arc<SessionConfig>,
        jitter: Jitter,
        span: &Span,
    ) -> Arc<Self> {
        let task = Arc::new(TaskHandle::default());
        let receiving = Arc::new(Receiving::new(Arc::clone(&task)));
        let facts = Facts::of(&connection);
        let state = State::new(
            connection,
            &config,
            Arc::clone(&runtime),
            Arc::clone(&receiving),
            Arc::clone(&task),
            jitter,
            Trace::new(span),
        )
        .with_extensions(extensions);
        Arc::new(Self {
            state: Mutex::new(state),
            task,
            receiving,
            runtime,
            config,
            facts,
            taken: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
        })
    }

    /// Runs `f` on the state under the lock, and then its deferred work without it. A panic ends the session.
    #[inline]
    pub(super) fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        // Declared before the lock, so that it is dropped after it.
        let ends = EndsByPanic(self);
        let mut state = self.lock();
        let result = f(&mut state);
        if !state.deferred.is_empty() {
            self.unlock(state);
        }
        mem::forget(ends);
        result
    }

    /// Runs user code without the lock. A panic ends the session.
    #[inline]
    pub(super) fn guard<R>(&self, code: impl FnOnce() -> R) -> R {
        let ends = EndsByPanic(self);
        let result = code();
        mem::forget(ends);
        result
    }

    /// As [`with`](Self::with), for a poll that may wait.
    fn poll_with<R>(&self, cx: &Context<'_>, f: impl FnOnce(&mut State, &mut PollWaker) -> R) -> R {
        let mut waker = self.guard(|| PollWaker::of(cx));
        let result = self.with(|state| f(state, &mut waker));
        self.guard(|| drop(waker));
        result
    }

    #[inline]
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| self.recover(poisoned))
    }

    /// The lock is poisoned: ends the session, unless it has ended.
    #[cold]
    fn recover<'a>(&self, poisoned: PoisonError<MutexGuard<'a, State>>) -> MutexGuard<'a, State> {
        let mut state = poisoned.into_inner();
        state.end_by_panic(|| self.panic_error());
        state
    }

    /// User code panicked: closes the socket and wakes every waiter.
    #[cold]
    fn end_by_panic(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.end_by_panic(|| self.panic_error());
        let deferred = mem::take(&mut state.deferred);
        drop(state);
        // The first panic is the one that is resumed.
        deferred.run(&self.task, &self.receiving).forget();
    }

    fn panic_error(&self) -> Error {
        let message = "a panic in user code has ended the session: in an extension, a waker, a \
                       converter, or a payload's drop";
        Error::new(ErrorKind::Io, message).with_engine(self.config.engine.to_string())
    }

    /// Whether another thread works on the session now: it has the lock, or runs an extension.
    pub(super) fn is_busy(&self) -> bool {
        match self.state.try_lock() {
            Ok(state) => state.is_transforming(),
            Err(error) => matches!(error, TryLockError::WouldBlock),
        }
    }

    /// Releases the lock, then does the deferred work, and runs the extensions if they are due.
    #[cold]
    fn unlock(&self, mut state: MutexGuard<'_, State>) {
        if state.is_due() {
            return self.transform(state);
        }
        let deferred = mem::take(&mut state.deferred);
        drop(state);
        let panics = deferred.run(&self.task, &self.receiving);
        if !panics.is_empty() {
            self.end_by_panic();
            panics.resume();
        }
    }

    /// As [`unlock`](Self::unlock): runs the extensions, and again if they are due once more.
    #[inline(never)]
    fn transform<'a>(&'a self, mut state: MutexGuard<'a, State>) {
        while let Some(job) = state.take_job() {
            let deferred = mem::take(&mut state.deferred);
            drop(state);
            let mut panics = deferred.run(&self.task, &self.receiving);
            let done = match panics.is_empty() {
                true => job.run(&mut panics),
                false => Err(job.into_stages()),
            };
            match done {
                Ok(done) => {
                    state = self.lock();
                    state.transformed(done);
                }
                Err(stages) => {
                    self.end_by_panic();
                    panics.catch(|| drop(stages));
                    return panics.resume(); // unless a panic is on its way already
                }
            }
        }
        if !state.deferred.is_empty() {
            self.unlock(state);
        }
    }

    /// The next message; `None` after a clean end. Messages that came with it go into the batch: empty the batch before
    /// the next call.
    pub(super) fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        batch: &mut Batch,
    ) -> Poll<Result<Option<Frame>>> {
        loop {
            let size = |frame: &Frame| frame.payload().len();
            let fill = |state: &mut State| state.fill(batch);
            let polled = self.poll_incoming(cx, State::take_read, State::poll_message, size, fill);
            if let Some(polled) = polled {
                return polled;
            }
        }
    }

    /// The next message or fragment; `None` after a clean end.
    pub(super) fn poll_fragment(&self, cx: &mut Context<'_>) -> Poll<Result<Option<InboundItem>>> {
        loop {
            let (take, poll) = (State::take_fragment, State::poll_fragment);
            if let Some(polled) = self.poll_incoming(cx, take, poll, InboundItem::len, |_| ()) {
                return polled;
            }
        }
    }

    /// Takes an item that the session task has read (`take`), else polls the transport (`poll`), and then takes the items
    /// behind it (`fill`). `None`: an extension has run for it, so that it is to be repeated.
    #[inline(always)]
    fn poll_incoming<T>(
        &self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut State) -> Option<T>,
        poll: impl Fn(&mut State) -> Poll<Option<T>>,
        size: impl Fn(&T) -> usize,
        fill: impl FnOnce(&mut State),
    ) -> Option<Poll<Result<Option<T>>>> {
        // The waker of an earlier wait, to be dropped without the lock. It is not left to `deferred`, which would allocate.
        let mut before = None;
        let polled = self.poll_with(cx, |state, waker| {
            state.inbound.app_polls += 1;
            if state.inbound.task_reads && !state.task_must_read() {
                state.inbound.task_reads = false;
                self.receiving.set_task_reads(false);
                self.receiving.unwatch();
            }
            if let Some(taken) = take(state) {
                if self.receiving.watch() {
                    state.ask_task();
                }
                return Some(Poll::Ready(Ok(Some(taken))));
            }
            let wakes = self.receiving.wakes();
            loop {
                if state.end().is_some() {
                    return Some(Poll::Ready(state.last_word()));
                }
                if state.inbound.budget.is_exhausted() {
                    state.pump(true);
                    state.deferred.repeat(waker);
                    return Some(Poll::Pending);
                }
                match poll(state) {
                    Poll::Ready(came) => {
                        state.inbound.budget.count(came.as_ref().map_or(0, &size));
                        if let Some(came) = came {
                            state.outbound.coalescing.receives(state.inbound.from_socket);
                            if self.receiving.watch() {
                                state.ask_task();
                            }
                            fill(state);
                            state.request_flush();
                            return Some(Poll::Ready(Ok(Some(came))));
                        }
                    }
                    Poll::Pending if state.is_due() => return None,
                    Poll::Pending => break,
                }
            }
            state.pump(true);
            if state.end().is_some() {
                return Some(Poll::Ready(state.last_word()));
            }
            state.outbound.coalescing.waits_for_input();
            state.inbound.budget.reset();
            state.outbound.budget.reset();
            match self.receiving.wait(waker, wakes) {
                Ok(waker) => before = waker,
                Err(_) => state.deferred.repeat(waker),
            }
            Some(Poll::Pending)
        });
        if before.is_some() {
            self.guard(|| drop(before));
        }
        polled
    }

    /// A number that changes whenever the application polls for a message. Call it under the lock.
    pub(super) fn app_comes(&self, state: &State) -> u64 {
        state.inbound.app_polls.wrapping_add(self.taken.load(Ordering::Relaxed))
    }

    /// Counts a message that the receiving half takes out of its batch: so the session task sees that the application
    /// polls. Only the one receiving half calls it.
    #[inline]
    pub(super) fn count_taken(&self) {
        let taken = self.taken.load(Ordering::Relaxed);
        self.taken.store(taken.wrapping_add(1), Ordering::Relaxed);
    }

    /// Takes the frame out of `slot` in the poll that accepts it.
    #[inline]
    pub(super) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        slot: &mut Option<Frame>,
        urgency: Urgency,
        place: &mut Place,
    ) -> Poll<Result<()>> {
        let passed = self.with(|state| {
            let passed = state.pass(slot);
            if passed {
                self.accept(state, urgency);
            }
            passed
        });
        if !passed {
            return self.poll_accept(cx, slot, urgency, place);
        }
        // Without the lock: this drop may run user code.
        self.guard(|| *slot = None);
        Poll::Ready(Ok(()))
    }

    #[inline(never)]
    fn poll_accept(
        &self,
        cx: &mut Context<'_>,
        slot: &mut Option<Frame>,
        urgency: Urgency,
        place: &mut Place,
    ) -> Poll<Result<()>> {
        let polled = self.poll_with(cx, |state, waker| {
            ready!(state.poll_accept(waker, slot, &self.config, place))?;
            self.accept(state, urgency);
            Poll::Ready(Ok(()))
        });
        if matches!(polled, Poll::Ready(Ok(()))) {
            self.guard(|| *slot = None);
        }
        polled
    }

    /// Counts an accepted message, and writes it now or together with later ones.
    #[inline]
    fn accept(&self, state: &mut State, urgency: Urgency) {
        self.accepted.store(self.accepted() + 1, Ordering::Relaxed);
        if urgency == Urgency::Send && state.outbound.coalescing.writes_now() {
            state.pump(true);
        } else {
            state.request_flush();
        }
    }

    /// A message from outside: it is written with those after it.
    pub(super) fn push_message(
        &self,
        opcode: OpCode,
        payload: &Bytes,
        lane: &Lane,
        limit: usize,
        overflow: Overflow,
    ) -> Pushed {
        if payload.len() > self.config.max_message_size {
            return Pushed::TooBig;
        }
        self.with(|state| {
            let pushed = state.push_message(opcode, payload, lane, limit, overflow);
            if let Pushed::Queued { .. } = pushed {
                self.accept(state, Urgency::Feed);
            }
            pushed
        })
    }

    /// Number of accepted messages.
    #[inline]
    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Begins a streamed message when no other one is streamed.
    pub(super) fn poll_begin_stream(
        &self,
        cx: &mut Context<'_>,
        place: &mut Place,
    ) -> Poll<Result<()>> {
        self.poll_with(cx, |state, waker| {
            ready!(state.poll_open(waker))?;
            if state.outbound.queue.is_streaming() || !state.is_turn(place, For::Room) {
                state.wait(place, For::Room, waker);
                return Poll::Pending;
            }
            state.begin_stream();
            state.leave(place);
            Poll::Ready(Ok(()))
        })
    }

    /// Removes a waiter.
    #[inline]
    pub(super) fn leave(&self, place: &mut Place) {
        if place.is_taken() {
            self.free(place);
        }
    }

    #[cold]
    fn free(&self, place: &mut Place) {
        self.with(|state| state.leave(place));
    }

    /// Accepts a fragment of the streamed message, of `size` bytes. `take` is called in the poll that accepts it, and not
    /// before.
    pub(super) fn poll_send_fragment(
        &self,
        cx: &mut Context<'_>,
        size: usize,
        last: bool,
        place: &mut Place,
        take: impl FnOnce() -> (OpCode, Bytes),
    ) -> Poll<Result<()>> {
        self.poll_with(cx, |state, waker| {
            ready!(state.poll_open(waker))?;
            if state.outbound.budget.is_exhausted() {
                state.deferred.repeat(waker);
                return Poll::Pending;
            }
            if !state.outbound.queue.has_room_for_fragment(size) {
                state.pump(true);
                ready!(state.poll_open(waker))?;
                if !state.outbound.queue.has_room_for_fragment(size) {
                    state.wait(place, For::FragmentRoom, waker);
                    return Poll::Pending;
                }
            }
            state.leave(place);
            state.outbound.budget.count(size);
            let (opcode, payload) = take();
            state.accept_fragment(opcode, payload, last);
            if last && state.outbound.coalescing.writes_now() {
                state.pump(true);
            } else {
                state.pump(false);
                state.request_flush();
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Ready when everything accepted is written.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>, place: &mut Place) -> Poll<Result<()>> {
        self.poll_with(cx, |state, waker| {
            if !place.is(For::Flush) {
                state.flush_fragments(); // once for each flush
            }
            state.pump(true);
            if let Some(error) = ready!(state.poll_write_error(waker)) {
                return Poll::Ready(Err(error));
            }
            if state.is_flushed() {
                state.leave(place);
                return Poll::Ready(Ok(()));
            }
            state.wait(place, For::Flush, waker);
            Poll::Pending
        })
    }

    /// Begins to close; the session task continues.
    pub(super) fn close(&self, reason: CloseReason) {
        self.with(|state| state.close(reason));
    }

    /// Ready when the session has ended.
    pub(super) fn poll_closed(&self, cx: &mut Context<'_>, place: &mut Place) -> Poll<Outcome> {
        self.poll_with(cx, |state, waker| match state.end() {
            Some(outcome) => Poll::Ready(outcome.clone()),
            None => {
                state.wait(place, For::End, waker);
                Poll::Pending
            }
        })
    }

    /// The counters so far.
    pub(super) fn stats(&self) -> SessionStats {
        self.with(|state| state.stats())
    }

    /// The unacknowledged messages. After a panic it is unknown how much was sent: all of them may have arrived.
    pub(super) fn take_unacknowledged(&self) -> Unacknowledged {
        self.with(State::take_unacknowledged)
    }

    /// Sends a ping and has the session task read until its pong.
    pub(super) fn poll_start_ping(&self, cx: &mut Context<'_>) -> Poll<Result<u64>> {
        let now = self.runtime.now();
        self.poll_with(cx, |state, waker| {
            ready!(state.poll_open(waker))?;
            state.lifecycle.pings.await_one();
            state.ask_task();
            Poll::Ready(Ok(state.ping(now)))
        })
    }

    /// Ready when the session accepts messages, or with the error.
    pub(super) fn poll_open(&self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.with(|state| state.is_open()) {
            return Poll::Ready(Ok(()));
        }
        self.poll_with(cx, State::poll_open)
    }

    /// A waiter for a pong has left.
    pub(super) fn stop_ping(&self) {
        self.with(|state| state.lifecycle.pings.awaited_one());
    }

    /// Ready with the round trip when the ping of this number is answered.
    pub(super) fn poll_pong(
        &self,
        cx: &mut Context<'_>,
        number: u64,
        place: &mut Place,
    ) -> Poll<Result<Duration>> {
        self.poll_with(cx, |state, waker| {
            if state.lifecycle.pings.is_answered(number) {
                return Poll::Ready(Ok(state.lifecycle.pings.latency().unwrap_or_default()));
            }
            ready!(state.poll_open(waker))?;
            state.wait(place, For::Pong, waker);
            Poll::Pending
        })
    }

    /// The receiving half was dropped, and a sending half lives.
    pub(super) fn discard_incoming(&self, batch: &Batch) {
        self.with(|state| state.discard_incoming(batch.len()));
    }

    /// The last half was dropped.
    pub(super) fn abandon(&self) {
        self.with(|state| state.abandon(CloseReason::going_away()));
    }
}

/// Ends the session on drop. Only a panic drops it: it is forgotten otherwise.
struct EndsByPanic<'a>(&'a Shared);

impl Drop for EndsByPanic<'_> {
    fn drop(&mut self) {
        self.0.end_by_panic();
    }
}

/// A waiter of a session, removed on drop.
pub(super) struct Waits<'a> {
    shared: &'a Shared,
    place: Place,
}

impl<'a> Waits<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        Self { shared, place: Place::default() }
    }

    // Methods, so that a closure captures the whole value and not a copy of `place`.

    #[inline]
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        slot: &mut Option<Frame>,
        urgency: Urgency,
    ) -> Poll<Result<()>> {
        self.shared.poll_send(cx, slot, urgency, &mut self.place)
    }

    pub(super) fn poll_begin_stream(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.shared.poll_begin_stream(cx, &mut self.place)
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.shared.poll_flush(cx, &mut self.place)
    }

    pub(super) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        self.shared.poll_closed(cx, &mut self.place)
    }

    pub(super) fn poll_pong(
        &mut self,
        cx: &mut Context<'_>,
        number: u64,
    ) -> Poll<Result<Duration>> {
        self.shared.poll_pong(cx, number, &mut self.place)
    }
}

impl Drop for Waits<'_> {
    #[inline]
    fn drop(&mut self) {
        self.shared.leave(&mut self.place);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("engine", &self.config.engine).finish_non_exhaustive()
    }
}
