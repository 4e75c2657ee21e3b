//! Who waits for a session, and who is woken.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use drivetrain_engine::{Connection, Frame, Protocol, RawFrame, Result, Role, Transport};
use drivetrain_session::{Session, SessionConfig};

use crate::support::{Peer, PipeTransport, TestRuntime, config, open_on, pipe, session_and_peer};

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn poll<T>(future: Pin<&mut impl Future<Output = T>>, wakes: &Arc<Wakes>) -> Poll<T> {
    future.poll(&mut Context::from_waker(&Waker::from(wakes.clone())))
}

/// A session whose socket is full, and in whose queue of ten bytes are six: there is room, but not for six more.
fn almost_full() -> (Arc<TestRuntime>, Session, Peer) {
    let config = SessionConfig { outgoing_capacity: 10, ..config() };
    let (runtime, session, mut peer) = session_and_peer(Role::Client, config);
    peer.set_stalled(true);
    for size in [40_000, 6] {
        runtime.run(session.send(vec![0; size])).expect("taken");
    }
    (runtime, session, peer)
}

#[test]
fn an_observer_that_is_dropped_wakes_no_sender() {
    let (_runtime, session, _peer) = almost_full();
    let (sender, observer) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
    let mut sending = pin!(session.send(vec![0; 6]));
    assert!(poll(sending.as_mut(), &sender).is_pending());
    let before = sender.count();
    for _ in 0..3 {
        assert!(poll(pin!(session.closed()), &observer).is_pending());
        assert!(poll(pin!(session.flush()), &observer).is_pending());
        assert!(poll(pin!(session.ping()), &observer).is_pending());
    }
    assert_eq!(sender.count(), before, "it waits for more room, and nobody has made any");
}

#[test]
fn a_sender_that_is_dropped_wakes_the_next_one() {
    let (_runtime, session, _peer) = almost_full();
    let (first, second) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
    let mut leaves = Box::pin(session.send(vec![0; 6]));
    let mut waits = pin!(session.send(vec![0; 4]));
    assert!(poll(leaves.as_mut(), &first).is_pending());
    assert!(poll(waits.as_mut(), &second).is_pending(), "there is room, but not for its turn");
    drop(leaves);
    assert_eq!(second.count(), 1);
    assert!(poll(waits.as_mut(), &second).is_ready());
}

#[test]
fn senders_are_served_in_order_when_there_is_room() {
    let (runtime, session, mut peer) = almost_full();
    let wakes: [Arc<Wakes>; 3] = Default::default();
    let mut sends: Vec<_> = (0..3).map(|_| Box::pin(session.send(vec![0; 6]))).collect();
    for (send, wakes) in sends.iter_mut().zip(&wakes) {
        assert!(poll(send.as_mut(), wakes).is_pending());
    }
    peer.set_stalled(false);
    runtime.settle();
    assert_eq!(wakes.each_ref().map(|wakes| wakes.count()), [1, 0, 0]);
    for (at, send) in sends.iter_mut().enumerate() {
        assert!(poll(send.as_mut(), &wakes[at]).is_ready(), "{at}");
    }
}

/// A transport that notes how many clones of a waker there are while it is polled, which is under the session's lock.
struct Counting {
    pipe: PipeTransport,
    waker: Arc<Wakes>,
    seen: Arc<AtomicUsize>,
}

impl Counting {
    fn count(&self) {
        self.seen.store(Arc::strong_count(&self.waker), Ordering::Relaxed);
    }
}

impl Transport for Counting {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
    ) -> Poll<Result<Option<RawFrame>>> {
        self.count();
        self.pipe.poll_receive(cx, most)
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.count();
        self.pipe.poll_ready(cx)
    }

    fn start_send(&mut self, frame: RawFrame) -> Result<()> {
        self.pipe.start_send(frame)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.count();
        self.pipe.poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.pipe.poll_close(cx)
    }
}

