//! The conformance suite of [drivetrain](https://docs.rs/drivetrain) as a library: every engine, also a
//! third-party engine, runs the same cases.
//!
//! An engine's own crate has a test target with `harness = false` and describes its engine to the suite:
//!
//! ```no_run
//! use std::{future::Future, pin::Pin, process::ExitCode};
//!
//! use drivetrain_conformance::{Subject, run};
//! use drivetrain_engine::Engine;
//! # use drivetrain::http;
//! # use drivetrain_engine::*;
//! # #[derive(Debug)] struct MyEngine;
//! # #[async_trait] impl Engine for MyEngine {
//! #     fn name(&self) -> &str { "mine" }
//! #     fn support(&self, _: Capability) -> Support { Support::missing("nothing works") }
//! #     fn runtime(&self) -> Result<std::sync::Arc<dyn Runtime>> { todo!() }
//! #     async fn execute(&self, _: http::Request<Body>) -> Result<http::Response<Body>> { todo!() }
//! #     async fn connect(&self, _: Handshake) -> Result<Answer> { todo!() }
//! # }
//! # mod my_runtime { pub fn block_on(_: impl Future<Output = ()>) {} }
//!
//! struct Mine;
//!
//! impl Subject for Mine {
//!     fn name(&self) -> &str {
//!         "mine"
//!     }
//!
//!     fn engine(&self) -> Box<dyn Engine> {
//!         Box::new(MyEngine)
//!     }
//!
//!     fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
//!         my_runtime::block_on(future);
//!     }
//! }
//!
//! fn main() -> ExitCode {
//!     run(vec![Box::new(Mine)])
//! }
//! ```
//!
//! Each case is a trial named `engine::topic::behaviour`; `cargo test --test engines -- closing` runs a
//! topic. A case that needs a missing capability is not skipped: it checks that the engine
//! refuses the capability by name, before any I/O. Each case also checks that it leaves no connection and
//! no session task behind.
//!
//! | item | purpose |
//! |---|---|
//! | [`Subject`] | describes an engine under test |
//! | [`Deviation`] | a declared difference from the suite's rules |
//! | [`run`], [`trials`] | the suite as a test's `main`, or as trials beside others |
//! | [`verdicts`] | the results of cases, for a test that expects failures |
//! | [`hostile_page`] | the hostile peers and their results, as a page |
//! | [`Watched`] | an engine with counted session tasks |
//! | [`peer`] | the suite's server and client, without an async runtime and without a WebSocket library |
//!
//! # The server half
//!
//! With the feature `server`, the suite also tests servers: `run_servers` runs each of its cases on every `ServerSubject`,
//! which is a framing, a runtime and an HTTP server. The client is [`peer::Client`].

mod case;
mod cases;
mod context;
mod deviation;
mod expect;
mod failure;
mod line;
pub mod peer;
mod pretending;
mod random;
mod script;
#[cfg(feature = "server")]
mod server;
mod stream;
mod subject;
mod suite;
mod watched;

pub use cases::hostile_page;
pub use deviation::Deviation;
#[cfg(feature = "server")]
pub use server::{Running, ServerSubject, Site, run_servers, server_trials, server_verdicts};
pub use stream::{CountedStream, Writes};
pub use subject::Subject;
pub use suite::{run, trials, verdicts};
pub use watched::{Tasks, Watched};
