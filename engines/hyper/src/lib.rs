//! HTTP/1.1 and WebSocket handshakes for engines of [drivetrain](https://docs.rs/drivetrain) on async-std
//! and smol: hyper over futures-io streams, with no tokio runtime below.
//!
//! [`Hop`] is everything that such an engine does before the first frame; which runtime it is on is its
//! parameter, [`OnAsyncStd`] or [`OnSmol`].
//!
//! # HTTP
//!
//! One hop over HTTP/1.1. Up to 32 connections wait for another request to their host, 30 s each; as
//! there is no task that watches them, those that are older are closed by the next request. A request
//! that meets one which the server had closed is sent over another, if not a byte of it was sent. A body
//! that is uploaded goes on while the response is read; if the response ends first, a task sees the
//! upload through. A response dropped before its end closes its connection.
//!
//! # WebSockets
//!
//! Each has a connection of its own. Addresses are tried in the resolver's order, the next one as soon
//! as one fails or has not answered for 250 ms; `TCP_NODELAY` is on.
//!
//! # Runtime
//!
//! Sockets and timers are driven by async-io's own thread: a hop can be used under any executor. Tasks
//! run on the global executor of async-std or smol, which starts when it is first needed.
//!
//! # Features
//!
//! | | |
//! |---|---|
//! | `rustls` (default) | `https` and `wss` with rustls and ring; nothing of rustls' process-wide state is used |
//! | `async-std` | `OnAsyncStd` |
//! | `smol` | `OnSmol`; without async-std if that is switched off |
//!
//! Without `rustls`, `https` and `wss` are refused before anything is dialled.

mod adapter;
mod alarm;
#[cfg(feature = "async-std")]
mod async_std;
mod connect;
mod dial;
mod exchange;
mod hop;
mod map;
mod pool;
mod proxied;
mod runtime;
#[cfg(feature = "smol")]
mod smol;
mod stream;
mod tls;

#[cfg(feature = "async-std")]
pub use crate::async_std::OnAsyncStd;
#[cfg(feature = "smol")]
pub use crate::smol::OnSmol;
pub use crate::{hop::Hop, runtime::Flavour, stream::Stream};
