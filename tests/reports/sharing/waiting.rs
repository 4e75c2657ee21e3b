//! Tasks that wait for a session are served in order, and forgotten when they wait no longer.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use drivetrain::{
    MessageKind, OpCode, Outgoing, WebSockets,
    testing::{PipePeer, TestRuntime},
};
use futures_util::Sink;

use super::{Counts, fill, open, poll};

type Waiting<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// All that can be waited for with a sending half.
fn waits<'a>(outgoing: &'a Outgoing) -> Vec<(&'static str, Waiting<'a>)> {
    vec![
        ("closed", Box::pin(async move { drop(outgoing.closed().await) })),
        ("flush", Box::pin(async move { drop(outgoing.flush().await) })),
        ("send", Box::pin(async move { drop(outgoing.send(vec![0; 40_000]).await) })),
        ("feed", Box::pin(async move { drop(outgoing.feed(vec![0; 40_000]).await) })),
        (
            "send_stream",
            Box::pin(async move { drop(outgoing.send_stream(MessageKind::Text).await) }),
        ),
    ]
}

#[test]
fn who_no_longer_waits_is_forgotten() {
    let (runtime, session, mut peer) = open(WebSockets::new());
    let outgoing = session.outgoing();
    fill(&runtime, &outgoing, &mut peer);
    let mut first = pin!(outgoing.send("x"));
    assert!(poll(first.as_mut(), Waker::noop()).is_pending());
    for (name, mut waiting) in waits(&outgoing) {
        let (counts, waker) = Counts::new();
        assert!(poll(waiting.as_mut(), &waker).is_pending(), "{name}");
        drop((waiting, waker));
        assert_eq!(Arc::strong_count(&counts), 1, "{name}: its waker is still held");
    }
    let (counts, waker) = Counts::new();
    let mut ping = Box::pin(session.ping());
    assert!(poll(ping.as_mut(), &waker).is_pending());
    drop((ping, waker));
    assert_eq!(Arc::strong_count(&counts), 1, "ping");
    let (counts, waker) = Counts::new();
    let mut sink = session.outgoing();
    Pin::new(&mut sink).start_send("x").unwrap();
    let sink_poll = |sink: &mut Outgoing| {
        let mut cx = std::task::Context::from_waker(&waker);
        Sink::<&str>::poll_flush(Pin::new(sink), &mut cx)
    };
    assert!(sink_poll(&mut sink).is_pending());
    drop(sink);
    drop(waker);
    assert_eq!(Arc::strong_count(&counts), 1, "a sink");
}

/// A streamed message that waits for room.
#[test]
fn a_writer_that_no_longer_waits_is_forgotten() {
    let (runtime, session, mut peer) = open(WebSockets::new());
    let outgoing = session.outgoing();
    let mut writer = runtime.block_on(outgoing.send_stream(MessageKind::Binary)).unwrap();
    peer.set_writable(false);
    let (counts, waker) = Counts::new();
    loop {
        let mut writes = Box::pin(writer.write_chunk(vec![0; 70_000]));
        if poll(writes.as_mut(), &waker).is_pending() {
            break;
        }
        drop(writes);
        runtime.settle();
    }
    drop((writer, waker));
    assert_eq!(Arc::strong_count(&counts), 1);
}

/// As each of many short tasks does that looks whether the session has ended.
#[test]
fn many_that_have_waited_cost_no_time_and_those_that_wait_cost_little() {
    let time = |tasks: usize| {
        let (_runtime, session, _peer) = open(WebSockets::new());
        let outgoing = session.outgoing();
        let start = Instant::now();
        let mut waiting: Vec<_> = (0..tasks).map(|_| Box::pin(outgoing.closed())).collect();
        for future in &mut waiting {
            let (_counts, waker) = Counts::new();
            assert!(poll(future.as_mut(), &waker).is_pending());
        }
        drop(waiting);
        start.elapsed().max(Duration::from_micros(100))
    };
    time(100);
    // The shortest of some, as a machine may stand still.
    let least = |tasks| (0..5).map(|_| time(tasks)).min().unwrap_or_default();
    let (few, many) = (least(1_000), least(30_000));
    // A scan of the list for each takes 900 times as long.
    assert!(many < few * 250, "{few:?} for 1000, {many:?} for 30 times as many");
}

