//! What sessions cost, and what they leave: memory, allocations, task switches, files, tasks.
//!
//! Each trial is a process of its own, this program started again: an allocator counts all of a process, and a process
//! that has done something before has memory that another one has not. The allocator is the same for all.
//! `cargo test --features full --test resources -- --nocapture` prints what is measured.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a trial fails by panicking and reports"
)]

mod bomb;
mod faults;
mod hostile_memory;
mod many;
mod memory;
mod per_message;
mod pinned_memory;
mod stream_memory;
mod subscriber;
#[cfg(target_os = "linux")]
mod uploads;

use std::{
    alloc::System,
    env,
    process::{Command, ExitCode},
    sync::Arc,
};

use drivetrain::{
    Capability,
    engine::{self, Engine},
};
use libtest_mimic::{Arguments, Failed, Trial};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Says to a process which trial it is. Its own children have it too.
const TRIAL: &str = "DRIVETRAIN_TRIAL";

/// What runs once.
const TRIALS: &[(&str, fn())] = &[
    #[cfg(target_os = "linux")]
    (
        "bomb::a_gibibyte_of_one_mebibyte_costs_no_more_than_the_limit",
        bomb::a_gibibyte_of_one_mebibyte_costs_no_more_than_the_limit,
    ),
    #[cfg(target_os = "linux")]
    (
        "hostile_memory::what_is_announced_costs_nothing",
        hostile_memory::what_is_announced_costs_nothing,
    ),
    (
        "memory::a_session_costs_at_most_two_kibibytes_above_its_engine",
        memory::a_session_costs_at_most_two_kibibytes_above_its_engine,
    ),
    (
        "per_message::a_message_costs_no_allocation_and_no_task_switch_above_its_engine",
        per_message::a_message_costs_no_allocation_and_no_task_switch_above_its_engine,
    ),
    (
        "pinned_memory::what_waits_for_an_application_takes_at_most_four_times_the_capacity",
        pinned_memory::what_waits_for_an_application_takes_at_most_four_times_the_capacity,
    ),
    (
        "subscriber::it_may_use_the_session_and_may_panic",
        subscriber::it_may_use_the_session_and_may_panic,
    ),
];

type OfEngine = fn(Arc<dyn Engine>);

/// What runs once for each engine.
const TRIALS_OF_ENGINES: &[(&str, OfEngine)] = &[
    ("faults::sessions_under_faults", faults::sessions_under_faults),
    ("many::sessions_at_once", many::sessions_at_once),
    (
        "stream_memory::a_streamed_message_is_not_held",
        stream_memory::a_streamed_message_is_not_held,
    ),
    #[cfg(target_os = "linux")]
    ("uploads::nothing_is_held_after_the_answers", uploads::nothing_is_held_after_the_answers),
];

fn main() -> ExitCode {
    if let Ok(name) = env::var(TRIAL) {
        run(&name);
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let is_verbose = arguments.nocapture;
    let trials = names().into_iter();
    let trials =
        trials.map(|name| Trial::test(name.clone(), move || in_a_process(&name, is_verbose)));
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn names() -> Vec<String> {
    let mut names: Vec<_> = TRIALS.iter().map(|(name, _)| (*name).to_owned()).collect();
    for (name, _) in TRIALS_OF_ENGINES {
        names.extend(engines().iter().map(|engine| format!("{name}::{}", engine.name())));
    }
    names
}

fn engines() -> Vec<Arc<dyn Engine>> {
    let mut engines = engine::all();
    engines.retain(|engine| engine.support(Capability::WebSockets).is_offered());
    engines
}

/// Starts this program again for one trial.
fn in_a_process(name: &str, is_verbose: bool) -> Result<(), Failed> {
    let output = Command::new(env::current_exe()?).env(TRIAL, name).output()?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    if !output.status.success() {
        return Err(format!("{}\n{said}", output.status).into());
    }
    if is_verbose {
        print!("{said}");
    }
    Ok(())
}

/// The trial itself.
fn run(name: &str) {
    if let Some((_, trial)) = TRIALS.iter().find(|(one, _)| *one == name) {
        return trial();
    }
    let (trial, engine) = name.rsplit_once("::").expect("a trial of an engine");
    let (_, trial) = TRIALS_OF_ENGINES.iter().find(|(one, _)| *one == trial).expect("a trial");
    trial(engines().into_iter().find(|one| one.name() == engine).expect("an engine"));
}

/// Bytes of this process's heap that are in use.
fn allocated() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}
