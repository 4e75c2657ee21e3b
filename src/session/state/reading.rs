//! What comes in: from the transport to whoever receives, or into the inbox.
//!
//! The application gets a message whole or in parts, as it asks; the keeper, who cannot know, reads parts.
//! So what is held of a message is limited where somebody wants it whole, and nowhere else.

use std::task::{Context, Poll, ready};

use drivetrain_engine::{Error, Frame, OpCode, Result};

use super::{
    super::{
        assembler::{Event, Part},
        batch::Batch,
        inbox::Arrival,
        kind::MessageKind,
    },
    State,
};
use bytes::Bytes;

impl State {
    /// Takes a message that the keeper has read.
    #[inline]
    pub(in super::super) fn take_read(&mut self) -> Option<Frame> {
        if self.inbox.is_empty() {
            return None; // as it is while the application receives
        }
        self.take_whole()
    }

    fn take_whole(&mut self) -> Option<Frame> {
        loop {
            let whole = match self.take_arrival()? {
                Arrival::Message(frame) => Some(frame),
                Arrival::Part(part) => self.gather(part),
            };
            if whole.is_some() {
                return whole;
            }
        }
    }

    fn take_arrival(&mut self) -> Option<Arrival> {
        let was_full = self.inbox.is_full();
        let arrival = self.inbox.pop()?;
        self.after.wake_keeper |= was_full && self.keeper_reads;
        Some(arrival)
    }

    /// Takes what the keeper has read, for a reader.
    pub(in super::super) fn take_part(&mut self) -> Option<Arrival> {
        let arrival = self.take_arrival()?;
        self.has_reader = !arrival.is_last();
        Some(arrival)
    }

    /// Takes what `receive` has gathered of a message, for a reader.
    pub(in super::super) fn take_gathered(&mut self) -> Option<(MessageKind, Bytes)> {
        let gathered = self.gathered.take()?;
        self.has_reader = true;
        Some(gathered)
    }

    /// Reads one frame and acts on it. `Ready(None)`: something happened, but no message came of it;
    /// whoever polls looks at [`end`](Self::end) and polls again.
    #[inline]
    pub(in super::super) fn poll_message(&mut self) -> Poll<Option<Frame>> {
        match ready!(self.poll_arrival(self.gathered.held())) {
            Some(Arrival::Message(frame)) => Poll::Ready(Some(frame)),
            Some(Arrival::Part(part)) => Poll::Ready(self.gather(part)),
            None => Poll::Ready(None),
        }
    }

    /// The same for a reader.
    pub(in super::super) fn poll_part(&mut self) -> Poll<Option<Arrival>> {
        let arrival = ready!(self.poll_arrival(0));
        if let Some(arrival) = &arrival {
            self.has_reader = !arrival.is_last();
        }
        Poll::Ready(arrival)
    }

