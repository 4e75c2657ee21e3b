//! The halves of a session as a sink, a stream and a handle, messages that are pushed into it, and values.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use drivetrain_engine::{
    BoxError, CloseCode, CloseReason, ErrorKind, Frame, OpCode, RawFrame, Result,
};
use drivetrain_session::{
    ConvertError, Converter, Lane, Overflow, Pushed, Session, WebSockets, erased_serde,
};
use futures_util::{Sink, SinkExt, StreamExt as _};

use crate::support::{Peer, TestRuntime, close, close_code, open_with as open, text};

fn texts(peer: &mut Peer) -> Vec<String> {
    let frames = std::iter::from_fn(|| peer.receive()).filter(|frame| !frame.opcode.is_control());
    frames.map(|frame| String::from_utf8(frame.payload.to_vec()).unwrap()).collect()
}

#[test]
fn a_sink_keeps_one_message_and_flushing_passes_it_on() {
    let (runtime, session, mut peer) = open(WebSockets::new().max_message_size(10));
    let mut sink = session.outgoing();
    runtime.block_on(async {
        SinkExt::feed(&mut sink, "one").await.unwrap();
        let second = Sink::<&str>::start_send(Pin::new(&mut sink), "too early").unwrap_err();
        assert_eq!(second.kind(), ErrorKind::InvalidInput);
        let large = Sink::<Vec<u8>>::start_send(Pin::new(&mut sink), vec![0; 11]).unwrap_err();
        assert_eq!(large.kind(), ErrorKind::TooBig);
    });
    assert_eq!(texts(&mut peer), [""; 0], "it is kept");
    runtime.block_on(async {
        SinkExt::feed(&mut sink, "two").await.unwrap();
        SinkExt::<&str>::flush(&mut sink).await.unwrap();
    });
    assert_eq!(texts(&mut peer), ["one", "two"]);
    runtime.block_on(SinkExt::send(&mut sink, "three")).unwrap();
    assert_eq!(texts(&mut peer), ["three"]);
    runtime.block_on(SinkExt::feed(&mut sink, "elsewhere")).unwrap();
    runtime.block_on(SinkExt::<&str>::flush(&mut sink.clone())).unwrap();
    assert_eq!(texts(&mut peer), [""; 0]);
}

#[test]
fn a_sink_waits_for_room_and_closing_it_closes_the_session() {
    let (runtime, session, mut peer) = open(WebSockets::new().outgoing_capacity(10));
    let mut sink = session.outgoing();
    peer.set_stalled(true);
    runtime.block_on(session.send(vec![0; 40_000])).unwrap();
    runtime.block_on(session.send("123456")).unwrap();
    runtime.block_on(SinkExt::feed(&mut sink, "abcdef")).unwrap();
    {
        let mut flushing = pin!(SinkExt::<&str>::flush(&mut sink));
        assert!(runtime.poll_now(flushing.as_mut()).is_none());
        peer.set_stalled(false);
        runtime.block_on(flushing).unwrap();
    }
    assert_eq!(texts(&mut peer)[1..], ["123456", "abcdef"]);

    runtime.block_on(SinkExt::feed(&mut sink, "last")).unwrap();
    let mut closing = pin!(SinkExt::<&str>::close(&mut sink));
    assert!(runtime.poll_now(closing.as_mut()).is_none(), "the peer's Close is to come");
    assert_eq!(peer.receive(), Some(text("last")));
    assert_eq!(close_code(&peer.receive().unwrap()), 1000);
    peer.send(close(1000));
    runtime.block_on(closing).unwrap();
}

