//! The extensions that were agreed on, between the frames of the wire and those that the rest of the session
//! sees: pure.

use std::{collections::VecDeque, fmt};

use bytes::{Bytes, BytesMut};
use drivetrain_engine::{
    CloseCode, Error, Limits, MessagePart, OpCode, RawFrame, Result, Rsv, Transform, Unit,
};

use super::outbox::FRAGMENT;

/// The most that one part of a message may come to at once, so that a small frame which comes to a lot is
/// bounded and does not keep the lock.
const PIECE: usize = 64 << 10;

/// How much larger a frame may be, beside twice, than the largest message that it may come to: what it comes to is
/// not known before it is there as a whole. No encoding needs more.
const WIRE_EXCESS: usize = 64 << 10;

/// The transforms of one session, in the order in which they are applied to what goes out.
#[derive(Debug)]
pub(crate) struct Extensions {
    stages: Vec<Stage>,
    /// The reserved bits that they use.
    rsv: Rsv,
    /// The most bytes of a frame to take.
    wire: usize,
    /// The most bytes of a frame to hand on.
    room: usize,
    /// The most bytes of a frame to send.
    fragment: usize,
    incoming: Incoming,
    outgoing: Option<Outgoing>,
    /// What is to be sent next, of the message that goes out.
    ready: VecDeque<RawFrame>,
    /// Something went wrong: data is thrown away from here on.
    stopped: bool,
}

/// One extension.
#[derive(Debug)]
struct Stage {
    transform: Box<dyn Transform>,
    rsv: Rsv,
    /// Whether the message that comes in passes through it.
    active: bool,
    /// What it has still to take of what came in.
    part: Option<MessagePart>,
}

/// The message that comes in.
#[derive(Debug, Default)]
struct Incoming {
    /// `None` between messages.
    opcode: Option<OpCode>,
    rsv: Rsv,
    /// Its first frame has been handed on.
    begun: bool,
}

/// The message that goes out.
struct Outgoing {
    opcode: OpCode,
    rsv: Rsv,
    held: BytesMut,
    /// Its first frame is out.
    begun: bool,
}

impl Extensions {
    /// Of each extension the reserved bits that it uses, and its transform; `None` if there is none.
    pub(crate) fn new(transforms: Vec<(Rsv, Box<dyn Transform>)>) -> Option<Self> {
        let stage = |(rsv, transform)| Stage { transform, rsv, active: false, part: None };
        let stages: Vec<Stage> = transforms.into_iter().map(stage).collect();
        (!stages.is_empty()).then(|| Self {
            rsv: stages.iter().fold(Rsv::NONE, |all, stage| all | stage.rsv),
            stages,
            wire: usize::MAX,
            room: PIECE,
            fragment: usize::MAX,
            incoming: Incoming::default(),
            outgoing: None,
            ready: VecDeque::new(),
            stopped: false,
        })
    }

    /// Takes and hands on no frame above these limits, and sends none that is larger, nor than a fragment where the transport
    /// takes them.
    pub(super) fn within(mut self, unit: Unit, limits: Limits) -> Self {
        let Limits { max_frame_size, max_message_size } = limits;
        let largest = max_message_size.saturating_mul(2).saturating_add(WIRE_EXCESS);
        self.wire = max_frame_size.min(largest);
        self.room = PIECE.min(max_frame_size).min(max_message_size);
        if unit == Unit::Frames {
            self.fragment = FRAGMENT.min(max_frame_size);
        }
        self
    }

    /// The largest frame to take, before it is known what it comes to.
    #[inline]
    pub(super) fn max_wire(&self) -> usize {
        self.wire
    }

    /// Whether every message that they transform has a bit that says so.
    pub(super) fn mark_messages(&self) -> bool {
        self.stages.iter().all(|stage| !stage.rsv.is_none())
    }

    /// Takes a frame as it is on the wire. Returns what the session is to see of it now: nothing if it is data
    /// after an error. The rest of what it comes to is given by [`pull`](Self::pull), which has to be asked
    /// first.
    ///
    /// # Errors
    /// The transform's own, with a close code.
    pub(super) fn incoming(&mut self, frame: RawFrame) -> Result<Option<RawFrame>> {
        if frame.opcode.is_control() {
            return Ok(Some(frame));
        }
        if self.stopped {
            return Ok(None);
        }
        if frame.opcode != OpCode::Continuation {
            if !self.rsv.contains(frame.rsv) || self.incoming.opcode.is_some() {
                return Ok(Some(frame)); // nobody's bits, or a message within another: violations
            }
            self.incoming = Incoming { opcode: Some(frame.opcode), rsv: frame.rsv, begun: false };
            for stage in &mut self.stages {
                stage.active = stage.rsv.is_none() || frame.rsv.intersects(stage.rsv);
            }
        } else if !frame.rsv.is_none() {
            return Ok(Some(frame)); // of a message, only the first frame has bits
        }
        let outermost = self.stages.iter_mut().rev().find(|stage| stage.active);
        let (Some(opcode), Some(stage)) = (self.incoming.opcode, outermost) else {
            if frame.fin {
                self.incoming = Incoming::default();
            }
            return Ok(Some(RawFrame { rsv: Rsv::NONE, ..frame }));
        };
        stage.part = Some(MessagePart {
            first: frame.opcode != OpCode::Continuation,
            fin: frame.fin,
            rsv: self.incoming.rsv,
            ..MessagePart::new(opcode, frame.payload)
        });
        self.pull().transpose()
    }

