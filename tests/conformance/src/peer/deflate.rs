//! permessage-deflate (RFC 7692) on the peer's side, by another implementation than the one under test.

use std::{fmt, io, thread};

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::wire::{WireFrame, invalid, opcode};

/// What a sender cuts off the end of a message.
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// Compresses and inflates the messages of one connection, with windows of 32 KiB.
pub struct DeflatePeer {
    takeover_in: bool,
    takeover_out: bool,
    inflate: Decompress,
    deflate: Compress,
}

impl DeflatePeer {
    /// Whether a message of the client's refers to those before, and whether one of the server's does.
    pub fn new(client_takeover: bool, server_takeover: bool) -> Self {
        let make = || (Decompress::new(false), Compress::new(Compression::default(), false));
        // In an unoptimized build they are on the stack before they are on the heap, and a peer's is small.
        let made = thread::Builder::new().stack_size(4 << 20).spawn(make);
        let made = made.ok().and_then(|thread| thread.join().ok());
        let (inflate, deflate) = made.unwrap_or_else(make);
        Self { takeover_in: client_takeover, takeover_out: server_takeover, inflate, deflate }
    }

    /// A compressed message in one frame.
    pub fn compress(&mut self, opcode: u8, message: &[u8]) -> WireFrame {
        let mut out = Vec::with_capacity(message.len() + 1024);
        let before = self.deflate.total_in();
        while self.deflate.total_in() - before < message.len() as u64 || !out.ends_with(&TAIL) {
            let from = (self.deflate.total_in() - before) as usize;
            out.reserve(1024);
            let flush = FlushCompress::Sync;
            if self.deflate.compress_vec(&message[from..], &mut out, flush).is_err() {
                break;
            }
        }
        out.truncate(out.len().saturating_sub(TAIL.len()));
        if !self.takeover_out {
            self.deflate.reset();
        }
        WireFrame { rsv: 4, ..WireFrame::new(opcode, out) }
    }

    /// What a compressed message was. The frame has to be a whole message, as [`join`] makes one.
    pub fn inflate(&mut self, frame: &WireFrame) -> io::Result<Vec<u8>> {
        if frame.rsv != 4 {
            return Err(invalid("the message is not compressed"));
        }
        let input = [&frame.payload[..], &TAIL].concat();
        let mut out = Vec::with_capacity(frame.payload.len() * 4 + 64);
        let mut from = 0;
        loop {
            out.reserve(1024);
            let (read, len) = (self.inflate.total_in(), out.len());
            let flush = FlushDecompress::Sync;
            let status = self
                .inflate
                .decompress_vec(&input[from..], &mut out, flush)
                .map_err(|error| invalid(error.to_string()))?;
            let read = (self.inflate.total_in() - read) as usize;
            from += read;
            if status == Status::StreamEnd || (read == 0 && out.len() == len) {
                break;
            }
        }
        if !self.takeover_in {
            self.inflate.reset(false);
        }
        Ok(out)
    }
}

/// One message of these fragments, control frames left out; `InvalidData` if a reserved bit is set on another frame than
/// the first.
pub fn join(frames: &[WireFrame]) -> io::Result<WireFrame> {
    let mut message: Option<WireFrame> = None;
    for frame in frames.iter().filter(|frame| frame.opcode < opcode::CLOSE) {
        match &mut message {
            None => message = Some(frame.clone()),
            Some(_) if frame.rsv != 0 => return Err(invalid("a reserved bit on a continuation")),
            Some(message) => message.payload.extend_from_slice(&frame.payload),
        }
    }
    message.map(|message| WireFrame { fin: true, ..message }).ok_or_else(|| invalid("no message"))
}

impl fmt::Debug for DeflatePeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeflatePeer")
            .field("takeover_in", &self.takeover_in)
            .field("takeover_out", &self.takeover_out)
            .finish_non_exhaustive()
    }
}