#[test]
fn closing_a_sink_fails_as_the_session_did() {
    let (runtime, session, mut peer) = open(WebSockets::new());
    let mut sink = session.outgoing();
    runtime.block_on(SinkExt::feed(&mut sink, "pending")).unwrap();
    peer.shut_down();
    assert!(runtime.run(session.closed()).is_ok());
    let error = runtime.block_on(SinkExt::<&str>::close(&mut sink)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
}

/// A sink that is dropped while it waits gives its turn to the next sender.
#[test]
fn a_sink_that_is_dropped_leaves_its_place() {
    let (runtime, session, mut peer) = open(WebSockets::new().outgoing_capacity(10));
    peer.set_stalled(true);
    runtime.block_on(session.send(vec![0; 40_000])).unwrap();
    runtime.block_on(session.send("123456")).unwrap();
    let mut sink = session.outgoing();
    runtime.block_on(SinkExt::feed(&mut sink, "abcdef")).unwrap();
    assert!(runtime.poll_now(pin!(SinkExt::<&str>::flush(&mut sink))).is_none());
    let mut sending = pin!(session.send("1234"));
    assert!(runtime.poll_once(sending.as_mut()).is_pending(), "its turn is to come");
    drop(sink);
    assert!(runtime.poll_once(sending.as_mut()).is_ready());
}

#[test]
fn a_stream_ends_behind_the_close_and_behind_its_error() {
    let (runtime, session, mut peer) = open(WebSockets::new());
    let (_outgoing, mut incoming) = session.split();
    peer.send(text("one"));
    peer.send(close(1000));
    let all: Vec<_> = runtime.block_on(incoming.by_ref().collect());
    assert_eq!(all.into_iter().collect::<Result<Vec<_>>>().unwrap(), [Frame::from("one")]);
    assert!(runtime.block_on(incoming.next()).is_none());

    let (runtime, session, mut peer) = open(WebSockets::new());
    let (_outgoing, mut incoming) = session.split();
    peer.shut_down();
    assert_eq!(runtime.block_on(incoming.next()).unwrap().unwrap_err().kind(), ErrorKind::Io);
    assert!(runtime.block_on(incoming.next()).is_none());
    assert_eq!(incoming.stats().received.messages, 0);
}

#[test]
fn a_handle_closes_and_tells_without_keeping_the_session() {
    let (runtime, session, mut peer) = open(WebSockets::new());
    let (handle, second) = (session.handle(), session.outgoing().handle());
    let (_r, stranger, _p) = open(WebSockets::new());
    assert!(handle.is_of(&second) && !handle.is_of(&stranger.handle()));
    runtime.block_on(session.send("x")).unwrap();
    assert!(handle.is_open());
    assert_eq!(handle.stats().unwrap().sent.messages, 1);
    assert!(!handle.close(CloseReason::truncated(CloseCode::NO_STATUS, "")) && handle.is_open());
    let mut ended = pin!(handle.ended());
    assert!(runtime.poll_now(ended.as_mut()).is_none());
    assert!(handle.close(CloseReason::going_away()));
    assert!(!handle.close(CloseReason::going_away()), "it is closing");
    assert!(!handle.is_open() && session.closed_here());
    runtime.settle();
    assert_eq!(texts(&mut peer), ["x"]);
    peer.send(close(1001));
    runtime.block_on(ended);

    let (runtime, session, _peer) = open(WebSockets::new());
    let handle = session.handle();
    let ended = handle.ended();
    drop(session);
    runtime.block_on(ended);
    assert!(!handle.is_open() && !handle.close(CloseReason::normal()));
    runtime.block_on(handle.ended());
    runtime.settle();
    assert_eq!(handle.push(&text("x"), &Lane::new(), 1, Overflow::Refuse), Pushed::Closed);
}

#[test]
fn a_session_tells_its_own_close_from_the_peers() {
    for here in [true, false] {
        let (runtime, mut session, mut peer) = open(WebSockets::new());
        let outgoing = session.outgoing();
        assert!(outgoing.is_open() && !session.closed_here());
        if here {
            outgoing.start_close(CloseReason::normal()).unwrap();
        }
        peer.send(close(1000));
        assert!(runtime.block_on(session.receive()).unwrap().is_none());
        assert_eq!((session.closed_here(), outgoing.is_open()), (here, false));
    }
    let (_runtime, session, mut peer) = open(WebSockets::new());
    session.outgoing().abandon();
    assert!(peer.is_closed() && !session.outgoing().is_open());
    assert_eq!(close_code(&peer.receive().unwrap()), 1001);
}

/// A session whose socket takes nothing more.
fn full() -> (Arc<TestRuntime>, Session, Peer) {
    let (runtime, session, mut peer) = open(WebSockets::new().max_message_size(40_000));
    peer.set_stalled(true);
    runtime.block_on(session.send(vec![0; 40_000])).unwrap();
    (runtime, session, peer)
}

#[test]
fn a_pushed_message_goes_out_at_once_or_waits_within_the_limit_of_its_lane() {
    let (runtime, session, mut peer) = open(WebSockets::new().max_message_size(100));
    let (handle, lane) = (session.handle(), Lane::new());
    let queued = |dropped| Pushed::Queued { dropped };
    assert_eq!(handle.push(&text("now"), &lane, 0, Overflow::Refuse), queued(0));
    assert_eq!(lane.waiting(), 0);
    runtime.settle();
    assert_eq!(texts(&mut peer), ["now"]);
    for (size, pushed) in [(100, queued(0)), (101, Pushed::TooBig)] {
        let large = RawFrame::new(OpCode::Binary, vec![0; size]);
        assert_eq!(handle.push(&large, &lane, 1000, Overflow::Refuse), pushed);
    }

    // 64 bytes for each message, and its payload.
    let (runtime, session, mut peer) = full();
    let (handle, lane, other) = (session.handle(), Lane::new(), Lane::new());
    let push =
        |text_: &'static str, limit, overflow| handle.push(&text(text_), &lane, limit, overflow);
    assert_eq!(push("one", 1, Overflow::Refuse), queued(0), "one is always taken");
    assert_eq!(lane.waiting(), 67);
    assert_eq!(push("two", 133, Overflow::Refuse), Pushed::Full);
    assert_eq!(push("two", 134, Overflow::Refuse), queued(0));
    assert_eq!(push("three", 134, Overflow::DropOldest), queued(2));
    assert_eq!(handle.push(&text("other"), &other, 1, Overflow::DropOldest), queued(0));
    assert_eq!(push("k1", 1000, Overflow::Replace(1)), queued(0));
    assert_eq!(push("k2", 1000, Overflow::Replace(2)), queued(0));
    assert_eq!(
        push("k1 again", 1, Overflow::Replace(1)),
        queued(1),
        "whether there is room or not"
    );
    assert_eq!(session.stats().sent.messages, 1);
    peer.set_stalled(false);
    runtime.settle();
    assert_eq!(texts(&mut peer)[1..], ["three", "other", "k1 again", "k2"]);
    assert_eq!((lane.waiting(), other.waiting()), (0, 0));
    session.outgoing().start_close(CloseReason::normal()).unwrap();
    assert_eq!(push("late", 1000, Overflow::Refuse), Pushed::Closed);
}

#[test]
fn a_peer_that_lags_gets_a_close_and_nothing_that_waits() {
    let (runtime, mut session, mut peer) = full();
    let handle = session.handle();
    handle.push(&text("waits"), &Lane::new(), 1000, Overflow::Refuse);
    handle.disconnect_lagging(&CloseReason::truncated(CloseCode::NO_STATUS, ""));
    assert!(session.outgoing().is_open(), "no such Close may be sent");
    handle.disconnect_lagging(&CloseReason::new(1013, "lagged").unwrap());
    handle.disconnect_lagging(&CloseReason::normal());
    assert!(!handle.is_open());
    peer.set_stalled(false);
    runtime.settle();
    assert_eq!(peer.receive().unwrap().payload.len(), 40_000);
    let close_frame = peer.receive().unwrap();
    assert_eq!((close_code(&close_frame), &close_frame.payload[2..]), (1013, &b"lagged"[..]));
    peer.send(close(1013));
    let error = runtime.block_on(session.receive()).unwrap_err();
    assert!(error.to_string().contains("reads too slowly"), "{error}");
}

#[cfg(feature = "json")]
#[test]
fn values_pass_through_the_converter_or_say_why_not() {
    use drivetrain_session::Json;

    let why = |error: drivetrain_engine::Error| {
        assert_eq!(error.kind(), ErrorKind::Convert, "{error}");
        let source = std::error::Error::source(&error).unwrap().downcast_ref::<ConvertError>();
        format!("{:?}", source.unwrap())
    };
    let (runtime, mut session, mut peer) = open(WebSockets::new().converter(Json));
    runtime.block_on(session.send_serialized(&(1, "two"))).unwrap();
    assert_eq!(peer.receive(), Some(RawFrame::new(OpCode::Text, r#"[1,"two"]"#)));
    for (json, expected) in [
        ("7", Ok(7)),
        ("\u{feff} 8 ", Ok(8)),
        ("null", Err("Null")),
        ("\u{feff}null\n", Err("Null")),
        ("\"x\"", Err("WrongType")),
        ("{", Err("Malformed")),
        ("7 7", Err("Malformed")),
    ] {
        peer.send(text(json));
        let received: Result<u8> = runtime.block_on(session.receive_deserialized());
        match (received, expected) {
            (Ok(number), Ok(expected)) => assert_eq!(number, expected),
            (Err(error), Err(expected)) => assert!(why(error).starts_with(expected), "{json}"),
            (received, expected) => panic!("{json}: {received:?} and not {expected:?}"),
        }
    }
    peer.send(RawFrame::new(OpCode::Binary, "9"));
    assert_eq!(runtime.block_on(session.receive_deserialized::<u8>()).unwrap(), 9);
    peer.send(text("null"));
    assert_eq!(runtime.block_on(session.receive_deserialized::<Option<u8>>()).unwrap(), None);
    let unwritable = std::collections::HashMap::from([(vec![1], 1)]);
    let error = runtime.block_on(session.send_serialized(&unwritable)).unwrap_err();
    assert!(why(error).starts_with("Refused"));
    peer.send(close(1000));
    let error = runtime.block_on(session.receive_deserialized::<u8>()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(error.outcome().unwrap().clean);

    let (runtime, mut session, _peer) = open(WebSockets::new());
    let sent = runtime.block_on(session.send_serialized(&1)).unwrap_err();
    let received = runtime.block_on(session.receive_deserialized::<u8>()).unwrap_err();
    for error in [sent, received] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("no converter"), "{error}");
    }
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker of the user's");
    }
}

/// A converter that panics.
#[derive(Debug)]
struct Broken;

impl Converter for Broken {
    fn serialize(&self, _: &dyn erased_serde::Serialize) -> std::result::Result<Frame, BoxError> {
        panic!("a converter of the user's")
    }

    fn is_applicable(&self, _: &Frame) -> bool {
        false
    }

    fn deserialize(
        &self,
        _: &Frame,
        _: &mut dyn FnMut(
            &mut dyn erased_serde::Deserializer<'_>,
        ) -> std::result::Result<(), erased_serde::Error>,
    ) -> std::result::Result<(), ConvertError> {
        panic!("the frame is not applicable")
    }
}

/// Each half learns it, the socket is closed, and nobody waits for ever.
#[test]
fn a_panic_in_user_code_ends_the_session_for_all() {
    let (runtime, mut session, peer) = open(WebSockets::new());
    let outgoing = session.outgoing();
    let waker = Waker::from(Arc::new(Panics));
    let mut receiving = Box::pin(session.receive());
    assert!(receiving.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let mut ended = pin!(outgoing.closed());
    assert!(runtime.poll_now(ended.as_mut()).is_none());
    // The end wakes whoever receives.
    let panicked = catch_unwind(AssertUnwindSafe(|| outgoing.abandon()));
    assert!(panicked.is_err(), "the panic is passed on");
    drop(receiving);
    assert!(peer.is_closed());
    assert!(runtime.poll_now(ended).is_some());
    assert_eq!(runtime.block_on(outgoing.send("x")).unwrap_err().kind(), ErrorKind::Closed);
    runtime.settle();
    assert_eq!(runtime.tasks(), 0);

    let (runtime, mut session, mut peer) = open(WebSockets::new().converter(Broken));
    peer.send(text("x"));
    let error = runtime.block_on(session.receive_deserialized::<u8>()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Convert, "not applicable");
    let panicked = catch_unwind(AssertUnwindSafe(|| session.outgoing().serialize(&1)));
    assert!(panicked.is_err());
    assert!(peer.is_closed());
    for _ in 0..2 {
        let error = runtime.block_on(session.receive()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("panic in user code"), "{error}");
    }
    assert!(!session.outcome().clean);
    let Poll::Ready(outcome) = runtime.poll_once(pin!(session.closed())) else { panic!("over") };
    assert_eq!(outcome.unwrap().error.unwrap().kind(), ErrorKind::Io);
    assert_eq!(runtime.elapsed(), Duration::ZERO);
}