/// Who only waits for the end is left alone by what others send.
#[test]
fn only_those_are_woken_who_can_go_on() {
    let (runtime, session, mut peer) = open(WebSockets::new());
    let outgoing = session.outgoing();
    let (counts, waker) = Counts::new();
    let mut closed = pin!(outgoing.closed());
    assert!(poll(closed.as_mut(), &waker).is_pending());
    for _ in 0..10 {
        runtime.block_on(session.send("x")).unwrap();
        runtime.block_on(session.flush()).unwrap();
    }
    assert_eq!(counts.woken(), 0);
    fill(&runtime, &outgoing, &mut peer);
    let senders: Vec<_> = (0..10).map(|_| session.outgoing()).collect();
    let (counts, waker) = Counts::new();
    let mut sends: Vec<_> =
        senders.iter().map(|outgoing| Box::pin(outgoing.send(vec![0; 200_000]))).collect();
    for send in &mut sends {
        assert!(poll(send.as_mut(), &waker).is_pending());
    }
    peer.set_writable(true);
    runtime.settle();
    assert_eq!(counts.woken(), 1, "the first in the row");
}

fn waiting_senders(runtime: &TestRuntime, outgoing: &Outgoing, peer: &mut PipePeer) {
    fill(runtime, outgoing, peer);
}

fn texts(peer: &mut PipePeer) -> Vec<String> {
    std::iter::from_fn(|| peer.receive())
        .filter(|frame| frame.opcode == OpCode::Text)
        .map(|frame| String::from_utf8(frame.payload.to_vec()).unwrap())
        .collect()
}

#[test]
fn waiting_senders_are_served_in_order_and_before_newcomers() {
    let (runtime, session, mut peer) = open(WebSockets::new());
    let outgoing = session.outgoing();
    waiting_senders(&runtime, &outgoing, &mut peer);
    let waker = Waker::noop();
    let mut waiting: Vec<_> = (0..5).map(|i| Box::pin(outgoing.send(format!("{i}")))).collect();
    for send in &mut waiting {
        let waits = poll(send.as_mut(), waker).is_pending();
        assert!(waits, "also a short one, behind one that does not fit");
    }
    peer.set_writable(true);
    runtime.settle();
    let mut newcomer = Box::pin(outgoing.send("newcomer"));
    assert!(poll(newcomer.as_mut(), waker).is_pending(), "it is not its turn");
    // Backwards: each waits for those before it.
    for send in waiting[1..].iter_mut().rev() {
        assert!(poll(send.as_mut(), waker).is_pending());
    }
    for send in &mut waiting {
        assert!(matches!(poll(send.as_mut(), waker), Poll::Ready(Ok(()))));
    }
    assert!(matches!(poll(newcomer.as_mut(), waker), Poll::Ready(Ok(()))));
    runtime.block_on(session.flush()).unwrap();
    assert_eq!(texts(&mut peer), ["0", "1", "2", "3", "4", "newcomer"]);
}

#[test]
fn a_streamed_message_waits_in_the_same_row() {
    let (runtime, session, mut peer) = open(WebSockets::new());
    let outgoing = session.outgoing();
    fill(&runtime, &outgoing, &mut peer);
    let waker = Waker::noop();
    let mut first = Box::pin(outgoing.send("first"));
    let mut stream = Box::pin(outgoing.send_stream(MessageKind::Text));
    let mut last = Box::pin(outgoing.send("last"));
    assert!(poll(first.as_mut(), waker).is_pending());
    assert!(poll(stream.as_mut(), waker).is_pending());
    assert!(poll(last.as_mut(), waker).is_pending());
    peer.set_writable(true);
    runtime.settle();
    assert!(poll(stream.as_mut(), waker).is_pending());
    assert!(poll(first.as_mut(), waker).is_ready());
    let Poll::Ready(Ok(mut writer)) = poll(stream.as_mut(), waker) else { panic!("its turn") };
    assert!(poll(last.as_mut(), waker).is_pending());
    runtime.block_on(writer.write_chunk("streamed")).unwrap();
    runtime.block_on(writer.finish()).unwrap();
    assert!(poll(last.as_mut(), waker).is_ready());
    runtime.block_on(session.flush()).unwrap();
    assert_eq!(texts(&mut peer), ["first", "streamed", "last"]);
}

