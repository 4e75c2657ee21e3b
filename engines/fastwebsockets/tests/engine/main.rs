//! The engine over loopback, against peers on plain threads.

mod cancellation;
#[cfg(target_os = "linux")]
mod memory;
mod options;
mod peer;
