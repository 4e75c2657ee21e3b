//! What drivetrain's two tungstenite engines share: tokio's and async-std's.
//!
//! [`Framer`] is the [`Transport`](drivetrain_engine::Transport) of both: tungstenite's public frame
//! header over read and write buffers of our own, on any stream of futures-io. [`Options`] are the
//! settings both take. How a stream is dialled and upgraded is each engine's own.

mod framer;
mod input;
mod options;
mod output;
#[cfg(test)]
mod tests;

pub use framer::Framer;
pub use options::Options;
pub use tungstenite::protocol::WebSocketConfig;
