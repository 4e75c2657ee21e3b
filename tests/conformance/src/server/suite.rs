//! The cases as trials: each on its own thread, with a watchdog.

use std::{panic, process::ExitCode, sync::Arc, thread};

use libtest_mimic::{Arguments, Failed, Trial};

use super::{
    ServerSubject,
    cases::{self, ServerCase},
    context::ServerContext,
};
use crate::suite::{conclude, message_of, watched};

/// An unfiltered run with fewer cases per server fails.
const FEWEST: usize = 200;

/// Each case of the server half as a trial for libtest-mimic, named `subject::topic::behaviour`.
pub fn server_trials(subject: impl ServerSubject) -> Vec<Trial> {
    let subject: Arc<dyn ServerSubject> = Arc::new(subject);
    cases::all()
        .into_iter()
        .map(|case| {
            let name = format!("{}::{}", subject.name(), case.name);
            let subject = Arc::clone(&subject);
            Trial::test(name.clone(), move || run_case(subject, name, case))
        })
        .collect()
}

/// Runs each case whose name contains `filter`, one after the other on this thread. Returns names and failures. For a
/// test that expects a server to fail, such as a deliberately broken one.
pub fn server_verdicts(
    subject: impl ServerSubject,
    filter: &str,
) -> Vec<(String, Result<(), String>)> {
    let subject: Arc<dyn ServerSubject> = Arc::new(subject);
    let cases = cases::all().into_iter().filter(|case| case.name.contains(filter));
    cases
        .map(|case| {
            let (subject, name) = (Arc::clone(&subject), case.name.clone());
            let run = panic::AssertUnwindSafe(|| run_case(subject, name.clone(), case));
            let verdict = message_of(panic::catch_unwind(run));
            (name, verdict)
        })
        .collect()
}

/// The `main` of a test target with `harness = false`: runs the server half over these servers, with the arguments of
/// `cargo test`. Three cases run per core, because most cases mostly wait. Fails if an unfiltered run has too few cases.
pub fn run_servers(subjects: Vec<Box<dyn ServerSubject>>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(3 * thread::available_parallelism().map_or(1, Into::into));
    let fewest = FEWEST * subjects.len().max(1);
    conclude(&arguments, subjects.into_iter().flat_map(server_trials).collect(), fewest)
}

fn run_case(subject: Arc<dyn ServerSubject>, name: String, case: ServerCase) -> Result<(), Failed> {
    let limit = case.limit;
    watched(name, limit, move || {
        let cx = ServerContext::new(subject);
        case.run(&cx)?;
        cx.nothing_is_left_behind()
    })
}
