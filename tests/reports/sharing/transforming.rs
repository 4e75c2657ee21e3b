//! An extension's code runs without the session's lock: it may use the session and take its time.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    task::{Poll, Waker},
    thread,
    time::Duration,
};

use drivetrain::{
    Bytes, CloseReason, ErrorKind, Frame, MessageKind, NegotiatedExtension, OpCode, Outgoing,
    RawFrame, Result, Rsv, WebSockets,
    extension::{Extension, MessagePart, Role, Transform},
    testing::{PipePeer, TestRuntime},
};

use drivetrain_session::SessionHandle;

use super::{Counts, Looks, PATIENCE, in_time, open_with, panics, poll, runs};

/// Runs a future on this thread, which sleeps between wake-ups.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let this = thread::current();
    let waker = runs(move || this.unpark());
    let mut future = pin!(future);
    loop {
        match poll(future.as_mut(), &waker) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park_timeout(PATIENCE),
        }
    }
}

/// Where a transform stops until the test releases it.
struct Gate {
    enters: Mutex<mpsc::Sender<()>>,
    leaves: Mutex<mpsc::Receiver<()>>,
}

/// The test's side of it.
struct Guard {
    has_entered: mpsc::Receiver<()>,
    let_go: mpsc::Sender<()>,
}

fn gate() -> (Gate, Guard) {
    let ((enters, has_entered), (let_go, leaves)) = (mpsc::channel(), mpsc::channel());
    let gate = Gate { enters: Mutex::new(enters), leaves: Mutex::new(leaves) };
    (gate, Guard { has_entered, let_go })
}

/// An extension that waits at the message `slow` until it is let go.
fn waiting_at_slow() -> (Looks<impl Fn(&[u8]) + Send + Sync + 'static>, Guard) {
    let (gate, guard) = gate();
    let looks = Looks::new(move |payload: &[u8]| {
        if payload == b"slow" {
            gate.pass();
        }
    });
    (looks, guard)
}

/// The session's task reads for an application that does not, on a thread of its own.
fn reading_ahead(runtime: &TestRuntime) -> thread::JoinHandle<()> {
    let runtime = runtime.clone();
    thread::spawn(move || runtime.advance(Duration::from_secs(2)))
}

impl Gate {
    fn pass(&self) {
        let _ = self.enters.lock().unwrap().send(());
        let _ = self.leaves.lock().unwrap().recv_timeout(PATIENCE);
    }
}

impl Guard {
    fn wait(&self) {
        self.has_entered.recv_timeout(PATIENCE).unwrap();
    }

    fn let_go(&self) {
        self.let_go.send(()).unwrap();
    }
}

/// As [`Looks`], with a reserved bit on each message that it sends.
struct Marks<F>(Looks<F>);

impl<F> std::fmt::Debug for Marks<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Marks")
    }
}

impl<F: Fn(&[u8]) + Send + Sync + 'static> Extension for Marks<F> {
    fn name(&self) -> &str {
        "x-marks"
    }

    fn rsv(&self) -> Rsv {
        Rsv::RSV1
    }

    fn accept(&self, _: &NegotiatedExtension, _: Role) -> Result<Box<dyn Transform>> {
        Ok(Box::new(Self(Looks(Arc::clone(&self.0.0)))))
    }
}

impl<F: Fn(&[u8]) + Send + Sync + 'static> Transform for Marks<F> {
    fn incoming(&mut self, part: &mut MessagePart, room: usize) -> Result<Bytes> {
        self.0.incoming(part, room)
    }

    fn outgoing(&mut self, part: &mut MessagePart) -> Result<()> {
        part.rsv = part.rsv | Rsv::RSV1;
        self.0.outgoing(part)
    }
}

fn marked(text: &'static str) -> RawFrame {
    RawFrame { rsv: Rsv::RSV1, ..RawFrame::new(OpCode::Text, text) }
}