    /// The next of what the last frame comes to; `None` if it has come to all.
    #[inline]
    pub(super) fn pull(&mut self) -> Option<Result<RawFrame>> {
        if !self.has_more() {
            return None;
        }
        Some(self.pull_piece())
    }

    /// Whether the last frame has not come to everything yet.
    #[inline]
    pub(super) fn has_more(&self) -> bool {
        self.stages.iter().any(|stage| stage.part.is_some())
    }

    /// Throws away data from here on: the session has failed.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
        self.ready.clear();
        for stage in &mut self.stages {
            stage.part = None;
        }
    }

    /// From the stage furthest in that has something to take, step by step to the session.
    fn pull_piece(&mut self) -> Result<RawFrame> {
        loop {
            let at = self.stages.iter().position(|stage| stage.part.is_some()).unwrap_or(0);
            let (further_in, rest) = self.stages.split_at_mut(at);
            let piece = match rest[0].step(self.room) {
                Ok(piece) => piece,
                Err(error) => {
                    self.stop();
                    return Err(with_code(error));
                }
            };
            if let Some(next) = further_in.iter_mut().rev().find(|stage| stage.active) {
                next.part = Some(piece);
                continue;
            }
            let opcode = match std::mem::replace(&mut self.incoming.begun, true) {
                true => OpCode::Continuation,
                false => piece.opcode,
            };
            if piece.fin {
                // A continuation after it would go on with nothing.
                self.incoming = Incoming::default();
                self.stages.iter_mut().for_each(|stage| stage.active = false);
            }
            return Ok(RawFrame { fin: piece.fin, ..RawFrame::new(opcode, piece.payload) });
        }
    }

    /// Takes a data frame that is to be sent. What goes out for it is then [`ready`](Self::pop_ready), but for what
    /// is kept back to go out with the next one of the message.
    ///
    /// # Errors
    /// The transform's own, with a close code.
    pub(super) fn outgoing(&mut self, frame: RawFrame) -> Result<()> {
        let first = frame.opcode != OpCode::Continuation;
        let mut message = match self.outgoing.take() {
            Some(message) if !first => message,
            _ => Outgoing::new(frame.opcode),
        };
        let mut part = MessagePart {
            first,
            fin: frame.fin,
            rsv: message.rsv,
            ..MessagePart::new(message.opcode, frame.payload)
        };
        for stage in &mut self.stages {
            stage.transform.outgoing(&mut part).map_err(with_code)?;
        }
        if first {
            message.rsv = part.rsv;
        }
        message.take(part.payload, frame.fin, self.fragment, &mut self.ready);
        if !frame.fin {
            self.outgoing = Some(message);
        }
        Ok(())
    }

    /// The next frame to send.
    pub(super) fn pop_ready(&mut self) -> Option<RawFrame> {
        self.ready.pop_front()
    }

    /// Whether there is one.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How many messages end in what is to be sent next.
    pub(super) fn messages_ready(&self) -> u64 {
        self.ready.iter().filter(|frame| frame.fin).count() as u64
    }

    /// Nothing more can be sent.
    pub(super) fn clear_ready(&mut self) {
        self.ready.clear();
    }
}

impl Stage {
    /// Has the transform take what it does at once. The part is gone when it has come to everything.
    fn step(&mut self, room: usize) -> Result<MessagePart> {
        let part = self.part.get_or_insert_with(|| MessagePart::new(OpCode::Binary, Bytes::new()));
        let payload = self.transform.incoming(part, room)?;
        let is_done = part.payload.is_empty() && payload.len() < room;
        let piece = MessagePart { payload, fin: part.fin && is_done, ..part.clone() };
        part.first = false;
        if is_done {
            self.part = None;
        }
        Ok(piece)
    }
}

impl Outgoing {
    fn new(opcode: OpCode) -> Self {
        Self { opcode, rsv: Rsv::NONE, held: BytesMut::new(), begun: false }
    }

    /// Makes frames of this size; the last of a message may be smaller.
    fn take(&mut self, payload: Bytes, fin: bool, size: usize, ready: &mut VecDeque<RawFrame>) {
        let mut payload = match self.held.is_empty() {
            true => payload,
            false => {
                self.held.extend_from_slice(&payload);
                self.held.split().freeze()
            }
        };
        while payload.len() > size {
            ready.push_back(self.frame(payload.split_to(size), false));
        }
        match fin {
            true => ready.push_back(self.frame(payload, true)),
            false => self.held.extend_from_slice(&payload),
        }
    }

    /// The reserved bits are on the first frame only.
    fn frame(&mut self, payload: Bytes, fin: bool) -> RawFrame {
        let (opcode, rsv) = match std::mem::replace(&mut self.begun, true) {
            true => (OpCode::Continuation, Rsv::NONE),
            false => (self.opcode, self.rsv),
        };
        RawFrame { fin, rsv, ..RawFrame::new(opcode, payload) }
    }
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { opcode, rsv, held, begun } = self;
        write!(f, "Outgoing({opcode:?}, {rsv:?}, begun: {begun}, {} bytes)", held.len())
    }
}

/// Every failure here ends the session with a Close that says something.
fn with_code(error: Error) -> Error {
    match error.close_code() {
        Some(_) => error,
        None => error.with_close_code(CloseCode::INTERNAL_ERROR),
    }
}

#[cfg(test)]
mod tests;
