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
mod reader;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use drivetrain_engine::{BoxStream, Error, OpCode, Progress, RawFrame, Role, Transport};
use fastwebsockets::WebSocket;

pub use gate::Gate;

use reader::Reader;
use writer::Writer;

/// The largest frame that is received, whatever the limit. fastwebsockets reserves the announced length
/// in one piece. That is address space only, but an allocator that refuses aborts the process, and a
/// peer must not be able to ask for that.
pub(crate) const LARGEST_FRAME: usize = 1 << 30;

/// RFC 6455 section 5.5.
const LARGEST_CONTROL: usize = 125;

/// The stream of the gate, which the library owns, and of the writer. Both run under the one `&mut Framer`, so that
/// nobody waits for the lock.
#[derive(Clone)]
struct Stream(Arc<Mutex<BoxStream>>);

impl Stream {
    fn new(stream: BoxStream) -> Self {
        Self(Arc::new(Mutex::new(stream)))
    }

    #[inline]
    fn with<T>(&self, poll: impl FnOnce(Pin<&mut BoxStream>) -> T) -> T {
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        poll(Pin::new(&mut *stream))
    }
}

/// Changes the library's socket once it is made.
pub(crate) type Hook = Arc<dyn Fn(&mut WebSocket<Gate>) + Send + Sync>;

/// What an engine value says about its framers.
#[derive(Clone, Default)]
pub(crate) struct Options {
    /// The limit for incoming frames that was set on the engine.
    pub(crate) max_frame_size: Option<usize>,
    pub(crate) hooks: Vec<Hook>,
}

impl Options {
    /// The limit for a data frame, from the session's and the engine's.
    fn limit(&self, max_payload: usize) -> usize {
        max_payload.min(self.max_frame_size.unwrap_or(LARGEST_FRAME)).min(LARGEST_FRAME)
    }
}

/// The frames of one end over a stream, full duplex and cancel-safe.
pub(crate) struct Framer {
    reader: Reader,
    writer: Writer,
}

impl Framer {
    /// Takes a stream behind the handshake, and what was read from it past the handshake's end.
    pub(crate) fn new(stream: BoxStream, early: Bytes, role: Role, options: Options) -> Self {
        let stream = Stream::new(stream);
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
