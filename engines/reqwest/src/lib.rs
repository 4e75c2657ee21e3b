//! The engine of [drivetrain](https://docs.rs/drivetrain) that speaks HTTP with [reqwest] on tokio.
//!
//! [`Reqwest`] is an engine of its own, for programs that need no WebSockets. Drivetrain's WebSocket
//! engines on tokio use it for their HTTP requests, and its options for their handshakes, which [`ReqwestConnector`]
//! dials and sends with hyper; with them the options are set by `.http(Reqwest::new()…)`.
//!
//! # Features
//!
//! | | |
//! |---|---|
//! | `rustls` (default) | `https` with rustls and ring; nothing of rustls' process-wide state is used |
//! | `native-tls` | `https` with the system's TLS library; used if it is the only one, or if `.native_tls()` is called |
//!
//! Without either, `https` is refused before anything is dialled.

mod clients;
mod combination;
mod connector;
mod cut;
mod engine;
mod host;
mod map;
mod options;
mod proxied;
mod purpose;
mod replay;
mod request;
mod tls;
mod tunnelled;
mod upload;

pub use connector::{CustomStream, ReqwestConnector};
pub use drivetrain_connect::Tokio;
#[doc(hidden)]
pub use drivetrain_engine;
pub use engine::Reqwest;
/// The version of reqwest that the options speak.
pub use reqwest;
