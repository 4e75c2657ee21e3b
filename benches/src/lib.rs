//! Every engine of drivetrain beside its raw library in its natural use: `docs/reference/benchmarks.md` says what
//! is measured and how to read it.
//!
//! | file | purpose |
//! |---|---|
//! | `arguments`, this one | the command line |
//! | `compare`, `sample`, `spread` | the main part: interleaved rounds over loopback, medians, ratios |
//! | `sessions`, `fairness`, `memory`, `idle`, `many` | many sessions, and tasks beside each other |
//! | `servers` | our server, measured beside others |
//! | `instructions`, `callgrind`, `profile`, `wire` | instructions per message, over an in-memory connection |
//! | `size` | compile time and size of a program |
//! | `results`, `goals`, `summary`, `table`, `page`, `plots`, `machine` | the report of a run |
//! | `work`, `socket`, `subject`, `libraries` | the works, and the subjects that do them |
//! | `worker`, `worker_process` | each subject in its own process |
//! | `server`, `service` | the server, in its own process |
//! | `clock`, `cores` | time, CPU time and resident memory; where processes run |
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that reports")]

mod arguments;
mod callgrind;
mod clock;
mod compare;
mod cores;
mod fairness;
mod goals;
mod idle;
mod instructions;
mod libraries;
mod machine;
mod many;
mod memory;
mod page;
mod plots;
mod profile;
mod results;
mod sample;
mod server;
#[cfg(feature = "server")]
mod servers;
mod service;
mod sessions;
mod size;
mod socket;
mod spread;
mod subject;
mod summary;
mod table;
mod wire;
mod work;
mod worker;
mod worker_process;

use std::process::ExitCode;

use arguments::{Arguments, Mode};
use results::Results;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T, E = Error> = std::result::Result<T, E>;

/// Runs the command line's mode.
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
        Mode::Count { subject } => callgrind::work(subject),
        Mode::Worker { subject, port } => worker::work(subject, *port),
        Mode::Serve => server::serve(),
        #[cfg(feature = "server")]
        Mode::Host { server } => servers::serve(server),
        _ => measure(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures the mode's parts. Prints the finished parts even if a later part fails.
fn measure(arguments: &Arguments) -> Result<()> {
    let mut results = Results::new();
    let measured = measure_parts(arguments, &mut results);
    results.give(arguments)?;
    measured?;
    match results.instructions {
        Some(instructions) => instructions.conclude(arguments),
        None => Ok(()),
    }
}

/// One part after the other.
fn measure_parts(arguments: &Arguments, results: &mut Results) -> Result<()> {
    let has = |part| arguments.mode.has(&part);
    if has(Mode::Work) {
        results.work = Some(compare::run(arguments)?);
    }
    if has(Mode::Sessions) {
        results.sessions = Some(sessions::run(arguments)?);
    }
    if has(Mode::Fairness) {
        results.fairness = Some(fairness::run(arguments)?);
    }
    if has(Mode::Memory) {
        results.memory = Some(memory::run(arguments)?);
    }
    if has(Mode::Idle) {
        results.idle = Some(idle::run(arguments)?);
    }
    #[cfg(feature = "server")]
    if has(Mode::Server) {
        results.servers = Some(servers::run(arguments)?);
    }
    #[cfg(not(feature = "server"))]
    if arguments.mode == Mode::Server {
        return Err("the mode `server` needs the feature `server`".into());
    }
    if has(Mode::Instructions) {
        results.instructions = Some(instructions::run(arguments)?);
    }
    if has(Mode::Size) {
        results.size = Some(size::run(arguments)?);
    }
    Ok(())
}