    /// Reads one frame and acts on it, when so much of its message is held.
    #[inline]
    fn poll_arrival(&mut self, held: usize) -> Poll<Option<Arrival>> {
        let Some(transport) = &mut self.transport else { return Poll::Ready(None) };
        if self.closing.has_received() || !self.closing.is_readable() {
            return Poll::Pending;
        }
        let max_payload = self.assembler.max_payload(held);
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
            Ok(None) => return self.read_ended(None).map(|()| None),
            Err(error) => return self.read_failed(error).map(|()| None),
        };
        self.keepalive.saw_life();
        self.counted_in.frame(frame.payload.len());
        match self.assembler.accept(frame, held) {
            Ok(Event::Message(frame)) if self.closing.delivers() => {
                Poll::Ready(Some(Arrival::Message(frame)))
            }
            event => self.act_on(event),
        }
    }

    /// Takes the messages that are here already, up to where something else comes. It never makes the
    /// transport read.
    pub(in super::super) fn fill(&mut self, batch: &mut Batch) {
        if !self.cork.is_flooded() || self.assembler.is_open() {
            return;
        }
        batch.begin();
        while !batch.is_full() && !self.closing.has_received() && self.closing.is_readable() {
            let Some(transport) = &mut self.transport else { return };
            let max_payload = self.assembler.max_payload(0);
            let Some(received) = transport.try_receive_buffered(max_payload) else {
                self.starved = true;
                return;
            };
            let event = match received {
                Ok(frame) => {
                    self.keepalive.saw_life();
                    self.counted_in.frame(frame.payload.len());
                    self.assembler.accept(frame, 0)
                }
                Err(error) => {
                    // Whether it ends the session is seen by the next call.
                    let _ = self.read_failed(error);
                    return;
                }
            };
            match event {
                Ok(Event::Message(message)) if self.closing.delivers() => {
                    self.received.count(message.read_bytes().len());
                    self.cork.receives(false);
                    batch.push(message);
                }
                // Whether a fragment's message is wanted whole is said by the next call.
                event => match self.act_on(event) {
                    Poll::Ready(Some(part)) => return self.inbox.push(part),
                    _ => return,
                },
            }
        }
    }

    /// Acts on what is no whole message for the application.
    fn act_on(&mut self, event: Result<Event>) -> Poll<Option<Arrival>> {
        match event {
            Ok(Event::Message(_)) => self.discarded += 1,
            Ok(Event::Part(part)) => return Poll::Ready(self.came_in(part)),
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
                return self.read_failed(error).map(|()| None);
            }
        }
        Poll::Ready(None)
    }

    fn came_in(&mut self, part: Part) -> Option<Arrival> {
        if !part.last {
            self.counted_in.apart(OpCode::Continuation);
        }
        if self.closing.delivers() && !self.skips {
            return Some(Arrival::Part(part));
        }
        if part.last {
            self.skips = false;
            self.discarded += 1;
        }
        None
    }

    /// Adds a fragment to the message that `receive` waits for.
    fn gather(&mut self, part: Part) -> Option<Frame> {
        match self.gathered.push(part, self.assembler.max_message_size()) {
            Ok(whole) => whole,
            Err(error) => {
                self.refuse(error, 0);
                None
            }
        }
    }

    /// What came in is refused only now that it is received: nothing behind it counts, and so many messages were
    /// handed on with it.
    pub(in super::super) fn refuse(&mut self, error: Error, behind: usize) {
        self.discarded += behind as u64;
        self.gathered.clear();
        self.has_reader = false;
        self.discarded += self.inbox.clear();
        match &mut self.end {
            None => self.fail(error),
            Some(end) => {
                end.clean = false;
                end.error.get_or_insert(error);
            }
        }
    }

    /// The receiving half is gone, and with it so many messages that it had not handed on. What was read for it
    /// goes too.
    pub(in super::super) fn discard_incoming(&mut self, messages: usize) {
        self.discards = true;
        self.discarded += messages as u64 + self.inbox.clear();
        if let Some(end) = &mut self.end {
            end.discarded = self.discarded;
        }
        self.after.wake_keeper = true;
    }

    /// The reader is gone in the middle of a message: the rest of it is thrown away, and counts as one
    /// message that was.
    pub(in super::super) fn drop_reader(&mut self) {
        if !std::mem::take(&mut self.has_reader) {
            return;
        }
        while let Some(arrival) = self.take_arrival() {
            if arrival.is_last() {
                self.discarded += 1;
                if let Some(end) = &mut self.end {
                    end.discarded = self.discarded;
                }
                return;
            }
        }
        self.skips = self.assembler.is_open();
    }

    /// Reads what there is into the inbox, on the application's behalf. Returns whether there may be
    /// more, after a fair share.
    pub(in super::super) fn read_ahead(&mut self) -> bool {
        const FAIR_SHARE: usize = 64;
        for _ in 0..FAIR_SHARE {
            // Of a message that is being read nothing is thrown away: the reader may be slow.
            let waits = self.closing.is_open() || self.has_reader;
            if self.end.is_some() || (self.inbox.is_full() && waits && !self.discards) {
                return false;
            }
            match self.poll_arrival(0) {
                Poll::Pending => return false,
                Poll::Ready(None) => {}
                Poll::Ready(Some(arrival)) if self.discards || self.inbox.is_full() => {
                    self.discard(arrival);
                }
                Poll::Ready(Some(arrival)) => {
                    self.inbox.push(arrival);
                    self.after.wake.extend(self.receiving.take_app());
                }
            }
        }
        true
    }

    /// Throws away a message, or all there is of it and the rest when it comes.
    fn discard(&mut self, arrival: Arrival) {
        if matches!(&arrival, Arrival::Part(part) if part.start.is_none()) {
            self.inbox.drop_unfinished();
            if self.inbox.is_empty() {
                self.gathered.clear();
            }
        }
        match arrival.is_last() {
            true => self.discarded += 1,
            false => self.skips = true,
        }
    }
}
