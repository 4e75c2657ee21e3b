//! The negotiated extensions, between the frames of the wire and the rest of the session: pure.
//!
//! Transforms are user code. A [`Job`] takes them out of the session's state, runs them without the lock, and puts them
//! back. One thread runs them at a time. What needs them meanwhile waits: messages in the send queue, an incoming frame
//! here.

use std::{collections::VecDeque, fmt, mem};

use bytes::{Bytes, BytesMut};
use drivetrain_engine::{
    CloseCode, Error, Limits, MessagePart, OpCode, RawFrame, Result, Rsv, Transform,
};

use super::{
    inbound::validation::{MAX_FRAME_SIZE, MAX_MESSAGE_SIZE},
    panics::Panics,
};

/// Maximum output per transform step; bounds decompression bombs, and how long the other direction waits.
const CHUNK: usize = 64 << 10;

/// A compressed frame may be up to twice `max_message_size` plus this, because its decompressed size is
/// not known until it is complete. No encoding needs more.
const WIRE_EXCESS: usize = 64 << 10;

/// The transforms of one session, in the order of outgoing messages.
#[derive(Debug)]
pub struct Extensions {
    transforms: Transforms,
    /// The reserved bits of all extensions.
    rsv: Rsv,
    /// Each extension has a reserved bit, so that a message without any passes through none.
    mark_messages: bool,
    /// Maximum size of a frame on the wire.
    wire: usize,
    /// Maximum size of a transformed frame.
    room: usize,
    /// Maximum size of an outgoing frame.
    fragment: usize,
    incoming: Incoming,
    outgoing: Option<Outgoing>,
    /// Transformed frames to send next.
    ready: VecDeque<RawFrame>,
    /// An error occurred; further data is discarded.
    stopped: bool,
    /// The writing that continues when the transforms are back.
    resume: Option<Resume>,
}

#[derive(Debug)]
enum Transforms {
    Idle(Vec<Stage>),
    /// They run as soon as the lock is released.
    Due(Job),
    /// A thread runs them without the lock.
    Running(Direction),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Incoming,
    Outgoing {
        /// A message ends with it.
        fin: bool,
    },
}

/// One extension.
#[derive(Debug)]
pub(super) struct Stage {
    transform: Box<dyn Transform>,
    rsv: Rsv,
    /// Whether the incoming message passes through this extension.
    active: bool,
    /// The untransformed input.
    part: Option<MessagePart>,
}

/// The incoming message.
#[derive(Debug, Default)]
struct Incoming {
    /// `None` between messages.
    opcode: Option<OpCode>,
    rsv: Rsv,
    /// It passes through an extension.
    active: bool,
    /// The first frame was passed on.
    begun: bool,
    /// The latest frame, until the transforms have it.
    part: Option<MessagePart>,
    /// The latest frame is not used up.
    pending: bool,
    /// A reader waits for the next chunk of it.
    wanted: bool,
    /// The next chunk of it.
    chunk: Option<RawFrame>,
}

/// The outgoing message.
struct Outgoing {
    opcode: OpCode,
    rsv: Rsv,
    held: BytesMut,
    /// The first frame was sent.
    begun: bool,
    /// Input has arrived since the last flush.
    keeps_back: bool,
}

/// What becomes of a frame from the wire.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Passed {
    /// No extension transforms it.
    AsItIs(RawFrame),
    /// [`pull`](Extensions::pull) returns the output.
    Transformed,
    /// It is data after an error.
    Discarded(Bytes),
}

/// How writing continues when the transforms are back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Resume {
    /// Flush the transport.
    pub(super) write: bool,
    /// How much payload to give it.
    pub(super) share: usize,
    /// The session was dropped, and ends then.
    pub(super) last: bool,
}

/// One run of the transforms, outside the lock.
#[derive(Debug)]
pub(super) struct Job {
    stages: Vec<Stage>,
    work: Work,
}

#[derive(Debug)]
enum Work {
    /// The next chunk of the latest frame, which the transforms have already without a `part`.
    Incoming {
        part: Option<MessagePart>,
        room: usize,
    },
    Outgoing {
        message: Outgoing,
        part: MessagePart,
        flush: bool,
        fragment: usize,
    },
}

