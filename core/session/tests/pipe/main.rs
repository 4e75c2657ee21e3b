//! Sessions over a pipe in memory, in virtual time: exact, without sockets or sleeping.

mod batches;
mod duties;
#[cfg(feature = "deflate")]
mod extensions;
mod halves;
mod limits;
mod raw;
mod roles;
mod send_log;
mod streams;
mod support;
mod time;
mod waiting;
