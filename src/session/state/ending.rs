//! How a session comes to its end, whoever wants it.

use std::task::{Context, Poll, Waker};

use drivetrain_engine::{CloseCode, CloseReason, Error, ErrorKind, OpCode, Outcome, RawFrame};

use super::{Note, State};

impl State {
    /// This end closes: after everything accepted, the Close goes out.
    pub(in super::super) fn close(&mut self, reason: CloseReason) {
        if self.end.is_none() && self.closing.close(&reason, self.runtime.now()) {
            self.closed_here = true;
            if self.journal.is_some() && self.sends_pings {
                let (_, payload) = self.pings.start(self.runtime.now(), self.accepted());
                self.outbox.ping_last(payload);
            }
            self.outbox.close(reason);
            self.closing_begins();
            self.pump(true);
        }
    }

    /// The session is dropped: one attempt to write what is pending and a Close, then the socket goes.
    pub(in super::super) fn abandon(&mut self, reason: CloseReason) {
        if self.end.is_some() {
            return;
        }
        if self.closing.is_open() {
            self.closing.close(&reason, self.runtime.now());
            self.outbox.close(reason);
        }
        // There is no other time, and nobody left who could want the lock.
        self.pump_share(true, usize::MAX);
        if self.end.is_none() {
            self.finish(self.closing.report(None));
        }
    }

    /// The task that keeps the session is gone, and with it everything that depends on time.
    pub(in super::super) fn abort(&mut self, error: Error) {
        if self.end.is_none() {
            self.closing.write_failed(error, self.runtime.now());
            self.finish(self.closing.report(None));
        }
    }

    pub(super) fn peer_closed(&mut self, reason: Option<CloseReason>) {
        let code = reason.as_ref().map_or(CloseCode::NO_STATUS, CloseReason::code);
        self.trace.note(&mut self.after.notes, || Note::CloseReceived(code));
        if self.closing.peer_closed(reason.clone(), self.runtime.now()) {
            if self.duties.echoes_close {
                self.dirty = true;
                self.trace.close_sent(&mut self.after.notes, self.closing.sent());
            } else {
                let empty = || CloseReason::truncated(CloseCode::NO_STATUS, "");
                self.outbox.close(reason.unwrap_or_else(empty));
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
        // A transport goes on after a violation, discarding: the peer's Close or the end may come.
        self.fail(error);
        Poll::Ready(())
    }

    pub(super) fn read_ended(&mut self, error: Option<Error>) -> Poll<()> {
        self.closing.read_ended(error, self.runtime.now());
        self.closing_begins();
        self.settle();
        if self.end.is_some() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The peer broke a rule: the Close goes out before anything that waits.
    pub(super) fn fail(&mut self, error: Error) {
        if let Some(extensions) = &mut self.extensions {
            extensions.stop();
        }
        if self.closing.error().is_some() {
            self.outbox.keep_only_close();
            let _ = self.read_ended(Some(error)); // the first error is the one reported
            return;
        }
        self.trace.note(&mut self.after.notes, || Note::Violation(error.clone()));
        let text = error.to_string();
        match self.closing.failed(error, &text, self.runtime.now()) {
            Some(reason) => self.outbox.close_now(reason),
            // A Close that waits already still goes out.
            None => self.outbox.keep_only_close(),
        }
        self.closing_begins();
        self.pump(true);
    }

    /// The application began a message and does not finish it, which cannot be taken back: after what was
    /// accepted, the Close says so.
    pub(super) fn truncate(&mut self) {
        let error = Error::new(ErrorKind::Other, "a streamed message was dropped before its end")
            .with_close_code(CloseCode::INTERNAL_ERROR);
        self.trace.note(&mut self.after.notes, || Note::Truncated);
        let close = self.closing.failed(error, "a message was not finished", self.runtime.now());
        if let Some(reason) = close {
            self.outbox.close(reason);
        }
        self.closing_begins();
        self.pump(true);
    }

    /// The peer is dead: a Close is tried, past everything that waits, and the socket is dropped.
    pub(super) fn die(&mut self) {
        let error = Error::new(ErrorKind::Timeout, "ping timeout: the peer gave no sign of life")
            .with_close_code(CloseCode::INTERNAL_ERROR);
        self.trace.note(&mut self.after.notes, || Note::PingTimeout);
        let close = self.closing.failed(error, "Ping timeout", self.runtime.now());
        if let (Some(reason), Some(transport)) = (close, &mut self.transport) {
            let mut cx = Context::from_waker(&self.send_waker);
            let payload = reason.to_payload();
            let bytes = payload.len();
            // Trying is all that can be done: the outcome says that it was not clean.
            if transport.start_send(RawFrame::new(OpCode::Close, payload)).is_ok() {
                self.counted_out.frame(bytes);
                self.counted_out.apart(OpCode::Close);
                self.trace.close_sent(&mut self.after.notes, Some(reason.code()));
                let _ = transport.poll_flush(&mut cx);
            }
        }
        self.finish(self.closing.report(None));
    }

    /// Ends the session if it is over.
    pub(super) fn settle(&mut self) {
        if self.end.is_some() || self.closing.is_open() {
            return;
        }
        if let Some(outcome) = self.closing.outcome(self.runtime.now()) {
            self.finish(outcome);
        }
    }

    pub(super) fn finish(&mut self, mut outcome: Outcome) {
        outcome.discarded = self.discarded;
        let stats = self.stats();
        self.trace.end(&mut self.after.notes, || Note::Ended(Box::new((outcome.clone(), stats))));
        self.end = Some(outcome);
        if let Some(mut transport) = self.transport.take() {
            // Ends the stream in good order if that needs no waiting; dropping it ends it anyway.
            let _ = transport.poll_close(&mut Context::from_waker(Waker::noop()));
            self.after.dropped = Some((transport, self.extensions.take()));
        }
        self.outbox.clear();
        self.dirty = false;
        self.wake_watchers();
        self.after.wake.extend(self.receiving.take_app());
        self.ask_keeper();
    }

    /// Nothing more is accepted: who waits for room has to know, and the keeper sees to the end.
    pub(super) fn closing_begins(&mut self) {
        self.ask_keeper();
        self.wake_watchers();
    }
}
