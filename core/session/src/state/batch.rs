//! Batches: many messages under one lock.

use drivetrain_engine::{Error, Frame, OpCode, RawFrame, Result};

use super::{
    super::{
        inbound::batch::{Batch, Filling},
        inbound::validation::borrowed_text,
    },
    State,
};

impl State {
    /// Takes the messages in memory, up to the first other item. Never makes the transport read. An item that is not a
    /// whole message, or a violation, is deferred until the application or the session task reads on.
    pub(crate) fn fill(&mut self, batch: &mut Batch) {
        let open = self.lifecycle.closing.is_open() && !self.inbound.validator.is_open();
        let as_they_are = self.extensions.is_none() && self.inbound.deferred_frame.is_none();
        if !self.outbound.coalescing.is_flooded() || !open || !as_they_are {
            return;
        }
        let mut filling = batch.begin();
        while !filling.is_full()
            && (self.fill_borrowed(&mut filling) || self.fill_owned(&mut filling))
        {}
        batch.put(filling);
        self.lifecycle.keepalive.saw_life();
    }

    /// Takes borrowed short texts. Returns whether there may be more.
    fn fill_borrowed(&mut self, filling: &mut Filling) -> bool {
        let max_payload = self.inbound.validator.max_payload(0);
        let Some(transport) = &mut self.transport else { return false };
        let (before, mut bytes, mut refused) = (filling.len(), 0, None);
        while !filling.is_full() {
            let Some(payload) = transport.try_receive_short_text(max_payload) else { break };
            let size = payload.len();
            bytes += size;
            match borrowed_text(payload) {
                Ok(frame) => filling.push(frame, size),
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        // Counted together: counting each would cost as much as the messages.
        let taken = filling.len() - before;
        self.inbound.counted.frames(taken + usize::from(refused.is_some()), bytes);
        self.inbound.budget.count_short(taken);
        self.outbound.coalescing.receives_buffered(taken);
        match refused {
            Some(error) => self.refuse_later(error),
            None => taken > 0,
        }
    }

    /// Takes a message that is in memory. Returns whether there may be more.
    #[inline]
    fn fill_owned(&mut self, filling: &mut Filling) -> bool {
        if self.inbound.deferred_frame.is_some() {
            return false;
        }
        let max_payload = self.inbound.validator.max_payload(0);
        let Some(transport) = &mut self.transport else { return false };
        let frame = match transport.try_receive_buffered(max_payload) {
            Some(Ok(frame)) => frame,
            Some(error) => return self.defer_frame(error),
            None => {
                self.inbound.would_block = true;
                return false;
            }
        };
        let size = frame.payload.len();
        match self.inbound.validator.accept_whole(frame, 0) {
            Ok(message) => {
                self.inbound.counted.frame(size);
                match message {
                    Ok(frame) => filling.push(frame, size),
                    Err(error) => return self.refuse_later(error),
                }
                self.inbound.budget.count(size);
                self.outbound.coalescing.receives_buffered(1);
                true
            }
            Err(frame) => self.defer_frame(Ok(frame)),
        }
    }

    #[cold]
    fn defer_frame(&mut self, received: Result<RawFrame>) -> bool {
        self.inbound.deferred_frame = Some(received);
        false
    }

    #[cold]
    fn refuse_later(&mut self, error: Error) -> bool {
        self.inbound.counted.apart(OpCode::Continuation); // whatever it was, it is no message
        self.defer_frame(Err(error))
    }

    /// The next message, if the transport lends it. Counts the message.
    #[inline]
    pub(super) fn take_borrowed(&mut self) -> Option<Result<Frame>> {
        if self.inbound.validator.is_open() || self.extensions.is_some() {
            return None;
        }
        let max_payload = self.inbound.validator.max_payload(0);
        let payload = self.transport.as_mut()?.try_receive_short_text(max_payload)?;
        self.lifecycle.keepalive.saw_life();
        self.inbound.counted.frame(payload.len());
        Some(borrowed_text(payload))
    }
}
