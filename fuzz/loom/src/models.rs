//! A session, its keeper and its peer as threads of loom's.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use drivetrain_engine::{
    CloseReason, Connection, Error, Instant, Limits, OpCode, RawFrame, Result, Runtime, Timer,
    Transport,
};
use loom::{future::block_on, thread};

use crate::session::{MessageKind, Session, SessionConfig, Settings, Stagger};

/// A model with the session, a keeper thread and a peer thread; `app` is the application. Prints how many
/// orders there were.
fn model(
    name: &str,
    writable: bool,
    peer: impl Fn(Peer) + Send + Sync + Copy + 'static,
    app: impl Fn(Session) + Send + Sync + Copy + 'static,
) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(1));
    let orders = Arc::new(core::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&orders);
    builder.check(move || {
        counted.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        let wire = Arc::new(Wire(Mutex::new(Ends { writable, ..Ends::default() })));
        let runtime = Arc::new(Bench::default());
        let config = SessionConfig {
            engine: "loom".into(),
            no_fragments: None,
            limits: Limits::default(),
            max_stream_size: u64::MAX,
            ping_interval: None,
            ping_timeout: None,
            no_pings: None,
            close_timeout: Duration::from_secs(5),
            incoming_capacity: 1 << 20,
            outgoing_capacity: 10,
            converter: None,
            settings: Settings::default(),
        };
        let connection = Connection::new(Pipe(Arc::clone(&wire)));
        let session = Session::open(
            connection,
            None,
            runtime.clone(),
            Arc::new(config),
            Stagger::default(),
            tracing::Span::none(),
        );
        let keeper = runtime.0.lock().unwrap().take().expect("the keeper was spawned");
        let keeper = thread::spawn(|| block_on(keeper));
        let peer = thread::spawn(move || peer(Peer(wire)));
        app(session);
        keeper.join().unwrap();
        peer.join().unwrap();
    });
    let orders = orders.load(core::sync::atomic::Ordering::Relaxed);
    println!("loom {name}: {orders} orders");
}

/// What a peer sends between two waits of the application is seen, whoever was about to look.
#[test]
fn receive_is_woken_by_each_frame() {
    model(
        "receive_is_woken_by_each_frame",
        true,
        |peer| {
            peer.send(RawFrame::new(OpCode::Text, "1"));
            peer.send(close());
        },
        |mut session| {
            let first = block_on(session.receive()).unwrap().expect("a message");
            assert_eq!(first.read_text(), Some("1"));
            assert!(block_on(session.receive()).unwrap().is_none());
        },
    );
}

/// The keeper's grace timer runs out while the application begins to wait, goes on waiting, or leaves.
#[test]
fn the_keeper_reads_for_an_application_that_went_away() {
    model(
        "the_keeper_reads_for_an_application_that_went_away",
        true,
        |peer| {
            peer.send(RawFrame::new(OpCode::Text, "1"));
            peer.send(RawFrame::new(OpCode::Ping, "?"));
            block_on(peer.next(OpCode::Pong)); // for ever, if nobody reads
            peer.send(close());
        },
        |mut session| {
            assert!(block_on(session.receive()).unwrap().is_some());
            // It never receives again: only the keeper can answer the ping and end the session.
            assert!(block_on(session.closed()).unwrap().clean);
        },
    );
}

/// The application comes back while the keeper takes over.
#[test]
fn an_application_that_comes_back_takes_over_again() {
    model(
        "an_application_that_comes_back_takes_over_again",
        true,
        |peer| {
            peer.send(RawFrame::new(OpCode::Text, "1"));
            peer.send(RawFrame::new(OpCode::Text, "2"));
            peer.send(close());
        },
        |mut session| {
            for text in ["1", "2"] {
                let frame = block_on(session.receive()).unwrap().expect("a message");
                assert_eq!(frame.read_text(), Some(text), "in order");
            }
            assert!(block_on(session.receive()).unwrap().is_none());
        },
    );
}

/// What follows the first message of a burst is written by the keeper if nobody else writes it, whoever does.
#[test]
fn a_burst_is_written_by_the_keeper_or_by_a_flush() {
    model(
        "a_burst_is_written_by_the_keeper_or_by_a_flush",
        true,
        |peer| {
            for _ in 0..4 {
                block_on(peer.next(OpCode::Text)); // for ever, if one is never written
            }
            peer.send(close());
        },
        |session| {
            for message in ["1", "2", "3", "4"] {
                block_on(session.send(message)).unwrap();
                if message == "2" {
                    block_on(session.flush()).unwrap();
                }
            }
            assert!(block_on(session.closed()).unwrap().clean);
        },
    );
}

/// A sender that waits for room goes on when the socket takes something, without anybody receiving.
#[test]
fn a_blocked_sender_is_woken_when_there_is_room() {
    model(
        "a_blocked_sender_is_woken_when_there_is_room",
        false,
        |peer| {
            peer.set_writable();
            block_on(peer.next(OpCode::Close));
            peer.send(close());
        },
        |session| {
            for _ in 0..2 {
                block_on(session.send("0123456789")).unwrap();
            }
            block_on(session.flush()).unwrap();
            assert!(block_on(session.close(CloseReason::normal())).unwrap().clean);
        },
    );
}

