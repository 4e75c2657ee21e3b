//! Compressed messages in (RFC 7692 section 7.2.2).

use std::fmt;

use bytes::{Buf as _, Bytes};
use drivetrain_engine::{CloseCode, Error, ErrorKind, MessagePart, Result};
use zlib_rs::{Inflate, InflateFlush, Status};

/// The tail that the sender has removed from a message: the length of an empty stored block.
pub(super) const TAIL: &[u8] = &[0x00, 0x00, 0xFF, 0xFF];

/// The tail and one extra byte.
const BEYOND_TAIL: &[u8] = &[0x00, 0x00, 0xFF, 0xFF, 0x00];

/// Maximum input per step, whatever its output: the other direction waits meanwhile.
const MOST_INPUT: usize = 64 << 10;

/// Decompression of one direction. Its memory, about 40 KiB, is allocated at the first compressed message; without
/// context takeover only during a message.
pub(super) struct Inflater {
    takeover: bool,
    /// A window of 32 KiB, which reads the output of any smaller one.
    state: Option<Inflate>,
    /// The last read block was final (BFINAL): it has no tail.
    ended: bool,
}

impl Inflater {
    pub(super) fn new(takeover: bool) -> Self {
        Self { takeover, state: None, ended: false }
    }

    /// See [`Transform::incoming`](drivetrain_engine::Transform::incoming).
    pub(super) fn inflate(&mut self, part: &mut MessagePart, room: usize) -> Result<Bytes> {
        if part.first {
            self.ended = false;
        }
        let state = self.state.get_or_insert_with(|| Inflate::new(false, 15));
        let mut budget = MOST_INPUT;
        let mut out = vec![0; (part.payload.len().saturating_mul(4)).max(64).min(room)];
        let mut len = 0;
        let has_come_to_all = loop {
            if len == out.len() {
                if len == room {
                    break false;
                }
                out.resize(len.saturating_mul(2).min(room), 0);
            }
            if budget == 0 && !part.payload.is_empty() {
                break false;
            }
            let input = &part.payload[..part.payload.len().min(budget)];
            let step = step(state, input, &mut out[len..], InflateFlush::SyncFlush)?;
            part.payload.advance(step.read);
            budget -= step.read;
            len += step.written;
            self.ended &= step.read == 0;
            if step.status == Status::StreamEnd {
                // The block ends at a byte, and another may follow, section 7.2.3.4. An encoder with such blocks restarts there; zlib
                // does.
                state.reset(false);
                self.ended = true;
            } else if part.payload.is_empty() && len < out.len() {
                break true;
            }
        };
        if has_come_to_all && part.fin {
            if !self.ended {
                end_message(state)?;
            }
            if !self.takeover {
                self.state = None;
            }
        }
        Ok(trimmed(out, len))
    }
}

/// Reads the removed tail. The tail must be the rest of an empty block: a message that ends
/// anywhere else is truncated.
fn end_message(state: &mut Inflate) -> Result<()> {
    // `Block` stops behind the block and leaves the extra byte.
    let step = step(state, BEYOND_TAIL, &mut [0], InflateFlush::Block)?;
    match (step.read, step.written) {
        (read, 0) if read == TAIL.len() => Ok(()),
        _ => Err(unreadable("it ends before its data does")),
    }
}

struct Step {
    read: usize,
    written: usize,
    status: Status,
}

fn step(state: &mut Inflate, input: &[u8], out: &mut [u8], flush: InflateFlush) -> Result<Step> {
    let (before_in, before_out) = (state.total_in(), state.total_out());
    let status = state.decompress(input, out, flush);
    let status = status.map_err(|error| unreadable(error.as_str()))?;
    let read = (state.total_in() - before_in) as usize;
    let written = (state.total_out() - before_out) as usize;
    Ok(Step { read, written, status })
}

/// Shrinks an allocation that is much too large.
pub(super) fn trimmed(mut bytes: Vec<u8>, len: usize) -> Bytes {
    bytes.truncate(len);
    if bytes.capacity() > 2 * len {
        bytes.shrink_to_fit();
    }
    bytes.into()
}

fn unreadable(why: &str) -> Error {
    Error::new(ErrorKind::Protocol, format!("a compressed message cannot be read: {why}"))
        .with_close_code(CloseCode::INVALID_PAYLOAD)
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inflater")
            .field("takeover", &self.takeover)
            .field("has_state", &self.state.is_some())
            .finish()
    }
}