/// The transforms and their output, to [put back](Extensions::put_back).
#[derive(Debug)]
pub(super) struct Done {
    stages: Vec<Stage>,
    output: Output,
}

#[derive(Debug)]
enum Output {
    Incoming(Result<MessagePart>),
    /// The message, if it continues, and its frames.
    Outgoing(Result<(Option<Outgoing>, VecDeque<RawFrame>)>),
}

/// A transform that was returned.
#[derive(Debug)]
pub(super) enum Returned {
    /// Output of an incoming frame, or the error that refuses the frame.
    Incoming(Result<()>),
    Outgoing(Result<()>),
    /// The output comes after an error.
    Discarded {
        /// It is of an incoming frame.
        incoming: bool,
        payloads: Vec<Bytes>,
    },
}

impl Extensions {
    /// The negotiated extensions in order, each with its reserved bits and its transform.
    /// `None` without extensions.
    pub fn new(transforms: Vec<(Rsv, Box<dyn Transform>)>) -> Option<Self> {
        let stage = |(rsv, transform)| Stage { transform, rsv, active: false, part: None };
        let stages: Vec<Stage> = transforms.into_iter().map(stage).collect();
        (!stages.is_empty()).then(|| Self {
            rsv: stages.iter().fold(Rsv::NONE, |all, stage| all | stage.rsv),
            mark_messages: stages.iter().all(|stage| !stage.rsv.is_none()),
            transforms: Transforms::Idle(stages),
            wire: usize::MAX,
            room: CHUNK,
            fragment: usize::MAX,
            incoming: Incoming::default(),
            outgoing: None,
            ready: VecDeque::new(),
            stopped: false,
            resume: None,
        })
    }

    /// Sets the limits for incoming frames, and the maximum size of outgoing frames.
    pub(super) fn within(mut self, fragment: usize, limits: Limits) -> Self {
        let Limits { max_frame_size, max_message_size } = limits;
        let largest = max_message_size.saturating_mul(2).saturating_add(WIRE_EXCESS);
        // A frame limit that equals the message limit is not separate: random data grows when compressed.
        let is_limited = max_frame_size != max_message_size;
        self.wire = if is_limited { max_frame_size.min(largest) } else { largest };
        self.room = CHUNK.min(max_frame_size).min(max_message_size);
        self.fragment = fragment;
        self
    }

    /// The largest frame on the wire, before transformation.
    #[inline]
    pub(super) fn max_wire(&self) -> usize {
        self.wire
    }

