//! What goes out: from the queue to the transport, and from there to the socket.

use std::task::{Context, Poll};

use bytes::Bytes;
use drivetrain_engine::{Error, OpCode, RawFrame};

use super::State;

/// The most payload that one [`pump`](State::pump) gives to the transport: what came in meanwhile, and the
/// control frames that answer it, have their turn after it.
const SHARE: usize = 128 << 10;

impl State {
    /// Gives the transport what it takes, and has it written if `write` or if enough has come together.
    pub(in super::super) fn pump(&mut self, write: bool) {
        let Some(transport) = &mut self.transport else { return };
        if !self.closing.is_writable() || (self.outbox.is_empty() && !self.dirty) {
            return;
        }
        let mut cx = Context::from_waker(&self.send_waker);
        let mut written = Poll::Ready(Ok(()));
        let (mut given, mut closes) = (0, false);
        // Who waits is woken by progress only: two that wait would wake each other for ever.
        let mut progress = false;
        while !self.outbox.is_empty() {
            if given >= SHARE {
                // A peer that reads as fast as this end writes would keep the lock for a whole message.
                self.after.wake_keeper = true;
                break;
            }
            written = transport.poll_ready(&mut cx);
            if !matches!(written, Poll::Ready(Ok(()))) {
                break;
            }
            if let Some(frame) = self.outbox.pop() {
                self.dirty = true;
                progress = true;
                let (opcode, bytes) = (frame.opcode, frame.payload.len());
                let ends_message = frame.fin && !opcode.is_control();
                given += bytes;
                written = Poll::Ready(transport.start_send(frame));
                if matches!(written, Poll::Ready(Err(_))) {
                    break;
                }
                self.counted_out.frame(bytes);
                if !ends_message {
                    self.counted_out.apart(opcode);
                    closes |= opcode == OpCode::Close;
                }
            }
        }
        if closes {
            self.trace.close_sent(&mut self.after.notes, self.closing.sent());
        }
        if write && matches!(written, Poll::Ready(Ok(()))) {
            written = transport.poll_flush(&mut cx);
            if matches!(written, Poll::Ready(Ok(()))) {
                progress |= std::mem::take(&mut self.dirty);
                if self.outbox.is_empty() {
                    self.closing.close_flushed();
                }
            }
        }
        if let Poll::Ready(Err(error)) = written {
            self.outbox.clear();
            self.closing.write_failed(error, self.runtime.now());
            self.after.wake_keeper = true;
            progress = true;
        }
        if progress {
            self.wake_watchers();
        }
        self.settle();
    }

    /// Gives a message straight to the transport if nothing is before it and the transport is ready, or
    /// else queues it.
    #[inline]
    pub(in super::super) fn accept(&mut self, opcode: OpCode, payload: Bytes) {
        let bytes = payload.len();
        let may_pass = self.outbox.may_pass(bytes);
        let Some(transport) = self.transport.as_mut().filter(|_| may_pass) else {
            return self.outbox.push(opcode, payload);
        };
        let mut cx = Context::from_waker(&self.send_waker);
        if !matches!(transport.poll_ready(&mut cx), Poll::Ready(Ok(()))) {
            return self.outbox.push(opcode, payload);
        }
        self.dirty = true;
        if let Err(error) = transport.start_send(RawFrame::new(opcode, payload)) {
            self.closing.write_failed(error, self.runtime.now());
            self.closing_begins();
            return;
        }
        self.counted_out.frame(bytes);
    }

    /// Queues a fragment of the message that is streamed; the last one gives others their turn.
    pub(in super::super) fn accept_part(&mut self, opcode: OpCode, payload: Bytes, last: bool) {
        self.outbox.push_part(opcode, payload, last);
        if last {
            if let Some(journal) = &mut self.journal {
                journal.accept_streamed();
            }
            self.end_stream();
        }
    }

    /// A writer begins a message, which it alone may send parts of until it ends.
    pub(in super::super) fn begin_stream(&mut self) {
        self.outbox.set_streaming(true);
    }

    fn end_stream(&mut self) {
        self.outbox.set_streaming(false);
        self.wake_watchers();
    }

    /// The writer is gone before the message's end; `begun`, if some of it was accepted.
    pub(in super::super) fn drop_writer(&mut self, begun: bool) {
        self.end_stream();
        if begun && self.closing.is_open() && self.end.is_none() {
            self.truncate();
        }
    }

    /// Whether everything that was accepted is written.
    pub(in super::super) fn is_flushed(&self) -> bool {
        self.outbox.is_empty() && !self.dirty
    }

    /// The error that keeps things from being written, if there is one.
    pub(in super::super) fn write_error(&self) -> Option<Error> {
        if self.is_flushed() && self.closing.is_writable() {
            return None;
        }
        let error = self.closing.error().or(self.end.as_ref()?.error.as_ref())?;
        Some(error.clone().with_outcome(self.outcome()))
    }
}
