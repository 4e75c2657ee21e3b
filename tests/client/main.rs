//! The client above its engines: the mock engine, the middleware pipeline, event streams, custom streams, tower, and a
//! whole program on every engine.

#[macro_use]
#[allow(unused_macros, reason = "its users may not be in this build")]
#[path = "../support/engines.rs"]
mod list;
mod mock;
mod over;
mod pipeline;
mod spawn;
mod sse;
mod tower;
mod whole;
