//! Output: from the send queue to the transport and the socket.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use drivetrain_engine::{CloseReason, Error, Frame, OpCode, RawFrame, Result};

use super::{Extensions, For, Place, SendQueue, SessionConfig, State};
use crate::{extensions::Resume, waiters::PollWaker};

/// The most payload that a session writes in its `Drop`, and the most that it transforms there. The rest is dropped. It is
/// several times the default capacity.
const LAST: usize = 1 << 20;
const LAST_TRANSFORMED: usize = 128 << 10;

/// The most payload that one [`pump`](State::pump) gives to the transport. Then received frames, and the control frames
/// that answer them, have their turn.
const SHARE: usize = 128 << 10;

impl State {
    /// Gives the transport queued frames as far as it takes them, and flushes it if `write`.
    #[inline]
    pub(crate) fn pump(&mut self, write: bool) {
        if !self.is_flushed() {
            self.pump_share(write, SHARE);
        }
    }

    /// The last attempt to write, without waiting and with little work.
    pub(super) fn pump_last(&mut self) {
        self.pump_share(true, if self.extensions.is_some() { LAST_TRANSFORMED } else { LAST });
        self.finish_last();
    }

    /// Ends the session after its last attempt to write, or when the transforms are back for which that waits.
    pub(super) fn finish_last(&mut self) {
        if let Some(extensions) = &mut self.extensions {
            let needed = extensions.is_encoding() || self.outbound.queue.has_messages();
            if needed && !extensions.is_idle() && self.lifecycle.closing.is_writable() {
                let first = Resume { write: true, share: LAST_TRANSFORMED, last: true };
                extensions.resume().get_or_insert(first).last = true;
                return;
            }
        }
        if self.lifecycle.end.is_none() && waits(&self.outbound.queue, &self.extensions) {
            self.keep_only_close();
            self.clear_ready();
            self.pump(true);
        }
        if self.lifecycle.end.is_none() {
            self.finish(self.lifecycle.closing.report(None));
        }
    }

    /// As [`pump`](Self::pump), with another share.
    ///
    /// Messages wait while the extensions' transforms run, or are about to: writing continues when they are back.
    pub(super) fn pump_share(&mut self, write: bool, share: usize) {
        let Some(transport) = &mut self.transport else { return };
        if !self.lifecycle.closing.is_writable()
            || (!waits(&self.outbound.queue, &self.extensions) && !self.outbound.dirty)
        {
            return;
        }
        if self.extensions.as_ref().is_some_and(|extensions| extensions.is_due()) {
            return self.resume_later(write, share);
        }
        let mut cx = Context::from_waker(&self.send_waker);
        self.task.begin_poll();
        let mut written = Poll::Ready(Ok(()));
        let (mut given, mut closes, mut waits_for_transforms) = (0, false, false);
        // Wake waiters only after progress; otherwise two waiting senders wake each other in a loop.
        let mut progress = false;
        while waits(&self.outbound.queue, &self.extensions) {
            if given >= share {
                // A fast peer would otherwise hold the lock for a whole message.
                self.task.request();
                self.deferred.wake_task();
                break;
            }
            written = transport.poll_ready(&mut cx);
            if !matches!(written, Poll::Ready(Ok(()))) {
                break;
            }
            let Some(frame) = next(&mut self.outbound.queue, &mut self.extensions) else {
                waits_for_transforms = true;
                break;
            };
            progress = true;
            given += frame.payload.len();
            self.outbound.dirty = true;
            let (opcode, bytes) = (frame.opcode, frame.payload.len());
            let ends_message = frame.fin && !opcode.is_control();
            self.deferred.keep_payload(&frame.payload);
            written = Poll::Ready(transport.start_send(frame));
            if matches!(written, Poll::Ready(Err(_))) {
                break;
            }
            self.outbound.counted.frame(bytes);
            if !ends_message {
                self.outbound.counted.apart(opcode);
                closes |= opcode == OpCode::Close;
            }
        }
        if closes {
            self.trace.close_sent(self.deferred.events(), self.lifecycle.closing.sent());
        }
        let is_due = waits_for_transforms
            && self.extensions.as_ref().is_some_and(|extensions| extensions.is_due());
        if write && !is_due && matches!(written, Poll::Ready(Ok(()))) {
            written = transport.poll_flush(&mut cx);
            if matches!(written, Poll::Ready(Ok(()))) {
                progress |= std::mem::take(&mut self.outbound.dirty);
                if !waits(&self.outbound.queue, &self.extensions) {
                    self.lifecycle.closing.close_flushed();
                    if self.lifecycle.closing.ends_writing() {
                        // Without waiting: the end of the session tries again.
                        let _ = transport.poll_close(&mut cx);
                    }
                    self.flush_done();
                }
            }
        }
        self.end_poll();
        if waits_for_transforms {
            progress |= is_due; // there is room for another message
            self.resume_later(write, share.saturating_sub(given));
        }
        if let Poll::Ready(Err(error)) = written {
            self.clear_queue();
            self.clear_ready();
            self.lifecycle.closing.write_failed(error, self.runtime.now());
            self.closing_begins();
        } else if progress {
            self.wake_waiters();
        }
        self.settle();
    }