#[test]
fn a_dropped_waiter_passes_its_turn_on() {
    let (runtime, session, mut peer) = open(WebSockets::new());
    let outgoing = session.outgoing();
    fill(&runtime, &outgoing, &mut peer);
    let ((first, one), (second, two)) = (Counts::new(), Counts::new());
    let mut sends = [Box::pin(outgoing.send("1")), Box::pin(outgoing.send("2"))];
    assert!(poll(sends[0].as_mut(), &one).is_pending());
    assert!(poll(sends[1].as_mut(), &two).is_pending());
    peer.set_writable(true);
    runtime.settle();
    assert_eq!((first.woken(), second.woken()), (1, 0));
    let [dropped, mut next] = sends;
    drop(dropped);
    assert_eq!(second.woken(), 1);
    assert!(poll(next.as_mut(), &two).is_ready());
    // One in the middle of the row, too.
    fill(&runtime, &outgoing, &mut peer);
    let mut sends = [0, 1, 2].map(|_| Box::pin(outgoing.send("3")));
    for send in &mut sends {
        assert!(poll(send.as_mut(), &two).is_pending());
    }
    let [mut first, dropped, mut last] = sends;
    drop(dropped);
    peer.set_writable(true);
    runtime.settle();
    assert!(poll(first.as_mut(), &two).is_ready());
    assert!(poll(last.as_mut(), &two).is_ready());
}

/// A future that is kept and not polled any more, though it was woken, does not block the others for ever.
#[test]
fn a_sender_that_does_not_come_when_it_is_its_turn_is_passed() {
    let (runtime, session, mut peer) = open(WebSockets::new());
    let outgoing = session.outgoing();
    fill(&runtime, &outgoing, &mut peer);
    let mut forgotten = Box::pin(outgoing.send("forgotten"));
    assert!(poll(forgotten.as_mut(), Waker::noop()).is_pending());
    peer.set_writable(true);
    runtime.settle();
    for i in 0..10 {
        let mut sending = pin!(session.send(format!("{i}")));
        if runtime.poll_now(sending.as_mut()).is_none() {
            assert_eq!(i, 0, "only the first has to wait for it");
            runtime.advance(Duration::from_millis(500));
            runtime.poll_now(sending).unwrap().unwrap();
        }
    }
    runtime.block_on(session.flush()).unwrap();
    assert_eq!(texts(&mut peer).len(), 10);
    assert!(poll(forgotten.as_mut(), Waker::noop()).is_ready(), "it is served when it comes");
}

/// Fast senders do not keep a slow one from its turn.
#[test]
fn no_sender_starves() {
    let (runtime, session, mut peer) = open(WebSockets::new().outgoing_capacity(40_000));
    let outgoing = session.outgoing();
    peer.set_writable(false);
    let mut sent = vec![0; 50];
    let halves: Vec<_> = (0..50).map(|_| outgoing.clone()).collect();
    let mut sends: Vec<_> =
        halves.iter().map(|outgoing| Box::pin(outgoing.send(vec![0; 30_000]))).collect();
    for _ in 0..200 {
        peer.set_writable(true);
        runtime.settle();
        peer.set_writable(false);
        // The first ones are always there first.
        for (i, half) in halves.iter().enumerate() {
            if poll(sends[i].as_mut(), Waker::noop()).is_ready() {
                sent[i] += 1;
                sends[i] = Box::pin(half.send(vec![0; 30_000]));
            }
        }
        while peer.receive().is_some() {}
    }
    let (least, most) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
    assert!(*least > 0 && most - least <= 3, "{sent:?}");
}
