//! Input: from the transport to the receiver, or into the read-ahead buffer.
//!
//! The application takes a message whole or in fragments. The session task does not know which, and reads fragments. So
//! `max_message_size` is applied where a whole message is wanted, and nowhere else.

use std::task::{Context, Poll, ready};

use drivetrain_engine::{Error, ErrorKind, Frame, OpCode, RawFrame, Result};

use super::{
    super::{
        budget::FAIR_SHARE,
        extensions::Passed,
        inbound::read_ahead::InboundItem,
        inbound::validation::{Event, Fragment},
        kind::MessageKind,
    },
    For, State, UNSEEN_WORK,
};
use bytes::Bytes;

/// A payload above this size is most of the buffer that it is a slice of.
const LONG: usize = 128 << 10;

impl State {
    /// Takes a message that the session task has read.
    #[inline]
    pub(crate) fn take_read(&mut self) -> Option<Frame> {
        if self.inbound.read_ahead.is_empty() {
            return None; // as it is while the application receives
        }
        self.take_whole()
    }

    fn take_whole(&mut self) -> Option<Frame> {
        loop {
            let whole = match self.take_item()? {
                InboundItem::Message(frame) => Some(frame),
                InboundItem::Fragment(part) => self.reassemble(part),
            };
            if whole.is_some() {
                return whole;
            }
        }
    }

    fn take_item(&mut self) -> Option<InboundItem> {
        let was_full = self.inbound.read_ahead.is_full();
        let item = self.inbound.read_ahead.pop()?;
        if was_full && self.inbound.task_reads {
            self.ask_task();
        }
        Some(item)
    }

    /// Takes an item that the session task has read, for a reader.
    pub(crate) fn take_fragment(&mut self) -> Option<InboundItem> {
        let item = self.take_item()?;
        self.inbound.has_reader = !item.is_last();
        Some(item)
    }

    /// Takes the reassembled beginning of a message, for a reader.
    pub(crate) fn take_reassembled(&mut self) -> Option<(MessageKind, Bytes)> {
        let reassembly = self.inbound.reassembly.take()?;
        self.inbound.has_reader = true;
        Some(reassembly)
    }

    /// Reads one frame and handles it. `Ready(None)`: the frame gave no message. Check [`end`](Self::end) and poll again.
    #[inline]
    pub(crate) fn poll_message(&mut self) -> Poll<Option<Frame>> {
        if !self.inbound.would_block
            && self.inbound.deferred_frame.is_none()
            && self.lifecycle.closing.delivers()
        {
            if let Some(message) = self.take_borrowed() {
                self.inbound.from_socket = false;
                return match message {
                    Ok(frame) => Poll::Ready(Some(frame)),
                    Err(error) => {
                        self.inbound.counted.apart(OpCode::Continuation); // a refused frame is no message
                        self.refused(error).map(|()| None)
                    }
                };
            }
        }
        match ready!(self.poll_item(self.inbound.reassembly.held())) {
            Some(InboundItem::Message(frame)) => Poll::Ready(Some(frame)),
            Some(InboundItem::Fragment(part)) => {
                let size = part.payload.len();
                let whole = self.reassemble(part);
                if whole.is_none() {
                    self.inbound.budget.count(size); // the caller counts whole messages
                }
                Poll::Ready(whole)
            }
            None => Poll::Ready(None),
        }
    }

    /// As [`poll_message`](Self::poll_message), for a reader of fragments.
    pub(crate) fn poll_fragment(&mut self) -> Poll<Option<InboundItem>> {
        let item = ready!(self.poll_item(0));
        if let Some(item) = &item {
            self.inbound.has_reader = !item.is_last();
        }
        Poll::Ready(item)
    }

