//! Compressed messages out (RFC 7692 section 7.2.1).

use std::fmt;

use bytes::Bytes;
use drivetrain_engine::{Error, ErrorKind, Result};
use zlib_rs::{Deflate, DeflateFlush};

use super::inflater::{TAIL, trimmed};

/// Compression of one direction. Its memory, about 400 KiB with the largest window, is allocated at the first
/// compressed message; without context takeover only during a message.
pub(super) struct Deflater {
    level: u8,
    window_bits: u8,
    takeover: bool,
    state: Option<Deflate>,
    /// Input has arrived since the last flush.
    keeps_back: bool,
}

impl Deflater {
    /// `window_bits` is 9 to 15: zlib has no raw window of 8.
    pub(super) fn new(level: u8, window_bits: u8, takeover: bool) -> Self {
        Self { level, window_bits, takeover, state: None, keeps_back: false }
    }

    /// Compresses a part of a message, its last one if `fin`. Output of an earlier part may appear with the next.
    pub(super) fn deflate(&mut self, input: &[u8], fin: bool) -> Result<Bytes> {
        self.keeps_back = (self.keeps_back || !input.is_empty()) && !fin;
        let flush = if fin { DeflateFlush::SyncFlush } else { DeflateFlush::NoFlush };
        let (mut out, mut len) = self.compress(input, flush)?;
        if fin {
            match out[..len].ends_with(TAIL) {
                true => len -= TAIL.len(),
                // No input since the last flush: an empty block, section 7.2.3.6.
                false => {
                    out[len] = 0;
                    len += 1;
                }
            }
            if !self.takeover {
                self.state = None;
            }
        }
        Ok(trimmed(out, len))
    }

    /// The retained output of the parts so far. The message continues, so the tail stays (section 7.2.1).
    pub(super) fn flush(&mut self) -> Result<Bytes> {
        if !std::mem::take(&mut self.keeps_back) {
            return Ok(Bytes::new());
        }
        let (out, len) = self.compress(&[], DeflateFlush::SyncFlush)?;
        Ok(trimmed(out, len))
    }

    /// The output, with spare room, and its length.
    fn compress(&mut self, mut input: &[u8], flush: DeflateFlush) -> Result<(Vec<u8>, usize)> {
        let make = || Deflate::new(self.level.into(), false, self.window_bits);
        let state = self.state.get_or_insert_with(make);
        let mut out = vec![0; input.len() / 2 + 64];
        let mut len = 0;
        loop {
            if len == out.len() {
                out.resize(2 * len, 0);
            }
            let (before_in, before_out) = (state.total_in(), state.total_out());
            state.compress(input, &mut out[len..], flush).map_err(|error| {
                let message = format!("a message cannot be compressed: {}", error.as_str());
                Error::new(ErrorKind::Other, message)
            })?;
            let read = (state.total_in() - before_in) as usize;
            let written = (state.total_out() - before_out) as usize;
            input = &input[read..];
            len += written;
            let is_done = input.is_empty() && len < out.len();
            if is_done || (read == 0 && written == 0) {
                break;
            }
        }
        Ok((out, len))
    }
}

impl fmt::Debug for Deflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflater")
            .field("level", &self.level)
            .field("window_bits", &self.window_bits)
            .field("takeover", &self.takeover)
            .field("has_state", &self.state.is_some())
            .finish()
    }
}
