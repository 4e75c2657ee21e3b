//! Messages that are in memory already are taken many at a time; nobody shall notice but by the clock.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::VecDeque,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use drivetrain_engine::{
    CloseReason, Connection, Error, ErrorKind, Frame, OpCode, RawFrame, Result, Transport,
};
use drivetrain_session::{Session, WebSockets};

use crate::support::TestRuntime;

/// What each read brings; the frames of one are in memory after it.
#[derive(Default)]
struct Reads {
    to_come: VecDeque<Vec<RawFrame>>,
    buffered: VecDeque<RawFrame>,
    done: usize,
    sent: Vec<RawFrame>,
    waker: Option<Waker>,
    lends: bool,
}

#[derive(Clone, Default)]
struct Wire(Arc<Mutex<Reads>>);

impl Wire {
    fn brings(&self, frames: impl IntoIterator<Item = RawFrame>) {
        let mut reads = self.0.lock().unwrap();
        reads.to_come.push_back(frames.into_iter().collect());
        if let Some(waker) = reads.waker.take() {
            waker.wake();
        }
    }

    fn reads(&self) -> usize {
        self.0.lock().unwrap().done
    }

    fn sent(&self) -> Vec<OpCode> {
        self.0.lock().unwrap().sent.iter().map(|frame| frame.opcode).collect()
    }
}

struct OneEnd(Wire, Vec<u8>);

impl Transport for OneEnd {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        _: usize,
    ) -> Poll<Result<Option<RawFrame>, Error>> {
        let mut reads = self.0.0.lock().unwrap();
        if reads.buffered.is_empty() {
            let Some(read) = reads.to_come.pop_front() else {
                reads.waker = Some(cx.waker().clone());
                return Poll::Pending;
            };
            reads.done += 1;
            reads.buffered.extend(read);
        }
        Poll::Ready(Ok(reads.buffered.pop_front()))
    }

    fn try_receive_buffered(&mut self, _: usize) -> Option<Result<RawFrame, Error>> {
        self.0.0.lock().unwrap().buffered.pop_front().map(Ok)
    }

    fn try_receive_short_text(&mut self, _: usize) -> Option<&[u8]> {
        let mut reads = self.0.0.lock().unwrap();
        let front = reads.buffered.front()?;
        if !reads.lends || !front.fin || front.opcode != OpCode::Text {
            return None;
        }
        let frame = reads.buffered.pop_front()?;
        self.1 = frame.payload.to_vec();
        Some(&self.1)
    }

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(&mut self, frame: RawFrame) -> Result<(), Error> {
        self.0.0.lock().unwrap().sent.push(frame);
        Ok(())
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }
}

/// Runs a test over a transport that lends its messages and over one that gives them away.
fn each(test: impl Fn(Arc<TestRuntime>, Session, Wire)) {
    each_with(WebSockets::new(), test);
}

fn each_with(plugin: WebSockets, test: impl Fn(Arc<TestRuntime>, Session, Wire)) {
    for lends in [false, true] {
        let wire = Wire::default();
        wire.0.lock().unwrap().lends = lends;
        let runtime = TestRuntime::new();
        let connection = Connection::new(OneEnd(wire.clone(), Vec::new()));
        let session = runtime.session(connection, plugin.clone());
        test(runtime, session, wire);
    }
}

fn text(number: usize) -> RawFrame {
    RawFrame::new(OpCode::Text, number.to_string())
}

fn number(frame: Option<Frame>) -> usize {
    frame.expect("a message").read_text().expect("a text").parse().unwrap()
}

fn ping() -> RawFrame {
    RawFrame::new(OpCode::Ping, "?")
}

#[test]
fn all_come_in_order_whatever_is_dropped_and_whoever_reads() {
    each(|runtime, mut session, wire| {
        let mut next = 0;
        for round in 0..20 {
            wire.brings((round * 100..round * 100 + 50).map(text));
            wire.brings((round * 100 + 50..round * 100 + 100).map(text));
            let until = (round + 1) * 100 - usize::from(round % 3 == 1) * 30;
            while next < until {
                drop(session.receive());
                let Some(received) = runtime.poll_now(pin!(session.receive())) else { continue };
                assert_eq!(number(received.unwrap()), next);
                next += 1;
            }
            // Away for so long that the session task reads.
            runtime.pass(Duration::from_secs(round as u64 % 2));
        }
        let stats = session.stats();
        assert_eq!((stats.received.messages, stats.received.frames), (2000, 2000));
    });
}