    /// The transforms are due, or another thread runs them: has writing continue when they are back.
    #[cold]
    fn resume_later(&mut self, write: bool, share: usize) {
        let Some(extensions) = &mut self.extensions else { return };
        let first = Resume { write, share, last: false };
        extensions.resume().get_or_insert(first).write |= write;
        self.run_due();
    }

    /// Gives a message straight to the transport if the session is open, nothing is queued, and the transport takes a
    /// copy at once. Returns whether it did. The message stays in the slot: the caller drops it without the lock.
    #[inline]
    pub(crate) fn pass(&mut self, slot: &Option<Frame>) -> bool {
        let (opcode, payload) = match slot {
            Some(Frame::Text(text)) => (OpCode::Text, text.as_bytes()),
            Some(Frame::Binary(bytes)) => (OpCode::Binary, &**bytes),
            _ => return false,
        };
        let bytes = payload.len();
        let Some(transport) = &mut self.transport else { return false };
        if self.extensions.is_some()
            || self.outbound.send_log.is_some()
            || !self.lifecycle.closing.is_open()
            || !self.outbound.queue.may_pass(bytes)
            || !self.outbound.budget.has_left()
            || !transport.try_send(opcode, payload)
        {
            return false;
        }
        self.outbound.budget.count(bytes);
        self.outbound.counted.frame(bytes);
        self.outbound.dirty = true;
        true
    }

    /// Takes any frame out of the slot, if there is room for it.
    #[inline(never)]
    pub(crate) fn poll_accept(
        &mut self,
        waker: &mut PollWaker,
        slot: &mut Option<Frame>,
        config: &SessionConfig,
        place: &mut Place,
    ) -> Poll<Result<()>> {
        if let Some(frame) = slot {
            config.check_frame(frame)?;
        }
        ready!(self.poll_open(waker))?;
        if self.outbound.budget.is_exhausted() {
            self.deferred.repeat(waker);
            return Poll::Pending;
        }
        let size = slot.as_ref().map_or(0, |frame| frame.payload().len());
        let what = match slot {
            Some(Frame::Ping(_) | Frame::Pong(_)) => For::ControlRoom,
            _ => For::Room,
        };
        let has_room = |state: &Self, place: &Place| match slot {
            Some(Frame::Text(_) | Frame::Binary(_)) => {
                state.outbound.queue.has_room(size) && state.is_turn(place, what)
            }
            Some(Frame::Ping(_) | Frame::Pong(_)) => {
                state.outbound.queue.has_control_room() && state.is_turn(place, what)
            }
            Some(Frame::Close(_)) | None => true,
        };
        if !has_room(self, place) {
            self.pump(true);
            ready!(self.poll_open(waker))?;
            if !has_room(self, place) {
                self.wait(place, what, waker);
                return Poll::Pending;
            }
        }
        self.outbound.budget.count(size);
        self.note(slot.as_ref());
        match slot.take() {
            None => {}
            Some(Frame::Text(text)) => self.accept(OpCode::Text, text.into()),
            Some(Frame::Binary(bytes)) => self.accept(OpCode::Binary, bytes),
            Some(Frame::Ping(payload)) => self.push_control(OpCode::Ping, payload),
            Some(Frame::Pong(payload)) => self.push_control(OpCode::Pong, payload),
            Some(Frame::Close(reason)) => self.close(reason.unwrap_or_else(CloseReason::normal)),
        }
        if !self.outbound.queue.is_empty() {
            self.pump(false);
        }
        self.leave(place);
        Poll::Ready(Ok(()))
    }

