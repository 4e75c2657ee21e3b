//! The engine of [drivetrain](https://docs.rs/drivetrain) with frames of its own.
//!
//! [`Native`] is the engine on tokio (feature `tokio`, on by default): HTTP requests and handshakes go through
//! reqwest ([`Reqwest`]), frames through [`drivetrain_codec`]. [`Framer`] is its transport, over any stream that
//! futures-io describes.

#[cfg(feature = "tokio")]
mod connect;
mod framer;
mod framing;
#[cfg(feature = "tokio")]
mod native;

#[cfg(feature = "tokio")]
pub use drivetrain_reqwest::{Reqwest, reqwest};
pub use framer::Framer;
pub use framing::Framing;
#[cfg(feature = "tokio")]
pub use native::Native;