#[test]
fn none_is_read_for_a_batch() {
    each(|runtime, mut session, wire| {
        wire.brings((0..40).map(text));
        wire.brings((40..80).map(text));
        for i in 0..40 {
            assert_eq!(number(runtime.block_on(session.receive()).unwrap()), i);
            assert_eq!(wire.reads(), 1, "after {i}");
        }
        assert_eq!(number(runtime.block_on(session.receive()).unwrap()), 40);
        assert_eq!(wire.reads(), 2);
    });
}

#[test]
fn what_is_behind_a_batch_is_acted_on_behind_it() {
    let close = RawFrame::new(OpCode::Close, CloseReason::going_away().to_payload());
    let not_utf8 = RawFrame::new(OpCode::Text, &b"\xff"[..]);
    let orphan = RawFrame::new(OpCode::Continuation, "x");
    for (last, answer) in [
        (ping(), OpCode::Pong),
        (close, OpCode::Close),
        (not_utf8, OpCode::Close),
        (orphan, OpCode::Close),
    ] {
        each(|runtime, mut session, wire| {
            wire.brings((0..10).map(text).chain([last.clone()]).chain((10..20).map(text)));
            for i in 0..10 {
                assert_eq!(number(runtime.block_on(session.receive()).unwrap()), i);
                assert_eq!(wire.sent(), [], "{last:?} was acted on after {i}");
            }
            let received = runtime.poll_now(pin!(session.receive()));
            runtime.settle();
            assert_eq!(wire.sent(), [answer], "{last:?}");
            match (answer, last.opcode) {
                (OpCode::Pong, _) => assert_eq!(number(received.unwrap().unwrap()), 10),
                (_, OpCode::Close) => assert!(received.unwrap().unwrap().is_none()),
                _ => assert!(received.is_none(), "the peer may answer"),
            }
            let frames = session.stats().received.frames;
            assert_eq!(frames - session.stats().received.messages, 1, "{last:?} is no message");
        });
    }
}

#[test]
fn the_session_task_acts_on_it_if_the_application_stays_away() {
    each(|runtime, mut session, wire| {
        wire.brings((0..10).map(text).chain([ping()]).chain((10..20).map(text)));
        for i in 0..5 {
            assert_eq!(number(runtime.block_on(session.receive()).unwrap()), i);
        }
        runtime.pass(Duration::from_secs(1));
        assert_eq!(wire.sent(), [OpCode::Pong]);
        for i in 5..20 {
            assert_eq!(number(runtime.block_on(session.receive()).unwrap()), i);
        }
    });
}

#[test]
fn a_ping_does_not_wait_until_a_slow_consumer_has_taken_what_is_before_it() {
    each(|runtime, mut session, wire| {
        wire.brings((0..500).map(text).chain([ping()]));
        let mut next = 0;
        let mut take = |runtime: &TestRuntime| {
            assert_eq!(number(runtime.block_on(session.receive()).unwrap()), next);
            next += 1;
        };
        for answered in 1..5 {
            // Messages at all distances from the session task's look.
            for _ in 0..3 {
                take(&runtime);
                runtime.pass(Duration::from_millis(300));
            }
            assert_eq!(wire.sent().len(), answered);
            wire.brings((answered * 500..(answered + 1) * 500).map(text).chain([ping()]));
        }
        (12..2500).for_each(|_| take(&runtime));
    });
}

#[test]
fn nothing_is_read_ahead_of_an_application_that_keeps_pace() {
    // As many messages as may be read ahead, by default, between two looks of the session task.
    const PACE: usize = (256 << 10) / 64;
    each(|runtime, mut session, wire| {
        runtime.settle();
        wire.brings((0..PACE).map(text));
        wire.brings([ping()]);
        for i in 0..PACE {
            assert_eq!(number(runtime.block_on(session.receive()).unwrap()), i);
        }
        runtime.pass(Duration::from_millis(500));
        assert_eq!(wire.reads(), 1);
        runtime.pass(Duration::from_millis(500));
        assert_eq!(wire.sent(), [OpCode::Pong], "nothing was taken since the last look");
    });
}

