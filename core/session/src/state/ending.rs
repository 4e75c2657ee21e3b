//! How a session ends: by either end, by a violation, by a timeout, by a panic.

use std::task::{Context, Poll, Waker};

use drivetrain_engine::{CloseCode, CloseReason, Error, ErrorKind, OpCode, Outcome, RawFrame};

use super::{For, Lingering, Phase, State, TraceEvent};

impl State {
    /// This end closes: the Close goes out behind everything that was accepted.
    pub(crate) fn close(&mut self, reason: CloseReason) {
        if self.lifecycle.end.is_none() && self.lifecycle.closing.close(&reason, self.runtime.now())
        {
            self.lifecycle.closed_here = true;
            if self.outbound.send_log.is_some() && self.lifecycle.sends_pings {
                let (_, payload) = self.lifecycle.pings.start(self.runtime.now(), self.accepted());
                self.outbound.queue.ping_last(payload);
            }
            self.outbound.queue.close(reason);
            self.closing_begins();
            self.pump(true);
        }
    }

    /// The session was dropped: tries once to write pending messages and a Close, and drops the transport.
    pub(crate) fn abandon(&mut self, reason: CloseReason) {
        if self.lifecycle.end.is_some() {
            return;
        }
        if self.lifecycle.closing.is_open() {
            self.lifecycle.closing.close(&reason, self.runtime.now());
            self.outbound.queue.close(reason);
        }
        self.pump_last();
    }

    /// The session task was dropped, so that nothing that depends on time can happen any more.
    pub(crate) fn abort(&mut self, error: Error) {
        if self.lifecycle.end.is_none() {
            self.lifecycle.closing.write_failed(error, self.runtime.now());
            self.finish(self.lifecycle.closing.report(None));
        }
    }

    pub(super) fn peer_closed(&mut self, reason: Option<CloseReason>) {
        let code = reason.as_ref().map_or(CloseCode::NO_STATUS, CloseReason::code);
        self.trace.record(self.deferred.events(), || TraceEvent::CloseReceived(code));
        if self.lifecycle.closing.peer_closed(reason.clone(), self.runtime.now()) {
            if self.duties.echoes_close {
                // Nothing goes out behind the transport's echo.
                self.clear_queue();
                self.outbound.dirty = true;
                self.trace.close_sent(self.deferred.events(), self.lifecycle.closing.sent());
            } else {
                let empty = || CloseReason::truncated(CloseCode::NO_STATUS, "");
                self.outbound.queue.close(reason.unwrap_or_else(empty));
            }
        }
        self.closing_begins();
        self.pump(true);
        self.settle();
    }

    pub(super) fn read_failed(&mut self, error: Error) -> Poll<()> {
        if error.close_code().is_none() {
            return self.read_ended(Some(error));
        }
        // After a violation the transport reads on and discards, until the peer's Close or the end.
        self.fail_as(error, self.duties.sends_close);
        Poll::Ready(())
    }

    /// The session refuses a frame: the transport has sent no Close for it.
    pub(super) fn refused(&mut self, error: Error) -> Poll<()> {
        if error.close_code().is_none() {
            return self.read_ended(Some(error));
        }
        self.fail(error);
        Poll::Ready(())
    }

