//! The cases as trials: each on a thread of its own, under a watchdog.

use std::{
    panic,
    process::ExitCode,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
};

use libtest_mimic::{Arguments, Conclusion, Failed, Trial};

use crate::{
    Subject,
    case::Case,
    cases,
    context::Context,
    failure::{Failure, Verdict},
};

/// A suite that ran fewer cases an engine, unfiltered, was not run.
const FEWEST: usize = 200;

/// Each case of the suite as a trial, to be run by libtest-mimic, named `subject::topic::behaviour`.
pub fn trials(subject: impl Subject) -> Vec<Trial> {
    let subject: Arc<dyn Subject> = Arc::new(subject);
    cases::all()
        .into_iter()
        .map(|case| {
            let name = format!("{}::{}", subject.name(), case.name);
            let subject = Arc::clone(&subject);
            Trial::test(name.clone(), move || run_case(subject, name, case))
        })
        .collect()
}

/// The `main` of a test target with `harness = false`: runs the suite over these engines, with the
/// arguments that `cargo test` takes; three cases a core at once, as most of them wait most of the time.
/// Fails also if it ran next to nothing.
#[allow(clippy::print_stderr, reason = "it is the test runner")]
pub fn run(subjects: Vec<Box<dyn Subject>>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(3 * thread::available_parallelism().map_or(1, Into::into));
    let fewest = FEWEST * subjects.len().max(1);
    let trials: Vec<Trial> = subjects.into_iter().flat_map(trials).collect();
    if trials.is_empty() {
        eprintln!("the suite has nothing to test: no engine was given");
        return ExitCode::FAILURE;
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    let is_partial = arguments.list
        || arguments.ignored
        || arguments.filter.is_some()
        || !arguments.skip.is_empty();
    if !is_partial && ran(&conclusion) < fewest {
        eprintln!("only {} cases ran, not {fewest} or more", ran(&conclusion));
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

fn ran(conclusion: &Conclusion) -> usize {
    usize::try_from(conclusion.num_passed + conclusion.num_failed).unwrap_or(usize::MAX)
}

fn run_case(subject: Arc<dyn Subject>, name: String, case: Case) -> Result<(), Failed> {
    let limit = case.limit;
    let (done, verdict) = mpsc::channel();
    let thread = thread::Builder::new().name(name).spawn(move || {
        // Nobody waits for the verdict of a case that the watchdog gave up.
        let _ = done.send(check(&subject, case));
    })?;
    match verdict.recv_timeout(limit) {
        Ok(verdict) => {
            // It has nothing more to do; nothing of it is left when the process ends.
            let _ = thread.join();
            verdict.map_err(Failed::from)
        }
        Err(RecvTimeoutError::Timeout) => Err(format!("it hangs: not done after {limit:?}").into()),
        Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Err(payload) => panic::resume_unwind(payload),
            Ok(()) => Err("it gave no verdict".into()),
        },
    }
}

fn check(subject: &Arc<dyn Subject>, case: Case) -> Verdict {
    let (done, verdict) = mpsc::channel();
    let future = Box::pin({
        let subject = Arc::clone(subject);
        // Nobody waits for the verdict if the runtime has panicked.
        async move { drop(done.send(check_on_runtime(subject, case).await)) }
    });
    subject.block_on(future);
    verdict
        .recv()
        .unwrap_or_else(|_| Err(Failure::new("block_on did not run its future to the end")))
}

async fn check_on_runtime(subject: Arc<dyn Subject>, case: Case) -> Verdict {
    let cx = Context::new(subject)?;
    match case.needs.iter().find(|&&capability| !cx.offers(capability)) {
        None => case.run(cx.clone()).await?,
        Some(&missing) => cases::refused(&cx, missing).await?,
    }
    cx.nothing_is_left_behind().await
}
