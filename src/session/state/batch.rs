//! Messages that are taken many at a time, so that the lock is for all of them.

use std::collections::VecDeque;

use drivetrain_engine::{Frame, OpCode, RawFrame, Result};

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
        let mut bytes = 0;
        while batch.len() < MOST && bytes < BYTES {
            let Some(frame) = self.take_buffered() else { break };
            let size = frame.payload().len();
            bytes += size;
            self.received.count(size);
            self.cork.receives(false);
            if batch.capacity() == 0 {
                batch.reserve_exact(MOST);
            }
            batch.push_back(frame);
        }
    }

    /// The next message if it is in memory; `None` also for what is held back.
    fn take_buffered(&mut self) -> Option<Frame> {
        let max_payload = self.assembler.max_payload();
        let message = match self.take_borrowed(max_payload) {
            Some(message) => message,
            None => {
                let received = self.transport.as_mut()?.try_receive_buffered(max_payload)?;
                let message = received.map(|frame| {
                    let bytes = frame.payload.len();
                    self.assembler.accept_whole(frame).map(|message| (message, bytes))
                });
                match message {
                    Ok(Ok((message, bytes))) => {
                        self.keepalive.saw_life();
                        self.counted_in.frame(bytes);
                        message
                    }
                    Ok(Err(frame)) => return self.hold_back(Ok(frame)),
                    Err(error) => return self.hold_back(Err(error)),
                }
            }
        };
        match message {
            Ok(frame) => Some(frame),
            Err(error) => {
                self.counted_in.apart(OpCode::Continuation); // whatever it was, it is no message
                self.hold_back(Err(error))
            }
        }
    }

    fn hold_back(&mut self, received: Result<RawFrame>) -> Option<Frame> {
        self.held_back = Some(received);
        None
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
