//! The behaviour suite of [drivetrain](https://docs.rs/drivetrain) as a library: every engine, also one
//! written elsewhere, proves itself with the same cases.
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
//! topic. A case that needs what the engine says it cannot do is not skipped: it checks that the engine
//! refuses it by name, before anything is dialled. Each case also checks that it leaves no connection and
//! no session task behind.
//!
//! | part | what it is |
//! |---|---|
//! | [`Subject`] | what an engine's author writes |
//! | [`run`], [`trials`] | the suite, as a test's `main` or as trials to put with others |
//! | [`hostile_page`] | the peers that break the protocol and what each comes to, as the suite runs them |
//! | [`Watched`] | an engine whose sessions' tasks are counted |
//! | [`peer`] | the server that the engines talk to, without an async runtime and without a WebSocket library |

mod case;
mod cases;
mod context;
mod expect;
mod failure;
pub mod peer;
mod random;
mod script;
mod stream;
mod subject;
mod suite;
mod watched;

pub use cases::hostile_page;
pub use stream::{CountedStream, Writes};
pub use subject::Subject;
pub use suite::{run, trials};
pub use watched::{Tasks, Watched};
