//! Compressed messages in (RFC 7692 section 7.2.2).

use std::fmt;

use bytes::{Buf as _, Bytes};
use drivetrain_engine::{CloseCode, Error, ErrorKind, MessagePart, Result};
use zlib_rs::{Inflate, InflateError, InflateFlush, Status};

/// What the sender has cut off the end of a message.
pub(super) const TAIL: &[u8] = &[0x00, 0x00, 0xFF, 0xFF];

/// The most that is read at once, however little comes of it: the lock is held.
const MOST_INPUT: usize = 64 << 10;

/// One direction's inflating. Its memory, some 40 KiB, is there from the first compressed message on; without
/// context takeover only during a message.
pub(super) struct Inflater {
    takeover: bool,
    /// A window of 32 KiB, which reads what any smaller one has written.
    state: Option<Inflate>,
    /// What is left of the tail of this message.
    tail: &'static [u8],
    /// The last block (BFINAL) was the last that was read: no tail belongs to it.
    ended: bool,
}

impl Inflater {
    pub(super) fn new(takeover: bool) -> Self {
        Self { takeover, state: None, tail: TAIL, ended: false }
    }

    /// See [`Transform::incoming`](drivetrain_engine::Transform::incoming).
    pub(super) fn inflate(&mut self, part: &mut MessagePart, room: usize) -> Result<Bytes> {
        if part.first {
            (self.tail, self.ended) = (TAIL, false);
        }
        let state = self.state.get_or_insert_with(|| Inflate::new(false, 15));
        let mut budget = MOST_INPUT;
        let mut out = vec![0; (part.payload.len().saturating_mul(4)).max(64).min(room)];
        let mut len = 0;
        loop {
            if len == out.len() {
                if len == room {
                    break;
                }
                out.resize(len.saturating_mul(2).min(room), 0);
            }
            let in_payload = !part.payload.is_empty();
            let input = match (in_payload, part.fin) {
                (true, _) => &part.payload[..part.payload.len().min(budget)],
                (false, true) if !self.ended => self.tail,
                (false, _) => &[],
            };
            if in_payload && budget == 0 {
                break;
            }
            let ended = std::mem::take(&mut self.ended);
            let (before_in, before_out) = (state.total_in(), state.total_out());
            let status = state.decompress(input, &mut out[len..], InflateFlush::SyncFlush);
            let status = status.map_err(not_deflate)?;
            let read = (state.total_in() - before_in) as usize;
            let written = (state.total_out() - before_out) as usize;
            len += written;
            match in_payload {
                true => {
                    part.payload.advance(read);
                    budget -= read;
                }
                false => self.tail = self.tail.get(read..).unwrap_or_default(),
            }
            self.ended = ended && read == 0;
            if status == Status::StreamEnd {
                // It ends at a byte, and another may follow, section 7.2.3.4. Who writes such begins anew there; zlib
                // does.
                state.reset(false);
                self.ended = true;
            } else if read == 0 && written == 0 {
                break;
            }
        }
        if part.fin && part.payload.is_empty() && len < room && !self.takeover {
            self.state = None;
        }
        Ok(trimmed(out, len))
    }
}

/// Without what was allocated in vain, if that is much.
pub(super) fn trimmed(mut bytes: Vec<u8>, len: usize) -> Bytes {
    bytes.truncate(len);
    if bytes.capacity() > 2 * len {
        bytes.shrink_to_fit();
    }
    bytes.into()
}

fn not_deflate(error: InflateError) -> Error {
    let message = format!("a compressed message cannot be read: {}", error.as_str());
    Error::new(ErrorKind::Protocol, message).with_close_code(CloseCode::INVALID_PAYLOAD)
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater")
            .field("takeover", &self.takeover)
            .field("has_state", &self.state.is_some())
            .finish()
    }
}
