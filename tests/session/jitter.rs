//! Sessions that a client opened at the same moment do not ping at the same moment, and time that passes while
//! nothing runs kills no peer, in virtual time.
#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use drivetrain::{
    Body, Capability, HttpClient, OpCode, Result, Support, WebSockets,
    engine::{Answer, Engine, Handshake, Instant, Runtime, Timer, async_trait},
    testing::{PipePeer, TestRuntime, pipe},
};

const INTERVAL: Duration = Duration::from_secs(32);
const SESSIONS: usize = 200;

/// Opens pipes.
#[derive(Debug)]
struct Pipes {
    runtime: TestRuntime,
    peers: Arc<Mutex<Vec<PipePeer>>>,
}

#[async_trait]
impl Engine for Pipes {
    fn name(&self) -> &str {
        "pipes"
    }

    fn support(&self, _: Capability) -> Support {
        Support::Offered
    }

    fn runtime(&self) -> Result<Arc<dyn Runtime>> {
        Ok(Arc::new(Chance(self.runtime.clone())))
    }

    async fn execute(&self, _: http::Request<Body>) -> Result<http::Response<Body>> {
        unreachable!("no HTTP here")
    }

    async fn connect(&self, _: Handshake) -> Result<Answer> {
        let (connection, peer) = pipe();
        self.peers.lock().unwrap().push(peer);
        Ok(Answer::Open(connection))
    }
}

/// A test's clock with chance, which it leaves none.
#[derive(Debug)]
struct Chance(TestRuntime);

impl Runtime for Chance {
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send + 'static>>) {
        self.0.spawn(future);
    }

    fn now(&self) -> Instant {
        self.0.now()
    }

    fn timer(&self, deadline: Instant) -> Box<dyn Timer> {
        self.0.timer(deadline)
    }
}

#[test]
fn sessions_opened_together_do_not_ping_together() {
    let (runtime, peers) = (TestRuntime::new(), Arc::default());
    let engine = Pipes { runtime: runtime.clone(), peers: Arc::clone(&peers) };
    let plugin = WebSockets::new().ping_interval(INTERVAL).ping_timeout(100 * INTERVAL);
    let client = HttpClient::builder(engine).install(plugin).build().unwrap();
    let open = || runtime.block_on(client.web_socket("ws://127.0.0.1:1/").connect()).unwrap();
    let sessions: Vec<_> = (0..SESSIONS).map(|_| open()).collect();

    // How many ping in each second of two intervals.
    let pings = || {
        runtime.advance(Duration::from_secs(1));
        let mut peers = peers.lock().unwrap();
        let received = peers.iter_mut().flat_map(|peer| std::iter::from_fn(|| peer.receive()));
        received.filter(|frame| frame.opcode == OpCode::Ping).count()
    };
    let seconds: Vec<usize> = (0..64).map(|_| pings()).collect();
    assert_eq!(seconds[..3], [0; 3], "none comes at once");
    for (whole, of) in [(&seconds[3..32], "the first"), (&seconds[32..64], "the second")] {
        let most = whole.iter().max().unwrap();
        assert!(*most < SESSIONS / 8, "{of} interval: {seconds:?}");
        assert_eq!(whole.iter().sum::<usize>(), SESSIONS, "{of} interval: {seconds:?}");
    }
    drop(sessions);
}

/// A clock that can advance while nothing runs, as in a debugger.
#[derive(Clone, Debug)]
struct Stalling {
    runtime: TestRuntime,
    stood: Arc<Mutex<Duration>>,
}

impl Stalling {
    fn inner(&self, deadline: Instant) -> Instant {
        let stood = *self.stood.lock().unwrap();
        Instant::from_origin(deadline.since_origin().saturating_sub(stood))
    }
}

impl Runtime for Stalling {
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send + 'static>>) {
        self.runtime.spawn(future);
    }

    fn now(&self) -> Instant {
        self.runtime.now() + *self.stood.lock().unwrap()
    }

    fn timer(&self, deadline: Instant) -> Box<dyn Timer> {
        let timer = self.runtime.timer(self.inner(deadline));
        Box::new(StallingTimer { timer, clock: self.clone() })
    }

    fn random(&self) -> u32 {
        0
    }
}

struct StallingTimer {
    timer: Box<dyn Timer>,
    clock: Stalling,
}

impl Timer for StallingTimer {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.poll(cx)
    }

    fn reset(&mut self, deadline: Instant) {
        let deadline = self.clock.inner(deadline);
        self.timer.reset(deadline);
    }
}

/// Opens a pipe on a clock that can stand still.
#[derive(Debug)]
struct StallingPipes(Stalling, Pipes);

#[async_trait]
impl Engine for StallingPipes {
    fn name(&self) -> &str {
        "stalling pipes"
    }

    fn support(&self, _: Capability) -> Support {
        Support::Offered
    }

    fn runtime(&self) -> Result<Arc<dyn Runtime>> {
        Ok(Arc::new(self.0.clone()))
    }

    async fn execute(&self, _: http::Request<Body>) -> Result<http::Response<Body>> {
        unreachable!("no HTTP here")
    }

    async fn connect(&self, handshake: Handshake) -> Result<Answer> {
        self.1.connect(handshake).await
    }
}

#[test]
fn a_pong_that_lies_unread_after_a_stall_is_a_sign_of_life() {
    let seconds = Duration::from_secs;
    for answers in [true, false] {
        let (runtime, peers) = (TestRuntime::new(), Arc::default());
        let clock = Stalling { runtime: runtime.clone(), stood: Arc::default() };
        let pipes = Pipes { runtime: runtime.clone(), peers: Arc::clone(&peers) };
        let plugin = WebSockets::new().ping_interval(seconds(20)).ping_timeout(seconds(10));
        let engine = StallingPipes(clock.clone(), pipes);
        let client = HttpClient::builder(engine).install(plugin).build().unwrap();
        let connect = client.web_socket("ws://127.0.0.1:1/").connect();
        let session = runtime.block_on(connect).unwrap();
        runtime.advance(seconds(20));
        let mut peer = peers.lock().unwrap().pop().unwrap();
        let ping = peer.receive().unwrap();
        assert_eq!(ping.opcode, OpCode::Ping);

        *clock.stood.lock().unwrap() = seconds(3600);
        // The session task runs for something else, before the reactor has seen what came in.
        let pinging = session.ping();
        let mut pinging = std::pin::pin!(pinging);
        assert!(runtime.poll_now(pinging.as_mut()).is_none());
        runtime.settle();
        if answers {
            peer.send(drivetrain::RawFrame::new(OpCode::Pong, ping.payload));
        }
        runtime.advance(seconds(5));
        assert_eq!(peer.is_dropped(), !answers, "alive if it answers, and else found dead soon");
    }
}
