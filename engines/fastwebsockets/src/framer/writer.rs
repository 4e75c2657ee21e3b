//! Sending: frames that the library encodes into a buffer of ours.

use std::{
    io,
    task::{Context, Poll, ready},
};

use drivetrain_engine::{Error, OpCode, RawFrame, Role};
use fastwebsockets::{Frame, Payload};
use futures_io::AsyncWrite as _;

use super::{limits::LARGEST_CONTROL, shared_stream::SharedStream};
use crate::map;

/// Encoded and unwritten bytes from which on `poll_ready` waits for the stream.
const HIGH_WATER: usize = 32 << 10;

/// An output buffer that grew above this is given back when it is empty.
const KEEP_WRITE_BUFFER: usize = 2 * HIGH_WATER;

/// The longest head of a masked frame.
const LONGEST_HEAD: usize = 14;

pub(super) struct Writer {
    stream: SharedStream,
    /// A client's frames are masked.
    is_masking: bool,
    /// Whole encoded frames; `buffer[written..]` is still to be written.
    buffer: Vec<u8>,
    written: usize,
    /// How much was written so far, wrapping.
    total: usize,
    /// After a failed write the stream may hold part of a frame: nothing follows it.
    failed: Option<Error>,
}

impl Writer {
    pub(super) fn new(stream: SharedStream, role: Role) -> Self {
        let is_masking = role == Role::Client;
        Self { stream, is_masking, buffer: Vec::new(), written: 0, total: 0, failed: None }
    }

    pub(super) fn unwritten(&self) -> usize {
        self.buffer.len() - self.written
    }

    pub(super) fn total(&self) -> usize {
        self.total
    }

    pub(super) fn encode(&mut self, frame: &RawFrame) -> Result<(), Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if !frame.rsv.is_none() {
            return Err(map::no_reserved_bits());
        }
        if frame.opcode.is_control() && (frame.payload.len() > LARGEST_CONTROL || !frame.fin) {
            return Err(map::bad_control_frame());
        }
        self.push(frame.fin, frame.opcode, &frame.payload);
        Ok(())
    }

    /// Encodes a whole message, unless something has to be written before. Returns whether it did.
    pub(super) fn try_encode(&mut self, opcode: OpCode, payload: &[u8]) -> bool {
        let takes = self.unwritten() < HIGH_WATER && self.failed.is_none();
        if takes {
            self.push(true, opcode, payload);
        }
        takes
    }

    fn push(&mut self, fin: bool, opcode: OpCode, payload: &[u8]) {
        let head_length = head_length(payload.len(), self.is_masking);
        let start = self.buffer.len();
        let body = start + head_length;
        self.buffer.reserve(head_length + payload.len());
        self.buffer.extend_from_slice(&[0; LONGEST_HEAD][..head_length]);
        self.buffer.extend_from_slice(payload);

        let mut head = [0; 16];
        let mut encoded = Frame::new(
            fin,
            map::opcode_to_library(opcode),
            None,
            Payload::BorrowedMut(&mut self.buffer[body..]),
        );
        if self.is_masking {
            encoded.mask(); // in place, with a mask from the library's random generator
        }
        let formatted = encoded.fmt_head(&mut head);
        debug_assert_eq!(formatted, head_length, "the library's head has the length it must have");
        self.buffer[start..body].copy_from_slice(&head[..head_length]);
    }

    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_below(cx, HIGH_WATER)
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.poll_below(cx, 1))?;
        match ready!(self.stream.with(|stream| stream.poll_flush(cx))) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) => self.fail(error),
        }
    }

    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.poll_flush(cx))?;
        match ready!(self.stream.with(|stream| stream.poll_close(cx))) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) => self.fail(error),
        }
    }

    /// Writes until fewer than `mark` bytes wait.
    fn poll_below(&mut self, cx: &mut Context<'_>, mark: usize) -> Poll<Result<(), Error>> {
        if let Some(error) = &self.failed {
            return Poll::Ready(Err(error.clone()));
        }
        while self.unwritten() >= mark {
            let waiting = &self.buffer[self.written..];
            match ready!(self.stream.with(|stream| stream.poll_write(cx, waiting))) {
                Ok(0) => return self.fail(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.written += count;
                    self.total = self.total.wrapping_add(count);
                }
                Err(error) => return self.fail(error),
            }
            if self.unwritten() == 0 {
                self.written = 0;
                self.buffer.clear();
                if self.buffer.capacity() > KEEP_WRITE_BUFFER {
                    self.buffer = Vec::new();
                }
                break;
            }
        }
        // Keeps a slow peer's backlog from growing by what is already written.
        if self.written >= HIGH_WATER {
            self.buffer.drain(..self.written);
            self.written = 0;
        }
        Poll::Ready(Ok(()))
    }

    fn fail(&mut self, error: io::Error) -> Poll<Result<(), Error>> {
        let error = map::io(error);
        self.failed = Some(error.clone());
        self.buffer = Vec::new();
        self.written = 0;
        Poll::Ready(Err(error))
    }
}

/// The length of a frame's head, RFC 6455 section 5.2.
fn head_length(payload: usize, is_masked: bool) -> usize {
    let mask = if is_masked { 4 } else { 0 };
    match payload {
        0..=125 => 2 + mask,
        126..=65_535 => 4 + mask,
        _ => 10 + mask,
    }
}
