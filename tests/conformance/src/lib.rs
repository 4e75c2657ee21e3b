//! The behaviour suite.
pub mod peer;