#[test]
fn a_ping_waits_where_the_inbox_is_full() {
    each(|runtime, mut session, wire| {
        // The default, 256 KiB, without what messages count beside their payload.
        let large = |_| RawFrame::new(OpCode::Binary, vec![0; 50_000]);
        wire.brings((0..20).map(large).chain([ping()]));
        for _ in 0..12 {
            assert_eq!(wire.sent(), []);
            assert!(runtime.block_on(session.receive()).unwrap().is_some());
            runtime.pass(Duration::from_millis(300));
        }
        for _ in 12..16 {
            assert!(runtime.block_on(session.receive()).unwrap().is_some());
            runtime.pass(Duration::from_millis(300));
        }
        assert_eq!(wire.sent(), [OpCode::Pong], "there is room for what is before it");
        for _ in 16..20 {
            assert!(runtime.block_on(session.receive()).unwrap().is_some());
        }
    });
}

#[test]
fn messages_at_hand_are_counted_as_discarded_with_the_receiving_half() {
    each(|runtime, session, wire| {
        wire.brings((0..30).map(text));
        let (outgoing, mut incoming) = session.split();
        for i in 0..7 {
            assert_eq!(number(runtime.block_on(incoming.receive()).unwrap()), i);
        }
        drop(incoming);
        runtime.settle();
        let close = RawFrame::new(OpCode::Close, CloseReason::normal().to_payload());
        wire.brings([close]);
        let outcome = runtime.block_on(outgoing.closed()).unwrap();
        assert!(outcome.clean);
        assert_eq!(outcome.discarded, 23);
        assert_eq!(outgoing.stats().received.messages, 30);
    });
}

#[test]
fn messages_behind_one_that_a_reader_refuses_are_counted_as_discarded() {
    each_with(WebSockets::new().max_stream_size(4), |runtime, mut session, wire| {
        let long = RawFrame::new(OpCode::Text, "above the limit");
        wire.brings((0..10).map(text).chain([long]).chain((10..15).map(text)));
        for i in 0..10 {
            assert_eq!(number(runtime.block_on(session.receive()).unwrap()), i);
        }
        wire.brings([RawFrame::new(OpCode::Close, CloseReason::normal().to_payload())]);
        let error = runtime.block_on(async {
            let mut reader = session.receive_stream().await.unwrap().unwrap();
            reader.chunk().await.unwrap_err()
        });
        assert_eq!(error.kind(), ErrorKind::TooBig);
        let outcome = runtime.block_on(session.closed()).unwrap();
        assert_eq!(outcome.discarded, 5);
    });
}

#[test]
fn a_flood_lets_others_run() {
    each(|runtime, mut session, wire| {
        wire.brings((0..2000).map(text));
        let mut in_a_row = 0;
        for i in 0..2000 {
            in_a_row += 1;
            let mut receive = pin!(session.receive());
            let mut received = poll_once(receive.as_mut());
            if received.is_none() {
                in_a_row = 0;
                received = runtime.poll_now(receive);
            }
            assert!(in_a_row <= 256 + 32, "{in_a_row}");
            assert_eq!(number(received.unwrap().unwrap()), i);
        }
    });
}

#[test]
fn the_end_comes_behind_the_batch() {
    each(|runtime, mut session, wire| {
        let peer = wire.clone();
        wire.brings((0..10).map(text));
        for i in 0..3 {
            assert_eq!(number(runtime.block_on(session.receive()).unwrap()), i);
        }
        peer.brings([]); // the end
        runtime.pass(Duration::from_secs(2));
        assert!(session.outcome().error.is_some(), "the session task has read it");
        for i in 3..10 {
            assert_eq!(number(runtime.block_on(session.receive()).unwrap()), i);
        }
        assert_eq!(runtime.block_on(session.receive()).unwrap_err().kind(), ErrorKind::Io);
    });
}

fn poll_once<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
