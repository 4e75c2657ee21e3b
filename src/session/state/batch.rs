//! Messages that are taken many at a time, so that the lock is for all of them.

use drivetrain_engine::{Error, Frame, OpCode, RawFrame, Result};

use super::{
    super::{assembler::borrowed_text, batch::Batch},
    State,
};

impl State {
    /// Takes the messages that are here already, up to where something else comes. It never makes the
    /// transport read. What is no whole message, or breaks a rule, is held back: it is acted on when the
    /// application comes for more, or the keeper does.
    pub(in super::super) fn fill(&mut self, batch: &mut Batch) {
        let open = self.closing.is_open() && !self.assembler.is_open();
        let as_they_are = self.extensions.is_none() && self.held_back.is_none();
        if !self.cork.is_flooded() || !open || !as_they_are {
            return;
        }
        batch.begin();
        while !batch.is_full() && (self.fill_borrowed(batch) || self.fill_owned(batch)) {}
        self.keepalive.saw_life();
    }

    /// Takes what the transport lends. Returns whether there may be more.
    fn fill_borrowed(&mut self, batch: &mut Batch) -> bool {
        let max_payload = self.assembler.max_payload(0);
        let Some(transport) = &mut self.transport else { return false };
        let (before, mut bytes, mut refused) = (batch.len(), 0, None);
        while !batch.is_full() {
            let Some(payload) = transport.try_receive_short_text(max_payload) else { break };
            let size = payload.len();
            bytes += size;
            match borrowed_text(payload) {
                Ok(frame) => batch.push(frame, size),
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        // All at once: one by one it would cost as much as the messages.
        let taken = batch.len() - before;
        self.counted_in.frames(taken + usize::from(refused.is_some()), bytes);
        self.received.count_short(taken);
        self.cork.receives_buffered(taken);
        match refused {
            Some(error) => self.refuse_later(error),
            None => taken > 0,
        }
    }

    /// Takes a message that is in memory. Returns whether there may be more.
    #[inline]
    fn fill_owned(&mut self, batch: &mut Batch) -> bool {
        if self.held_back.is_some() {
            return false;
        }
        let max_payload = self.assembler.max_payload(0);
        let Some(transport) = &mut self.transport else { return false };
        let frame = match transport.try_receive_buffered(max_payload) {
            Some(Ok(frame)) => frame,
            Some(error) => return self.hold_back(error),
            None => {
                self.starved = true;
                return false;
            }
        };
        let size = frame.payload.len();
        match self.assembler.accept_whole(frame, 0) {
            Ok(message) => {
                self.counted_in.frame(size);
                match message {
                    Ok(frame) => batch.push(frame, size),
                    Err(error) => return self.refuse_later(error),
                }
                self.received.count(size);
                self.cork.receives_buffered(1);
                true
            }
            Err(frame) => self.hold_back(Ok(frame)),
        }
    }

    #[cold]
    fn hold_back(&mut self, received: Result<RawFrame>) -> bool {
        self.held_back = Some(received);
        false
    }

    #[cold]
    fn refuse_later(&mut self, error: Error) -> bool {
        self.counted_in.apart(OpCode::Continuation); // whatever it was, it is no message
        self.hold_back(Err(error))
    }

    /// The next message if the transport lends it; it is counted.
    #[inline]
    pub(super) fn take_borrowed(&mut self) -> Option<Result<Frame>> {
        if self.assembler.is_open() || self.extensions.is_some() {
            return None;
        }
        let max_payload = self.assembler.max_payload(0);
        let payload = self.transport.as_mut()?.try_receive_short_text(max_payload)?;
        self.keepalive.saw_life();
        self.counted_in.frame(payload.len());
        Some(borrowed_text(payload))
    }
}
