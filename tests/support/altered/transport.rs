//! The transports of an altered engine, one around the other.

use std::{
    collections::VecDeque,
    task::{Context, Poll, ready},
};

use drivetrain::{
    Bytes, Capability, CloseReason, Error, ErrorKind, OpCode, RawFrame, Result, Rsv,
    engine::{Connection, Duties, Progress, Transport},
    extension::{Extension as _, MessagePart, PermessageDeflate, Transform},
};
use drivetrain_engine::{Unit, Utf8Check};

use super::{Altered, WITHOUT};

/// The extension of a library that applies its own.
pub(super) const OFFER: &str = "permessage-deflate";

/// The limit for frames of a library that takes none.
const OWN_LIMIT: usize = 64 << 20;

/// As many Pongs wait for a peer that does not read.
const MOST_PONGS: usize = 100;

/// The connection's transport with the duties and without the capabilities.
pub(super) fn altered(altered: &Altered, connection: Connection) -> Result<Box<dyn Transport>> {
    let Altered { lacks, does, .. } = *altered;
    let own = connection.extensions().iter().find(|agreed| agreed.name() == OFFER);
    let codec = match own.filter(|_| does.applies_extensions) {
        Some(agreed) => Some(PermessageDeflate::new().accept(agreed, connection.role())?),
        None => None,
    };
    let mut transport = connection.into_transport();
    if let Some(codec) = codec {
        transport = Box::new(Deflating { inner: transport, codec, compressed: None });
    }
    if does.unit == Unit::Messages {
        let keeps_limit = does.enforces_message_limit;
        transport = Box::new(Whole { inner: transport, keeps_limit, begun: None, failed: false });
    }
    if does.answers_ping || does.echoes_close || does.sends_close || does.validates_utf8 {
        transport = Box::new(Dutiful {
            inner: transport,
            does,
            pongs: VecDeque::new(),
            text: None,
            has_closed: false,
            failed: false,
        });
    }
    if !lacks.is_empty() {
        // A library of messages has their limit alone, which holds for frames too.
        let has_own_limit = lacks.contains(&Capability::MaxFrameSize) && does.unit == Unit::Frames;
        transport = Box::new(Less { inner: transport, lacks, has_own_limit, dirty: false });
    }
    Ok(transport)
}

fn violation(message: &'static str) -> Error {
    Error::new(ErrorKind::Protocol, message)
}

fn too_big(limit: usize) -> Error {
    Error::new(ErrorKind::TooBig, format!("a message is above the limit of {limit} bytes"))
}

/// Lacks capabilities.
struct Less {
    inner: Box<dyn Transport>,
    lacks: &'static [Capability],
    /// Frames have the library's limit.
    has_own_limit: bool,
    /// Something was handed over and not written yet.
    dirty: bool,
}

impl Less {
    fn lacks(&self, capability: Capability) -> bool {
        self.lacks.contains(&capability)
    }
}

impl Transport for Less {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        max_payload: usize,
    ) -> Poll<Result<Option<RawFrame>>> {
        let limit = if self.has_own_limit { max_payload.max(OWN_LIMIT) } else { max_payload };
        let frame = ready!(self.inner.poll_receive(cx, limit))?;
        let has_bits = frame.as_ref().is_some_and(|frame| !frame.rsv.is_none());
        if has_bits && self.lacks(Capability::RsvBits) {
            return Poll::Ready(Err(violation("a reserved bit of no extension is set")));
        }
        Poll::Ready(Ok(frame))
    }

    fn progress(&self) -> Option<Progress> {
        self.inner.progress()
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.lacks(Capability::BatchedWrites) && self.dirty {
            ready!(self.inner.poll_flush(cx))?;
            self.dirty = false;
        }
        self.inner.poll_ready(cx)
    }

    fn start_send(&mut self, frame: RawFrame) -> Result<()> {
        let needed = match frame.opcode {
            OpCode::Ping | OpCode::Pong => Some(Capability::SendPing),
            _ if !frame.rsv.is_none() => Some(Capability::RsvBits),
            _ if !frame.fin || frame.opcode == OpCode::Continuation => {
                Some(Capability::SendFragments)
            }
            _ => None,
        };
        if let Some(missing) = needed.filter(|&needed| self.lacks(needed)) {
            return Err(Error::unsupported("native", missing, WITHOUT));
        }
        self.dirty = true;
        self.inner.start_send(frame)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_close(cx)
    }
}