/// Texts that the peer can read by now, of messages alone.
fn texts(peer: &mut PipePeer) -> Vec<String> {
    let frames = std::iter::from_fn(|| peer.receive());
    let messages = frames.filter(|frame| !frame.opcode.is_control());
    messages.map(|frame| String::from_utf8(frame.payload.to_vec()).unwrap()).collect()
}

/// On its own thread and on another one, for which it waits.
#[test]
fn an_extension_may_use_its_session_in_both_directions() {
    in_time(|| {
        let place: Arc<Mutex<Option<SessionHandle>>> = Arc::default();
        let seen: Arc<Mutex<Vec<(u64, u64)>>> = Arc::default();
        let looks = {
            let (place, seen) = (Arc::clone(&place), Arc::clone(&seen));
            Looks::new(move |_: &[u8]| {
                let handle = place.lock().unwrap().clone().unwrap();
                let other = handle.clone();
                let elsewhere = thread::spawn(move || other.stats()).join().unwrap().unwrap();
                let stats = handle.stats().unwrap();
                assert_eq!(stats, elsewhere);
                assert!(handle.is_open());
                seen.lock().unwrap().push((stats.sent.messages, stats.received.frames));
            })
        };
        let (runtime, mut session, mut peer) =
            open_with(WebSockets::new().extension(looks), "x-looks");
        *place.lock().unwrap() = Some(session.handle());
        for round in 0..2 {
            runtime.block_on(session.send("x")).unwrap();
            runtime.block_on(session.flush()).unwrap();
            assert_eq!(texts(&mut peer), ["x"]);
            peer.send(RawFrame::new(OpCode::Text, "y"));
            assert_eq!(runtime.block_on(session.receive()).unwrap(), Some(Frame::from("y")));
            assert_eq!(
                seen.lock().unwrap()[2 * round..],
                [(round as u64, round as u64), (round as u64 + 1, round as u64 + 1)]
            );
        }
    });
}

/// What it sends comes behind the message in its hands.
#[test]
fn what_an_extension_sends_on_its_session_goes_out_behind() {
    in_time(|| {
        let place: Arc<Mutex<Option<Outgoing>>> = Arc::default();
        let looks = {
            let place = Arc::clone(&place);
            Looks::new(move |payload: &[u8]| {
                let outgoing = place.lock().unwrap().clone();
                let (Some(outgoing), b"x") = (outgoing, payload) else { return };
                let mut sends = pin!(outgoing.send("from inside"));
                assert!(matches!(poll(sends.as_mut(), Waker::noop()), Poll::Ready(Ok(()))));
                let mut flushes = pin!(outgoing.flush());
                assert!(poll(flushes.as_mut(), Waker::noop()).is_pending(), "it would wait for us");
            })
        };
        let (runtime, mut session, mut peer) =
            open_with(WebSockets::new().extension(looks), "x-looks");
        *place.lock().unwrap() = Some(session.outgoing());
        runtime.block_on(session.send("x")).unwrap();
        runtime.block_on(session.flush()).unwrap();
        assert_eq!(texts(&mut peer), ["x", "from inside"]);
        peer.send(RawFrame::new(OpCode::Text, "x"));
        assert_eq!(runtime.block_on(session.receive()).unwrap(), Some(Frame::from("x")));
        runtime.block_on(session.flush()).unwrap();
        assert_eq!(texts(&mut peer), ["from inside"]);
        place.lock().unwrap().take();
    });
}

/// Uses its session when it is dropped.
#[derive(Clone, Debug, Default)]
struct Farewell {
    place: Arc<Mutex<Option<SessionHandle>>>,
    dropped: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Leaves(Farewell);

impl Extension for Farewell {
    fn name(&self) -> &str {
        "x-farewell"
    }

    fn accept(&self, _: &NegotiatedExtension, _: Role) -> Result<Box<dyn Transform>> {
        Ok(Box::new(Leaves(self.clone())))
    }
}

impl Transform for Leaves {
    fn incoming(&mut self, part: &mut MessagePart, _: usize) -> Result<Bytes> {
        self.outgoing(part).map(|()| std::mem::take(&mut part.payload))
    }

