//! The engine of [drivetrain](https://docs.rs/drivetrain) with frames of its own.
//!
//! [`Native`] is the engine on tokio (feature `tokio`, on by default): HTTP requests and handshakes go through
//! reqwest ([`Reqwest`]), frames through [`drivetrain_codec`]. `NativeAsyncStd` and `NativeSmol` (features
//! `async-std` and `smol`) are the same frames with hyper for HTTP/1.1, without tokio. [`Framer`] is the
//! transport of all three, over any stream that futures-io describes.
//!
//! # Features
//!
//! | | |
//! |---|---|
//! | `tokio` (default) | [`Native`] |
//! | `async-std` | `NativeAsyncStd`; nothing of tokio's runtime if `tokio` is switched off |
//! | `smol` | `NativeSmol`; neither tokio's runtime nor async-std if those are switched off |
//! | `rustls` | `https` and `wss` with rustls and ring |
//!
//! Without `rustls`, `https` and `wss` are refused before anything is dialled.

#[cfg(feature = "tokio")]
mod connect;
#[cfg(any(feature = "async-std", feature = "smol"))]
mod flavour;
mod framer;
mod framing;
#[cfg(any(feature = "async-std", feature = "smol"))]
mod futures_io;
#[cfg(feature = "tokio")]
mod native;

#[cfg(any(feature = "async-std", feature = "smol"))]
pub use crate::futures_io::FuturesIo;
#[cfg(feature = "async-std")]
pub use crate::futures_io::NativeAsyncStd;
#[cfg(feature = "smol")]
pub use crate::futures_io::NativeSmol;
#[cfg(feature = "async-std")]
pub use drivetrain_hyper::OnAsyncStd;
#[cfg(feature = "smol")]
pub use drivetrain_hyper::OnSmol;
#[cfg(feature = "tokio")]
pub use drivetrain_reqwest::{Reqwest, reqwest};
#[cfg(any(feature = "async-std", feature = "smol"))]
pub use flavour::Flavour;
pub use framer::Framer;
pub use framing::Framing;
#[cfg(feature = "tokio")]
pub use native::Native;
