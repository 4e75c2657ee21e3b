//! Sessions in virtual time, over an in-memory connection: exact, without sockets or sleeping.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{future::Future as _, pin::pin, time::Duration};

use drivetrain_engine::{
    CloseCode, CloseReason, Error, ErrorKind, Frame, OpCode, RawFrame, Result, Runtime as _,
};
use drivetrain_session::WebSockets;

use crate::support::{Peer, open_with as open};

const SECOND: Duration = Duration::from_secs(1);

fn pinging() -> WebSockets {
    WebSockets::new().ping_interval(20 * SECOND).ping_timeout(10 * SECOND)
}

fn close_frame(code: u16) -> RawFrame {
    RawFrame::new(OpCode::Close, CloseReason::new(code, "").unwrap().to_payload())
}

fn opcodes(peer: &mut Peer) -> Vec<OpCode> {
    std::iter::from_fn(|| peer.receive()).map(|frame| frame.opcode).collect()
}

/// The same dead peer, found at the same moment, whatever the application does.
#[test]
fn a_dead_peer_is_found_after_interval_and_timeout_in_every_mode() {
    #[derive(Debug, Clone, Copy)]
    enum Mode {
        Idle,
        Receives,
        Sends,
        BlockedInSend,
    }
    for mode in [Mode::Idle, Mode::Receives, Mode::Sends, Mode::BlockedInSend] {
        let (runtime, mut session, mut peer) = open(pinging());
        if matches!(mode, Mode::BlockedInSend) {
            peer.set_stalled(true);
        }
        let outgoing = session.outgoing();
        let mut receive = pin!(session.receive());
        let mut blocked = pin!(async {
            loop {
                outgoing.send(vec![0; 10_000]).await?;
            }
            #[allow(unreachable_code)]
            Result::Ok(())
        });
        let act = |receive: std::pin::Pin<&mut _>, blocked: std::pin::Pin<&mut _>| match mode {
            Mode::Idle => {}
            Mode::Receives => assert!(runtime.poll_now(receive).is_none()),
            Mode::Sends => runtime.block_on(outgoing.send("x")).unwrap(),
            Mode::BlockedInSend => {
                assert!(runtime.poll_now::<Result<()>>(blocked).is_none())
            }
        };
        for _ in 0..29 {
            act(receive.as_mut(), blocked.as_mut());
            runtime.pass(SECOND);
        }
        assert!(!peer.is_closed(), "{mode:?}: not before interval + timeout");
        runtime.pass(SECOND);
        assert!(peer.is_closed(), "{mode:?}: the socket is dropped");
        if !matches!(mode, Mode::BlockedInSend) {
            let sent: Vec<_> = std::iter::from_fn(|| peer.receive()).collect();
            assert!(sent.iter().any(|frame| frame.opcode == OpCode::Ping), "{mode:?}");
            let close = CloseReason::from_payload(&sent.last().unwrap().payload).unwrap().unwrap();
            assert_eq!((close.code(), close.text()), (CloseCode::INTERNAL_ERROR, "Ping timeout"));
        }
        let received = runtime.poll_now(receive).expect("over").unwrap_err();
        assert_eq!(received.kind(), ErrorKind::Timeout, "{mode:?}");
        let sent = runtime.block_on(outgoing.send("x")).unwrap_err();
        assert_eq!(sent.kind(), ErrorKind::Timeout, "{mode:?}");
        assert_eq!(runtime.tasks(), 0, "{mode:?}: the session task has ended");
    }
}

#[test]
fn an_answered_ping_keeps_the_session_open_and_gives_the_latency() {
    let (runtime, session, mut peer) = open(pinging());
    for _ in 0..5 {
        runtime.pass(20 * SECOND);
        let ping = peer.receive().unwrap();
        assert_eq!(ping.opcode, OpCode::Ping);
        runtime.pass(Duration::from_millis(300));
        peer.send(RawFrame::new(OpCode::Pong, ping.payload));
        runtime.settle();
        runtime.pass(Duration::from_millis(500));
        assert_eq!(session.latency(), Some(Duration::from_millis(300)), "it is read when it comes");
        runtime.pass(20 * SECOND - Duration::from_millis(800));
        let next = peer.receive().unwrap();
        peer.send(RawFrame::new(OpCode::Pong, next.payload));
        runtime.settle();
        runtime.pass(Duration::ZERO);
    }
    assert!(!peer.is_closed());
}

