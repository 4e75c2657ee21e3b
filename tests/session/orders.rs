//! A session whose tasks run in an order that the test chooses: any order, or one in which the session task runs late.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use drivetrain::{
    Body, Capability, CloseReason, Error, ErrorKind, HttpClient, OpCode, Outcome, RawFrame, Result,
    Session, Support, WebSockets, http,
};
use drivetrain_engine::{
    Answer, Connection, Engine, Handshake, Instant, Runtime, Timer, Transport, async_trait,
};

const SECOND: Duration = Duration::from_secs(1);

/// The tasks are a reader that reads to the end or leaves early, a task that closes meanwhile, the session task and the
/// peer. None of them waits for ever, and nothing of the message is lost.
#[test]
fn closing_while_a_message_is_read_wakes_everybody_in_every_order() {
    for seed in 0..5_000 {
        let mut random = Random(seed);
        let capacity = [1, 100, 1000, 1 << 20][random.below(4)];
        let (harness, wire) = (Harness::default(), Wire::default());
        let session = harness.open(&wire, WebSockets::new().incoming_capacity(capacity));
        let parts = 1 + random.below(100);
        let (reads, seen) = (random.below(5) > 0, Arc::new(Mutex::new(None)));
        wire.brings([part(OpCode::Binary, false)]);
        harness.spawn(Box::pin(peer(wire.clone(), parts, Random(seed ^ 1))));
        harness.spawn(Box::pin(reader(harness.clone(), session, reads, Arc::clone(&seen))));
        while harness.run_one(&mut random) {
            if random.below(50) == 0 && harness.now() < Instant::from_origin(2 * SECOND) {
                harness.advance(SECOND / 2); // the session task checks for a reader
            }
        }
        let seen = seen.lock().unwrap().take();
        let (size, outcome) = seen.unwrap_or_else(|| panic!("somebody waits for ever: {seed}"));
        assert!(outcome.clean, "{seed}: {outcome}");
        assert_eq!(outcome.discarded, u64::from(!reads), "{seed}: {outcome}");
        assert!(size == 10 * (parts + 1) || !reads, "{seed}: {size} of {parts} parts");
    }
}

/// Sends the rest of the message when the Close has come, in reads of any size, and its own Close with the last.
async fn peer(wire: Wire, parts: usize, mut random: Random) {
    std::future::poll_fn(|cx| wire.poll_sent(cx, OpCode::Close)).await;
    let mut rest: VecDeque<_> =
        (1..=parts).map(|number| part(OpCode::Continuation, number == parts)).collect();
    rest.push_back(close());
    while !rest.is_empty() {
        let size = 1 + random.below(rest.len());
        wire.brings(rest.drain(..size));
        yield_now().await;
    }
}

type Seen = Arc<Mutex<Option<(usize, Outcome)>>>;

async fn reader(harness: Harness, mut session: Session, reads: bool, seen: Seen) {
    let outgoing = session.outgoing();
    let mut reader = session.receive_stream().await.unwrap().unwrap();
    harness.spawn(Box::pin(async move {
        assert!(outgoing.close(CloseReason::normal()).await.unwrap().clean);
    }));
    let mut size = 0;
    while let Some(chunk) = reader.chunk().await.unwrap() {
        size += chunk.len();
        if !reads {
            break;
        }
    }
    drop(reader);
    let outcome = session.closed().await.unwrap();
    *seen.lock().unwrap() = Some((size, outcome));
}

/// The peer has answered in time, but nobody had the time to see it.
#[test]
fn who_stood_still_finds_the_answer_before_it_is_missed() {
    for reactor_comes_later in [false, true] {
        let (harness, wire) = (Harness::default(), Wire::default());
        let session = harness.open(&wire, WebSockets::new().close_timeout(5 * SECOND));
        let seen = harness.closes(session);
        harness.settle();
        wire.hold(reactor_comes_later);
        wire.brings((0..200).map(|_| RawFrame::new(OpCode::Text, "before it")).chain([close()]));
        harness.advance(7 * SECOND);
        harness.settle();
        wire.hold(false);
        harness.settle();
        let outcome = seen.lock().unwrap().take();
        let (_, outcome) = outcome.expect("it is answered, and over");
        assert!(outcome.clean, "{outcome}");
    }
}