    /// Gives a message straight to the transport if nothing is queued and the transport is ready; queues it otherwise.
    fn accept(&mut self, opcode: OpCode, payload: Bytes) {
        let bytes = payload.len();
        let may_pass = self.extensions.is_none() && self.outbound.queue.may_pass(bytes);
        let Some(transport) = self.transport.as_mut().filter(|_| may_pass) else {
            return self.outbound.queue.push(opcode, payload);
        };
        let mut cx = Context::from_waker(&self.send_waker);
        self.task.begin_poll();
        let ready = transport.poll_ready(&mut cx);
        let woken = self.task.end_poll();
        self.deferred.note_woken(woken);
        if !matches!(ready, Poll::Ready(Ok(()))) {
            return self.outbound.queue.push(opcode, payload);
        }
        self.outbound.dirty = true;
        self.deferred.keep_payload(&payload);
        if let Err(error) = transport.start_send(RawFrame::new(opcode, payload)) {
            self.lifecycle.closing.write_failed(error, self.runtime.now());
            self.closing_begins();
            return;
        }
        self.outbound.counted.frame(bytes);
    }

    /// Queues a control frame other than a Close.
    pub(super) fn push_control(&mut self, opcode: OpCode, payload: Bytes) {
        let dropped = self.outbound.queue.push_control(opcode, payload);
        self.deferred.drop_payloads(dropped);
    }

    /// Queues a fragment of the streamed message. After the last one other senders have their turn.
    pub(crate) fn accept_fragment(&mut self, opcode: OpCode, payload: Bytes, last: bool) {
        self.outbound.queue.push_fragment(opcode, payload, last);
        if last {
            if let Some(send_log) = &mut self.outbound.send_log {
                send_log
                    .accept_streamed(self.outbound.counted.traffic().messages, &mut self.deferred);
            }
            self.end_stream();
        }
    }

    /// Flushes the tail that extensions retain of the streamed message.
    pub(crate) fn flush_fragments(&mut self) {
        let Some(extensions) = &self.extensions else { return };
        if self.outbound.queue.is_streaming()
            && !self.outbound.queue.flush_fragments()
            && !self.outbound.queue.has_messages()
            && extensions.keeps_back()
        {
            // An empty fragment carries the flush; the extensions fill it.
            self.outbound.queue.push_fragment(OpCode::Continuation, Bytes::new(), false);
            self.outbound.queue.flush_fragments();
        }
    }

    /// A writer begins a streamed message. Until it ends no other message is accepted.
    pub(crate) fn begin_stream(&mut self) {
        self.outbound.queue.set_streaming(true);
    }

    fn end_stream(&mut self) {
        self.outbound.queue.set_streaming(false);
        self.wake_waiters();
    }

    /// The writer was dropped before the end of the message; `begun` if a fragment was accepted.
    pub(crate) fn drop_writer(&mut self, begun: bool) {
        if begun {
            // Nothing may follow a message that has no end.
            let held = self.outbound.queue.drop_held();
            self.deferred.drop_payloads(held);
        }
        self.end_stream();
        if begun && self.is_open() {
            self.truncate();
        }
    }

    /// Whether everything accepted is written.
    #[inline]
    pub(crate) fn is_flushed(&self) -> bool {
        !waits(&self.outbound.queue, &self.extensions) && !self.outbound.dirty
    }

    /// The error that keeps accepted messages from being written, if there is one.
    pub(crate) fn poll_write_error(&mut self, waker: &mut PollWaker) -> Poll<Option<Error>> {
        if (self.is_flushed() && self.lifecycle.closing.is_writable())
            || self.outcome().error.is_none()
        {
            return Poll::Ready(None);
        }
        self.poll_why_closed(waker).map(Some)
    }
}

/// Whether frames wait to be given to the transport.
#[inline]
fn waits(queue: &SendQueue, extensions: &Option<Box<Extensions>>) -> bool {
    !queue.is_empty() || extensions.as_ref().is_some_and(|all| all.has_ready() || all.is_encoding())
}

/// The next frame to send. Message frames pass through the extensions: `None` if they are needed, and are due now or run
/// elsewhere. Control frames go between the chunks of a message.
fn next(queue: &mut SendQueue, extensions: &mut Option<Box<Extensions>>) -> Option<RawFrame> {
    let Some(extensions) = extensions else { return queue.pop() };
    if let Some(frame) = queue.pop_control().or_else(|| extensions.pop_ready()) {
        return Some(frame);
    }
    if extensions.is_encoding() {
        return None;
    }
    if !queue.has_messages() {
        return queue.pop();
    }
    if extensions.is_idle() {
        let frame = queue.pop()?;
        extensions.outgoing(frame, queue.take_flush());
    }
    None
}
