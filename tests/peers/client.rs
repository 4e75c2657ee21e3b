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
mod engines;
mod http2;
mod lab;
mod mqtt;
mod mutual;
mod proxy;
mod tunnel;

use std::{env, io, path::PathBuf, process::ExitCode};

use drivetrain::{Capability, engine};

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
    // The other engines need no tokio, so they get none.
    if ["async-std", "smol"].iter().any(|runtime| name.ends_with(runtime)) {
        return lab::block_on(all(name, start, dir));
    }
    tokio::runtime::Runtime::new()?.block_on(all(name, start, dir))
}

async fn all(name: &str, start: PathBuf, dir: PathBuf) -> Result<bool, Failure> {
    let mut passed = true;
    for line in std::fs::read_to_string(dir.join("run/peers"))?.lines() {
        let (peer, state) = line.split_once(' ').ok_or("run/peers has a line without a state")?;
        let state = State::read(state)?;
        let lab = Lab::new(peer, state, name, &start, &dir)?;
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
        "nginx-mutual" => &[mutual::EVERY],
        "haproxy" => &[echo::EVERY, echo::SEES_FRAMES, http2::EVERY],
        "tinyproxy" | "microsocks" => &[tunnel::EVERY],
        "chromium" => &[devtools::EVERY],
        "mosquitto" => &[mqtt::EVERY],
        _ => return Err(format!("no scenarios for {peer}").into()),
    };
    Ok(lists.concat())
}
