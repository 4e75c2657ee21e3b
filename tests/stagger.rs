//! Sessions that a client opened at the same moment do not ping at the same moment, in virtual time.
#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use drivetrain::{
    Body, Capability, HttpClient, OpCode, Result, Support, WebSockets,
    engine::{Answer, Engine, Handshake, Runtime, async_trait},
    testing::{Peer, TestRuntime, pipe},
};

const INTERVAL: Duration = Duration::from_secs(32);
const SESSIONS: usize = 200;

/// Opens pipes.
#[derive(Debug)]
struct Pipes {
    runtime: TestRuntime,
    peers: Arc<Mutex<Vec<Peer>>>,
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
        Ok(Arc::new(self.runtime.clone()))
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
    let seconds: Vec<usize> = (0..48).map(|_| pings()).collect();
    assert_eq!(seconds[..15], [0; 15], "none comes before half of the interval");
    for (whole, of) in [(&seconds[15..32], "the first"), (&seconds[32..48], "the second")] {
        let most = whole.iter().max().unwrap();
        assert!(*most < SESSIONS / 4, "{of} interval: {seconds:?}");
    }
    assert_eq!(seconds[..32].iter().sum::<usize>(), SESSIONS, "no first ping is late: {seconds:?}");
    drop(sessions);
}