    /// The option behind this limit.
    pub(super) fn limiting_option(&self, limits: Limits) -> &'static str {
        if self.wire == limits.max_frame_size { MAX_FRAME_SIZE } else { MAX_MESSAGE_SIZE }
    }

    /// Whether every transformed message has a reserved bit.
    pub(super) fn mark_messages(&self) -> bool {
        self.mark_messages
    }

    /// Takes a frame from the wire. [`has_more`](Self::has_more) must be false.
    pub(super) fn incoming(&mut self, frame: RawFrame) -> Passed {
        if frame.opcode.is_control() {
            return Passed::AsItIs(frame);
        }
        if self.stopped {
            return Passed::Discarded(frame.payload);
        }
        let incoming = &mut self.incoming;
        let first = frame.opcode != OpCode::Continuation;
        if first {
            if !self.rsv.contains(frame.rsv) || incoming.opcode.is_some() {
                return Passed::AsItIs(frame); // bits of no extension, or a message within another: violations
            }
            *incoming = Incoming {
                opcode: Some(frame.opcode),
                rsv: frame.rsv,
                active: !(self.mark_messages && frame.rsv.is_none()),
                ..Incoming::default()
            };
        } else if !frame.rsv.is_none() {
            return Passed::AsItIs(frame); // of a message, only the first frame has bits
        }
        let Some(opcode) = incoming.opcode.filter(|_| incoming.active) else {
            if frame.fin {
                *incoming = Incoming::default();
            }
            return Passed::AsItIs(RawFrame { rsv: Rsv::NONE, ..frame });
        };
        incoming.part = Some(MessagePart {
            first,
            fin: frame.fin,
            rsv: incoming.rsv,
            ..MessagePart::new(opcode, frame.payload)
        });
        incoming.pending = true;
        Passed::Transformed
    }

    /// Takes the next transformed chunk of the latest frame. Without one the transforms [become due](Self::is_due), now or
    /// when they are back.
    pub(super) fn pull(&mut self) -> Option<RawFrame> {
        let chunk = self.incoming.chunk.take();
        if chunk.is_none() {
            self.incoming.wanted = true;
            self.serve_reader();
        }
        chunk
    }

    /// Whether the latest frame has further output.
    #[inline]
    pub(super) fn has_more(&self) -> bool {
        self.incoming.pending || self.incoming.chunk.is_some()
    }

    /// Makes idle transforms due for a waiting reader. Returns whether they are.
    pub(super) fn serve_reader(&mut self) -> bool {
        let Incoming { wanted, pending, ref chunk, .. } = self.incoming;
        let Transforms::Idle(stages) = &mut self.transforms else { return false };
        if !wanted || !pending || chunk.is_some() {
            return false;
        }
        let work = Work::Incoming { part: self.incoming.part.take(), room: self.room };
        self.transforms = Transforms::Due(Job { stages: mem::take(stages), work });
        true
    }

    /// Discards further data after a failure. Returns the payloads.
    pub(super) fn stop(&mut self) -> Vec<Bytes> {
        self.stopped = true;
        let mut gone = self.clear_ready();
        self.incoming.pending = false;
        gone.extend(self.incoming.part.take().map(|part| part.payload));
        gone.extend(self.incoming.chunk.take().map(|chunk| chunk.payload));
        if let Transforms::Due(Job { stages, work }) = &mut self.transforms {
            let payload = match work {
                Work::Incoming { part, .. } => part.take().map(|part| part.payload),
                Work::Outgoing { part, .. } => Some(mem::take(&mut part.payload)),
            };
            gone.extend(payload);
            self.transforms = Transforms::Idle(mem::take(stages));
            self.resume = None;
        }
        gone
    }

    /// Whether [`outgoing`](Self::outgoing) may be called.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.transforms, Transforms::Idle(_))
    }

    /// Whether a message is being transformed, so that nothing may follow it yet.
    pub(super) fn is_encoding(&self) -> bool {
        !self.stopped && matches!(self.running(), Some(Direction::Outgoing { .. }))
    }

    fn running(&self) -> Option<Direction> {
        match &self.transforms {
            Transforms::Idle(_) => None,
            Transforms::Running(direction) => Some(*direction),
            Transforms::Due(job) => Some(job.direction()),
        }
    }

    /// Whether the transforms run as soon as the lock is released, on this thread.
    pub(super) fn is_due(&self) -> bool {
        matches!(self.transforms, Transforms::Due(_))
    }

    /// Takes the transforms out to run.
    pub(super) fn take_job(&mut self) -> Option<Job> {
        let Transforms::Due(job) = &self.transforms else { return None };
        let running = Transforms::Running(job.direction());
        match mem::replace(&mut self.transforms, running) {
            Transforms::Due(job) => Some(job),
            _ => None,
        }
    }

    /// Makes idle transforms due for a data frame to send. They may retain a tail of it until the next fragment, unless it
    /// is to `flush`.
    pub(super) fn outgoing(&mut self, frame: RawFrame, flush: bool) {
        let Transforms::Idle(stages) = &mut self.transforms else { return };
        let first = frame.opcode != OpCode::Continuation;
        let message = match self.outgoing.take() {
            Some(message) if !first => message,
            _ => Outgoing::new(frame.opcode),
        };
        let part = MessagePart {
            first,
            fin: frame.fin,
            rsv: message.rsv,
            ..MessagePart::new(message.opcode, frame.payload)
        };
        let work = Work::Outgoing { message, part, flush, fragment: self.fragment };
        self.transforms = Transforms::Due(Job { stages: mem::take(stages), work });
    }

    /// Whether a transform may retain a tail of the outgoing message.
    pub(super) fn keeps_back(&self) -> bool {
        let is_begun = self.running() == Some(Direction::Outgoing { fin: false });
        is_begun || self.outgoing.as_ref().is_some_and(|message| message.keeps_back)
    }

    /// Puts the transforms and their output back. Frames to send are [`ready`](Self::pop_ready) then, a received one can be
    /// [pulled](Self::pull).
    pub(super) fn put_back(&mut self, done: Done) -> Returned {
        let Done { stages, output } = done;
        let has_more = stages.iter().any(|stage| stage.part.is_some());
        self.transforms = Transforms::Idle(stages);
        if self.stopped {
            return output.discarded();
        }
        match output {
            Output::Incoming(chunk) => Returned::Incoming(chunk.map(|chunk| {
                let incoming = &mut self.incoming;
                let opcode = match mem::replace(&mut incoming.begun, true) {
                    true => OpCode::Continuation,
                    false => chunk.opcode,
                };
                (incoming.pending, incoming.wanted) = (has_more, false);
                if chunk.fin {
                    // A continuation after it would have no message.
                    *incoming = Incoming::default();
                }
                let frame = RawFrame::new(opcode, chunk.payload);
                incoming.chunk = Some(RawFrame { fin: chunk.fin, ..frame });
            })),
            Output::Outgoing(sent) => Returned::Outgoing(sent.map(|(message, mut ready)| {
                self.outgoing = message;
                self.ready.append(&mut ready);
            })),
        }
    }

    /// The writing that continues when the transforms are back.
    pub(super) fn resume(&mut self) -> &mut Option<Resume> {
        &mut self.resume
    }

    /// The next frame to send.
    pub(super) fn pop_ready(&mut self) -> Option<RawFrame> {
        self.ready.pop_front()
    }

    /// Whether a transformed frame is queued.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Number of messages that end in the queued frames, or in the one that is being transformed.
    pub(super) fn messages_ready(&self) -> u64 {
        let running = self.running() == Some(Direction::Outgoing { fin: true });
        self.ready.iter().filter(|frame| frame.fin).count() as u64 + u64::from(running)
    }

    /// Discards queued frames. Returns the payloads.
    pub(super) fn clear_ready(&mut self) -> Vec<Bytes> {
        self.ready.drain(..).map(|frame| frame.payload).collect()
    }
}

