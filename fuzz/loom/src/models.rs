//! A session, its task and its peer as threads of loom's.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use drivetrain_engine::{
    Bytes, CloseReason, Connection, Error, Instant, MessagePart, OpCode, RawFrame, Result, Role,
    Rsv, Runtime, Timer, Transform, Transport,
};
use loom::{future::block_on, sync::Mutex, thread};

use drivetrain_session::{Extensions, MessageKind, Session, SessionConfig};

/// A model with a client's session, a thread for the session task and a thread for the peer; `app` is the application.
/// Prints the number of orders.
fn model(
    name: &str,
    writable: bool,
    peer: impl Fn(Peer) + Send + Sync + Copy + 'static,
    app: impl Fn(Session) + Send + Sync + Copy + 'static,
) {
    model_of(Role::Client, name, writable, peer, app);
}

/// The same with a session of this role.
fn model_of(
    role: Role,
    name: &str,
    writable: bool,
    peer: impl Fn(Peer) + Send + Sync + Copy + 'static,
    app: impl Fn(Session) + Send + Sync + Copy + 'static,
) {
    model_with(false, role, name, writable, peer, app);
}

/// The same with an extension.
fn model_with(
    has_extension: bool,
    role: Role,
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
        let mut config = SessionConfig::new("loom");
        config.outgoing_capacity = 10;
        let connection = Connection::new(Pipe(Arc::clone(&wire))).with_role(role);
        let extensions = has_extension.then(|| (Rsv::NONE, Box::new(Yields) as Box<dyn Transform>));
        let session = Session::builder(connection, runtime.clone(), Arc::new(config))
            .extensions(Extensions::new(extensions.into_iter().collect()))
            .open();
        let session_task = runtime.0.lock().unwrap().take().expect("the session task was spawned");
        let session_task = thread::spawn(|| block_on(session_task));
        let peer = thread::spawn(move || peer(Peer(wire)));
        app(session);
        session_task.join().unwrap();
        peer.join().unwrap();
    });
    let orders = orders.load(core::sync::atomic::Ordering::Relaxed);
    println!("loom {name} ({role:?}): {orders} orders");
}

/// What a peer sends between two waits of the application is seen, whichever task was about to look.
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

/// The session task's grace timer runs out while the application begins to wait, keeps waiting, or leaves.
#[test]
fn the_session_task_reads_for_an_application_that_went_away() {
    model(
        "the_session_task_reads_for_an_application_that_went_away",
        true,
        |peer| {
            peer.send(RawFrame::new(OpCode::Text, "1"));
            peer.send(RawFrame::new(OpCode::Ping, "?"));
            block_on(peer.next(OpCode::Pong)); // for ever, if nobody reads
            peer.send(close());
        },
        |mut session| {
            assert!(block_on(session.receive()).unwrap().is_some());
            // It never receives again: only the session task can answer the ping and end the session.
            assert!(block_on(session.closed()).unwrap().clean);
        },
    );
}

/// The application polls again while the session task takes over.
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

/// What follows the first message of a burst is written by the session task, or by a flush that comes first.
#[test]
fn a_burst_is_written_by_the_session_task_or_by_a_flush() {
    model(
        "a_burst_is_written_by_the_session_task_or_by_a_flush",
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

/// A sender that waits for room continues when the socket takes something, without anybody receiving.
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

/// Two tasks wait for room: both continue.
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

/// A task waits behind another, whose future is dropped meanwhile, before its turn or when it has come.
#[test]
fn a_sender_is_woken_when_the_one_before_it_leaves() {
    model(
        "a_sender_is_woken_when_the_one_before_it_leaves",
        false,
        |peer| peer.set_writable(),
        |session| {
            for _ in 0..2 {
                block_on(session.send("0123456789")).unwrap();
            }
            let mut leaves = Box::pin(session.send("0123456789"));
            let _ = leaves.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            let outgoing = session.outgoing();
            let other = thread::spawn(move || block_on(outgoing.send("0123456789")).unwrap());
            drop(leaves);
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

/// One half waits for input while a task with the other closes. A client's task then waits for the end of the stream, a
/// server's for nothing.
#[test]
fn a_receiver_learns_that_another_task_has_closed() {
    for role in [Role::Client, Role::Server] {
        model_of(
            role,
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
}

/// A server's session whose peer breaks a rule ends its direction of the stream and is over when the peer has gone.
#[test]
fn a_server_ends_with_a_peer_that_broke_a_rule() {
    model_of(
        Role::Server,
        "a_server_ends_with_a_peer_that_broke_a_rule",
        true,
        |peer| {
            peer.send(RawFrame::new(OpCode::Continuation, "of nothing"));
            block_on(peer.next(OpCode::Close));
            peer.send(close());
        },
        |mut session| assert!(block_on(session.receive()).is_err()),
    );
}

/// The last word: a session that is dropped while its peer is busy leaves no task behind.
#[test]
fn a_dropped_session_ends_its_session_task() {
    model(
        "a_dropped_session_ends_its_session_task",
        true,
        |peer| peer.send(RawFrame::new(OpCode::Ping, "?")),
        drop,
    );
}

/// The session task reads, and so needs the extensions, while the application sends and receives: the second one is served
/// by the one that has them, or woken.
#[test]
fn an_extension_is_waited_for_by_those_who_need_it() {
    model_with(
        true,
        Role::Client,
        "an_extension_is_waited_for_by_those_who_need_it",
        true,
        |peer| {
            peer.send(RawFrame::new(OpCode::Text, "1"));
            block_on(peer.next(OpCode::Text)); // for ever, if it is never written
            peer.send(close());
        },
        |mut session| {
            block_on(session.send("2")).unwrap();
            block_on(session.flush()).unwrap();
            let first = block_on(session.receive()).unwrap().expect("a message");
            assert_eq!(first.read_text(), Some("1"));
            assert!(block_on(session.receive()).unwrap().is_none());
        },
    );
}

/// The session is dropped while its task may have the extensions: what was accepted goes out, and the Close.
#[test]
fn an_extension_may_run_when_the_session_is_dropped() {
    model_with(
        true,
        Role::Client,
        "an_extension_may_run_when_the_session_is_dropped",
        true,
        |peer| {
            peer.send(RawFrame::new(OpCode::Text, "1"));
            block_on(peer.next(OpCode::Text));
            block_on(peer.next(OpCode::Close));
        },
        |session| {
            block_on(session.send("2")).unwrap();
            drop(session);
        },
    );
}

/// Lets other threads run in the middle of each call.
#[derive(Debug)]
struct Yields;

impl Transform for Yields {
    fn incoming(&mut self, part: &mut MessagePart, _: usize) -> Result<Bytes> {
        thread::yield_now();
        Ok(std::mem::take(&mut part.payload))
    }

    fn outgoing(&mut self, _: &mut MessagePart) -> Result<()> {
        thread::yield_now();
        Ok(())
    }
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
        assert!(self.0.lock().unwrap().replace(future).is_none(), "one session task");
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
    /// The peer has sent its Close, and then ended the stream.
    closed: bool,
    ended: bool,
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
            ends.closed |= frame.opcode == OpCode::Close;
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

/// A peer that has closed ends the stream when it goes.
impl Drop for Peer {
    fn drop(&mut self) {
        let waker = {
            let mut ends = self.0.0.lock().unwrap();
            ends.ended = ends.closed;
            ends.receive_waker.take().filter(|_| ends.ended)
        };
        if let Some(waker) = waker {
            waker.wake();
        }
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
        if ends.ended {
            return Poll::Ready(Ok(None));
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
