//! Sending: masks, partial writes, the high-water mark.

use drivetrain_codec::mask;
use drivetrain_engine::{ErrorKind, OpCode, RawFrame, Role, Transport};

use super::*;

#[test]
fn a_client_masks_and_a_server_does_not() {
    for length in [0, 5, 125, 126, 65_535, 65_536] {
        let mut client = framer(Role::Client, []);
        client.start_send(RawFrame::new(OpCode::Binary, payload(length))).expect("taken");
        wait(|cx| client.poll_flush(cx)).expect("written");
        let sent = std::mem::take(&mut client.stream().written);
        assert_ne!(sent[1] & 0x80, 0, "masked");

        let mut server = framer(Role::Server, [Step::Bytes(sent)]);
        let received = frame(&mut server);
        assert_eq!(received.payload, payload(length));
        server.start_send(received).expect("taken");
        wait(|cx| server.poll_flush(cx)).expect("written");
        assert_eq!(server.stream().written, wire(0x82, &payload(length), None));
    }
}

#[test]
fn partial_writes_lose_nothing() {
    let mut framer = framer(Role::Client, []);
    framer.stream().accepts = Some(1);
    framer.stream().hesitates = true;
    for turn in 0..200 {
        framer.start_send(RawFrame::new(OpCode::Binary, payload(turn))).expect("taken");
        for _ in 0..turn {
            // Progress in between, so that frames are encoded behind half-written ones.
            assert!(framer.poll_flush(&mut cx()).is_pending());
        }
    }
    assert!(!framer.stream().closed);
    wait(|cx| framer.poll_close(cx)).expect("closed");
    assert!(framer.stream().closed);
    assert_server_reads(std::mem::take(&mut framer.stream().written), (0..200).map(payload));
    assert!(framer.output().capacity() < 64 * 1024, "{}", framer.output().capacity());
}

fn assert_server_reads(bytes: Vec<u8>, expected: impl Iterator<Item = Vec<u8>>) {
    let mut server = framer(Role::Server, [Step::Bytes(bytes)]);
    for payload in expected {
        assert_eq!(frame(&mut server).payload, payload);
    }
    assert_eq!(receive(&mut server).expect("a clean end"), None);
}

#[test]
fn sending_is_ready_below_the_mark_and_writes_above_it() {
    let mut framer = framer(Role::Client, []);
    for _ in 0..33 {
        assert!(framer.poll_ready(&mut cx()).is_ready());
        framer.start_send(RawFrame::new(OpCode::Binary, payload(1000))).expect("taken");
    }
    assert_eq!(framer.stream().writes, 0, "nothing is written below the mark");
    framer.stream().accepts = Some(400);
    framer.stream().hesitates = true;
    assert!(framer.poll_ready(&mut cx()).is_pending());
    wait(|cx| framer.poll_ready(cx)).expect("ready");
    let written = framer.stream().written.len();
    assert!((400..1000).contains(&written), "{written} bytes bring it below the mark");
    framer.stream().accepts = Some(0);
    assert_eq!(wait(|cx| framer.poll_flush(cx)).expect_err("zero").kind(), ErrorKind::Io);
}

#[test]
fn a_control_frame_that_cannot_be_is_not_sent() {
    let mut framer = framer(Role::Client, []);
    for bad in
        [RawFrame::new(OpCode::Ping, payload(126)), RawFrame::new(OpCode::Close, "").not_final()]
    {
        let error = framer.start_send(bad).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    wait(|cx| framer.poll_flush(cx)).expect("nothing to write");
    assert_eq!(framer.stream().writes, 0);
}

#[test]
fn what_a_client_sends_is_what_a_masking_reference_says() {
    let mut client = framer(Role::Client, []);
    client.start_send(RawFrame::new(OpCode::Text, "hello")).expect("taken");
    wait(|cx| client.poll_flush(cx)).expect("written");
    let sent = &mut client.stream().written;
    assert_eq!(sent[..2], [0x81, 0x85]);
    let key = [sent[2], sent[3], sent[4], sent[5]];
    mask::apply(&mut sent[6..], key);
    assert_eq!(&sent[6..], b"hello");
}

#[test]
fn a_slow_peer_does_not_make_the_buffer_grow() {
    let mut framer = framer(Role::Client, []);
    framer.stream().accepts = Some(1000);
    framer.stream().hesitates = true;
    for turn in 0..5000 {
        // 1000 bytes on the wire, three of them ahead of the writes: the buffer is never empty.
        framer.start_send(RawFrame::new(OpCode::Binary, payload(992))).expect("taken");
        if turn >= 3 {
            assert!(framer.poll_flush(&mut cx()).is_pending());
        }
    }
    assert!(framer.output().capacity() < 32 * 1024, "{}", framer.output().capacity());
    wait(|cx| framer.poll_flush(cx)).expect("written");
    let written = std::mem::take(&mut framer.stream().written);
    assert_server_reads(written, (0..5000).map(|_| payload(992)));
}