impl Job {
    fn direction(&self) -> Direction {
        match &self.work {
            Work::Incoming { .. } => Direction::Incoming,
            Work::Outgoing { part, .. } => Direction::Outgoing { fin: part.fin },
        }
    }

    /// The transforms, to be dropped.
    pub(super) fn into_stages(self) -> Vec<Stage> {
        self.stages
    }

    /// Runs the transforms.
    ///
    /// # Errors
    /// After a panic: the transforms, to be dropped.
    pub(super) fn run(self, panics: &mut Panics) -> std::result::Result<Done, Vec<Stage>> {
        let Self { mut stages, work } = self;
        let mut output = None;
        panics.catch(|| output = Some(work.run(&mut stages)));
        match output {
            Some(output) => Ok(Done { stages, output }),
            None => Err(stages),
        }
    }
}

impl Work {
    fn run(self, stages: &mut [Stage]) -> Output {
        match self {
            Self::Incoming { part, room } => {
                Output::Incoming(next_chunk(stages, part, room).map_err(with_code))
            }
            Self::Outgoing { message, part, flush, fragment } => {
                let sent = message.transform(stages, part, flush, fragment);
                Output::Outgoing(sent.map_err(with_code))
            }
        }
    }
}

impl Output {
    fn discarded(self) -> Returned {
        let (incoming, payloads) = match self {
            Self::Incoming(chunk) => (true, chunk.into_iter().map(|chunk| chunk.payload).collect()),
            Self::Outgoing(sent) => {
                let frames = sent.into_iter().flat_map(|(_, ready)| ready);
                (false, frames.map(|frame| frame.payload).collect())
            }
        };
        Returned::Discarded { incoming, payloads }
    }
}

