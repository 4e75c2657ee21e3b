//! The server half of the suite: what every server has to do, against a client without a WebSocket library.

mod cases;
mod context;
mod subject;
mod suite;

pub use subject::{Running, ServerSubject, Site};
pub use suite::{run_servers, server_trials, server_verdicts};
