//! The client of the Autobahn test suite: one engine through drivetrain's public API, as a user's program.
//!
//! `tests/autobahn/run` starts it with `URL`, `AGENT` (the engine's name) and optionally `JOBS`, how many cases run at once (default: 1).
#![allow(clippy::print_stderr, reason = "a program of the test suite reports")]

use std::{env, process::ExitCode, sync::Arc, time::Duration};

use drivetrain::{Frame, HttpClient, Result, WebSockets, engine};

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let variable = |name: &str| env::var(name).map_err(drivetrain::Error::other);
    let (url, agent) = (variable("URL")?, variable("AGENT")?);
    let jobs = env::var("JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1);
    let engine = engine::all()
        .into_iter()
        .find(|engine| engine.name() == agent)
        .ok_or_else(|| drivetrain::Error::other(format!("no engine `{agent}` in this build")))?;
    let plugin = WebSockets::new()
        .max_frame_size(64 << 20)
        .close_timeout(Duration::from_secs(10))
        .handshake_timeout(Duration::from_secs(30));
    #[cfg(feature = "deflate")]
    let plugin = match engine.support(drivetrain::Capability::Extensions).is_offered() {
        // Even the shortest message: the suite is about the compression.
        true => plugin.extension(drivetrain::extension::PermessageDeflate::new().min_size(0)),
        false => plugin,
    };
    let client = HttpClient::builder(engine).install(plugin).build()?;

    let count: usize = client
        .web_socket(format!("{url}/getCaseCount"))
        .run(async |session| {
            let frame = session.receive().await?;
            let text = frame.as_ref().and_then(Frame::read_text).unwrap_or_default();
            text.parse().map_err(drivetrain::Error::other)
        })
        .await?;

    let slots = Arc::new(tokio::sync::Semaphore::new(jobs));
    let mut cases = tokio::task::JoinSet::new();
    for case in 1..=count {
        let slot = Arc::clone(&slots).acquire_owned().await.map_err(drivetrain::Error::other)?;
        let url = format!("{url}/runCase?case={case}&agent={agent}");
        let client = client.clone();
        cases.spawn(async move {
            // How a case ended is the suite's to judge: many are meant to end badly.
            let _ = echo(&client, &url).await;
            drop(slot);
        });
    }
    while cases.join_next().await.is_some() {}

    // The report is written before the server's Close.
    let updated = client.web_socket(format!("{url}/updateReports?agent={agent}"));
    let _ = updated.run(async |session| session.receive().await).await;
    Ok(())
}

async fn echo(client: &HttpClient, url: &str) -> Result<()> {
    let mut session = client.web_socket(url).connect().await?;
    while let Some(frame) = session.receive().await? {
        session.send(frame).await?;
    }
    Ok(())
}