/// On some engines each read is a system call, and idle sessions do little else.
#[test]
fn a_ping_costs_a_read_that_finds_the_pong_and_one_that_waits_for_more() {
    let (runtime, session, mut peer) = open(pinging());
    let mut answer_one = || {
        let before = peer.reads();
        runtime.pass(20 * SECOND);
        let ping = peer.receive().unwrap();
        peer.send(RawFrame::new(OpCode::Pong, ping.payload));
        runtime.settle();
        peer.reads() - before
    };
    answer_one(); // with the first one the session task begins to read
    for _ in 0..3 {
        assert_eq!(answer_one(), 2);
    }
    assert!(session.latency().is_some());
}

#[test]
fn what_lay_there_unread_is_no_answer_to_a_ping() {
    let (runtime, mut session, mut peer) = open(pinging());
    let tenth = SECOND / 10;
    runtime.pass(20 * SECOND - 3 * tenth);
    peer.send(RawFrame::new(OpCode::Text, "received"));
    assert!(runtime.block_on(session.receive()).unwrap().is_some());
    runtime.pass(2 * tenth);
    peer.send(RawFrame::new(OpCode::Text, "not yet, as the application was just there"));
    runtime.pass(10 * SECOND);
    assert!(!peer.is_closed(), "the ping has 10 s for its answer");
    runtime.pass(SECOND);
    assert!(peer.is_closed(), "none came");
}

#[test]
fn any_frame_is_a_sign_of_life_and_so_is_a_full_inbox() {
    let (runtime, mut session, mut peer) = open(pinging().incoming_capacity(1000));
    for _ in 0..20 {
        runtime.pass(9 * SECOND);
        peer.send(RawFrame::new(OpCode::Text, "no pong, but alive"));
        assert!(!peer.is_closed());
        assert!(runtime.block_on(session.receive()).unwrap().is_some());
    }
    for _ in 0..100 {
        peer.send(RawFrame::new(OpCode::Binary, vec![0; 100]));
    }
    runtime.pass(1000 * SECOND);
    assert!(!peer.is_closed(), "the application is the slow one, not the peer");
    for _ in 0..100 {
        assert!(runtime.block_on(session.receive()).unwrap().is_some(), "nothing was lost");
    }
}

#[test]
fn a_ping_is_answered_at_once_while_receiving_and_within_a_second_otherwise() {
    let (runtime, mut session, mut peer) = open(WebSockets::new());
    assert!(runtime.poll_now(pin!(session.receive())).is_none());
    {
        let mut receive = pin!(session.receive());
        assert!(runtime.poll_now(receive.as_mut()).is_none());
        peer.send(RawFrame::new(OpCode::Ping, "now"));
        assert!(runtime.poll_now(receive).is_none());
        assert_eq!(peer.receive(), Some(RawFrame::new(OpCode::Pong, "now")));
    }
    // Now nobody receives.
    for wait in [10, 700, 3000] {
        runtime.pass(Duration::from_millis(wait));
        peer.send(RawFrame::new(OpCode::Ping, "later"));
        runtime.pass(SECOND);
        assert_eq!(peer.receive(), Some(RawFrame::new(OpCode::Pong, "later")), "after {wait} ms");
    }
    // The application takes one message and goes away again.
    for _ in 0..3 {
        peer.send(RawFrame::new(OpCode::Text, "work"));
        assert!(runtime.block_on(session.receive()).unwrap().is_some());
        runtime.pass(Duration::from_millis(10));
        peer.send(RawFrame::new(OpCode::Ping, "busy"));
        runtime.pass(SECOND);
        assert_eq!(peer.receive(), Some(RawFrame::new(OpCode::Pong, "busy")));
    }
}

#[test]
fn ping_gives_the_round_trip_while_nobody_receives() {
    let (runtime, mut session, mut peer) = open(WebSockets::new());
    {
        let mut ping = pin!(session.ping());
        assert!(runtime.poll_now(ping.as_mut()).is_none());
        let frame = peer.receive().unwrap();
        runtime.pass(2 * SECOND);
        peer.send(RawFrame::new(OpCode::Text, "before the pong"));
        peer.send(RawFrame::new(OpCode::Pong, "not mine"));
        assert!(runtime.poll_now(ping.as_mut()).is_none());
        peer.send(RawFrame::new(OpCode::Pong, frame.payload));
        assert_eq!(runtime.poll_now(ping).unwrap().unwrap(), 2 * SECOND);
    }
    assert_eq!(session.latency(), Some(2 * SECOND));
    let kept = runtime.block_on(session.receive()).unwrap().unwrap();
    assert_eq!(kept.read_text(), Some("before the pong"));
}

