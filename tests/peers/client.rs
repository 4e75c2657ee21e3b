//! The client of `tests/peers/run`: the same scenarios on one engine, against peers that are not ours,
//! through drivetrain's public API, as a user's program.
//!
//! Called with the name of an ENGINE, the script that starts a peer, and the folder where `run` installed
//! what it needs. Without arguments it prints the engines it has.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program of the test suite reports"
)]

mod devtools;
mod echo;
mod lab;
mod mqtt;
mod proxy;

use std::{env, io, path::PathBuf, process::ExitCode, sync::Arc};

use drivetrain::{
    Capability,
    engine::{self, Engine},
};

use lab::{Failure, Lab, State};

/// A scenario with the name that is printed.
type Scenario = (&'static str, for<'a> fn(&'a Lab) -> Pending<'a>);
type Pending<'a> = std::pin::Pin<Box<dyn Future<Output = Result<(), Failure>> + 'a>>;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match &arguments[..] {
        [] => {
            for engine in engine::all() {
                if engine.support(Capability::WebSockets).is_offered() {
                    println!("{}", engine.name());
                }
            }
            ExitCode::SUCCESS
        }
        [name, start, dir] => match run(name, start.into(), dir.into()) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("{name}: {error}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("usage: peers [ENGINE START DIR]");
            ExitCode::from(64)
        }
    }
}

/// Whether everything that was not skipped has passed.
fn run(name: &str, start: PathBuf, dir: PathBuf) -> Result<bool, Failure> {
    let certificate = dir.join("ca/ca.pem");
    let authority = if certificate.exists() { std::fs::read(certificate)? } else { Vec::new() };
    let engine = engine_of(name, &authority).ok_or("it is not in this build")?;
    let stranger = engine_of(name, &[]).ok_or("it is not in this build")?;
    // The other engines need no tokio, so they get none.
    if matches!(name, "async-std" | "smol") {
        return lab::block_on(all(name, engine, stranger, start, dir));
    }
    tokio::runtime::Runtime::new()?.block_on(all(name, engine, stranger, start, dir))
}

/// The engine as a user configures it who trusts this certificate authority only, or by default.
fn engine_of(name: &str, authority: &[u8]) -> Option<Arc<dyn Engine>> {
    if authority.is_empty() {
        return engine::all().into_iter().find(|engine| engine.name() == name);
    }
    #[cfg(any(feature = "fastwebsockets", feature = "tungstenite"))]
    let http = || engine::Reqwest::new().root_certificate_pem(authority).only_these_roots();
    match name {
        #[cfg(feature = "async-std")]
        "async-std" => Some(Arc::new(
            engine::AsyncStd::new().root_certificate_pem(authority).only_these_roots(),
        )),
        #[cfg(feature = "fastwebsockets")]
        "fastwebsockets" => Some(Arc::new(engine::FastWebSockets::new().http(http()))),
        #[cfg(feature = "smol")]
        "smol" => {
            Some(Arc::new(engine::Smol::new().root_certificate_pem(authority).only_these_roots()))
        }
        #[cfg(feature = "tungstenite")]
        "tungstenite" => Some(Arc::new(engine::Tungstenite::new().http(http()))),
        _ => None,
    }
}

async fn all(
    name: &str,
    engine: Arc<dyn Engine>,
    stranger: Arc<dyn Engine>,
    start: PathBuf,
    dir: PathBuf,
) -> Result<bool, Failure> {
    let mut passed = true;
    for line in std::fs::read_to_string(dir.join("run/peers"))?.lines() {
        let (peer, state) = line.split_once(' ').ok_or("run/peers has a line without a state")?;
        let state = State::read(state)?;
        let lab = Lab::new(peer, state, &engine, &stranger, &start, &dir)?;
        for (scenario, body) in scenarios(peer)? {
            let result = match &lab.state {
                State::Port(_) => lab.within(body(&lab)).await,
                State::Missing(why) => Err(why.clone().into()),
                State::Skipped => {
                    println!("{name}::{peer}::{scenario} ... skipped");
                    continue;
                }
            };
            match result {
                Ok(()) => println!("{name}::{peer}::{scenario} ... ok"),
                Err(error) => {
                    passed = false;
                    println!("{name}::{peer}::{scenario} ... FAILED: {}", lab::chain(&*error));
                }
            }
        }
    }
    io::Write::flush(&mut io::stdout())?;
    Ok(passed)
}

fn scenarios(peer: &str) -> Result<Vec<Scenario>, Failure> {
    let lists: &[&[Scenario]] = match peer {
        "websockets" => &[echo::EVERY, echo::SEES_FRAMES],
        "ws" => &[echo::EVERY, echo::NODE],
        "ws-deflate" => &[echo::EVERY, echo::NODE, echo::DEFLATES],
        "nginx" => &[echo::EVERY, echo::SEES_FRAMES, proxy::EVERY],
        "chromium" => &[devtools::EVERY],
        "mosquitto" => &[mqtt::EVERY],
        _ => return Err(format!("no scenarios for {peer}").into()),
    };
    Ok(lists.concat())
}
