//! Recorded failures, and the progress of scripts.

use std::sync::{Arc, Mutex};

use crate::testing::worker::lock;

/// The report for a test.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Entries>>);

#[derive(Default)]
struct Entries {
    failures: Vec<String>,
    scripts: Vec<ScriptProgress>,
}

/// The position of a script; `None` at its end.
#[derive(Clone)]
pub(super) struct ScriptProgress {
    what: Arc<str>,
    at: Arc<Mutex<Option<String>>>,
}

impl Log {
    pub(super) fn fail(&self, message: String) {
        lock(&self.0).failures.push(message);
    }

    /// Registers a script.
    pub(super) fn script(&self, what: &str) -> ScriptProgress {
        let at = Arc::new(Mutex::new(Some("before its first step".into())));
        let progress = ScriptProgress { what: what.into(), at };
        lock(&self.0).scripts.push(progress.clone());
        progress
    }

    /// All failures, and the unfinished scripts.
    pub(super) fn problems(&self) -> Vec<String> {
        let entries = lock(&self.0);
        let mut problems = entries.failures.clone();
        for ScriptProgress { what, at } in &entries.scripts {
            if let Some(at) = &*lock(at) {
                problems.push(format!("the script of {what} has not ended: it is at {at}"));
            }
        }
        problems
    }
}

impl ScriptProgress {
    pub(super) fn reaches(&self, at: String) {
        *lock(&self.at) = Some(at);
    }

    /// Marks the script as finished. Failures are recorded separately.
    pub(super) fn ends(&self) {
        *lock(&self.at) = None;
    }
}