/// Who waits for no pong any more need not be read for.
#[test]
fn a_ping_that_is_dropped_leaves_reading_to_the_application() {
    for is_dropped in [true, false] {
        let (runtime, mut session, mut peer) = open(WebSockets::new());
        let handle = session.handle();
        let mut ping = Box::pin(session.ping());
        assert!(runtime.poll_now(ping.as_mut()).is_none());
        if is_dropped {
            drop(ping);
        } else {
            std::mem::forget(ping);
        }
        let pong = RawFrame::new(OpCode::Pong, peer.receive().expect("a Ping").payload);
        peer.send(pong);
        assert!(runtime.poll_now(pin!(session.receive())).is_none());
        peer.send(RawFrame::new(OpCode::Text, "x"));
        runtime.settle();
        assert_eq!(handle.stats().expect("it lives").received.messages, u64::from(!is_dropped));
    }
}

#[test]
fn the_first_message_is_written_at_once_and_a_burst_costs_one_write() {
    let (runtime, mut session, mut peer) = open(WebSockets::new());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(pin!(session.send("first")).as_mut().poll(&mut cx).is_ready());
    assert_eq!((peer.writes(), opcodes(&mut peer).len()), (1, 1), "no task had to run for it");
    for i in 0..100 {
        assert!(pin!(session.send(i.to_string())).as_mut().poll(&mut cx).is_ready());
    }
    assert_eq!(peer.writes(), 1, "the others wait for the end of the burst");
    runtime.settle();
    assert_eq!((peer.writes(), opcodes(&mut peer).len()), (2, 100));
    assert!(runtime.poll_now(pin!(session.receive())).is_none());
    assert!(pin!(session.send("after waiting")).as_mut().poll(&mut cx).is_ready());
    assert_eq!(peer.writes(), 3, "a message after waiting for input is written at once");
}

#[test]
fn the_task_is_not_woken_where_there_is_nothing_to_do() {
    let (runtime, mut session, mut peer) = open(WebSockets::new());
    for _ in 0..50 {
        peer.send(RawFrame::new(OpCode::Text, "x"));
    }
    runtime.block_on(session.receive()).unwrap();
    let before = runtime.polls();
    for _ in 1..50 {
        runtime.block_on(session.receive()).unwrap();
    }
    assert_eq!(runtime.polls(), before, "nothing is to be flushed");
}

#[test]
fn a_fed_message_is_not_forgotten() {
    let (runtime, session, mut peer) = open(WebSockets::new());
    runtime.block_on(session.feed("x")).unwrap();
    runtime.settle();
    assert_eq!(opcodes(&mut peer), [OpCode::Text]);
}

#[test]
fn control_frames_pass_between_the_fragments_of_a_long_message() {
    let (runtime, mut session, mut peer) = open(WebSockets::new());
    peer.set_stalled(true);
    runtime.block_on(session.send(vec![7; 1 << 20])).unwrap();
    peer.send(RawFrame::new(OpCode::Ping, "!"));
    assert!(runtime.poll_now(pin!(session.receive())).is_none());
    peer.set_stalled(false);
    runtime.settle();
    let frames: Vec<_> = std::iter::from_fn(|| peer.receive()).collect();
    let pong = frames.iter().position(|frame| frame.opcode == OpCode::Pong).unwrap();
    assert!(pong <= 1, "after what was encoded and the current fragment, not at place {pong}");
    let data = || frames.iter().filter(|frame| frame.opcode != OpCode::Pong);
    assert_eq!(data().map(|frame| frame.payload.len()).sum::<usize>(), 1 << 20);
    assert_eq!(data().filter(|frame| frame.fin).count(), 1);
}

#[test]
fn send_waits_for_room_and_a_dropped_send_was_not_sent() {
    let (runtime, session, mut peer) = open(WebSockets::new().outgoing_capacity(50_000));
    peer.set_stalled(true);
    let mut accepted = 0;
    loop {
        let message = vec![accepted as u8; 10_000];
        if runtime.poll_now(pin!(session.send(message))).is_none() {
            break;
        }
        accepted += 1;
        assert!(accepted < 100, "nothing held it back");
    }
    peer.set_stalled(false);
    runtime.settle();
    assert_eq!(opcodes(&mut peer).len(), accepted, "the dropped one is not among them");
}

