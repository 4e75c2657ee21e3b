//! The cases as trials: each on its own thread, with a watchdog.

use std::{
    panic,
    process::ExitCode,
    sync::{
        Arc, PoisonError, RwLock,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use libtest_mimic::{Arguments, Conclusion, Failed, Trial};

use crate::{
    Subject,
    case::Case,
    cases,
    context::Context,
    failure::{Failure, Verdict},
};

/// An unfiltered run with fewer cases per engine fails.
const FEWEST: usize = 200;

/// Read-locked by cases that run beside others, write-locked by cases that run alone.
static RUNNING: RwLock<()> = RwLock::new(());

/// Each case of the suite as a trial for libtest-mimic, named `subject::topic::behaviour`.
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

/// Runs each case whose name contains `filter`, one after the other on this thread. Returns names and failures.
/// For a test that expects an engine to fail, such as a deliberately broken engine.
pub fn verdicts(subject: impl Subject, filter: &str) -> Vec<(String, Result<(), String>)> {
    let subject: Arc<dyn Subject> = Arc::new(subject);
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

/// The message of a case that failed or panicked.
pub(crate) fn message_of(verdict: thread::Result<Result<(), Failed>>) -> Result<(), String> {
    let verdict = verdict.unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        let literal = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        Err(text.or(literal).unwrap_or_else(|| "it panicked".into()).into())
    });
    verdict.map_err(|failed| failed.message().unwrap_or_default().to_owned())
}

/// The `main` of a test target with `harness = false`: runs the suite over these engines, with the
/// arguments of `cargo test`. Three cases run per core, because most cases mostly wait.
/// Fails if an unfiltered run has too few cases.
pub fn run(subjects: Vec<Box<dyn Subject>>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(3 * thread::available_parallelism().map_or(1, Into::into));
    let fewest = FEWEST * subjects.len().max(1);
    conclude(&arguments, subjects.into_iter().flat_map(trials).collect(), fewest)
}

/// Runs the trials. Fails if an unfiltered run has fewer of them.
#[allow(clippy::print_stderr, reason = "it is the test runner")]
pub(crate) fn conclude(arguments: &Arguments, trials: Vec<Trial>, fewest: usize) -> ExitCode {
    if trials.is_empty() {
        eprintln!("the suite has nothing to test: no subject was given");
        return ExitCode::FAILURE;
    }
    let conclusion = libtest_mimic::run(arguments, trials);
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
    // Held while the case runs.
    let (_shared, _alone);
    if case.alone {
        _alone = RUNNING.write().unwrap_or_else(PoisonError::into_inner);
    } else {
        _shared = RUNNING.read().unwrap_or_else(PoisonError::into_inner);
    }
    watched(name, case.limit, move || check(&subject, case))
}

/// Runs a check on a thread of its own, at most this long.
pub(crate) fn watched(
    name: String,
    limit: Duration,
    check: impl FnOnce() -> Verdict + Send + 'static,
) -> Result<(), Failed> {
    let (done, verdict) = mpsc::channel();
    let thread = thread::Builder::new().name(name).spawn(move || {
        // The watchdog has given up on the case.
        let _ = done.send(check());
    })?;
    match verdict.recv_timeout(limit) {
        Ok(verdict) => {
            // The thread has finished its work; the end of the process removes it.
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
        // The runtime has panicked.
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
        None if case.frames && cases::is_of_messages(&cx).await? => {
            cases::a_message_comes_as_one(&cx).await?;
        }
        None => case.run(cx.clone()).await?,
        Some(&missing) => cases::refused(&cx, missing).await?,
    }
    cx.nothing_is_left_behind().await
}
