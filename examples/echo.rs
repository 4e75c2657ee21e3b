//! The main job: every engine in the build, over a real socket, step by step.
//!
//! `cargo run --example echo --features full` starts an echo server on loopback and takes each engine
//! through it. `cargo run --example echo --features full -- ws://host:port/path` does the same against your
//! own echo server. The program exits non-zero if any step fails.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]

use std::{process::ExitCode, sync::Arc, time::Duration};

use drivetrain::{
    Capability, CloseReason, ErrorKind, HttpClient, Json, Result, Session, WebSockets,
    engine::{self, Engine},
};
use drivetrain_conformance::peer::EchoServer;
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Greeting {
    to: String,
    times: u32,
}

/// The server of the steps.
struct Target {
    http: String,
    web_socket: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    // Dropping the server stops it; `None` is the user's own server.
    let mut server = None;
    let target = match std::env::args().nth(1) {
        Some(url) => Target { http: url.replacen("ws", "http", 1), web_socket: url },
        None => {
            let server = server.insert(EchoServer::start());
            Target { http: server.http_url("/get"), web_socket: server.ws_url("/echo") }
        }
    };
    let mut failed = 0;
    for engine in engine::all() {
        let name = engine.name().to_owned();
        if let Err(error) = take_through(engine, &target).await {
            eprintln!("{name:15} FAILED: {error}");
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                eprintln!("{:15}   because {error}", "");
                cause = error.source();
            }
            failed += 1;
        }
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn take_through(engine: Arc<dyn Engine>, target: &Target) -> Result<()> {
    let name = engine.name().to_owned();
    let step = |what: &str, detail: String| println!("{name:15} {what:12} {detail}");

    let response = HttpClient::new(Arc::clone(&engine)).get(&target.http).send().await?;
    step("HTTP GET", format!("{} {:?}", response.status(), response.version()));

    if !engine.support(Capability::WebSockets).is_offered() {
        let refused = HttpClient::new(engine).web_socket(&target.web_socket).connect().await;
        let error = refused.expect_err("it said that it has no WebSockets");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        step("WebSocket", error.to_string());
        return Ok(());
    }

    let plugin = WebSockets::new().ping_interval(Duration::from_secs(20)).converter(Json);
    let client = HttpClient::builder(engine).install(plugin).build()?;
    let mut session = client.web_socket(&target.web_socket).connect().await?;
    echo(&mut session, "hello".into()).await?;
    step("text", "hello was echoed".into());
    echo(&mut session, vec![7; 100_000].into()).await?;
    step("binary", "100000 bytes were echoed".into());
    step("ping", format!("round trip {:?}", session.ping().await?));

    let greeting = Greeting { to: "world".into(), times: 3 };
    session.send_serialized(&greeting).await?;
    let back: Greeting = session.receive_deserialized().await?;
    check(back == greeting, "the echoed value differs")?;
    step("JSON", format!("{back:?} was echoed"));

    let outcome = session.close(CloseReason::normal()).await?;
    check(outcome.clean, "the close was not clean")?;
    step("close", outcome.to_string());
    Ok(())
}

async fn echo(session: &mut Session, frame: drivetrain::Frame) -> Result<()> {
    session.send(frame.clone()).await?;
    check(session.receive().await? == Some(frame), "something else was echoed")
}

fn check(holds: bool, message: &'static str) -> Result<()> {
    if holds { Ok(()) } else { Err(drivetrain::Error::other(message)) }
}
