//! What goes out: from the queue to the transport, and from there to the socket.

use std::task::{Context, Poll};

use bytes::Bytes;
use drivetrain_engine::{CloseReason, Error, Frame, OpCode, RawFrame, Result};

use super::{Extensions, FRAGMENT, Outbox, SessionConfig, State};

/// The most payload that one [`pump`](State::pump) gives to the transport: what came in meanwhile, and the
/// control frames that answer it, have their turn after it.
const SHARE: usize = 128 << 10;

impl State {
    /// Gives the transport what it takes, and has it written if `write` or if enough has come together.
    pub(in super::super) fn pump(&mut self, write: bool) {
        self.pump_share(write, SHARE);
    }

    /// The same with another share.
    pub(super) fn pump_share(&mut self, write: bool, share: usize) {
        let Some(transport) = &mut self.transport else { return };
        if !self.closing.is_writable() || (!waits(&self.outbox, &self.extensions) && !self.dirty) {
            return;
        }
        let mut cx = Context::from_waker(&self.send_waker);
        let mut written = Poll::Ready(Ok(()));
        let (mut given, mut closes) = (0, false);
        // Who waits is woken by progress only: two that wait would wake each other for ever.
        let mut progress = false;
        while waits(&self.outbox, &self.extensions) {
            if given >= share {
                // A peer that reads as fast as this end writes would keep the lock for a whole message.
                self.keeper.ask_to_look();
                self.after.wake_keeper = true;
                break;
            }
            written = transport.poll_ready(&mut cx);
            if !matches!(written, Poll::Ready(Ok(()))) {
                break;
            }
            let next = match next(&mut self.outbox, &mut self.extensions) {
                Ok(next) => next,
                Err(error) => return self.fail(error),
            };
            progress = true;
            // What is kept back for now has been worked on all the same.
            given += next.as_ref().map_or(FRAGMENT, |frame| frame.payload.len());
            if let Some(frame) = next {
                self.dirty = true;
                let (opcode, bytes) = (frame.opcode, frame.payload.len());
                let ends_message = frame.fin && !opcode.is_control();
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
                if !waits(&self.outbox, &self.extensions) {
                    self.closing.close_flushed();
                    self.disarm_flush();
                }
            }
        }
        if let Poll::Ready(Err(error)) = written {
            self.outbox.clear();
            if let Some(extensions) = &mut self.extensions {
                extensions.clear_ready();
            }
            self.closing.write_failed(error, self.runtime.now());
            self.ask_keeper();
            progress = true;
        }
        if progress {
            self.wake_watchers();
        }
        self.settle();
    }

    /// Gives a message straight to the transport, if the session is open, nothing is before it, and the
    /// transport takes it as it lies there. Returns whether it did; then it is out of the slot.
    #[inline]
    pub(in super::super) fn pass(&mut self, slot: &mut Option<Frame>) -> bool {
        let (opcode, payload) = match slot {
            Some(Frame::Text(text)) => (OpCode::Text, text.as_bytes()),
            Some(Frame::Binary(bytes)) => (OpCode::Binary, &**bytes),
            _ => return false,
        };
        let bytes = payload.len();
        let Some(transport) = &mut self.transport else { return false };
        if self.extensions.is_some()
            || self.journal.is_some()
            || !self.closing.is_open()
            || !self.outbox.may_pass(bytes)
            || !self.sent.goes_on()
            || !transport.try_send(opcode, payload)
        {
            return false;
        }
        *slot = None;
        self.sent.count(bytes);
        self.counted_out.frame(bytes);
        self.dirty = true;
        true
    }

    /// Takes any frame out of the slot, if there is room for it.
    #[inline(never)]
    pub(in super::super) fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
        slot: &mut Option<Frame>,
        config: &SessionConfig,
    ) -> Poll<Result<()>> {
        if let Some(frame) = slot {
            config.check_frame(frame)?;
        }
        self.check_open()?;
        if self.sent.is_exhausted() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let size = slot.as_ref().map_or(0, |frame| frame.payload().len());
        let has_room = |state: &Self| match slot {
            Some(Frame::Text(_) | Frame::Binary(_)) => state.outbox.has_room(size),
            Some(Frame::Ping(_) | Frame::Pong(_)) => state.outbox.has_control_room(),
            Some(Frame::Close(_)) | None => true,
        };
        if !has_room(self) {
            self.pump(true);
            self.check_open()?;
            if !has_room(self) {
                self.watch(cx.waker());
                return Poll::Pending;
            }
        }
        self.sent.count(size);
        self.note(slot.as_ref());
        match slot.take() {
            None => {}
            Some(Frame::Text(text)) => self.accept(OpCode::Text, text.into()),
            Some(Frame::Binary(bytes)) => self.accept(OpCode::Binary, bytes),
            Some(Frame::Ping(payload)) => self.outbox.push_control(OpCode::Ping, payload),
            Some(Frame::Pong(payload)) => self.outbox.push_control(OpCode::Pong, payload),
            Some(Frame::Close(reason)) => self.close(reason.unwrap_or_else(CloseReason::normal)),
        }
        if !self.outbox.is_empty() {
            self.pump(false);
        }
        Poll::Ready(Ok(()))
    }

    /// Gives a message straight to the transport if nothing is before it and the transport is ready, or
    /// else queues it.
    fn accept(&mut self, opcode: OpCode, payload: Bytes) {
        let bytes = payload.len();
        let may_pass = self.extensions.is_none() && self.outbox.may_pass(bytes);
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
        !waits(&self.outbox, &self.extensions) && !self.dirty
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

/// Whether there is something to give to the transport.
#[inline]
fn waits(outbox: &Outbox, extensions: &Option<Box<Extensions>>) -> bool {
    !outbox.is_empty() || extensions.as_ref().is_some_and(|extensions| extensions.has_ready())
}

/// The next frame to send; a message's passes through the extensions, which may keep it back for now. Control
/// frames go between what came of it.
fn next(outbox: &mut Outbox, extensions: &mut Option<Box<Extensions>>) -> Result<Option<RawFrame>> {
    let Some(extensions) = extensions else { return Ok(outbox.pop()) };
    if let Some(frame) = outbox.pop_control().or_else(|| extensions.pop_ready()) {
        return Ok(Some(frame));
    }
    match outbox.pop() {
        Some(frame) if !frame.opcode.is_control() => {
            extensions.outgoing(frame)?;
            Ok(extensions.pop_ready())
        }
        close => Ok(close),
    }
}