/// A look more is all that a peer gets who does not answer.
#[test]
fn who_stood_still_does_not_wait_for_ever() {
    let (harness, wire) = (Harness::default(), Wire::default());
    let session = harness.open(&wire, WebSockets::new().close_timeout(5 * SECOND));
    let seen = harness.closes(session);
    harness.settle();
    harness.advance(7 * SECOND);
    harness.settle();
    assert!(seen.lock().unwrap().is_none(), "the answer may lie there unread");
    harness.advance(SECOND);
    harness.settle();
    let (_, outcome) = seen.lock().unwrap().take().expect("it is over");
    assert_eq!(outcome.error.unwrap().kind(), ErrorKind::Timeout);
}

/// Who takes messages as fast as they come is helped with what an inbox holds, and no more.
#[test]
fn a_flood_that_is_taken_is_not_for_the_session_task() {
    const MESSAGES: usize = 200_000;
    let (harness, wire) = (Harness::default(), Wire::default());
    let mut session = harness.open(&wire, WebSockets::new());
    let flood = (0..MESSAGES).map(|number| RawFrame::new(OpCode::Text, number.to_string()));
    wire.brings(flood.chain([close()]));
    harness.spawn(Box::pin(async move {
        for number in 0..MESSAGES {
            let received = session.receive().await.unwrap().unwrap();
            assert_eq!(received.read_text(), Some(&*number.to_string()));
        }
        assert!(session.receive().await.unwrap().is_none());
    }));
    let (mut random, mut looks) = (Random(1), 0);
    while harness.run_one(&mut random) {
        if looks < 5 && random.below(50) == 0 {
            looks += 1;
            harness.advance(SECOND / 2);
        }
    }
    let polls = harness.polls_of_session_task();
    assert!(looks == 5 && (10..450).contains(&polls), "{polls} polls");
}

fn part(opcode: OpCode, fin: bool) -> RawFrame {
    RawFrame { fin, ..RawFrame::new(opcode, "ten bytes.") }
}

fn close() -> RawFrame {
    RawFrame::new(OpCode::Close, CloseReason::normal().to_payload())
}

async fn yield_now() {
    let mut has_yielded = false;
    std::future::poll_fn(|cx| {
        cx.waker().wake_by_ref();
        if std::mem::replace(&mut has_yielded, true) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Tasks that run one at a time when the test says so, and a clock that it moves.
#[derive(Clone, Default)]
struct Harness(Arc<Inner>);

#[derive(Default)]
struct Inner {
    tasks: Mutex<Vec<Arc<Task>>>,
    now: Mutex<Duration>,
    timers: Mutex<Vec<(Duration, Waker)>>,
}

struct Task {
    future: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    woken: AtomicBool,
    polls: AtomicUsize,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
    }
}

impl Harness {
    /// A session with its task.
    fn open(&self, wire: &Wire, plugin: WebSockets) -> Session {
        let client = HttpClient::builder(OneConnection(self.clone(), wire.clone()));
        let client = client.install(plugin).build().unwrap();
        let mut connect = Box::pin(client.web_socket("ws://anywhere/").connect());
        match connect.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(session) => session.unwrap(),
            Poll::Pending => panic!("it is there already"),
        }
    }

    fn closes(&self, session: Session) -> Seen {
        let seen = Seen::default();
        let outcome = Arc::clone(&seen);
        self.spawn(Box::pin(async move {
            let closed = session.close(CloseReason::normal()).await.unwrap();
            *outcome.lock().unwrap() = Some((0, closed));
        }));
        seen
    }

    /// Polls one of the tasks that were woken; `false` if there is none.
    fn run_one(&self, random: &mut Random) -> bool {
        let tasks = self.0.tasks.lock().unwrap().clone();
        let woken: Vec<_> =
            tasks.into_iter().filter(|task| task.woken.load(Ordering::SeqCst)).collect();
        if woken.is_empty() {
            return false;
        }
        let task = &woken[random.below(woken.len())];
        task.woken.store(false, Ordering::SeqCst);
        task.polls.fetch_add(1, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(task));
        let mut future = task.future.lock().unwrap();
        let Some(running) = future.as_mut() else { return true };
        if running.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            *future = None;
        }
        true
    }

    /// It is the first task.
    fn polls_of_session_task(&self) -> usize {
        self.0.tasks.lock().unwrap()[0].polls.load(Ordering::SeqCst)
    }

    fn settle(&self) {
        while self.run_one(&mut Random(0)) {}
    }

    /// Moves the clock in one step, past every timer in between.
    fn advance(&self, duration: Duration) {
        let mut now = self.0.now.lock().unwrap();
        *now += duration;
        self.0.timers.lock().unwrap().retain(|(deadline, waker)| {
            let is_due = *deadline <= *now;
            if is_due {
                waker.wake_by_ref();
            }
            !is_due
        });
    }
}