/// Transforms pending input, starting at the innermost stage with input; `part` is new for the outermost one.
fn next_chunk(stages: &mut [Stage], part: Option<MessagePart>, room: usize) -> Result<MessagePart> {
    if let Some(part) = part {
        if part.first {
            for stage in &mut *stages {
                stage.active = stage.rsv.is_none() || part.rsv.intersects(stage.rsv);
            }
        }
        if let Some(outermost) = stages.iter_mut().rev().find(|stage| stage.active) {
            outermost.part = Some(part);
        }
    }
    loop {
        let at = stages.iter().position(|stage| stage.part.is_some()).unwrap_or(0);
        let (further_in, rest) = stages.split_at_mut(at);
        let chunk = rest[0].step(room)?;
        match further_in.iter_mut().rev().find(|stage| stage.active) {
            Some(next) => next.part = Some(chunk),
            None => return Ok(chunk),
        }
    }
}

impl Stage {
    /// Runs the transform once. Removes the part when it is used up.
    fn step(&mut self, room: usize) -> Result<MessagePart> {
        let part = self.part.get_or_insert_with(|| MessagePart::new(OpCode::Binary, Bytes::new()));
        let payload = self.transform.incoming(part, room)?;
        let is_done = part.payload.is_empty() && payload.len() < room;
        let chunk = MessagePart { payload, fin: part.fin && is_done, ..part.clone() };
        part.first = false;
        if is_done {
            self.part = None;
        }
        Ok(chunk)
    }
}

impl Outgoing {
    fn new(opcode: OpCode) -> Self {
        Self { opcode, rsv: Rsv::NONE, held: BytesMut::new(), begun: false, keeps_back: false }
    }

    /// Transforms a part of the message. Returns the message, if it continues, and its frames.
    fn transform(
        mut self,
        stages: &mut [Stage],
        mut part: MessagePart,
        flush: bool,
        fragment: usize,
    ) -> Result<(Option<Self>, VecDeque<RawFrame>)> {
        let MessagePart { first, fin, .. } = part;
        for stage in &mut *stages {
            stage.transform.outgoing(&mut part)?;
        }
        if first {
            self.rsv = part.rsv;
        }
        let mut ready = VecDeque::new();
        self.take(part.payload, fin, fragment, &mut ready);
        if fin {
            return Ok((None, ready));
        }
        self.keeps_back = true;
        if flush {
            self.take_tails(stages, fragment, &mut ready)?;
        }
        Ok((Some(self), ready))
    }

    /// Makes frames of the tails that the transforms retain.
    fn take_tails(
        &mut self,
        stages: &mut [Stage],
        fragment: usize,
        ready: &mut VecDeque<RawFrame>,
    ) -> Result<()> {
        let mut payload = Bytes::new();
        for stage in stages {
            if !payload.is_empty() {
                let part = MessagePart::new(self.opcode, payload);
                let mut part = MessagePart { first: false, fin: false, rsv: self.rsv, ..part };
                stage.transform.outgoing(&mut part)?;
                payload = part.payload;
            }
            payload = joined(payload, stage.transform.flush()?);
        }
        self.take(payload, false, fragment, ready);
        self.flush(ready);
        Ok(())
    }

    /// Makes a frame of the collected output.
    fn flush(&mut self, ready: &mut VecDeque<RawFrame>) {
        self.keeps_back = false;
        if !self.held.is_empty() {
            let held = self.held.split().freeze();
            ready.push_back(self.frame(held, false));
        }
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
            // More of a streamed message is not waited for.
            false if payload.len() > CHUNK => ready.push_back(self.frame(payload, false)),
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
        let Self { opcode, rsv, held, begun, keeps_back: _ } = self;
        write!(f, "Outgoing({opcode:?}, {rsv:?}, begun: {begun}, {} bytes)", held.len())
    }
}

fn joined(first: Bytes, second: Bytes) -> Bytes {
    match (first.is_empty(), second.is_empty()) {
        (_, true) => first,
        (true, _) => second,
        _ => [first, second].concat().into(),
    }
}

/// Every failure here ends the session with a Close.
fn with_code(error: Error) -> Error {
    match error.close_code() {
        Some(_) => error,
        None => error.with_close_code(CloseCode::INTERNAL_ERROR),
    }
}

#[cfg(test)]
mod tests;
