//! What went wrong while nobody was looking, and how far scripts have come.

use std::sync::{Arc, Mutex};

use crate::testing::worker::lock;

/// What a test is told when it asks.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Entries>>);

#[derive(Default)]
struct Entries {
    failures: Vec<String>,
    scripts: Vec<Progress>,
}

/// Where a script is; nowhere when it has nothing left to do.
#[derive(Clone)]
pub(super) struct Progress {
    what: Arc<str>,
    at: Arc<Mutex<Option<String>>>,
}

impl Log {
    pub(super) fn fail(&self, message: String) {
        lock(&self.0).failures.push(message);
    }

    /// A script begins.
    pub(super) fn script(&self, what: &str) -> Progress {
        let at = Arc::new(Mutex::new(Some("before its first step".into())));
        let progress = Progress { what: what.into(), at };
        lock(&self.0).scripts.push(progress.clone());
        progress
    }

    /// What has failed, and the scripts that have not come to their end.
    pub(super) fn problems(&self) -> Vec<String> {
        let entries = lock(&self.0);
        let mut problems = entries.failures.clone();
        for Progress { what, at } in &entries.scripts {
            if let Some(at) = &*lock(at) {
                problems.push(format!("the script of {what} has not ended: it is at {at}"));
            }
        }
        problems
    }
}

impl Progress {
    pub(super) fn reaches(&self, at: String) {
        *lock(&self.at) = Some(at);
    }

    /// Nothing is left to do, or it has failed, which is told apart from this.
    pub(super) fn ends(&self) {
        *lock(&self.at) = None;
    }
}
