//! A panic in the user's code ends the session for everybody, and nobody waits for ever.

use std::{
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use drivetrain::{
    ErrorKind, Frame, MessageKind, OpCode, RawFrame, Session, WebSockets,
    extension::PermessageDeflate,
    testing::{PipePeer, TestRuntime},
};

use super::{
    Copying, Counts, Looks, fill, open, open_with, panic_once, panics, payload, poll, runs,
};

fn looking() -> WebSockets {
    WebSockets::new().extension(Looks::new(|payload: &[u8]| {
        assert!(!payload.starts_with(b"boom"), "as it shall");
    }))
}

/// Whatever panicked: the socket is closed, and each call says why.
fn assert_ended(runtime: &TestRuntime, session: &mut Session, peer: &PipePeer) {
    assert!(peer.is_dropped(), "the socket is closed");
    let outcome = runtime.block_on(session.closed()).unwrap();
    let message = format!("{:#}", outcome.error.expect("an error"));
    assert!(message.contains("panic"), "{message}");
    assert_eq!(session.outcome().error.map(|error| error.kind()), Some(ErrorKind::Io));
    let errors = [
        runtime.block_on(session.send("more")).unwrap_err(),
        runtime.block_on(session.receive()).unwrap_err(),
        runtime.block_on(session.flush()).unwrap_err(),
        runtime.block_on(session.ping()).unwrap_err(),
        runtime.block_on(session.send_stream(MessageKind::Text)).unwrap_err(),
    ];
    for error in errors {
        assert!(error.to_string().contains("panic"), "{error}");
    }
    session.stats();
    runtime.settle();
    assert_eq!(runtime.tasks(), 0, "the session's task has ended");
}

#[test]
fn a_panic_in_an_extension_wakes_everybody_who_waits() {
    let (runtime, mut session, mut peer) = open_with(looking(), "x-looks");
    let (outgoing, other, third) = (session.outgoing(), session.outgoing(), session.outgoing());
    let (counts, waker) = Counts::new();
    {
        let mut writer = runtime.block_on(outgoing.send_stream(MessageKind::Text)).unwrap();
        let mut closed = pin!(outgoing.closed());
        let mut waits = pin!(other.send("waits for the streamed message"));
        let mut stream = pin!(third.send_stream(MessageKind::Text));
        let mut receives = pin!(session.incoming().receive());
        assert!(poll(closed.as_mut(), &waker).is_pending());
        assert!(poll(waits.as_mut(), &waker).is_pending());
        assert!(poll(stream.as_mut(), &waker).is_pending());
        assert!(poll(receives.as_mut(), &waker).is_pending());
        assert!(panics(|| {
            runtime.block_on(writer.write_chunk(vec![b'x'; 100])).unwrap();
            runtime.block_on(writer.write_chunk([b"boom".as_slice(), &[0; 70_000]].concat()))
        }));
        assert!(counts.woken() >= 4, "{} of 4 that wait are woken", counts.woken());
        assert!(poll(closed.as_mut(), &waker).is_ready());
        assert!(poll(waits.as_mut(), &waker).is_ready());
        assert!(poll(stream.as_mut(), &waker).is_ready());
        assert!(poll(receives.as_mut(), &waker).is_ready());
    }
    peer.send(RawFrame::new(OpCode::Text, "too late"));
    assert_ended(&runtime, &mut session, &peer);
}

#[test]
fn a_panic_over_what_comes_in_ends_the_session() {
    let (runtime, mut session, mut peer) = open_with(looking(), "x-looks");
    peer.send(RawFrame::new(OpCode::Text, "boom"));
    assert!(panics(|| runtime.block_on(session.receive())));
    assert_ended(&runtime, &mut session, &peer);
}

/// The session's own task reads for an application that does not.
#[test]
fn a_panic_in_the_sessions_own_task_ends_the_session() {
    let (runtime, mut session, mut peer) = open_with(looking(), "x-looks");
    let (counts, waker) = Counts::new();
    {
        let mut closed = pin!(session.closed());
        assert!(poll(closed.as_mut(), &waker).is_pending());
        peer.send(RawFrame::new(OpCode::Text, "boom"));
        assert!(panics(|| runtime.advance(std::time::Duration::from_secs(2))));
        assert_eq!(counts.woken(), 1);
    }
    assert_ended(&runtime, &mut session, &peer);
}

#[test]
fn a_panic_in_a_predicate_ends_the_session() {
    let deflate = PermessageDeflate::new().min_size(0).only_if(|_| panic!("as it shall"));
    let (runtime, mut session, peer) =
        open_with(WebSockets::new().extension(deflate), "permessage-deflate");
    assert!(panics(|| runtime.block_on(session.send("x")).unwrap()));
    assert_ended(&runtime, &mut session, &peer);
}

/// What is written is dropped, be it copied at once, in fragments, or from the queue; so is what is thrown away.
#[test]
fn a_panic_in_a_payloads_drop_ends_the_session() {
    type Act = fn(&TestRuntime, &Session, &AtomicBool);
    let acts: [(&str, usize, Act); 3] = [
        ("copied", 10, |_, _, _| ()),
        ("in fragments", 100_000, |_, _, _| ()),
        ("queued", 11, |runtime, session, blocked| {
            blocked.store(false, Ordering::SeqCst);
            runtime.block_on(session.flush()).unwrap();
        }),
    ];
    for (what, size, act) in acts {
        let (runtime, session, blocked) = Copying::open(WebSockets::new());
        let (counts, waker) = Counts::new();
        let mut closed = pin!(session.closed());
        assert!(poll(closed.as_mut(), &waker).is_pending());
        if size != 10 && size != 100_000 {
            blocked.store(true, Ordering::SeqCst);
        }
        assert!(
            panics(|| {
                runtime.block_on(session.send(payload(size, panic_once))).unwrap();
                act(&runtime, &session, &blocked);
            }),
            "{what}"
        );
        assert_eq!(counts.woken(), 1, "{what}: the waiter is woken");
        let Poll::Ready(Ok(outcome)) = poll(closed.as_mut(), &waker) else { panic!("{what}") };
        assert!(outcome.error.unwrap().to_string().contains("panic"), "{what}");
        let error = runtime.block_on(session.send("more")).unwrap_err();
        assert!(error.to_string().contains("panic"), "{what}: {error}");
        assert!(runtime.block_on(session.flush()).is_err(), "{what}");
        runtime.settle();
        assert_eq!(runtime.tasks(), 0, "{what}");
    }
}

#[test]
fn one_waker_that_panics_keeps_no_other_from_being_woken() {
    let (runtime, mut session, mut peer) = open(WebSockets::new());
    let (first, second) = (session.outgoing(), session.outgoing());
    let panicking = runs(|| panic!("as it shall"));
    let (counts, waker) = Counts::new();
    {
        let mut closed = [pin!(first.closed()), pin!(second.closed())];
        assert!(poll(closed[0].as_mut(), &panicking).is_pending());
        assert!(poll(closed[1].as_mut(), &waker).is_pending());
        let mut receives = pin!(session.incoming().receive());
        assert!(poll(receives.as_mut(), &waker).is_pending());
        peer.end();
        panics(|| runtime.advance(std::time::Duration::from_secs(2)));
        assert!(counts.woken() >= 2, "the receiver and the other one: {}", counts.woken());
    }
    assert!(runtime.block_on(session.closed()).unwrap().error.is_some());
    assert!(peer.is_dropped());
}

/// The receiver's waker is woken by the transport, beside the session's own task.
#[test]
fn a_receivers_waker_that_panics_does_not_stop_the_session() {
    let (runtime, mut session, mut peer) = open(WebSockets::new());
    {
        let mut receives = pin!(session.receive());
        assert!(poll(receives.as_mut(), &runs(|| panic!("as it shall"))).is_pending());
        panics(|| peer.send(RawFrame::new(OpCode::Ping, "?")));
    }
    panics(|| runtime.settle());
    runtime.advance(std::time::Duration::from_secs(2));
    let pong = peer.receive().map(|frame| frame.opcode);
    assert!(pong == Some(OpCode::Pong) || peer.is_dropped(), "somebody looks after it");
}

/// With a task that is told of each state, and panics.
#[test]
fn a_sender_that_is_full_hears_of_it() {
    let (runtime, mut session, mut peer) = open_with(looking(), "x-looks");
    let outgoing = session.outgoing();
    fill(&runtime, &outgoing, &mut peer);
    let (counts, waker) = Counts::new();
    {
        let other = session.outgoing();
        let mut sending = pin!(other.send(vec![0; 40_000]));
        assert!(poll(sending.as_mut(), &waker).is_pending());
        peer.send(RawFrame::new(OpCode::Text, "boom"));
        assert!(panics(|| runtime.block_on(session.incoming().receive())));
        assert_eq!(counts.woken(), 1);
        assert!(poll(sending.as_mut(), &waker).is_ready());
    }
    assert_ended(&runtime, &mut session, &peer);
}

#[test]
fn a_panic_in_a_converter_ends_the_session() {
    struct Value;
    impl serde::Serialize for Value {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            panic!("as it shall")
        }
    }
    let plugin = WebSockets::new().converter(drivetrain::Json);
    let (runtime, mut session, peer) = open(plugin);
    let (counts, waker) = Counts::new();
    {
        let mut closed = pin!(session.closed());
        assert!(poll(closed.as_mut(), &waker).is_pending());
        assert!(panics(|| runtime.block_on(session.send_serialized(&Value))));
        assert_eq!(counts.woken(), 1);
    }
    assert_ended(&runtime, &mut session, &peer);
}

/// What was received before is not lost with it.
#[test]
fn what_is_dropped_after_a_panic_is_dropped_without_the_lock() {
    let (runtime, mut session, mut peer) = open_with(looking(), "x-looks");
    let outgoing = session.outgoing();
    fill(&runtime, &outgoing, &mut peer);
    let seen = Arc::new(Mutex::new(Vec::new()));
    peer.send(RawFrame::new(OpCode::Text, "boom"));
    assert!(panics(|| runtime.block_on(session.incoming().receive())));
    let frame = Frame::Binary(payload(10, {
        let (seen, outgoing) = (Arc::clone(&seen), outgoing.clone());
        move || seen.lock().unwrap().push(outgoing.stats().sent.messages)
    }));
    assert!(runtime.block_on(outgoing.send(frame)).is_err());
    assert_eq!(seen.lock().unwrap().len(), 1);
    drop(outgoing);
    assert_ended(&runtime, &mut session, &peer);
}
