//! What a session knows about the arrival of the messages that it accepted.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::pin::pin;

use drivetrain_engine::{CloseReason, Frame, OpCode, RawFrame};
use drivetrain_session::{MessageKind, WebSockets};

use crate::support::{Peer, close, open_with as open};

fn received(peer: &mut Peer) -> Vec<RawFrame> {
    std::iter::from_fn(|| peer.receive()).collect()
}

fn pong(peer: &mut Peer) -> RawFrame {
    let ping = received(peer).into_iter().rfind(|frame| frame.opcode == OpCode::Ping);
    RawFrame::new(OpCode::Pong, ping.expect("a Ping").payload)
}

#[test]
fn a_pong_acknowledges_what_was_sent_before_its_ping() {
    for is_answered in [true, false] {
        let (runtime, session, mut peer) = open(WebSockets::new());
        runtime.block_on(session.send("before the log")).unwrap();
        session.keep_send_log(1 << 20);
        runtime.block_on(async {
            session.send("a").await.unwrap();
            session.send(vec![7; 300]).await.unwrap();
            let mut writer = session.send_stream(MessageKind::Text).await.unwrap();
            writer.write_chunk("streamed").await.unwrap();
            writer.finish().await.unwrap();
        });
        {
            let mut ping = pin!(session.ping());
            assert!(runtime.poll_now(ping.as_mut()).is_none());
            let pong = pong(&mut peer);
            if is_answered {
                peer.send(pong);
                runtime.block_on(ping).unwrap();
            }
        }
        peer.set_stalled(true);
        for message in ["after".into(), Frame::from(vec![7; 40_000]), "unsent".into()] {
            runtime.block_on(session.send(message)).unwrap();
        }
        session.outgoing().abandon();
        let left = session.take_unacknowledged();
        let unknown = [
            Frame::from("a"),
            Frame::from(vec![7; 300]),
            Frame::from("after"),
            Frame::from(vec![7; 40_000]),
        ];
        let from = if is_answered { 2 } else { 0 };
        assert_eq!(left.unknown, unknown[from..], "{is_answered}");
        assert_eq!(left.unsent, [Frame::from("unsent")]);
        assert_eq!((left.forgotten, left.streamed), (0, u64::from(!is_answered)));
        assert!(session.take_unacknowledged().is_empty(), "told once");
    }
}

#[test]
fn a_ping_before_the_close_acknowledges_everything() {
    for is_logged in [true, false] {
        let (runtime, session, mut peer) = open(WebSockets::new());
        if is_logged {
            session.keep_send_log(1 << 20);
        }
        runtime.block_on(session.send("x")).unwrap();
        let mut closing = pin!(session.close(CloseReason::normal()));
        assert!(runtime.poll_now(closing.as_mut()).is_none());
        let frames = received(&mut peer);
        let opcodes: Vec<_> = frames.iter().map(|frame| frame.opcode).collect();
        if !is_logged {
            assert_eq!(opcodes, [OpCode::Text, OpCode::Close]);
            continue;
        }
        assert_eq!(opcodes, [OpCode::Text, OpCode::Ping, OpCode::Close]);
        peer.send(RawFrame::new(OpCode::Pong, frames[1].payload.clone()));
        peer.send(close(1000));
        assert!(runtime.block_on(closing).unwrap().clean);
        assert!(session.take_unacknowledged().is_empty());
    }
}

/// The log holds so many bytes of what the engine has; the rest is counted.
#[test]
fn beyond_its_capacity_the_log_counts() {
    let (runtime, session, _peer) = open(WebSockets::new());
    session.keep_send_log(1000);
    for _ in 0..3 {
        runtime.block_on(session.send(vec![7; 600])).unwrap();
    }
    session.outgoing().abandon();
    let left = session.take_unacknowledged();
    assert_eq!((left.forgotten, left.unknown.len(), left.unsent.len()), (2, 1, 0));
    assert_eq!((left.len(), left.into_frames().count()), (3, 1));
}