    /// Reads one frame and handles it; `held` bytes of its message are held already.
    #[inline]
    fn poll_item(&mut self, held: usize) -> Poll<Option<InboundItem>> {
        let Some(transport) = &mut self.transport else { return Poll::Ready(None) };
        if self.lifecycle.closing.has_received() || !self.lifecycle.closing.is_readable() {
            return Poll::Pending;
        }
        let mut max_payload = self.inbound.validator.max_payload(held);
        if let Some(extensions) = &mut self.extensions {
            if extensions.has_more() {
                return self.poll_chunk(held);
            }
            max_payload = extensions.max_wire(); // the decompressed size is not known yet
        }
        let buffered = if self.inbound.deferred_frame.is_some() {
            self.inbound.deferred_frame.take()
        } else if self.inbound.would_block {
            None
        } else {
            transport.try_receive_buffered(max_payload)
        };
        self.inbound.from_socket = buffered.is_none();
        let received = match buffered {
            Some(received) => received.map(Some),
            None => {
                self.inbound.would_block = true;
                let mut cx = Context::from_waker(&self.receive_waker);
                let wakes = self.receiving.wakes();
                self.task.begin_poll();
                let received = transport.poll_receive(&mut cx, max_payload);
                self.deferred.note_woken(self.task.end_poll());
                self.inbound.pending_after = received.is_pending().then_some(wakes);
                ready!(received)
            }
        };
        self.inbound.would_block = false;
        let mut frame = match received {
            Ok(Some(frame)) => frame,
            Ok(None) => return self.read_ended(None).map(|()| None),
            Err(error) => return self.transport_failed(error, held).map(|()| None),
        };
        self.lifecycle.keepalive.saw_life();
        self.inbound.counted.frame(frame.payload.len());
        if let Some(extensions) = &mut self.extensions {
            match extensions.incoming(frame) {
                Passed::AsItIs(passed) => frame = passed,
                Passed::Transformed => return self.poll_chunk(held),
                Passed::Discarded(payload) => {
                    self.deferred.drop_payload(payload);
                    self.inbound.counted.apart(OpCode::Continuation);
                    return Poll::Ready(None);
                }
            }
        }
        self.validate(frame, held)
    }

    /// Reading failed. The transport does not know which option set its limit, so it is named here.
    #[cold]
    fn transport_failed(&mut self, error: Error, held: usize) -> Poll<()> {
        if error.kind() != ErrorKind::TooBig {
            return self.read_failed(error);
        }
        let option = match &self.extensions {
            Some(extensions) => extensions.limiting_option(self.inbound.validator.limits()),
            None => self.inbound.validator.limiting_option(held),
        };
        let mut named = Error::new(ErrorKind::TooBig, format!("{error}: see {option}"));
        if let Some(engine) = error.engine() {
            named = named.with_engine(engine.to_owned());
        }
        self.read_failed(named)
    }

    /// Takes the output of the extensions for the latest frame, chunk by chunk. They make each chunk when the lock is
    /// released: pending until then.
    fn poll_chunk(&mut self, held: usize) -> Poll<Option<InboundItem>> {
        let Some(frame) = self.extensions.as_mut().and_then(|extensions| extensions.pull()) else {
            self.run_due();
            return Poll::Pending;
        };
        // An extension may have made the payload of anything.
        self.deferred.keep_payload(&frame.payload);
        if self.has_more() {
            self.inbound.budget.count(UNSEEN_WORK); // charge a full fragment: decompression may be expensive for little output
        }
        self.validate(frame, held)
    }

    #[inline]
    fn validate(&mut self, frame: RawFrame, held: usize) -> Poll<Option<InboundItem>> {
        match self.inbound.validator.accept(frame, held) {
            Ok(Event::Message(frame)) if self.lifecycle.closing.delivers() => {
                Poll::Ready(Some(InboundItem::Message(frame)))
            }
            event => self.act_on(event),
        }
    }

    /// Whether the extensions have more output for the latest frame.
    pub(super) fn has_more(&self) -> bool {
        self.extensions.as_ref().is_some_and(|extensions| extensions.has_more())
    }

