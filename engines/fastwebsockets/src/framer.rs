//! WebSocket frames on fastwebsockets.
//!
//! The library reads: `WebSocket::read_frame` parses frames and validates UTF-8. It is not cancel-safe:
//! it consumes a header before it awaits the payload. So it reads through a [`Gate`] that follows the
//! frame boundaries in what passes. If a whole frame is in the library's buffer, a read finishes in one
//! poll, on the stack. If not, the *future* of the read is kept until it has finished, whichever task polls it
//! and however often the caller goes away. The gate also stops what the library lets through.
//!
//! The library encodes, we write: `Frame` draws the mask, masks in place and formats the head of a frame
//! that already lies in our output buffer. `WebSocket::write_frame` is not used: it costs a system call
//! per frame, and dropped midway it leaves half a frame on the wire.

mod gate;
mod limits;
mod options;
mod reader;
mod shared_stream;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    fmt,
    task::{Context, Poll},
};

use bytes::Bytes;
use drivetrain_engine::{BoxStream, Error, OpCode, Progress, RawFrame, Role, Transport};

pub use gate::Gate;
pub(crate) use limits::LARGEST_FRAME;
pub(crate) use options::Options;

use reader::Reader;
use shared_stream::SharedStream;
use writer::Writer;

/// The frames of one end over a stream, full duplex and cancel-safe.
pub(crate) struct Framer {
    reader: Reader,
    writer: Writer,
}

impl Framer {
    /// Takes a stream behind the handshake, and what was read from it past the handshake's end.
    pub(crate) fn new(stream: BoxStream, early: Bytes, role: Role, options: Options) -> Self {
        let stream = SharedStream::new(stream);
        let reader = Reader::new(stream.clone(), early, role, options);
        Self { reader, writer: Writer::new(stream, role) }
    }
}

impl fmt::Debug for Framer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Framer")
            .field("unwritten", &self.writer.unwritten())
            .finish_non_exhaustive()
    }
}

impl Transport for Framer {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        max_payload: usize,
    ) -> Poll<Result<Option<RawFrame>, Error>> {
        self.reader.poll_frame(cx, max_payload)
    }

    fn try_receive_buffered(&mut self, max_payload: usize) -> Option<Result<RawFrame, Error>> {
        self.reader.buffered_frame(max_payload)
    }

    fn try_receive_short_text(&mut self, max_payload: usize) -> Option<&[u8]> {
        self.reader.buffered_text(max_payload)
    }

    fn progress(&self) -> Option<Progress> {
        Some(Progress { received: self.reader.total(), written: self.writer.total() })
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.writer.poll_ready(cx)
    }

    fn start_send(&mut self, frame: RawFrame) -> Result<(), Error> {
        self.writer.encode(&frame)
    }

    fn try_send(&mut self, opcode: OpCode, payload: &[u8]) -> bool {
        self.writer.try_encode(opcode, payload)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.writer.poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.writer.poll_close(cx)
    }
}
