//! Messages that are taken many at a time, so that the lock is for all of them.

use drivetrain_engine::{Error, Frame, OpCode, RawFrame, Result};

use super::{
    super::{assembler::borrowed_message, batch::Batch},
    State,
};

impl State {
    /// Takes the messages that are here already, up to where something else comes. It never makes the
    /// transport read. What is no whole message, or breaks a rule, is held back: it is acted on when the
    /// application comes for more, or the keeper does.
    pub(in super::super) fn fill(&mut self, batch: &mut Batch) {
        let open = self.closing.is_open() && !self.assembler.is_open();
        if !self.cork.is_flooded() || !open || self.held_back.is_some() {
            return;
        }
        batch.begin();
        while !batch.is_full() {
            if !self.fill_borrowed(batch) {
                let Some(frame) = self.take_owned() else { return };
                self.note(frame.payload().len());
                batch.push(frame);
            }
        }
    }

    /// Takes what the transport lends. Returns whether it lent anything.
    fn fill_borrowed(&mut self, batch: &mut Batch) -> bool {
        if self.held_back.is_some() {
            return false;
        }
        let max_payload = self.assembler.max_payload(0);
        let Some(transport) = &mut self.transport else { return false };
        let before = batch.len();
        while !batch.is_full() {
            let Some((opcode, payload)) = transport.try_receive_borrowed(max_payload) else {
                break;
            };
            self.counted_in.frame(payload.len());
            match borrowed_message(opcode, payload) {
                Ok(frame) => {
                    self.received.count(payload.len());
                    self.cork.receives(false);
                    batch.push(frame);
                }
                Err(error) => {
                    self.refuse_later(error);
                    break;
                }
            }
        }
        self.keepalive.saw_life();
        batch.len() > before
    }

    /// The next message if it is in memory; `None` also for what is held back.
    fn take_owned(&mut self) -> Option<Frame> {
        if self.held_back.is_some() {
            return None;
        }
        let max_payload = self.assembler.max_payload(0);
        let Some(received) = self.transport.as_mut()?.try_receive_buffered(max_payload) else {
            self.starved = true;
            return None;
        };
        let frame = match received {
            Ok(frame) => frame,
            error => return self.hold_back(error),
        };
        let size = frame.payload.len();
        match self.assembler.accept_whole(frame, 0) {
            Ok(message) => {
                self.counted_in.frame(size);
                message.map_err(|error| self.refuse_later(error)).ok()
            }
            Err(frame) => self.hold_back(Ok(frame)),
        }
    }

    fn hold_back(&mut self, received: Result<RawFrame>) -> Option<Frame> {
        self.held_back = Some(received);
        None
    }

    fn refuse_later(&mut self, error: Error) {
        self.counted_in.apart(OpCode::Continuation); // whatever it was, it is no message
        self.held_back = Some(Err(error));
    }

    fn note(&mut self, size: usize) {
        self.keepalive.saw_life();
        self.received.count(size);
        self.cork.receives(false);
    }

    /// The next message if the transport lends it; it is counted.
    #[inline]
    pub(super) fn take_borrowed(&mut self) -> Option<Result<Frame>> {
        if self.assembler.is_open() {
            return None;
        }
        let max_payload = self.assembler.max_payload(0);
        let (opcode, payload) = self.transport.as_mut()?.try_receive_borrowed(max_payload)?;
        self.keepalive.saw_life();
        self.counted_in.frame(payload.len());
        Some(borrowed_message(opcode, payload))
    }
}
