//! Reconnecting sessions in virtual time: when they connect again, what they tell, and what becomes of messages
//! in flight.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod contract;
mod ending;
mod hooks;
mod policy;
mod script;
mod senders;