#[test]
fn close_is_clean_in_both_orders() {
    let (runtime, mut session, mut peer) = open(WebSockets::new());
    runtime.block_on(session.feed("last words")).unwrap();
    {
        let mut close = pin!(session.close(CloseReason::new(4001, "bye").unwrap()));
        assert!(runtime.poll_now(close.as_mut()).is_none());
        assert_eq!(opcodes(&mut peer), [OpCode::Text, OpCode::Close]);
        peer.send(RawFrame::new(OpCode::Text, "crossing"));
        peer.send(close_frame(4001));
        let outcome = runtime.poll_now(close).unwrap().unwrap();
        assert!(outcome.clean);
        assert_eq!(outcome.sent.unwrap().text(), "bye");
        assert_eq!(outcome.received.unwrap().code(), CloseCode::try_from(4001).unwrap());
    }
    assert!(peer.is_closed() && peer.shut_down_at().is_some());
    let crossing = runtime.block_on(session.receive()).unwrap().unwrap();
    assert_eq!(crossing.read_text(), Some("crossing"));
    assert!(runtime.block_on(session.receive()).unwrap().is_none());
    assert!(runtime.block_on(session.receive()).unwrap().is_none(), "again on later calls");
    let error = runtime.block_on(session.send("x")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(error.outcome().unwrap().clean);

    let (runtime, mut session, mut peer) = open(WebSockets::new());
    peer.send(close_frame(1001));
    assert!(runtime.block_on(session.receive()).unwrap().is_none());
    assert_eq!(peer.receive().unwrap(), close_frame(1001), "echoed once");
    assert!(peer.receive().is_none() && session.outcome().clean);
}

#[test]
fn a_close_that_is_not_answered_ends_at_the_close_timeout() {
    let (runtime, mut session, peer) = open(WebSockets::new().close_timeout(5 * SECOND));
    let outgoing = session.outgoing();
    let mut close = pin!(outgoing.close(CloseReason::normal()));
    assert!(runtime.poll_now(close.as_mut()).is_none());
    runtime.pass(4 * SECOND);
    assert!(runtime.poll_now(close.as_mut()).is_none());
    runtime.pass(SECOND);
    let outcome = runtime.poll_now(close).unwrap().unwrap();
    assert!(!outcome.clean && outcome.sent.is_some() && outcome.received.is_none());
    assert!(peer.is_closed());
    let error = runtime.block_on(session.receive()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[test]
fn closing_goes_on_when_its_future_is_dropped() {
    let (runtime, session, mut peer) = open(WebSockets::new().close_timeout(5 * SECOND));
    assert!(runtime.poll_now(pin!(session.close(CloseReason::normal()))).is_none());
    peer.send(close_frame(1000));
    runtime.settle();
    assert!(session.outcome().clean);
}

#[test]
fn a_connection_that_ends_without_a_close_is_an_error_every_time() {
    let (runtime, mut session, mut peer) = open(WebSockets::new());
    peer.send(RawFrame::new(OpCode::Text, "before"));
    peer.shut_down();
    assert!(runtime.block_on(session.receive()).unwrap().is_some());
    for _ in 0..2 {
        let error = runtime.block_on(session.receive()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(!error.outcome().unwrap().clean);
    }
    assert_eq!(runtime.block_on(session.send("x")).unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn a_violation_sends_its_close_and_ends_when_the_peer_has_seen_it() {
    let (runtime, mut session, mut peer) = open(WebSockets::new());
    peer.send(RawFrame::new(OpCode::Continuation, "orphan"));
    {
        let mut receive = pin!(session.receive());
        assert!(runtime.poll_now(receive.as_mut()).is_none(), "the peer may answer");
        let close = peer.receive().unwrap();
        assert_eq!(close.payload[..2], 1002_u16.to_be_bytes());
        peer.send(close_frame(1002));
        let error = runtime.poll_now(receive).unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        let outcome = error.outcome().unwrap();
        assert!(!outcome.clean && outcome.received.is_some());
    }
    let error = runtime.block_on(session.receive()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "again on later calls");
}

#[test]
fn a_failed_write_surfaces_on_the_next_call_and_the_last_words_are_read() {
    let (runtime, mut session, mut peer) = open(WebSockets::new().close_timeout(5 * SECOND));
    peer.fail_writes(Error::new(ErrorKind::Io, "broken pipe"));
    let _ = runtime.block_on(session.send("x"));
    let error = runtime.block_on(session.send("y")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    peer.send(RawFrame::new(OpCode::Text, "why I left"));
    peer.send(close_frame(1008));
    assert!(runtime.block_on(session.receive()).unwrap().is_some());
    assert!(runtime.block_on(session.receive()).unwrap().is_none(), "the peer's Close wins");
    let outcome = session.outcome();
    assert_eq!(outcome.received.unwrap().code(), CloseCode::POLICY_VIOLATION);
    assert_eq!(outcome.error.unwrap().kind(), ErrorKind::Io);
}

#[test]
fn dropping_the_session_writes_what_is_pending_and_goes_away() {
    let (runtime, session, mut peer) = open(WebSockets::new());
    runtime
        .block_on(async {
            session.send("a").await?;
            session.send("b").await
        })
        .unwrap();
    drop(session);
    assert!(peer.is_closed());
    let frames: Vec<_> = std::iter::from_fn(|| peer.receive()).collect();
    assert_eq!(frames.len(), 3);
    assert_eq!(frames[2].payload[..], 1001_u16.to_be_bytes());
    runtime.settle();
    assert_eq!(runtime.tasks(), 0, "nothing survives it");
}

#[test]
fn with_the_receiving_half_gone_control_frames_are_served() {
    let (runtime, session, mut peer) = open(WebSockets::new());
    let (outgoing, incoming) = session.split();
    drop(incoming);
    for _ in 0..100 {
        peer.send(RawFrame::new(OpCode::Binary, vec![0; 100_000]));
    }
    peer.send(RawFrame::new(OpCode::Ping, "still there?"));
    runtime.settle();
    assert_eq!(opcodes(&mut peer), [OpCode::Pong]);
    runtime.block_on(outgoing.send("yes")).unwrap();
    runtime.settle();
    assert_eq!(opcodes(&mut peer), [OpCode::Text]);
    drop(outgoing);
    assert!(peer.is_closed());
}

#[test]
fn a_changed_ping_interval_takes_effect() {
    let (runtime, session, mut peer) = open(WebSockets::new());
    runtime.pass(1000 * SECOND);
    assert!(peer.receive().is_none());
    session.set_ping_interval(5 * SECOND).unwrap();
    runtime.settle();
    runtime.pass(5 * SECOND);
    assert_eq!(opcodes(&mut peer), [OpCode::Ping]);
    session.set_ping_interval(None).unwrap();
    runtime.settle();
    runtime.pass(1000 * SECOND);
    assert!(opcodes(&mut peer).is_empty() && !peer.is_closed());
    assert!(session.set_ping_interval(Duration::ZERO).is_err());
}

#[test]
fn a_flood_of_pings_to_a_peer_that_does_not_read_costs_no_memory_and_no_message() {
    let (runtime, mut session, mut peer) = open(WebSockets::new());
    peer.set_stalled(true);
    for _ in 0..10_000 {
        peer.send(RawFrame::new(OpCode::Ping, vec![0; 125]));
    }
    peer.send(RawFrame::new(OpCode::Text, "after the flood"));
    let frame = runtime.poll_now(pin!(session.receive())).unwrap().unwrap().unwrap();
    assert_eq!(frame, Frame::from("after the flood"));
    peer.set_stalled(false);
    runtime.settle();
    assert!(opcodes(&mut peer).len() < 500);
}

/// Two tasks that wait for a full socket must not keep each other, and the processor, busy.
#[test]
fn waiting_senders_do_not_wake_each_other() {
    struct Counted(std::sync::atomic::AtomicUsize);
    impl std::task::Wake for Counted {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }
    let (runtime, session, mut peer) = open(WebSockets::new().outgoing_capacity(1000));
    peer.set_stalled(true);
    runtime.block_on(session.send(vec![0; 100_000])).unwrap();
    runtime.settle();
    let wakes = std::sync::Arc::new(Counted(std::sync::atomic::AtomicUsize::new(0)));
    let count = || wakes.0.load(std::sync::atomic::Ordering::SeqCst);
    let waker = std::task::Waker::from(std::sync::Arc::clone(&wakes));
    let mut cx = std::task::Context::from_waker(&waker);
    let mut one = pin!(session.send(vec![1; 100_000]));
    let mut two = pin!(session.send(vec![2; 100_000]));
    let mut flush = pin!(session.flush());
    for _ in 0..10 {
        assert!(one.as_mut().poll(&mut cx).is_pending());
        assert!(two.as_mut().poll(&mut cx).is_pending());
        assert!(flush.as_mut().poll(&mut cx).is_pending());
        runtime.settle();
    }
    assert_eq!(count(), 0, "nothing has changed for them");
    peer.set_stalled(false);
    runtime.settle();
    assert!(count() > 0, "now there is room");
}

#[test]
fn a_sender_that_waits_learns_that_the_peer_has_closed() {
    let (runtime, mut session, mut peer) = open(WebSockets::new().outgoing_capacity(1000));
    peer.set_stalled(true);
    let outgoing = session.outgoing();
    runtime.block_on(outgoing.send(vec![0; 100_000])).unwrap();
    let (done, waiting) = std::sync::mpsc::channel();
    runtime.spawn(Box::pin(async move {
        let _ = done.send(outgoing.send(vec![1; 100_000]).await);
    }));
    runtime.settle();
    assert!(waiting.try_recv().is_err(), "it waits");
    peer.send(close_frame(1001));
    assert!(runtime.poll_now(pin!(session.receive())).is_none(), "the echo has to wait");
    runtime.settle();
    let error = waiting.try_recv().expect("it was woken").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

/// The application has closed, the peer takes nothing, and then breaks a rule: what was accepted is not
/// sent any more, but the Close still is, as `outcome()` says.
#[test]
fn a_close_that_waits_survives_a_violation() {
    let (runtime, mut session, mut peer) = open(WebSockets::new());
    peer.set_stalled(true);
    runtime.block_on(session.send(vec![0; 200_000])).unwrap();
    let outgoing = session.outgoing();
    let mut close = pin!(outgoing.close(CloseReason::new(4001, "enough").unwrap()));
    assert!(runtime.poll_now(close.as_mut()).is_none(), "it waits behind the message");
    peer.send(RawFrame::new(OpCode::Continuation, "orphan"));
    assert!(runtime.poll_now(pin!(session.receive())).is_none());
    peer.set_stalled(false);
    runtime.settle();
    let frames: Vec<_> = std::iter::from_fn(|| peer.receive()).collect();
    let (last, before) = frames.split_last().expect("the Close");
    assert_eq!(last.payload[..2], 4001_u16.to_be_bytes());
    assert!(before.iter().all(|frame| !frame.fin), "the message ends where it was: {before:?}");
    peer.send(close_frame(4001));
    let outcome = runtime.poll_now(close).expect("over").unwrap();
    assert_eq!(outcome.sent.unwrap().code(), CloseCode::try_from(4001).unwrap());
    assert_eq!(outcome.error.unwrap().kind(), ErrorKind::Protocol);
    assert!(!outcome.clean && outcome.received.is_some());
}

/// What was accepted may be more than what is written under the lock at once.
#[test]
fn a_dropped_session_writes_all_that_the_socket_takes() {
    let (runtime, session, mut peer) = open(WebSockets::new());
    peer.set_stalled(true);
    runtime.block_on(session.send(vec![7; 500_000])).unwrap();
    peer.set_stalled(false);
    drop(session);
    let frames: Vec<_> = std::iter::from_fn(|| peer.receive()).collect();
    let (close, message) = frames.split_last().unwrap();
    assert_eq!(message.iter().map(|frame| frame.payload.len()).sum::<usize>(), 500_000);
    assert_eq!(*close, close_frame(1001));
}

/// A peer whose fragments are always there already keeps neither the thread nor the lock.
#[test]
fn a_message_in_many_fragments_lets_others_run() {
    let (_runtime, mut session, mut peer) = open(WebSockets::new());
    for i in 0..100 {
        let opcode = if i == 0 { OpCode::Binary } else { OpCode::Continuation };
        peer.send(RawFrame::new(opcode, vec![7; 64 << 10]).not_final());
    }
    let outgoing = session.outgoing();
    let mut receive = pin!(session.receive());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(receive.as_mut().poll(&mut cx).is_pending());
    let frames = outgoing.stats().received.frames;
    assert!(frames <= 8, "{frames} in one poll");
}
