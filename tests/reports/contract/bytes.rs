//! What is broken about the bytes on their way: keys, headers, the bytes behind the handshake.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use drivetrain_conformance::{CountedStream, peer::WireFrame};
use futures_util::{AsyncRead, AsyncWrite};

use super::engines::How;

/// A stream of a client's that changes what passes.
pub(super) struct Bytes {
    how: How,
    stream: CountedStream,
    outgoing: Outgoing,
    incoming: Incoming,
}

#[derive(Default)]
struct Outgoing {
    /// The request has gone out.
    behind_head: bool,
    /// No whole frame yet.
    part: Vec<u8>,
    /// To be written.
    ready: Vec<u8>,
    frames: u32,
}

#[derive(Default)]
struct Incoming {
    head: Vec<u8>,
    behind_head: bool,
    part: Vec<u8>,
    ready: Vec<u8>,
    touched: Vec<Vec<u8>>,
}

impl Bytes {
    pub(super) fn new(stream: CountedStream, how: How) -> Self {
        Self { how, stream, outgoing: Outgoing::default(), incoming: Incoming::default() }
    }

    fn write_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.ready.is_empty() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.outgoing.ready))?;
            self.outgoing.ready.drain(..count);
        }
        Poll::Ready(Ok(()))
    }

    fn came(&mut self, bytes: &[u8]) {
        let incoming = &mut self.incoming;
        let bytes = if incoming.behind_head {
            bytes
        } else {
            incoming.head.extend_from_slice(bytes);
            let Some(end) = end_of_head(&incoming.head) else { return };
            incoming.behind_head = true;
            let behind = bytes.len() - (incoming.head.len() - end);
            incoming.ready.extend_from_slice(&incoming.head[..end]);
            if matches!(self.how, How::DropsBehindHead) { &[] } else { &bytes[behind..] }
        };
        match self.how {
            How::LaxControl => incoming.be_lax(bytes),
            How::TouchesMemory => {
                incoming.touch(bytes);
                incoming.ready.extend_from_slice(bytes);
            }
            _ => incoming.ready.extend_from_slice(bytes),
        }
    }
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

impl Outgoing {
    fn push(&mut self, bytes: &[u8], key: fn(u32) -> [u8; 4]) {
        self.part.extend_from_slice(bytes);
        if !self.behind_head {
            let Some(end) = end_of_head(&self.part) else { return };
            self.ready.extend(self.part.drain(..end));
            self.behind_head = true;
        }
        while let Some((frame, length)) = WireFrame::decode(&self.part).expect("frames of ours") {
            self.part.drain(..length);
            self.ready.extend(frame.encode(Some(key(self.frames))));
            self.frames += 1;
        }
    }
}

impl Incoming {
    /// Takes and writes what headers announce, looking at the bytes of one read.
    fn touch(&mut self, bytes: &[u8]) {
        if let [0x82, 127, rest @ ..] = bytes {
            let length = rest.first_chunk().map_or(0, |length| u64::from_be_bytes(*length));
            self.touched.push(vec![1; usize::try_from(length).expect("a length of the suite's")]);
        }
    }

    /// Makes control frames that nobody may send into some that pass, and drops those of unknown kinds.
    fn be_lax(&mut self, bytes: &[u8]) {
        self.part.extend_from_slice(bytes);
        while let Ok(Some((mut frame, length))) = WireFrame::decode(&self.part) {
            self.part.drain(..length);
            if matches!(frame.opcode, 3..=7 | 11..=15) {
                continue;
            }
            if frame.opcode >= 8 {
                frame.fin = true;
                frame.payload.truncate(125);
            }
            self.ready.extend(frame.encode(None));
        }
    }
}

impl AsyncRead for Bytes {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        while self.incoming.ready.is_empty() {
            let mut chunk = vec![0; 32 << 10];
            let count = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut chunk))?;
            if count == 0 {
                return Poll::Ready(Ok(0));
            }
            self.came(&chunk[..count]);
        }
        let count = buffer.len().min(self.incoming.ready.len());
        buffer[..count].copy_from_slice(&self.incoming.ready[..count]);
        self.incoming.ready.drain(..count);
        Poll::Ready(Ok(count))
    }
}

impl AsyncWrite for Bytes {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let How::Keys(key) = self.how else {
            return Pin::new(&mut self.stream).poll_write(cx, bytes);
        };
        ready!(self.write_ready(cx))?;
        self.outgoing.push(bytes, key);
        // The rest goes out with the next write, or by a flush.
        if let Poll::Ready(Err(error)) = self.write_ready(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.write_ready(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.write_ready(cx))?;
        Pin::new(&mut self.stream).poll_close(cx)
    }
}