    pub(super) fn read_ended(&mut self, error: Option<Error>) -> Poll<()> {
        self.lifecycle.closing.read_ended(error, self.runtime.now());
        self.closing_begins();
        self.settle();
        if self.lifecycle.end.is_some() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The peer broke a rule: the Close goes out before everything that is queued.
    pub(super) fn fail(&mut self, error: Error) {
        self.fail_as(error, false);
    }

    /// As [`fail`](Self::fail); the transport may have sent a Close by itself.
    fn fail_as(&mut self, error: Error, close_is_sent: bool) {
        if let Some(extensions) = &mut self.extensions {
            self.deferred.drop_payloads(extensions.stop());
        }
        if close_is_sent && self.outbound.queue.forget_close() {
            self.outbound.dirty = true;
            let code = error.close_code().unwrap_or(CloseCode::PROTOCOL_ERROR);
            self.lifecycle.closing.overtaken(CloseReason::truncated(code, &error.to_string()));
        }
        if self.lifecycle.closing.error().is_some() {
            self.keep_only_close();
            let _ = self.read_ended(Some(error)); // the first error is the one reported
            return;
        }
        self.trace.record(self.deferred.events(), || TraceEvent::Violation(error.clone()));
        let text = error.to_string();
        match self.lifecycle.closing.violated(error, &text, self.runtime.now()) {
            Some(reason) if !close_is_sent => {
                self.clear_queue();
                self.outbound.queue.close(reason);
            }
            Some(reason) => {
                self.outbound.dirty = true;
                self.keep_only_close();
                self.trace.close_sent(self.deferred.events(), Some(reason.code()));
            }
            // A queued Close still goes out.
            None => self.keep_only_close(),
        }
        self.closing_begins();
        self.pump(true);
    }

    /// The application dropped a streamed message before its end, which cannot be undone: a Close 1011 goes out behind
    /// the accepted fragments.
    pub(super) fn truncate(&mut self) {
        let error = Error::new(ErrorKind::Other, "a streamed message was dropped before its end")
            .with_close_code(CloseCode::INTERNAL_ERROR);
        self.trace.record(self.deferred.events(), || TraceEvent::Truncated);
        let close =
            self.lifecycle.closing.failed(error, "a message was not finished", self.runtime.now());
        if let Some(reason) = close {
            self.outbound.queue.close(reason);
        }
        self.closing_begins();
        self.pump(true);
    }

    /// The ping timed out: tries to send a Close past everything that is queued, and drops the transport.
    pub(super) fn die(&mut self) {
        let error = Error::new(ErrorKind::Timeout, "ping timeout: the peer gave no sign of life")
            .with_close_code(CloseCode::INTERNAL_ERROR);
        self.trace.record(self.deferred.events(), || TraceEvent::PingTimeout);
        let close = self.lifecycle.closing.failed(error, "Ping timeout", self.runtime.now());
        if let (Some(reason), Some(transport)) = (close, &mut self.transport) {
            let mut cx = Context::from_waker(&self.send_waker);
            let payload = reason.to_payload();
            let bytes = payload.len();
            // The Close is only an attempt: the outcome is not clean.
            if transport.start_send(RawFrame::new(OpCode::Close, payload)).is_ok() {
                self.outbound.counted.frame(bytes);
                self.outbound.counted.apart(OpCode::Close);
                self.trace.close_sent(self.deferred.events(), Some(reason.code()));
                self.task.begin_poll();
                let flushed = transport.poll_flush(&mut cx);
                self.end_poll();
                if matches!(flushed, Poll::Ready(Ok(()))) {
                    self.lifecycle.closing.close_flushed();
                }
            }
        }
        self.finish(self.lifecycle.closing.report(None));
    }

    /// Ends the session if closing is over.
    pub(super) fn settle(&mut self) {
        if self.lifecycle.phase() != Phase::Closing {
            return;
        }
        if let Some(outcome) = self.lifecycle.closing.outcome(self.runtime.now()) {
            self.finish(outcome);
        }
    }

    pub(super) fn finish(&mut self, mut outcome: Outcome) {
        outcome.discarded = self.inbound.discarded;
        let stats = self.stats();
        self.trace
            .end(self.deferred.events(), || TraceEvent::Ended(Box::new((outcome.clone(), stats))));
        self.lifecycle.end = Some(Box::new(outcome));
        if let Some(mut transport) = self.transport.take() {
            let extensions = self.extensions.take();
            if let Some(until) = self.lifecycle.closing.stream_end_due() {
                self.lifecycle.lingering = Some(Box::new(Lingering::new(transport, until)));
                self.deferred.drop_session(None, extensions);
            } else {
                // Ends the stream cleanly if this needs no waiting; dropping it ends it anyway.
                self.begin_poll();
                let _ = transport.poll_close(&mut Context::from_waker(Waker::noop()));
                self.end_poll();
                self.deferred.drop_session(Some(transport), extensions);
            }
        }
        self.tell_the_end();
    }

    /// Clears the queue and wakes every waiter.
    fn tell_the_end(&mut self) {
        self.clear_queue();
        self.outbound.dirty = false;
        self.wake_all_waiters();
        self.waiters.wake_all(For::End, &mut self.deferred);
        if let Some(app) = self.receiving.take_app() {
            self.deferred.wake(app);
        }
        self.ask_task();
    }

    /// User code panicked under the lock: drops the transport as it is. A second call changes nothing.
    pub(crate) fn end_by_panic(&mut self, error: impl FnOnce() -> Error) {
        self.end_poll();
        self.lifecycle.panicked = true;
        if self.lifecycle.end.is_none() {
            let error = error();
            self.lifecycle.closing.write_failed(error.clone(), self.runtime.now());
            let mut outcome = self.lifecycle.closing.report(None);
            outcome.clean = false;
            outcome.error = Some(error);
            outcome.discarded = self.inbound.discarded;
            let stats = self.stats();
            let note = || TraceEvent::Ended(Box::new((outcome.clone(), stats)));
            self.trace.end(self.deferred.events(), note);
            self.lifecycle.end = Some(Box::new(outcome));
        }
        let (transport, extensions) = (self.transport.take(), self.extensions.take());
        self.deferred.drop_session(transport, extensions);
        self.inbound.deferred_frame = None;
        self.tell_the_end();
    }

    pub(super) fn clear_queue(&mut self) {
        let gone = self.outbound.queue.clear();
        self.deferred.drop_payloads(gone);
    }

    /// Drops accepted messages, but for a queued Close.
    pub(super) fn keep_only_close(&mut self) {
        let gone = self.outbound.queue.keep_only_close();
        self.deferred.drop_payloads(gone);
    }

    /// Nothing more is accepted: wakes the waiters, and has the session task see to the end.
    pub(super) fn closing_begins(&mut self) {
        self.ask_task();
        self.wake_all_waiters();
    }
}
