//! What a session costs in memory beyond its engine: counted by an allocator.
#![cfg(feature = "tungstenite")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and reports"
)]

use std::alloc::System;

use drivetrain::{Capability, HttpClient, engine};
use drivetrain_conformance::peer::EchoServer;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SESSIONS: usize = 200;

fn allocated() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// A raw session is the engine's own connection and nothing else: the difference is the session's.
#[test]
fn a_session_costs_at_most_two_kibibytes_above_its_engine() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for engine in engine::all() {
        if !engine.support(Capability::WebSockets).is_offered() {
            continue;
        }
        let name = engine.name().to_owned();
        // The server is in this process: it costs the same for both.
        let server = EchoServer::start();
        let client = HttpClient::new(engine);
        let url = server.ws_url("/echo");
        let per_session = runtime.block_on(async {
            let mut kept = Vec::with_capacity(SESSIONS);
            let mut raw = Vec::with_capacity(SESSIONS);
            // Once for what is made at first use.
            drop(client.web_socket(&url).connect_raw().await.unwrap());
            let start = allocated();
            for _ in 0..SESSIONS {
                let mut session = client.web_socket(&url).connect_raw().await.unwrap();
                tokio::select! {
                    biased;
                    frame = session.receive() => panic!("nobody sent {frame:?}"),
                    () = tokio::task::yield_now() => {}
                }
                raw.push(session);
            }
            let bare = allocated() - start;
            let start = allocated();
            for _ in 0..SESSIONS {
                let mut session = client.web_socket(&url).connect().await.unwrap();
                // Waits once, as in use.
                tokio::select! {
                    biased;
                    frame = session.receive() => panic!("nobody sent {frame:?}"),
                    () = tokio::task::yield_now() => {}
                }
                kept.push(session);
            }
            tokio::task::yield_now().await;
            let whole = allocated() - start;
            whole.saturating_sub(bare) / SESSIONS
        });
        println!("{name}: {per_session} bytes a session above the engine's own");
        assert!(per_session <= 2048, "{name}: {per_session} bytes");
    }
}
