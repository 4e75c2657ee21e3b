//! Sessions in virtual time, over connections in memory: exact, without sockets or sleeping.

mod batches;
mod extensions;
mod jitter;
mod orders;
mod reconnect;
mod roles;
mod streams;
mod time;
