//! Sessions in virtual time, over connections in memory: exact, without sockets or sleeping.

mod jitter;
mod orders;
mod reconnect;
