//! The session as it stands in `src/session`, with loom's locks and atomics: every order of its tasks,
//! up to a number of preemptions (`LOOM_MAX_PREEMPTIONS`, default 1). A wake-up that is lost is a
//! deadlock, which loom reports with its trace.
//!
//! The files are the session's own. `extern crate .. as std` gives their `std::sync` loom's types.
#![cfg(test)]
#![allow(dead_code, unused_imports, reason = "the models use a part of the session")]

extern crate drivetrain_loom_std as std;

#[path = "../../../src/session/mod.rs"]
mod session;

mod models;