/// `Waker::clone` may be user code, which may use the session: a poll clones its waker before the session is locked, and no
/// wake-up clones it.
#[test]
fn no_waker_is_cloned_while_the_session_is_locked() {
    let runtime = TestRuntime::new();
    let (ours, theirs) = pipe(&runtime);
    let mut peer = theirs.by_hand();
    let (waker, seen) = (Arc::new(Wakes::default()), Arc::new(AtomicUsize::new(0)));
    let transport = Counting { pipe: ours, waker: waker.clone(), seen: seen.clone() };
    let connection = Connection::new(transport).with_role(Role::Client).with_protocol(Protocol::H1);
    let config = SessionConfig { outgoing_capacity: 10, ..config() };
    let mut session = open_on(&runtime, connection, config);
    runtime.settle();
    // That of the poll and its clone.
    let cloned = Arc::strong_count(&waker) + 2;

    let mut receiving = Box::pin(session.receive());
    assert!(poll(receiving.as_mut(), &waker).is_pending());
    assert_eq!(seen.load(Ordering::Relaxed), cloned, "receive");
    let waiting = Arc::strong_count(&waker);
    peer.send(crate::support::text("one"));
    assert_eq!(waker.count(), 1);
    assert_eq!(Arc::strong_count(&waker), waiting - 1, "the wake-up takes it");
    assert!(poll(receiving.as_mut(), &waker).is_ready());
    drop(receiving);

    peer.set_stalled(true);
    for size in [40_000, 6] {
        runtime.run(session.send(vec![0; size])).expect("taken");
    }
    let before = Arc::strong_count(&waker);
    let mut sending = Box::pin(session.send(vec![0; 6]));
    let mut flushing = Box::pin(session.flush());
    assert!(poll(sending.as_mut(), &waker).is_pending());
    assert_eq!(seen.load(Ordering::Relaxed), before + 2, "send");
    assert!(poll(flushing.as_mut(), &waker).is_pending());
    assert_eq!(seen.load(Ordering::Relaxed), before + 3, "flush, while the sender's is kept");
    assert_eq!(Arc::strong_count(&waker), before + 2);
}

#[test]
fn control_frames_wait_for_room_in_order_and_none_is_dropped() {
    let (runtime, session, mut peer) = session_and_peer(Role::Client, config());
    peer.set_stalled(true);
    runtime.run(session.send(vec![0; 40_000])).expect("taken");
    let pong = |number: u8| Frame::Pong(vec![number].into());
    for number in 0..64 {
        runtime.run(session.send(pong(number))).expect("there is room");
    }
    let wakes: [Arc<Wakes>; 2] = Default::default();
    let (mut first, mut second) = (pin!(session.send(pong(64))), pin!(session.send(pong(65))));
    assert!(poll(first.as_mut(), &wakes[0]).is_pending());
    assert!(poll(second.as_mut(), &wakes[1]).is_pending());
    peer.set_stalled(false);
    runtime.settle();
    assert_eq!(wakes.each_ref().map(|wakes| wakes.count()), [1, 0]);
    assert!(poll(first.as_mut(), &wakes[0]).is_ready());
    assert!(poll(second.as_mut(), &wakes[1]).is_ready());
    runtime.settle();
    let frames = std::iter::from_fn(|| peer.receive()).filter(|frame| frame.opcode.is_control());
    assert!(frames.map(|frame| frame.payload[0]).eq(0..=65));
}

#[test]
fn a_sender_that_never_waits_yields_when_its_budget_is_spent() {
    const KIB: usize = 1 << 10;
    for (size, count) in [(1, 256), (126, 256), (KIB + 1, 256), (8 * KIB, 32), (256 * KIB, 1)] {
        let (_runtime, session, _peer) = session_and_peer(Role::Client, config());
        let wakes = Arc::new(Wakes::default());
        for _ in 0..count {
            assert!(poll(pin!(session.send(vec![0; size])), &wakes).is_ready(), "{size}");
        }
        let mut sending = pin!(session.send(vec![0; size]));
        assert!(poll(sending.as_mut(), &wakes).is_pending(), "{size}");
        assert_eq!(wakes.count(), 1, "to come again");
        assert!(poll(sending.as_mut(), &wakes).is_ready());
    }
}
