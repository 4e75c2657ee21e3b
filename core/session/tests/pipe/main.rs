//! Sessions over a pipe in memory, in virtual time: exact, without sockets or sleeping.

mod batches;
#[cfg(feature = "deflate")]
mod extensions;
mod limits;
mod roles;
mod streams;
mod support;
mod time;
mod waiting;
