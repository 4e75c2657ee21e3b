//! No code of the user's runs under a session's lock: whatever it does, it may use the session.

use std::{
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use drivetrain::{
    CloseReason, Frame, MessageKind, OpCode, Outgoing, RawFrame, Result, WebSockets,
    extension::PermessageDeflate, testing::TestRuntime,
};
use drivetrain_engine::{Connection, Transport};

use super::{Copying, fill, in_time, open, open_with, payload, poll, runs};

/// A waker that uses the session, and counts.
fn uses(outgoing: &Outgoing) -> (Arc<AtomicUsize>, Waker) {
    let (outgoing, count) = (outgoing.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&count);
    let waker = runs(move || {
        outgoing.stats();
        counted.fetch_add(1, Ordering::SeqCst);
    });
    (count, waker)
}

#[test]
fn a_waker_may_use_the_session_whatever_it_waits_for() {
    in_time(|| {
        let (runtime, mut session, mut peer) = open(WebSockets::new());
        let outgoing = session.outgoing();
        let (count, waker) = uses(&outgoing);
        fill(&runtime, &outgoing, &mut peer);
        let mut sends = pin!(outgoing.send(vec![0; 40_000]));
        let mut flushes = pin!(outgoing.flush());
        let mut closed = pin!(outgoing.closed());
        assert!(poll(sends.as_mut(), &waker).is_pending());
        assert!(poll(flushes.as_mut(), &waker).is_pending());
        assert!(poll(closed.as_mut(), &waker).is_pending());
        {
            let mut receives = pin!(session.receive());
            assert!(poll(receives.as_mut(), &waker).is_pending());
            peer.send(RawFrame::new(OpCode::Text, "x"));
            runtime.settle();
        }
        peer.set_writable(true);
        runtime.settle();
        assert!(poll(sends.as_mut(), &waker).is_ready());
        peer.end();
        runtime.settle();
        drop(session);
        assert!(poll(closed.as_mut(), &waker).is_pending() || count.load(Ordering::SeqCst) >= 3);
    });
}

/// A task that has done its share lets others run: it wakes itself.
#[test]
fn a_waker_may_use_the_session_when_its_task_has_had_its_share() {
    in_time(|| {
        let (runtime, mut session, mut peer) = open(WebSockets::new());
        let outgoing = session.outgoing();
        let (count, waker) = uses(&outgoing);
        for _ in 0..1000 {
            let mut sends = pin!(outgoing.send("short"));
            let _ = poll(sends.as_mut(), &waker);
        }
        let mut writer = runtime.block_on(outgoing.send_stream(MessageKind::Binary)).unwrap();
        for _ in 0..8 {
            let mut writes = pin!(writer.write_chunk(vec![0; 70_000]));
            let _ = poll(writes.as_mut(), &waker);
            runtime.settle();
        }
        for _ in 0..1000 {
            peer.send(RawFrame::new(OpCode::Text, "x"));
        }
        for _ in 0..1000 {
            let mut receives = pin!(session.receive());
            let _ = poll(receives.as_mut(), &waker);
        }
        assert!(count.load(Ordering::SeqCst) >= 3);
    });
}

#[test]
fn a_wakers_drop_may_use_the_session() {
    struct Uses(Outgoing);
    impl Wake for Uses {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Uses {
        fn drop(&mut self) {
            self.0.stats();
        }
    }
    in_time(|| {
        let (_runtime, mut session, mut peer) = open(WebSockets::new());
        let outgoing = session.outgoing();
        let waker = || Waker::from(Arc::new(Uses(outgoing.clone())));
        {
            let mut closed = pin!(outgoing.closed());
            let mut receives = pin!(session.receive());
            for _ in 0..3 {
                assert!(poll(closed.as_mut(), &waker()).is_pending());
                assert!(poll(receives.as_mut(), &waker()).is_pending());
            }
            peer.send(RawFrame::new(OpCode::Text, "x"));
        }
        let mut closed = pin!(outgoing.closed());
        assert!(poll(closed.as_mut(), &waker()).is_pending());
    });
}

#[test]
fn a_payloads_drop_may_use_the_session() {
    in_time(|| {
        let (runtime, session, blocked) = Copying::open(WebSockets::new());
        let outgoing = session.outgoing();
        let dropped = Arc::new(AtomicUsize::new(0));
        let bytes = |size| {
            let (outgoing, dropped) = (outgoing.clone(), Arc::clone(&dropped));
            payload(size, move || {
                outgoing.stats();
                dropped.fetch_add(1, Ordering::SeqCst);
            })
        };
        // Copied at once, given away, in fragments, a control frame.
        let frames = [
            Frame::Binary(bytes(10)),
            Frame::Binary(bytes(11)),
            Frame::Binary(bytes(200_000)),
            Frame::Ping(bytes(5)),
        ];
        for frame in frames {
            runtime.block_on(outgoing.send(frame)).unwrap();
            runtime.block_on(outgoing.flush()).unwrap();
        }
        assert_eq!(dropped.load(Ordering::SeqCst), 4);
        // Queued, and a part of a streamed message.
        blocked.store(true, Ordering::SeqCst);
        for _ in 0..3 {
            runtime.block_on(outgoing.send(bytes(1000))).unwrap();
        }
        let mut writer = runtime.block_on(outgoing.send_stream(MessageKind::Binary)).unwrap();
        runtime.block_on(writer.write_chunk(bytes(70_000))).unwrap();
        blocked.store(false, Ordering::SeqCst);
        runtime.block_on(outgoing.flush()).unwrap();
        assert_eq!(dropped.load(Ordering::SeqCst), 8);
        // Queued, and thrown away at the end.
        blocked.store(true, Ordering::SeqCst);
        runtime.block_on(writer.write_chunk(bytes(70_000))).unwrap();
        let mut closes = pin!(outgoing.close(CloseReason::normal()));
        assert!(poll(closes.as_mut(), Waker::noop()).is_pending());
        runtime.advance(Duration::from_secs(60));
        assert_eq!(dropped.load(Ordering::SeqCst), 9);
        drop(writer);
    });
}

/// What came in and is thrown away may be a user's too: an extension made it, or a stream of his.
#[test]
fn a_payload_that_is_discarded_may_use_the_session() {
    in_time(|| {
        let (runtime, mut session, mut peer) = open(WebSockets::new());
        let outgoing = session.outgoing();
        let dropped = Arc::new(AtomicUsize::new(0));
        let frame = |opcode, fin| {
            let (outgoing, dropped) = (outgoing.clone(), Arc::clone(&dropped));
            let payload = payload(20, move || {
                outgoing.stats();
                dropped.fetch_add(1, Ordering::SeqCst);
            });
            RawFrame { fin, ..RawFrame::new(opcode, payload) }
        };
        peer.send(frame(OpCode::Text, true));
        peer.send(frame(OpCode::Pong, true));
        peer.send(frame(OpCode::Ping, true));
        peer.send(frame(OpCode::Text, false));
        runtime.advance(Duration::from_secs(2)); // read ahead
        let reader = runtime.block_on(session.receive_stream()).unwrap();
        drop(reader);
        let (_, incoming) = session.split();
        drop(incoming);
        peer.send(frame(OpCode::Continuation, true));
        peer.send(frame(OpCode::Text, true));
        runtime.advance(Duration::from_secs(2));
        runtime.block_on(outgoing.flush()).unwrap();
        while peer.receive().is_some() {}
        assert_eq!(dropped.load(Ordering::SeqCst), 6);
    });
}

#[test]
fn a_predicate_that_uses_its_session_does_not_hang() {
    in_time(|| {
        let place: Arc<Mutex<Option<Outgoing>>> = Arc::default();
        let deflate = {
            let place = Arc::clone(&place);
            PermessageDeflate::new().min_size(0).only_if(move |_| {
                place.lock().unwrap().as_ref().map(Outgoing::stats);
                false
            })
        };
        let (runtime, session, mut peer) =
            open_with(WebSockets::new().extension(deflate), "permessage-deflate");
        *place.lock().unwrap() = Some(session.outgoing());
        runtime.block_on(session.send("x")).unwrap();
        runtime.block_on(session.flush()).unwrap();
        assert_eq!(peer.receive().unwrap().payload, "x");
        place.lock().unwrap().take();
    });
}

/// A stream may wake its reader while it is polled, as one does that lets others run.
#[test]
fn a_transport_that_wakes_while_it_is_polled_wakes_nobody_under_the_lock() {
    #[derive(Clone, Default)]
    struct Restless {
        polls: Arc<AtomicUsize>,
        waker: Arc<Mutex<Option<Waker>>>,
    }
    impl Transport for Restless {
        fn poll_receive(
            &mut self,
            cx: &mut Context<'_>,
            _: usize,
        ) -> Poll<Result<Option<RawFrame>>> {
            if self.polls.fetch_add(1, Ordering::SeqCst) % 2 == 0 {
                cx.waker().wake_by_ref();
            }
            *self.waker.lock().unwrap() = Some(cx.waker().clone());
            Poll::Pending
        }
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn start_send(&mut self, _: RawFrame) -> Result<()> {
            Ok(())
        }
        fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
            // What is written may bring something to read, and the other way round.
            if let Some(waker) = self.waker.lock().unwrap().take() {
                waker.wake();
            }
            Poll::Ready(Ok(()))
        }
        fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
    in_time(|| {
        let runtime = TestRuntime::new();
        let session = runtime.session(Connection::new(Restless::default()), WebSockets::new());
        let (outgoing, mut incoming) = session.split();
        let (count, waker) = uses(&outgoing);
        let mut receives = pin!(incoming.receive());
        for _ in 0..3 {
            let _ = poll(receives.as_mut(), &waker);
        }
        let before = count.load(Ordering::SeqCst);
        let _ = poll(receives.as_mut(), &waker);
        let _ = poll(receives.as_mut(), &waker);
        runtime.block_on(outgoing.send("x")).unwrap();
        runtime.block_on(outgoing.flush()).unwrap();
        assert!(count.load(Ordering::SeqCst) > before, "it is woken all the same");
    });
}

/// The pipe of the tests has a lock too.
#[test]
fn a_waker_may_use_the_peer_of_a_pipe() {
    in_time(|| {
        let (runtime, mut session, peer) = open(WebSockets::new());
        let peer = Arc::new(Mutex::new(peer));
        let outgoing = session.outgoing();
        let waker = {
            let outgoing = outgoing.clone();
            runs(move || {
                let mut closes = pin!(outgoing.close(CloseReason::normal()));
                let _ = poll(closes.as_mut(), Waker::noop());
            })
        };
        let mut receives = pin!(session.receive());
        assert!(poll(receives.as_mut(), &waker).is_pending());
        // The session writes its Close to the pipe, in the middle of the call.
        peer.lock().unwrap().send(RawFrame::new(OpCode::Text, "x"));
        runtime.settle();
        let first = peer.lock().unwrap().receive().map(|frame| frame.opcode);
        assert_eq!(first, Some(OpCode::Close));
    });
}
