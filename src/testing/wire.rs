//! What a test sends as bytes, decoded by the codec, so that garbage is judged as on a socket.

use bytes::Bytes;
use drivetrain_codec::{Decoder, Encoder};
use drivetrain_engine::{RawFrame, Result, Role};

/// Bytes in, frames out, at the end with a role.
pub(super) struct FrameReader {
    decoder: Decoder,
    role: Role,
    /// A violation occurred; further input is discarded.
    is_broken: bool,
}

impl FrameReader {
    pub(super) fn new(role: Role) -> Self {
        Self { decoder: Decoder::new(role), role, is_broken: false }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if !self.is_broken {
            self.decoder.feed(bytes);
        }
    }

    /// Takes a frame as bytes of the peer's: it is masked if the peer is a client.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](drivetrain_engine::ErrorKind::InvalidInput) for a control frame that has no bytes:
    /// fragmented or above 125 bytes.
    pub(super) fn push_frame(&mut self, frame: &RawFrame) -> Result<()> {
        let bytes = encode(peer_of(self.role), frame)?;
        self.push(&bytes);
        Ok(())
    }

    /// Whether the bytes so far end inside a frame.
    pub(super) fn is_inside(&self) -> bool {
        !self.decoder.is_empty()
    }

    /// Discards all further input.
    pub(super) fn close(&mut self) {
        self.is_broken = true;
        self.decoder.discard();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_broken
    }

    /// The next whole frame, or the violation; `None` if the frame is incomplete.
    pub(super) fn next(&mut self, max_payload: usize) -> Option<Result<RawFrame>> {
        if self.is_broken {
            return None;
        }
        let frame = self.decoder.decode(max_payload).transpose()?;
        if frame.is_err() {
            self.close();
        }
        Some(frame)
    }
}

fn peer_of(role: Role) -> Role {
    match role {
        Role::Server => Role::Client,
        _ => Role::Server,
    }
}

/// A frame as the end with this role writes it.
fn encode(role: Role, frame: &RawFrame) -> Result<Bytes> {
    let mut encoder = Encoder::new(role);
    encoder.encode(frame)?;
    Ok(Bytes::copy_from_slice(encoder.waiting()))
}

#[cfg(test)]
mod tests {
    use drivetrain_engine::{ErrorKind, OpCode, Rsv};

    use super::*;

    #[test]
    fn what_is_written_is_read_whatever_the_cuts() {
        for role in [Role::Client, Role::Server] {
            for length in [0, 125, 126, 65_536] {
                let frame =
                    RawFrame { rsv: Rsv::RSV2, ..RawFrame::new(OpCode::Binary, vec![7; length]) };
                let bytes = encode(peer_of(role), &frame).expect("data can be encoded");
                for cut in [1, 3, bytes.len()] {
                    let mut wire = FrameReader::new(role);
                    let mut chunks = bytes.chunks(bytes.len().div_ceil(cut)).peekable();
                    while let Some(chunk) = chunks.next() {
                        wire.push(chunk);
                        let read = wire.next(usize::MAX).map(|frame| frame.expect("valid"));
                        assert_eq!(read, chunks.peek().is_none().then(|| frame.clone()));
                    }
                    assert!(!wire.is_inside());
                }
            }
        }
    }

    #[test]
    fn a_violation_ends_the_reading() {
        let cases: [(Role, &[u8], ErrorKind); 4] = [
            (Role::Client, &[0x83, 0], ErrorKind::Protocol),
            (Role::Client, &[0x81, 0x80], ErrorKind::Protocol),
            (Role::Server, &[0x81, 0], ErrorKind::Protocol),
            (Role::Client, &[0x82, 101], ErrorKind::TooBig),
        ];
        for (role, bytes, kind) in cases {
            let mut wire = FrameReader::new(role);
            wire.push(bytes);
            let error = wire.next(100).map(|frame| frame.expect_err("a violation"));
            assert_eq!(error.map(|error| error.kind()), Some(kind), "{bytes:x?}");
            wire.push(&[0x81, 0]);
            assert!(wire.next(100).is_none(), "input after a violation is discarded: {bytes:x?}");
            assert!(!wire.is_inside(), "{bytes:x?}");
        }
    }
}
