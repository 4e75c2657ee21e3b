//! The session with loom's locks and atomics: every order of its tasks, up to a number of preemptions
//! (`LOOM_MAX_PREEMPTIONS`, default 1). A wake-up that is lost is a deadlock, which loom reports with its trace.
//!
//! `--cfg drivetrain_loom` gives `drivetrain-session` loom's types; `fuzz/loom/run` sets it.
#![cfg(all(test, drivetrain_loom))]

mod models;
