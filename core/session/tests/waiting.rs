//! Who waits for a session, and who is woken.

mod support;

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use drivetrain_engine::Role;
use drivetrain_session::Session;

use support::{Peer, TestRuntime, config, session_and_peer};

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
    let mut config = config();
    config.outgoing_capacity = 10;
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
