//! Limits hold exactly: a message of `max_message_size` passes, and one byte more does not.

use drivetrain_engine::{ErrorKind, Frame, OpCode, RawFrame, Role};
use drivetrain_session::SessionConfig;

use crate::support::{close, close_code, config, session_and_peer, text};

const LIMIT: usize = 1000;

fn limited() -> SessionConfig {
    let mut config = config();
    config.max_frame_size = 2 * LIMIT;
    config.max_message_size = LIMIT;
    config
}

fn binary(size: usize) -> RawFrame {
    RawFrame::new(OpCode::Binary, vec![7; size])
}

/// A message of this size in fragments of 400 bytes.
fn in_fragments(size: usize) -> Vec<RawFrame> {
    let payload = vec![7; size];
    let mut frames: Vec<_> = payload
        .chunks(400)
        .map(|chunk| RawFrame::new(OpCode::Continuation, chunk.to_vec()).not_final())
        .collect();
    if let Some(first) = frames.first_mut() {
        first.opcode = OpCode::Binary;
    }
    if let Some(last) = frames.last_mut() {
        last.fin = true;
    }
    frames
}

#[test]
fn a_message_of_the_limit_is_received_and_one_byte_more_is_refused_with_1009() {
    for whole in [true, false] {
        for excess in [0, 1] {
            let (runtime, mut session, mut peer) = session_and_peer(Role::Server, limited());
            let size = LIMIT + excess;
            match whole {
                true => peer.send(binary(size)),
                false => in_fragments(size).into_iter().for_each(|frame| peer.send(frame)),
            }
            let received = runtime.run(session.receive());
            if excess == 0 {
                assert_eq!(received.expect("open"), Some(Frame::from(vec![7; LIMIT])), "{whole}");
                assert!(peer.receive().is_none());
            } else {
                let error = received.expect_err("above the limit");
                assert_eq!(error.kind(), ErrorKind::TooBig, "{whole}");
                assert!(error.to_string().contains("max_message_size"), "{error}");
                assert_eq!(close_code(&peer.receive().expect("a Close")), 1009, "{whole}");
            }
        }
    }
}

#[test]
fn a_message_of_the_limit_is_sent_and_one_byte_more_is_refused_and_the_session_goes_on() {
    let (runtime, session, mut peer) = session_and_peer(Role::Client, limited());
    runtime.run(async {
        session.send(vec![7; LIMIT]).await.expect("at the limit");
        let error = session.send(vec![7; LIMIT + 1]).await.expect_err("above the limit");
        assert_eq!(error.kind(), ErrorKind::TooBig);
        session.send("still open").await.expect("open");
        session.flush().await.expect("written");
    });
    assert_eq!(peer.receive().map(|frame| frame.payload.len()), Some(LIMIT));
    assert_eq!(peer.receive().map(|frame| frame.payload), Some("still open".into()));
}

#[test]
fn a_control_frame_of_125_bytes_is_sent_and_one_of_126_is_refused() {
    let (runtime, session, _peer) = session_and_peer(Role::Client, config());
    runtime.run(session.send(Frame::Ping(vec![0; 125].into()))).expect("125 bytes");
    let refused = runtime.run(session.send(Frame::Ping(vec![0; 126].into())));
    assert_eq!(refused.expect_err("126 bytes").kind(), ErrorKind::InvalidInput);
}

#[test]
fn nothing_is_delivered_behind_a_violation_or_a_close() {
    for frame in [RawFrame::new(OpCode::Continuation, "of nothing"), close(1000)] {
        let (runtime, mut session, mut peer) = session_and_peer(Role::Client, config());
        let violates = frame.opcode != OpCode::Close;
        peer.send(text("before"));
        peer.send(frame);
        peer.send(text("behind"));
        peer.shut_down();
        let first = runtime.run(session.receive()).expect("open").expect("a message");
        assert_eq!(first.read_text(), Some("before"));
        match runtime.run(session.receive()) {
            Ok(None) => assert!(!violates),
            Err(error) => assert!(violates && error.kind() == ErrorKind::Protocol, "{error}"),
            Ok(Some(frame)) => panic!("{frame:?} was delivered"),
        }
        let discarded = runtime.run(session.closed()).expect("an outcome").discarded;
        assert_eq!(discarded, u64::from(violates), "after a Close nothing is read");
    }
}
