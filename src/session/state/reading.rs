//! What comes in: from the transport to whoever receives, or into the inbox.
//!
//! The application gets a message whole or in parts, as it asks; the keeper, who cannot know, reads parts.
//! So what is held of a message is limited where somebody wants it whole, and nowhere else.

use std::task::{Context, Poll, ready};

use drivetrain_engine::{Error, Frame, OpCode, RawFrame, Result};

use super::{
    super::{
        assembler::{Event, Part},
        inbox::Arrival,
        kind::MessageKind,
    },
    FRAGMENT, State,
};
use bytes::Bytes;

/// How many frames the keeper reads before others have their turn.
pub(in super::super) const FAIR_SHARE: usize = 64;

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
        if was_full && self.keeper_reads {
            self.ask_keeper();
        }
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
        if !self.starved && self.held_back.is_none() && self.closing.delivers() {
            if let Some(message) = self.take_borrowed() {
                self.from_socket = false;
                return match message {
                    Ok(frame) => Poll::Ready(Some(frame)),
                    Err(error) => {
                        self.counted_in.apart(OpCode::Continuation); // whatever it was, it is no message
                        self.read_failed(error).map(|()| None)
                    }
                };
            }
        }
        match ready!(self.poll_arrival(self.gathered.held())) {
            Some(Arrival::Message(frame)) => Poll::Ready(Some(frame)),
            Some(Arrival::Part(part)) => {
                let size = part.payload.len();
                let whole = self.gather(part);
                if whole.is_none() {
                    self.received.count(size); // a message is counted by whoever hands it on
                }
                Poll::Ready(whole)
            }
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
        let mut max_payload = self.assembler.max_payload(held);
        if let Some(extensions) = &mut self.extensions {
            if let Some(rest) = extensions.pull() {
                return self.take_frame(rest.map(Some), held);
            }
            max_payload = extensions.max_wire(); // what a message comes to is not known before
        }
        let buffered = match self.held_back.take() {
            None if self.starved => None,
            None => transport.try_receive_buffered(max_payload),
            held_back => held_back,
        };
        self.from_socket = buffered.is_none();
        let received = match buffered {
            Some(received) => received.map(Some),
            None => {
                self.starved = true;
                let mut cx = Context::from_waker(&self.receive_waker);
                let wakes = self.receiving.wakes();
                let received = transport.poll_receive(&mut cx, max_payload);
                self.pending_after = received.is_pending().then_some(wakes);
                ready!(received)
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
        if let Some(extensions) = &mut self.extensions {
            let frame = extensions.incoming(frame);
            return self.take_frame(frame, held);
        }
        self.assemble(frame, held)
    }

    /// Takes what extensions made of a frame: nothing, or a part of what it comes to.
    fn take_frame(
        &mut self,
        frame: Result<Option<RawFrame>>,
        held: usize,
    ) -> Poll<Option<Arrival>> {
        let frame = match frame {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                self.counted_in.apart(OpCode::Continuation);
                return Poll::Ready(None);
            }
            Err(error) => return self.act_on(Err(error)),
        };
        if self.has_more() {
            self.received.count(FRAGMENT); // nothing waited for it, and little may come of much work
        }
        self.assemble(frame, held)
    }

    #[inline]
    fn assemble(&mut self, frame: RawFrame, held: usize) -> Poll<Option<Arrival>> {
        match self.assembler.accept(frame, held) {
            Ok(Event::Message(frame)) if self.closing.delivers() => {
                Poll::Ready(Some(Arrival::Message(frame)))
            }
            event => self.act_on(event),
        }
    }

    /// Whether the frame that came last comes to more.
    fn has_more(&self) -> bool {
        self.extensions.as_ref().is_some_and(|extensions| extensions.has_more())
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
        // A frame on the wire is counted with the last of what it comes to.
        if !part.last && !self.has_more() {
            self.counted_in.apart(OpCode::Continuation);
        }
        if self.closing.delivers() && !self.skips {
            return Some(Arrival::Part(part));
        }
        self.received.count(part.payload.len());
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
        self.ask_keeper();
    }

    /// The reader is gone. In the middle of a message the rest of it is thrown away, and counts as one message that
    /// was; so does a whole one of whose end, which has come, the reader has not read all.
    pub(in super::super) fn drop_reader(&mut self, is_unread: bool) {
        if !std::mem::take(&mut self.has_reader) {
            if is_unread {
                self.discard_one();
            }
            return;
        }
        while let Some(arrival) = self.take_arrival() {
            if arrival.is_last() {
                return self.discard_one();
            }
        }
        self.skips = self.assembler.is_open();
    }

    fn discard_one(&mut self) {
        self.discarded += 1;
        if let Some(end) = &mut self.end {
            end.discarded = self.discarded;
        }
    }

    /// Whether all is read that there was, so that a wake-up is to come with more.
    pub(in super::super) fn is_input_awaited(&self) -> bool {
        self.pending_after == Some(self.receiving.wakes())
    }

    /// Reads what there is into the inbox, on the application's behalf. Returns whether there may be
    /// more, after a fair share.
    pub(in super::super) fn read_ahead(&mut self) -> bool {
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