/// Two tasks wait for room: both go on.
#[test]
fn two_blocked_senders_are_both_woken() {
    model(
        "two_blocked_senders_are_both_woken",
        false,
        |peer| peer.set_writable(),
        |session| {
            for _ in 0..2 {
                block_on(session.send("0123456789")).unwrap();
            }
            let outgoing = session.outgoing();
            let other = thread::spawn(move || block_on(outgoing.send("0123456789")).unwrap());
            block_on(session.send("0123456789")).unwrap();
            other.join().unwrap();
        },
    );
}

/// A task waits for another's streamed message to end, or to be dropped.
#[test]
fn a_sender_is_woken_when_a_streamed_message_ends() {
    model(
        "a_sender_is_woken_when_a_streamed_message_ends",
        true,
        |_| {},
        |session| {
            let mut writer = block_on(session.send_stream(MessageKind::Text)).unwrap();
            let outgoing = session.outgoing();
            let other = thread::spawn(move || block_on(outgoing.send("waits")).unwrap());
            block_on(writer.finish()).unwrap();
            drop(writer);
            let dropped = block_on(session.send_stream(MessageKind::Binary)).unwrap();
            drop(dropped);
            other.join().unwrap();
        },
    );
}

/// One half waits for input while a task with the other closes.
#[test]
fn a_receiver_learns_that_another_task_has_closed() {
    model(
        "a_receiver_learns_that_another_task_has_closed",
        true,
        |peer| {
            block_on(peer.next(OpCode::Close));
            peer.send(close());
        },
        |session| {
            let (outgoing, mut incoming) = session.split();
            let closer = thread::spawn(move || block_on(outgoing.close(CloseReason::normal())));
            assert!(block_on(incoming.receive()).unwrap().is_none());
            assert!(closer.join().unwrap().unwrap().clean);
        },
    );
}

/// The last word: a session that is dropped while its peer is busy leaves no keeper behind.
#[test]
fn a_dropped_session_ends_its_keeper() {
    model(
        "a_dropped_session_ends_its_keeper",
        true,
        |peer| peer.send(RawFrame::new(OpCode::Ping, "?")),
        drop,
    );
}

fn close() -> RawFrame {
    RawFrame::new(OpCode::Close, CloseReason::normal().to_payload())
}

/// Spawns one task, which the model runs; its timers of up to a second go off at once.
#[derive(Default)]
struct Bench(Mutex<Option<Task>>, Arc<Mutex<Duration>>);

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

impl std::fmt::Debug for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bench")
    }
}

impl Runtime for Bench {
    fn spawn(&self, future: Task) {
        assert!(self.0.lock().unwrap().replace(future).is_none(), "one keeper");
    }

    fn now(&self) -> Instant {
        Instant::from_origin(*self.1.lock().unwrap())
    }

    fn timer(&self, deadline: Instant) -> Box<dyn Timer> {
        Box::new(Soon(deadline, Arc::clone(&self.1)))
    }
}

struct Soon(Instant, Arc<Mutex<Duration>>);

impl Timer for Soon {
    fn poll(&mut self, _: &mut Context<'_>) -> Poll<()> {
        let mut now = self.1.lock().unwrap();
        let deadline = self.0.since_origin();
        if deadline > *now + Duration::from_secs(1) {
            return Poll::Pending; // the close timeout: in these models nobody is that late
        }
        *now = deadline.max(*now);
        Poll::Ready(())
    }

    fn reset(&mut self, deadline: Instant) {
        self.0 = deadline;
    }
}

struct Wire(Mutex<Ends>);

#[derive(Default)]
struct Ends {
    to_session: VecDeque<RawFrame>,
    receive_waker: Option<Waker>,
    encoded: VecDeque<RawFrame>,
    to_peer: VecDeque<RawFrame>,
    writable: bool,
    send_waker: Option<Waker>,
    peer_waker: Option<Waker>,
}

struct Peer(Arc<Wire>);

impl Peer {
    fn send(&self, frame: RawFrame) {
        let waker = {
            let mut ends = self.0.0.lock().unwrap();
            ends.to_session.push_back(frame);
            ends.receive_waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn set_writable(&self) {
        let waker = {
            let mut ends = self.0.0.lock().unwrap();
            ends.writable = true;
            ends.send_waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits until the session has written a frame of this kind.
    async fn next(&self, opcode: OpCode) {
        std::future::poll_fn(|cx| {
            let mut ends = self.0.0.lock().unwrap();
            while let Some(frame) = ends.to_peer.pop_front() {
                if frame.opcode == opcode {
                    return Poll::Ready(());
                }
            }
            ends.peer_waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

struct Pipe(Arc<Wire>);

impl Transport for Pipe {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        _: usize,
    ) -> Poll<Result<Option<RawFrame>, Error>> {
        let mut ends = self.0.0.lock().unwrap();
        if let Some(frame) = ends.to_session.pop_front() {
            return Poll::Ready(Ok(Some(frame)));
        }
        ends.receive_waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let full = !self.0.0.lock().unwrap().encoded.is_empty();
        if full { self.poll_flush(cx) } else { Poll::Ready(Ok(())) }
    }

    fn start_send(&mut self, frame: RawFrame) -> Result<(), Error> {
        self.0.0.lock().unwrap().encoded.push_back(frame);
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let waker = {
            let mut ends = self.0.0.lock().unwrap();
            let ends = &mut *ends;
            if ends.encoded.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if !ends.writable {
                ends.send_waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            ends.to_peer.append(&mut ends.encoded);
            ends.peer_waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_flush(cx)
    }
}