/// Answers Pings, echoes the Close, closes after a violation and checks text, each if it is a duty.
struct Dutiful {
    inner: Box<dyn Transport>,
    does: Duties,
    /// The answers to the latest Pings.
    pongs: VecDeque<RawFrame>,
    /// The check of the text that has begun.
    text: Option<Utf8Check>,
    /// A Close has gone out.
    has_closed: bool,
    /// The rest of the input is discarded.
    failed: bool,
}

impl Dutiful {
    fn take(&mut self, frame: &RawFrame) -> Result<()> {
        match frame.opcode {
            // Those with reserved bits are the session's to refuse.
            OpCode::Ping if self.does.answers_ping && frame.rsv.is_none() => {
                if self.pongs.len() >= MOST_PONGS {
                    self.pongs.pop_front();
                }
                self.pongs.push_back(RawFrame::new(OpCode::Pong, frame.payload.clone()));
            }
            // The session refuses a payload that is none, and reserved bits.
            OpCode::Close
                if self.does.echoes_close
                    && frame.rsv.is_none()
                    && CloseReason::from_payload(&frame.payload).is_ok() =>
            {
                self.close(frame.payload.clone())?;
            }
            OpCode::Text | OpCode::Binary | OpCode::Continuation if self.does.validates_utf8 => {
                // A text with reserved bits is an extension's.
                if frame.opcode == OpCode::Text && frame.rsv.is_none() {
                    self.text = Some(Utf8Check::new());
                }
                if let Some(text) = &mut self.text {
                    text.push(&frame.payload).map_err(|_| Error::not_utf8())?;
                    if frame.fin && !text.is_complete() {
                        return Err(Error::not_utf8());
                    }
                }
                if frame.fin {
                    self.text = None;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Sends a Close, unless one was sent.
    fn close(&mut self, payload: Bytes) -> Result<()> {
        if !self.has_closed {
            self.has_closed = true;
            for pong in self.pongs.drain(..) {
                self.inner.start_send(pong)?;
            }
            self.inner.start_send(RawFrame::new(OpCode::Close, payload))?;
        }
        Ok(())
    }

    fn fail(&mut self, error: Error) -> Error {
        if let Some(code) = error.close_code().filter(|_| self.does.sends_close && !self.failed) {
            // If it cannot be sent, the violation is told all the same.
            let _ = self.close(CloseReason::truncated(code, "the library's").to_payload());
        }
        self.failed |= error.close_code().is_some();
        error
    }

    fn poll_pongs(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        while !self.pongs.is_empty() && !self.has_closed {
            ready!(self.inner.poll_ready(cx))?;
            if let Some(pong) = self.pongs.pop_front() {
                self.inner.start_send(pong)?;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Transport for Dutiful {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        max_payload: usize,
    ) -> Poll<Result<Option<RawFrame>>> {
        loop {
            let received = ready!(self.inner.poll_receive(cx, max_payload));
            let taken = received.and_then(|frame| match &frame {
                Some(frame) if !self.failed => self.take(frame).map(|()| Some(frame.clone())),
                _ => Ok(frame),
            });
            match taken {
                Ok(Some(frame)) if self.failed && frame.opcode != OpCode::Close => {}
                Ok(frame) => return Poll::Ready(Ok(frame)),
                Err(error) => return Poll::Ready(Err(self.fail(error))),
            }
        }
    }

    fn progress(&self) -> Option<Progress> {
        self.inner.progress()
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(self.poll_pongs(cx))?;
        self.inner.poll_ready(cx)
    }

    fn start_send(&mut self, frame: RawFrame) -> Result<()> {
        if frame.opcode == OpCode::Close {
            return self.close(frame.payload);
        }
        if self.has_closed {
            return Err(Error::new(ErrorKind::Closed, "a Close has gone out"));
        }
        self.inner.start_send(frame)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(self.poll_pongs(cx))?;
        self.inner.poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_close(cx)
    }
}

/// Applies permessage-deflate.
struct Deflating {
    inner: Box<dyn Transport>,
    codec: Box<dyn Transform>,
    /// The opcode and the bits of the compressed message that has begun to come in.
    compressed: Option<(OpCode, Rsv)>,
}

impl Deflating {
    fn inflate(&mut self, frame: RawFrame, max_payload: usize) -> Result<RawFrame> {
        if frame.opcode.is_control() {
            return Ok(frame);
        }
        let first = frame.opcode != OpCode::Continuation;
        if first && !frame.rsv.is_none() {
            self.compressed = Some((frame.opcode, frame.rsv));
        }
        let Some((opcode, rsv)) = self.compressed else { return Ok(frame) };
        let fin = frame.fin;
        let mut part = MessagePart { opcode, rsv, first, fin, payload: frame.payload };
        let mut plain = Vec::new();
        loop {
            let room = max_payload.saturating_sub(plain.len()).saturating_add(1).min(1 << 16);
            let bytes = self.codec.incoming(&mut part, room)?;
            plain.extend_from_slice(&bytes);
            part.first = false;
            if plain.len() > max_payload {
                return Err(too_big(max_payload));
            }
            if part.payload.is_empty() && bytes.len() < room {
                break;
            }
        }
        if fin {
            self.compressed = None;
        }
        Ok(RawFrame { fin, rsv: Rsv::NONE, opcode: frame.opcode, payload: plain.into() })
    }
}

impl Transport for Deflating {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        max_payload: usize,
    ) -> Poll<Result<Option<RawFrame>>> {
        let frame = ready!(self.inner.poll_receive(cx, max_payload))?;
        Poll::Ready(frame.map(|frame| self.inflate(frame, max_payload)).transpose())
    }

    fn progress(&self) -> Option<Progress> {
        self.inner.progress()
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_ready(cx)
    }

    fn start_send(&mut self, frame: RawFrame) -> Result<()> {
        self.inner.start_send(frame)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_close(cx)
    }
}

/// Puts fragments together.
struct Whole {
    inner: Box<dyn Transport>,
    /// Whether the limit holds for the message.
    keeps_limit: bool,
    /// The message that has begun.
    begun: Option<(OpCode, Vec<u8>)>,
    failed: bool,
}

impl Whole {
    /// A frame's part in a message: the message if it ends with it.
    fn take(&mut self, frame: RawFrame, max_payload: usize) -> Result<Option<RawFrame>> {
        if frame.opcode.is_control() {
            return Ok(Some(frame));
        }
        if !frame.rsv.is_none() {
            return Err(violation("a reserved bit of no extension is set"));
        }
        let (opcode, mut payload) = match (frame.opcode, self.begun.take()) {
            (OpCode::Continuation, Some(begun)) => begun,
            (OpCode::Continuation, None) => {
                return Err(violation("a continuation without a message"));
            }
            (_, Some(_)) => return Err(violation("a message began inside another one")),
            (opcode, None) => (opcode, Vec::new()),
        };
        if self.keeps_limit && payload.len() + frame.payload.len() > max_payload {
            return Err(too_big(max_payload));
        }
        payload.extend_from_slice(&frame.payload);
        if !frame.fin {
            self.begun = Some((opcode, payload));
            return Ok(None);
        }
        Ok(Some(RawFrame::new(opcode, payload)))
    }
}

impl Transport for Whole {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        max_payload: usize,
    ) -> Poll<Result<Option<RawFrame>>> {
        loop {
            let begun = self.begun.as_ref().filter(|_| self.keeps_limit);
            let left = max_payload.saturating_sub(begun.map_or(0, |(_, payload)| payload.len()));
            let Some(frame) = ready!(self.inner.poll_receive(cx, left))? else {
                let inside = self.begun.is_some() && !self.failed;
                return Poll::Ready(match inside {
                    true => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
                    false => Ok(None),
                });
            };
            if self.failed {
                continue;
            }
            match self.take(frame, max_payload) {
                Ok(None) => {}
                Ok(message) => return Poll::Ready(Ok(message)),
                Err(error) => {
                    self.failed = true;
                    return Poll::Ready(Err(error));
                }
            }
        }
    }

    fn progress(&self) -> Option<Progress> {
        self.inner.progress()
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_ready(cx)
    }

    fn start_send(&mut self, frame: RawFrame) -> Result<()> {
        if !frame.fin || frame.opcode == OpCode::Continuation {
            return Err(Error::unsupported("native", Capability::SendFragments, WITHOUT));
        }
        self.inner.start_send(frame)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_close(cx)
    }
}