    /// Handles a validated frame that is no whole message for the application.
    pub(super) fn act_on(&mut self, event: Result<Event>) -> Poll<Option<InboundItem>> {
        match event {
            Ok(Event::Message(frame)) => {
                self.deferred.drop_frame(frame);
                self.inbound.discarded += 1;
            }
            Ok(Event::Fragment(part)) => return Poll::Ready(self.came_in(part)),
            Ok(Event::Ping(payload)) => {
                self.inbound.counted.apart(OpCode::Ping);
                if self.duties.answers_ping {
                    self.outbound.dirty = true;
                } else {
                    // A copy, because the pong may wait for the peer to read.
                    self.push_control(OpCode::Pong, Bytes::copy_from_slice(&payload));
                }
                self.deferred.drop_payload(payload);
            }
            Ok(Event::Pong(payload)) => {
                self.inbound.counted.apart(OpCode::Pong);
                if self.lifecycle.pings.is_waiting()
                    && self.lifecycle.pings.answer(&payload, self.runtime.now())
                {
                    if let Some(send_log) = &mut self.outbound.send_log {
                        send_log.confirm(self.lifecycle.pings.confirmed(), &mut self.deferred);
                    }
                    self.waiters.wake_all(For::Pong, &mut self.deferred);
                }
                self.deferred.drop_payload(payload);
            }
            Ok(Event::Close(reason)) => {
                self.inbound.counted.apart(OpCode::Close);
                self.peer_closed(reason);
            }
            Err(error) => {
                self.inbound.counted.apart(OpCode::Continuation); // a refused frame is no message
                return self.refused(error).map(|()| None);
            }
        }
        Poll::Ready(None)
    }

    fn came_in(&mut self, part: Fragment) -> Option<InboundItem> {
        // Count a wire frame once, with its last transformed chunk.
        if !part.last && !self.has_more() {
            self.inbound.counted.apart(OpCode::Continuation);
        }
        if self.lifecycle.closing.delivers() && !self.inbound.skips {
            return Some(InboundItem::Fragment(part));
        }
        self.inbound.budget.count(part.payload.len());
        self.deferred.drop_payload(part.payload);
        if part.last {
            self.inbound.skips = false;
            self.inbound.discarded += 1;
        }
        None
    }

    /// Adds a fragment to the message for `receive`.
    fn reassemble(&mut self, part: Fragment) -> Option<Frame> {
        let reassembly =
            self.inbound.reassembly.push(&part, self.inbound.validator.max_message_size());
        self.deferred.drop_payload(part.payload);
        match reassembly {
            Ok(whole) => whole,
            Err(error) => {
                self.refuse(error, 0);
                None
            }
        }
    }

    /// Refuses a message that the application takes only now. Everything behind it is dropped, and so are `behind`
    /// messages that were handed on together with it.
    pub(crate) fn refuse(&mut self, error: Error, behind: usize) {
        self.inbound.discarded += behind as u64;
        self.inbound.reassembly.clear();
        self.inbound.has_reader = false;
        self.clear_read_ahead();
        match &mut self.lifecycle.end {
            None => self.fail(error),
            Some(end) => {
                end.clean = false;
                match self.lifecycle.closing.refused() {
                    true => end.error = Some(error),
                    false => drop(end.error.get_or_insert(error)),
                }
            }
        }
    }

    /// The receiving half was dropped with `messages` in its batch. Drops the read-ahead buffer too.
    pub(crate) fn discard_incoming(&mut self, messages: usize) {
        self.inbound.discards = true;
        self.inbound.discarded += messages as u64;
        self.clear_read_ahead();
        if let Some(end) = &mut self.lifecycle.end {
            end.discarded = self.inbound.discarded;
        }
        self.ask_task();
    }

