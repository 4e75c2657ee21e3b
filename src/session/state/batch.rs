//! Messages that are taken many at a time, so that the lock is for all of them.

use std::collections::VecDeque;

use drivetrain_engine::{Error, Frame, OpCode, RawFrame, Result};

use super::{State, borrowed_message};

/// The most messages of a batch.
const MOST: usize = 32;

/// The most payload of a batch, but for its last message. All of it is in the transport's memory already.
const BYTES: usize = 16 << 10;

impl State {
    /// Takes the messages that are in memory behind the one just received, if that one had been, too. Never
    /// reads. What is no message, or breaks a rule, is held back: it is acted on when the application comes
    /// for more, or the keeper does.
    pub(in super::super) fn take_batch(&mut self, batch: &mut VecDeque<Frame>) {
        if !self.closing.is_open() || self.held_back.is_some() {
            return;
        }
        if batch.capacity() == 0 {
            batch.reserve_exact(MOST);
        }
        let mut bytes = 0;
        while batch.len() < MOST && bytes < BYTES {
            let before = batch.len();
            bytes += self.take_borrowed_batch(batch, BYTES - bytes);
            if batch.len() == before {
                let Some(frame) = self.take_owned() else { break };
                self.received.count(frame.payload().len());
                bytes += frame.payload().len();
                batch.push_back(frame);
            }
        }
        self.cork.receives_buffered(batch.len());
    }

    /// As many as the transport lends. Returns their bytes.
    fn take_borrowed_batch(&mut self, batch: &mut VecDeque<Frame>, most: usize) -> usize {
        let max_payload = self.assembler.max_payload();
        let (Some(transport), true) =
            (&mut self.transport, self.assembler.is_between_messages() && self.held_back.is_none())
        else {
            return 0;
        };
        let (mut bytes, before) = (0, batch.len());
        while batch.len() < MOST && bytes < most {
            let Some((opcode, payload)) = transport.try_receive_borrowed(max_payload) else {
                break;
            };
            let size = payload.len();
            bytes += size;
            self.counted_in.frame(size);
            self.received.count(size);
            match borrowed_message(opcode == OpCode::Text, payload) {
                Ok(frame) => batch.push_back(frame),
                Err(error) => {
                    self.refuse_later(error);
                    break;
                }
            }
        }
        if batch.len() > before {
            self.keepalive.saw_life();
        }
        bytes
    }

    /// The next message if it is in memory; `None` also for what is held back.
    fn take_owned(&mut self) -> Option<Frame> {
        if self.held_back.is_some() {
            return None;
        }
        let max_payload = self.assembler.max_payload();
        let frame = match self.transport.as_mut()?.try_receive_buffered(max_payload)? {
            Ok(frame) => frame,
            error => return self.hold_back(error),
        };
        let size = frame.payload.len();
        match self.assembler.accept_whole(frame) {
            Ok(message) => {
                self.keepalive.saw_life();
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

    /// The next message if the transport lends it; it is counted.
    #[inline]
    pub(super) fn take_borrowed(&mut self, max_payload: usize) -> Option<Result<Frame>> {
        if !self.assembler.is_between_messages() {
            return None;
        }
        let (opcode, payload) = self.transport.as_mut()?.try_receive_borrowed(max_payload)?;
        self.keepalive.saw_life();
        self.counted_in.frame(payload.len());
        Some(borrowed_message(opcode == OpCode::Text, payload))
    }
}
