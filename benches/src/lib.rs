//! Every engine of drivetrain beside its raw library in its natural use: `docs/benchmarks.md` says what
//! is measured and how to read it.
//!
//! | file | what it is |
//! |---|---|
//! | `arguments`, this one | the command line |
//! | `compare`, `report` | the bench: interleaved rounds over loopback, medians, ratios, JSON |
//! | `instructions`, `callgrind`, `profile`, `wire` | instructions per message, over an in-memory connection |
//! | `memory` | resident bytes per session |
//! | `work`, `contender`, `libraries` | what is done, by whom |
//! | `worker`, `partner` | each contender in a process of its own |
//! | `server`, `service` | the other side, in a process of its own |
//! | `clock` | CPU time and resident memory |
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that reports")]

mod arguments;
mod callgrind;
mod clock;
mod compare;
mod contender;
mod instructions;
mod libraries;
mod memory;
mod partner;
mod profile;
mod report;
mod server;
mod service;
mod wire;
mod work;
mod worker;

use std::process::ExitCode;

use arguments::{Arguments, Mode};

type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T, E = Error> = std::result::Result<T, E>;

/// Runs what the command line asks for.
pub fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}\n\n{}", arguments::USAGE);
            return ExitCode::from(2);
        }
    };
    let done = match &arguments.mode {
        Mode::Help => {
            println!("{}", arguments::USAGE);
            Ok(())
        }
        Mode::Compare => compare::run(&arguments),
        Mode::Instructions => instructions::run(&arguments),
        Mode::Count { contender } => callgrind::work(contender),
        Mode::Memory => memory::run(&arguments),
        Mode::Work { contender, port } => worker::work(contender, *port),
        Mode::Serve => server::serve(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