    /// The reader was dropped. If it was in the middle of a message, the rest of the message is dropped and counts as one
    /// discarded message. So does a complete message that was not read to its end (`is_unread`).
    pub(crate) fn drop_reader(&mut self, is_unread: bool) {
        if !std::mem::take(&mut self.inbound.has_reader) {
            if is_unread {
                self.discard_one();
            }
            return;
        }
        while let Some(item) = self.take_item() {
            let is_last = item.is_last();
            self.drop_item(item);
            if is_last {
                return self.discard_one();
            }
        }
        self.inbound.skips = self.inbound.validator.is_open();
    }

    /// Copies a short payload out of the read buffer that it is a slice of: the item may wait long.
    fn detached(&mut self, item: InboundItem) -> InboundItem {
        if item.len() > LONG {
            return item;
        }
        match item {
            InboundItem::Message(frame) => {
                let copy = match &frame {
                    Frame::Text(text) => Frame::Text(text.as_str().into()),
                    frame => Frame::Binary(Bytes::copy_from_slice(frame.payload())),
                };
                self.deferred.drop_frame(frame);
                InboundItem::Message(copy)
            }
            InboundItem::Fragment(part) => {
                let payload = Bytes::copy_from_slice(&part.payload);
                self.deferred.drop_payload(part.payload);
                InboundItem::Fragment(Fragment { payload, ..part })
            }
        }
    }

    fn drop_item(&mut self, item: InboundItem) {
        match item {
            InboundItem::Message(frame) => self.deferred.drop_frame(frame),
            InboundItem::Fragment(part) => self.deferred.drop_payload(part.payload),
        }
    }

    /// Drops everything that was read ahead.
    fn clear_read_ahead(&mut self) {
        while let Some(item) = self.inbound.read_ahead.pop() {
            self.inbound.discarded += u64::from(item.is_last());
            self.drop_item(item);
        }
    }

    fn discard_one(&mut self) {
        self.inbound.discarded += 1;
        if let Some(end) = &mut self.lifecycle.end {
            end.discarded = self.inbound.discarded;
        }
    }

    /// Whether the latest read was pending and no wake-up has come since, so that a wake-up is guaranteed.
    pub(crate) fn is_input_awaited(&self) -> bool {
        self.inbound.pending_after == Some(self.receiving.wakes())
    }

    /// Reads into the read-ahead buffer on the application's behalf, at most [`FAIR_SHARE`] frames. Returns whether there
    /// may be more.
    pub(crate) fn fill_read_ahead(&mut self) -> bool {
        for _ in 0..FAIR_SHARE {
            // A message that a reader is in the middle of is not dropped: the reader may be slow.
            let waits = self.lifecycle.closing.is_open() || self.inbound.has_reader;
            if self.lifecycle.end.is_some()
                || (self.inbound.read_ahead.is_full() && waits && !self.inbound.discards)
            {
                return false;
            }
            match self.poll_item(0) {
                Poll::Pending => return self.is_due(),
                Poll::Ready(None) => {}
                Poll::Ready(Some(item))
                    if self.inbound.discards || self.inbound.read_ahead.is_full() =>
                {
                    self.discard(item);
                }
                Poll::Ready(Some(item)) => {
                    let item = self.detached(item);
                    self.inbound.read_ahead.push(item);
                    if let Some(app) = self.receiving.take_app() {
                        self.deferred.wake(app);
                    }
                }
            }
        }
        true
    }

    /// Drops a message. Of a fragmented one, drops the fragments that were read and skips the rest.
    fn discard(&mut self, item: InboundItem) {
        if matches!(&item, InboundItem::Fragment(part) if part.start.is_none()) {
            while let Some(part) = self.inbound.read_ahead.pop_unfinished() {
                self.drop_item(part);
            }
            if self.inbound.read_ahead.is_empty() {
                self.inbound.reassembly.clear();
            }
        }
        match item.is_last() {
            true => self.inbound.discarded += 1,
            false => self.inbound.skips = true,
        }
        self.drop_item(item);
    }
}
