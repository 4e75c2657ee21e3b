//! What a session costs in memory beyond its engine: counted by an allocator.

use std::time::Duration;

use drivetrain::{HttpClient, OpCode, RawFrame, RawSession, Session};
use drivetrain_conformance::peer::EchoServer;

use crate::allocated;

const SESSIONS: usize = 200;
const ROUNDS: usize = 4;

/// A raw session is the engine's own connection and nothing else: the difference is the session's.
///
/// All of this process is counted, the server's threads and the runtimes' tables too. Each session sends one
/// message to and fro, so that both sides have made what they make at first use, and the smallest of some
/// differences is taken: a table that doubles in one round does not in the next.
pub(crate) fn a_session_costs_at_most_two_kibibytes_above_its_engine() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for engine in crate::engines() {
        let name = engine.name().to_owned();
        let server = EchoServer::start();
        let client = HttpClient::new(engine);
        let url = server.ws_url("/echo");
        let idle = || {
            assert!(server.wait_until_idle(Duration::from_secs(60)), "{name}: idle");
            // The tasks of what was dropped end when the runtime runs; not while the next is counted.
            runtime.block_on(async {
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
            });
        };
        let differences = (0..ROUNDS).map(|_| {
            let (bare, raw) = counted(|| runtime.block_on(raw_sessions(&client, &url)));
            drop(raw);
            idle();
            let (whole, sessions) = counted(|| runtime.block_on(sessions(&client, &url)));
            drop(sessions);
            idle();
            whole.saturating_sub(bare)
        });
        let per_session = differences.min().unwrap() / SESSIONS;
        println!("{name}: {per_session} bytes a session above the engine's own");
        assert!(per_session > 0, "{name}: nothing was counted");
        assert!(per_session <= 2048, "{name}: {per_session} bytes");
    }
}

/// What `make` makes, and what is allocated more than before.
fn counted<T>(make: impl FnOnce() -> T) -> (usize, T) {
    let before = allocated();
    let made = make();
    (allocated().saturating_sub(before), made)
}

async fn raw_sessions(client: &HttpClient, url: &str) -> Vec<RawSession> {
    let mut all = Vec::with_capacity(SESSIONS);
    for _ in 0..SESSIONS {
        let mut session = client.web_socket(url).connect_raw().await.unwrap();
        session.send(RawFrame::new(OpCode::Text, "hello")).await.unwrap();
        assert_eq!(session.receive().await.unwrap().unwrap().payload.as_ref(), b"hello");
        all.push(session);
    }
    all
}

async fn sessions(client: &HttpClient, url: &str) -> Vec<Session> {
    let mut all = Vec::with_capacity(SESSIONS);
    for _ in 0..SESSIONS {
        let mut session = client.web_socket(url).connect().await.unwrap();
        session.send("hello").await.unwrap();
        assert_eq!(session.receive().await.unwrap().unwrap().read_text(), Some("hello"));
        // Waits once, as in use.
        tokio::select! {
            biased;
            frame = session.receive() => panic!("nobody sent {frame:?}"),
            () = tokio::task::yield_now() => {}
        }
        all.push(session);
    }
    all
}