    fn outgoing(&mut self, part: &mut MessagePart) -> Result<()> {
        let handle = self.0.place.lock().unwrap().clone().unwrap();
        match &part.payload[..] {
            b"boom" => panic!("as it shall"),
            b"fail" => return Err(drivetrain::Error::other("as told")),
            b"die" => assert!(handle.close(CloseReason::normal())),
            _ => {}
        }
        Ok(())
    }
}

impl Drop for Leaves {
    fn drop(&mut self) {
        let handle = self.0.place.lock().unwrap().clone().unwrap();
        let stats = thread::spawn(move || handle.stats().map(|_| handle.is_open()));
        assert_ne!(stats.join().unwrap(), Some(true), "the session has ended");
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_transforms_drop_may_use_the_session_however_it_ends() {
    for how in ["closed", "dropped", "boom", "boom in", "fail", "die", "lost", "timeout"] {
        in_time(move || {
            let farewell = Farewell::default();
            let plugin = WebSockets::new().extension(farewell.clone());
            let (runtime, mut session, mut peer) = open_with(plugin, "x-farewell");
            *farewell.place.lock().unwrap() = Some(session.handle());
            let close = || RawFrame::new(OpCode::Close, CloseReason::normal().to_payload());
            match how {
                "closed" => {
                    peer.send(close());
                    assert_eq!(runtime.block_on(session.receive()).unwrap(), None);
                }
                "boom" => assert!(panics(|| runtime.block_on(session.send("boom")))),
                "boom in" => {
                    peer.send(RawFrame::new(OpCode::Text, "boom"));
                    assert!(panics(|| runtime.block_on(session.receive())));
                }
                "fail" | "die" => {
                    runtime.block_on(session.send(how)).unwrap();
                    peer.send(close());
                    runtime.block_on(session.closed()).unwrap();
                }
                "lost" => {
                    peer.end();
                    assert!(runtime.block_on(session.receive()).is_err());
                }
                "timeout" => {
                    session.set_ping_interval(Duration::from_secs(1)).unwrap();
                    runtime.advance(Duration::from_secs(100));
                }
                _ => {}
            }
            drop(session);
            runtime.settle();
            assert_eq!(farewell.dropped.load(Ordering::SeqCst), 1, "{how}");
            assert_eq!(runtime.tasks(), 0, "{how}");
        });
    }
}

/// While it is busy, everything that does not need it continues, and the rest waits its turn.
#[test]
fn a_slow_extension_keeps_nobody_but_its_messages() {
    in_time(|| {
        let (gate, guard) = gate();
        let marks = Marks(Looks::new(move |payload: &[u8]| {
            if payload.starts_with(b"slow") {
                gate.pass();
            }
        }));
        let (runtime, session, mut peer) = open_with(WebSockets::new().extension(marks), "x-marks");
        let (outgoing, mut incoming) = session.split();
        let other = outgoing.clone();
        let sending = thread::spawn(move || block_on(other.send("slow")));
        guard.wait();
        assert_eq!(outgoing.stats().sent.messages, 0);
        assert!(outgoing.is_open());
        // A message that does not pass through it, a ping of the peer's, and a ping of this end.
        peer.send(RawFrame::new(OpCode::Text, "as it is"));
        assert_eq!(runtime.block_on(incoming.receive()).unwrap(), Some(Frame::from("as it is")));
        peer.send(RawFrame::new(OpCode::Ping, "?"));
        {
            let mut receives = pin!(incoming.receive());
            assert!(poll(receives.as_mut(), Waker::noop()).is_pending());
        }
        assert_eq!(peer.receive(), Some(RawFrame::new(OpCode::Pong, "?")));
        // A sender is accepted, and one that needs the extension to receive waits.
        runtime.block_on(outgoing.send("behind")).unwrap();
        peer.send(marked("in"));
        let (counts, waker) = Counts::new();
        {
            let mut receives = pin!(incoming.receive());
            assert!(poll(receives.as_mut(), &waker).is_pending());
            // Dropped meanwhile: nothing is lost.
        }
        let mut flushes = pin!(outgoing.flush());
        assert!(poll(flushes.as_mut(), &waker).is_pending());
        let mut receives = pin!(incoming.receive());
        assert!(poll(receives.as_mut(), &waker).is_pending());
        assert_eq!((texts(&mut peer), counts.woken()), (vec![], 0));
        guard.let_go();
        sending.join().unwrap().unwrap();
        assert!(counts.woken() > 0);
        assert!(matches!(block_on(receives), Ok(Some(frame)) if frame == Frame::from("in")));
        block_on(flushes).unwrap();
        assert_eq!(texts(&mut peer), ["slow", "behind"]);
    });
}

/// And the other way round.
#[test]
fn a_slow_extension_in_the_receiver_keeps_no_sender() {
    in_time(|| {
        let (looks, guard) = waiting_at_slow();
        let (_runtime, session, mut peer) =
            open_with(WebSockets::new().extension(looks), "x-looks");
        let (outgoing, mut incoming) = session.split();
        peer.send(RawFrame::new(OpCode::Text, "slow"));
        peer.send(RawFrame::new(OpCode::Text, "next"));
        let receiving = thread::spawn(move || {
            let first = block_on(incoming.receive()).unwrap();
            let second = block_on(incoming.receive()).unwrap();
            (first, second, incoming)
        });
        guard.wait();
        for text in ["a", "b"] {
            let mut sends = pin!(outgoing.send(text));
            assert!(matches!(poll(sends.as_mut(), Waker::noop()), Poll::Ready(Ok(()))));
        }
        let mut pings = pin!(outgoing.send(Frame::Ping("!".into())));
        assert!(poll(pings.as_mut(), Waker::noop()).is_ready(), "it needs no extension");
        let mut flushes = pin!(outgoing.flush());
        let (counts, waker) = Counts::new();
        assert!(poll(flushes.as_mut(), &waker).is_pending());
        assert_eq!(peer.receive(), Some(RawFrame::new(OpCode::Ping, "!")));
        assert_eq!(outgoing.stats().received.frames, 1);
        guard.let_go();
        let (first, second, _incoming) = receiving.join().unwrap();
        assert_eq!((first, second), (Some(Frame::from("slow")), Some(Frame::from("next"))));
        assert!(counts.woken() > 0, "what waited was sent by the one who was there");
        block_on(flushes).unwrap();
        assert_eq!(texts(&mut peer), ["a", "b"]);
    });
}

/// Those who came while it ran are woken too.
#[test]
fn a_panic_in_a_slow_extension_wakes_everybody_who_came_meanwhile() {
    for outgoing_direction in [true, false] {
        in_time(move || {
            let (gate, guard) = gate();
            let looks = Looks::new(move |payload: &[u8]| {
                if payload == b"boom" {
                    gate.pass();
                    panic!("as it shall");
                }
            });
            let (runtime, session, mut peer) =
                open_with(WebSockets::new().outgoing_capacity(10).extension(looks), "x-looks");
            let (outgoing, mut incoming) = session.split();
            let running = if outgoing_direction {
                let outgoing = outgoing.clone();
                thread::spawn(move || {
                    let ended = panics(|| block_on(outgoing.send("boom")));
                    (ended, None)
                })
            } else {
                peer.send(RawFrame::new(OpCode::Text, "boom"));
                thread::spawn(move || {
                    let ended = panics(|| block_on(incoming.receive()));
                    (ended, Some(incoming))
                })
            };
            guard.wait();
            let (counts, waker) = Counts::new();
            for _ in 0..20 {
                let mut sends = pin!(outgoing.send("0123456789"));
                if poll(sends.as_mut(), Waker::noop()).is_pending() {
                    break;
                }
            }
            let halves: Vec<_> = (0..5).map(|_| outgoing.clone()).collect();
            let mut sends: Vec<_> =
                halves.iter().map(|half| Box::pin(half.send("0123456789"))).collect();
            let mut flushes = pin!(outgoing.flush());
            let mut closed = pin!(outgoing.closed());
            let mut streams = pin!(outgoing.send_stream(MessageKind::Text));
            for future in &mut sends {
                assert!(poll(future.as_mut(), &waker).is_pending());
            }
            assert!(poll(flushes.as_mut(), &waker).is_pending());
            assert!(poll(closed.as_mut(), &waker).is_pending());
            assert!(poll(streams.as_mut(), &waker).is_pending());
            guard.let_go();
            let (panicked, _incoming) = running.join().unwrap();
            assert!(panicked, "it reaches the one who ran it");
            assert!(peer.is_dropped(), "the socket is closed");
            assert_eq!(counts.woken(), 8);
            for mut future in sends {
                let Poll::Ready(Err(error)) = poll(future.as_mut(), &waker) else { panic!() };
                assert!(error.to_string().contains("panic"), "{error}");
            }
            assert!(matches!(poll(flushes.as_mut(), &waker), Poll::Ready(Err(_))));
            assert!(matches!(poll(streams.as_mut(), &waker), Poll::Ready(Err(_))));
            let Poll::Ready(Ok(outcome)) = poll(closed.as_mut(), &waker) else { panic!() };
            assert_eq!(outcome.error.map(|error| error.kind()), Some(ErrorKind::Io));
            runtime.settle();
            assert_eq!(runtime.tasks(), 0);
        });
    }
}

/// A thousand messages of four tasks, while a fifth receives: each task's are in order, in the order in which the
/// extension had them.
#[test]
fn messages_stay_in_order_through_a_slow_extension() {
    const EACH: usize = 250;
    in_time(|| {
        let order: Arc<Mutex<Vec<String>>> = Arc::default();
        let received = Arc::new(AtomicUsize::new(0));
        let looks = {
            let order = Arc::clone(&order);
            Looks::new(move |payload: &[u8]| {
                thread::sleep(Duration::from_micros(50));
                if !payload.starts_with(b"in") {
                    order.lock().unwrap().push(String::from_utf8(payload.to_vec()).unwrap());
                }
            })
        };
        let plugin = WebSockets::new().outgoing_capacity(100).extension(looks);
        let (runtime, session, mut peer) = open_with(plugin, "x-looks");
        let (outgoing, mut incoming) = session.split();
        let is_done = Arc::new(AtomicBool::new(false));
        let senders: Vec<_> = (0..4)
            .map(|task| {
                let outgoing = outgoing.clone();
                thread::spawn(move || {
                    for i in 0..EACH {
                        block_on(outgoing.send(format!("{task} {i}"))).unwrap();
                    }
                })
            })
            .collect();
        let receiver = {
            let received = Arc::clone(&received);
            thread::spawn(move || {
                for i in 0..EACH {
                    let frame = block_on(incoming.receive()).unwrap().unwrap();
                    assert_eq!(frame, Frame::from(format!("in {i}")));
                    received.fetch_add(1, Ordering::SeqCst);
                }
                incoming
            })
        };
        // The session's task, on a thread of its own.
        let task = {
            let (runtime, is_done) = (runtime.clone(), Arc::clone(&is_done));
            thread::spawn(move || {
                while !is_done.load(Ordering::SeqCst) {
                    runtime.settle();
                    thread::yield_now();
                }
            })
        };
        let mut sent = Vec::new();
        for i in 0..EACH {
            peer.send(RawFrame::new(OpCode::Text, format!("in {i}")));
            sent.extend(texts(&mut peer));
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        let _incoming = receiver.join().unwrap();
        block_on(outgoing.flush()).unwrap();
        is_done.store(true, Ordering::SeqCst);
        task.join().unwrap();
        sent.extend(texts(&mut peer));
        assert_eq!(sent.len(), 4 * EACH);
        assert_eq!(received.load(Ordering::SeqCst), EACH);
        assert_eq!(sent, *order.lock().unwrap());
        for task in 0..4 {
            let its = sent.iter().filter(|text| text.starts_with(&format!("{task} ")));
            assert!(its.eq((0..EACH).map(|i| format!("{task} {i}")).collect::<Vec<_>>().iter()));
        }
    });
}

/// Senders that wait while it runs are served in the order in which they came.
#[test]
fn senders_are_served_in_order_behind_a_slow_extension() {
    in_time(|| {
        let (looks, guard) = waiting_at_slow();
        let plugin = WebSockets::new().outgoing_capacity(10).extension(looks);
        let (runtime, session, mut peer) = open_with(plugin, "x-looks");
        let slow = session.outgoing();
        let sending = thread::spawn(move || block_on(slow.send("slow")));
        guard.wait();
        let halves: Vec<_> = (0..20).map(|_| session.outgoing()).collect();
        let mut sends: Vec<_> = halves
            .iter()
            .enumerate()
            .map(|(i, half)| Box::pin(half.send(format!("{i:010}"))))
            .collect();
        let mut pending = Vec::new();
        for (i, future) in sends.iter_mut().enumerate() {
            if poll(future.as_mut(), Waker::noop()).is_pending() {
                pending.push(i);
            }
        }
        assert!(pending.len() > 3, "{pending:?}");
        guard.let_go();
        sending.join().unwrap().unwrap();
        // The last one comes first, and has to wait.
        for i in pending.iter().rev() {
            let is_first = i == &pending[0];
            let polled = poll(sends[*i].as_mut(), Waker::noop());
            assert_eq!(polled.is_ready(), is_first, "{i}");
        }
        for i in &pending[1..] {
            assert!(runtime.poll_now(sends[*i].as_mut()).unwrap().is_ok());
        }
        runtime.block_on(session.flush()).unwrap();
        let all = (0..20).map(|i| format!("{i:010}"));
        let all: Vec<_> = std::iter::once("slow".to_owned()).chain(all).collect();
        assert_eq!(texts(&mut peer), all);
    });
}

/// It is not waited for: the thread that runs it writes what was accepted, and the Close.
#[test]
fn a_session_that_is_dropped_while_its_extension_runs_ends_behind_it() {
    in_time(|| {
        let (looks, guard) = waiting_at_slow();
        let (runtime, session, mut peer) = open_with(WebSockets::new().extension(looks), "x-looks");
        let (counts, waker) = Counts::new();
        let mut ended = pin!(session.handle().ended());
        assert!(poll(ended.as_mut(), &waker).is_pending());
        peer.send(RawFrame::new(OpCode::Text, "slow"));
        let task = reading_ahead(&runtime);
        guard.wait();
        for text in ["one", "two"] {
            let mut sends = pin!(session.send(text));
            assert!(matches!(poll(sends.as_mut(), Waker::noop()), Poll::Ready(Ok(()))));
        }
        drop(session);
        assert!(!peer.is_dropped() && counts.woken() == 0, "messages wait for the extension");
        guard.let_go();
        task.join().unwrap();
        let sent: Vec<_> = std::iter::from_fn(|| peer.receive()).map(|f| f.payload).collect();
        let close = CloseReason::going_away().to_payload();
        assert_eq!(sent, [Bytes::from("one"), "two".into(), close]);
        assert!(peer.is_dropped() && counts.woken() == 1);
        runtime.settle();
        assert_eq!(runtime.tasks(), 0);
    });
}

/// Without messages that need it, nothing waits; it is dropped when it is returned.
#[test]
fn a_session_that_has_nothing_to_transform_ends_at_once() {
    in_time(|| {
        let (looks, guard) = waiting_at_slow();
        let (runtime, session, mut peer) = open_with(WebSockets::new().extension(looks), "x-looks");
        peer.send(RawFrame::new(OpCode::Text, "slow"));
        let task = reading_ahead(&runtime);
        guard.wait();
        drop(session);
        assert!(peer.is_dropped());
        assert_eq!(peer.receive().map(|frame| frame.opcode), Some(OpCode::Close));
        guard.let_go();
        task.join().unwrap();
        runtime.settle();
        assert_eq!(runtime.tasks(), 0);
    });
}