impl std::fmt::Debug for Harness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Harness")
    }
}

impl Runtime for Harness {
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let task = Task {
            future: Mutex::new(Some(future)),
            woken: AtomicBool::new(true),
            polls: AtomicUsize::new(0),
        };
        self.0.tasks.lock().unwrap().push(Arc::new(task));
    }

    fn now(&self) -> Instant {
        Instant::from_origin(*self.0.now.lock().unwrap())
    }

    fn timer(&self, deadline: Instant) -> Box<dyn Timer> {
        Box::new(OrderedTimer(self.clone(), deadline))
    }

    fn random(&self) -> u32 {
        0
    }
}

struct OrderedTimer(Harness, Instant);

impl Timer for OrderedTimer {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.now() >= self.1 {
            return Poll::Ready(());
        }
        let waiter = (self.1.since_origin(), cx.waker().clone());
        self.0.0.timers.lock().unwrap().push(waiter);
        Poll::Pending
    }

    fn reset(&mut self, deadline: Instant) {
        self.1 = deadline;
    }
}

#[derive(Debug)]
struct OneConnection(Harness, Wire);

#[async_trait]
impl Engine for OneConnection {
    fn name(&self) -> &str {
        "one-connection"
    }

    fn support(&self, _: Capability) -> Support {
        Support::Offered
    }

    fn runtime(&self) -> Result<Arc<dyn Runtime>> {
        Ok(Arc::new(self.0.clone()))
    }

    async fn execute(&self, _: http::Request<Body>) -> Result<http::Response<Body>> {
        Err(Error::new(ErrorKind::Connect, "there is no HTTP"))
    }

    async fn connect(&self, _: Handshake) -> Result<Answer> {
        Ok(Answer::Open(Connection::new(self.1.clone())))
    }
}

/// A connection: what a read brings is in memory from then on.
#[derive(Clone, Debug, Default)]
struct Wire(Arc<Mutex<Ends>>);

#[derive(Debug, Default)]
struct Ends {
    to_come: VecDeque<Vec<RawFrame>>,
    buffered: VecDeque<RawFrame>,
    /// What has come is not seen by reading, as the reactor does not know of it yet.
    is_held: bool,
    receiver: Option<Waker>,
    sent: Vec<OpCode>,
    peer: Option<Waker>,
}

impl Wire {
    /// One read brings these.
    fn brings(&self, frames: impl IntoIterator<Item = RawFrame>) {
        let mut ends = self.0.lock().unwrap();
        ends.to_come.push_back(frames.into_iter().collect());
        ends.wake();
    }

    fn hold(&self, is_held: bool) {
        let mut ends = self.0.lock().unwrap();
        ends.is_held = is_held;
        ends.wake();
    }

    fn poll_sent(&self, cx: &mut Context<'_>, opcode: OpCode) -> Poll<()> {
        let mut ends = self.0.lock().unwrap();
        if ends.sent.contains(&opcode) {
            return Poll::Ready(());
        }
        ends.peer = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Ends {
    fn wake(&mut self) {
        if let Some(waker) = self.receiver.take_if(|_| !self.is_held) {
            waker.wake();
        }
    }
}

impl Transport for Wire {
    fn poll_receive(&mut self, cx: &mut Context<'_>, _: usize) -> Poll<Result<Option<RawFrame>>> {
        let mut ends = self.0.lock().unwrap();
        while ends.buffered.is_empty() {
            match (!ends.is_held).then(|| ends.to_come.pop_front()).flatten() {
                Some(read) => ends.buffered.extend(read),
                None => {
                    ends.receiver = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(ends.buffered.pop_front()))
    }

    fn try_receive_buffered(&mut self, _: usize) -> Option<Result<RawFrame>> {
        self.0.lock().unwrap().buffered.pop_front().map(Ok)
    }

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(&mut self, frame: RawFrame) -> Result<()> {
        let mut ends = self.0.lock().unwrap();
        ends.sent.push(frame.opcode);
        if let Some(peer) = ends.peer.take() {
            peer.wake();
        }
        Ok(())
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct Random(u64);

impl Random {
    /// A number below `end` (SplitMix64).
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % end as u64) as usize
    }
}
