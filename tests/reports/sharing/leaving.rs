//! What a session does in the `Drop` of its last half.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use drivetrain::{
    Bytes, CloseReason, NegotiatedExtension, OpCode, WebSockets,
    extension::{Extension as _, MessagePart, PermessageDeflate, Role},
};

use super::{open, open_with};

const MIB: usize = 1 << 20;
const MESSAGES: usize = 6;

/// Half of it is compressed away.
fn message() -> Bytes {
    let mut seed = 1_u32;
    let next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 28) as u8
    };
    std::iter::repeat_with(next).take(MIB).collect()
}

/// How long it takes to compress what was queued.
fn compressing(message: &Bytes) -> Duration {
    let agreed = NegotiatedExtension::new("permessage-deflate", []);
    let mut transform = PermessageDeflate::new().accept(&agreed, Role::Client).unwrap();
    let start = Instant::now();
    for _ in 0..MESSAGES {
        let mut rest = message.clone();
        while !rest.is_empty() {
            let part = rest.split_to(rest.len().min(64 << 10));
            transform
                .outgoing(&mut MessagePart {
                    fin: rest.is_empty(),
                    first: rest.len() + part.len() == MIB,
                    ..MessagePart::new(OpCode::Binary, part)
                })
                .unwrap();
        }
    }
    start.elapsed()
}

fn close() -> Bytes {
    CloseReason::going_away().to_payload()
}

#[test]
fn dropping_a_session_compresses_no_backlog() {
    let message = message();
    let all = compressing(&message);
    // It is enough if it is so once: a machine may stand still.
    for streamed in [false, true] {
        assert!((0..5).any(|_| is_quick_to_drop(&message, streamed, all)), "streamed: {streamed}");
    }
}

fn is_quick_to_drop(message: &Bytes, streamed: bool, all: Duration) -> bool {
    let plugin = WebSockets::new()
        .outgoing_capacity((MESSAGES + 2) * MIB)
        .extension(PermessageDeflate::new());
    let (runtime, session, mut peer) = open_with(plugin, "permessage-deflate");
    peer.set_writable(false);
    let mut writer = streamed
        .then(|| runtime.block_on(session.send_stream(drivetrain::MessageKind::Binary)).unwrap());
    for _ in 0..MESSAGES {
        match &mut writer {
            Some(writer) => runtime.block_on(writer.write_chunk(message.clone())).unwrap(),
            None => runtime.block_on(session.send(message.clone())).unwrap(),
        }
    }
    peer.set_writable(true);
    let start = Instant::now();
    drop((writer, session));
    let dropping = start.elapsed();
    assert!(peer.is_dropped());
    let last = std::iter::from_fn(|| peer.receive()).last().unwrap();
    assert_eq!(last.opcode, OpCode::Close, "{streamed}: what can be said is said");
    assert!(streamed || last.payload == close());
    dropping < all / 8
}

/// A peer that reads as fast as this end writes gets a bounded part.
#[test]
fn dropping_a_session_writes_a_bounded_part() {
    let (runtime, session, mut peer) = open(WebSockets::new().outgoing_capacity(64 * MIB));
    peer.set_writable(false);
    let message = message();
    for _ in 0..32 {
        runtime.block_on(session.send(message.clone())).unwrap();
    }
    peer.set_writable(true);
    drop(session);
    let written: Vec<_> = std::iter::from_fn(|| peer.receive()).collect();
    let bytes: usize = written.iter().map(|frame| frame.payload.len()).sum();
    assert!(bytes <= 3 * MIB / 2, "{bytes} bytes in one go");
    assert_eq!(written.last().unwrap().payload, close());
}

/// As it was promised: with the usual capacity, all of it goes out if the socket takes it.
#[test]
fn what_is_pending_with_the_usual_capacity_goes_out_in_drop() {
    let (runtime, session, mut peer) = open(WebSockets::new());
    peer.set_writable(false);
    for i in 0..20 {
        runtime.block_on(session.send(vec![i; 10_000])).unwrap();
    }
    peer.set_writable(true);
    drop(session);
    let written: Vec<_> = std::iter::from_fn(|| peer.receive()).collect();
    assert_eq!(written.len(), 21);
    assert_eq!(written.last().unwrap().payload, close());
}

/// The peer does not read: nothing waits for it.
#[test]
fn dropping_a_session_whose_peer_does_not_read_frees_it_at_once() {
    let (runtime, session, mut peer) = open(WebSockets::new().outgoing_capacity(64 * MIB));
    peer.set_writable(false);
    let message = Arc::new(message());
    for _ in 0..8 {
        runtime.block_on(session.send(Bytes::clone(&message))).unwrap();
    }
    drop(session);
    assert!(peer.is_dropped());
    runtime.settle();
    assert_eq!(runtime.tasks(), 0);
}
