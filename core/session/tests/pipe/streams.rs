//! Messages as streams, out and in, in virtual time over an in-memory connection.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod incoming;
mod outgoing;

use std::{future::poll_fn, io, pin::Pin, pin::pin, time::Duration};

use drivetrain_engine::{
    Bytes, Capability, CloseCode, CloseReason, Duties, Error, ErrorKind, Frame, OpCode, RawFrame,
    Result,
};
use drivetrain_session::{MessageKind, MessageReader, MessageWriter, Session, WebSockets};
use futures_util::io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _};

use crate::support::{Peer, TestRuntime, direct_pipe, open_with as open};

const SECOND: Duration = Duration::from_secs(1);
const FRAGMENT: usize = 64 << 10;

/// Opcode, size and FIN of what the peer got.
fn seen(peer: &mut Peer) -> Vec<(OpCode, usize, bool)> {
    std::iter::from_fn(|| peer.receive()).map(|f| (f.opcode, f.payload.len(), f.fin)).collect()
}

fn close_code(frame: &RawFrame) -> CloseCode {
    assert_eq!(frame.opcode, OpCode::Close);
    CloseReason::from_payload(&frame.payload).unwrap().unwrap().code()
}

fn close_frame(code: u16) -> RawFrame {
    RawFrame::new(OpCode::Close, CloseReason::new(code, "").unwrap().to_payload())
}

fn fragment(opcode: OpCode, payload: impl Into<Bytes>, fin: bool) -> RawFrame {
    RawFrame { fin, ..RawFrame::new(opcode, payload) }
}

fn writer(runtime: &TestRuntime, session: &Session, kind: MessageKind) -> MessageWriter {
    runtime.block_on(session.send_stream(kind)).unwrap()
}

/// Writes once.
fn write(runtime: &TestRuntime, writer: &mut MessageWriter, bytes: &[u8]) -> io::Result<usize> {
    runtime.block_on(poll_fn(|cx| Pin::new(&mut *writer).poll_write(cx, bytes)))
}

/// The next message, in one piece.
async fn whole(session: &mut Session) -> Result<Option<(MessageKind, Vec<u8>)>> {
    let Some(mut reader) = session.receive_stream().await? else { return Ok(None) };
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).await?;
    Ok(Some((reader.kind(), bytes)))
}
