//! The dialer and the WebSocket handshake of [drivetrain](https://docs.rs/drivetrain)'s engines, on tokio, async-std
//! and smol.
//!
//! [`HttpConnector`] is everything that an engine does before the first frame. Its parameter is the executor:
//! `TokioExecutor`, `AsyncStdExecutor` or `SmolExecutor`. [`ConnectOptions`] are the same on all of them.
//!
//! # WebSockets
//!
//! Each has a connection of its own. The addresses of a host are tried with their families in turn, the next one as
//! soon as one fails or has not answered for 250 ms (RFC 8305); `TCP_NODELAY` and keepalive probes are on.
//! Handshakes go through a tunnel where there is a proxy, and over HTTP/2 if that is switched on (RFC 8441, on tokio).
//!
//! # HTTP
//!
//! One request at a time over HTTP/1.1. Up to 32 connections wait for another request to their host, 30 s each; both
//! can be set, and as there is no task that watches them, those that are older are closed by the next request. A
//! request that meets one which the server had closed is sent over another, if not a byte of it was sent. A body that
//! is uploaded continues while the response is read; if the response ends first, the upload has another second. A
//! server's answer is read though it takes no more of the upload. A response dropped before its end closes its
//! connection, unless the rest is short. On tokio no connection is kept: engines there use reqwest for HTTP.
//!
//! # Runtimes
//!
//! On async-std and smol, async-io's own thread drives sockets and timers: an [`HttpConnector`] can be used under any
//! executor, and tasks run on the global executor of async-std or smol, which starts when it is first needed. On
//! tokio, an [`HttpConnector`] needs to be used within a runtime.
//!
//! # Features
//!
//! | | |
//! |---|---|
//! | `rustls` (default) | `https` and `wss` with rustls and ring; nothing of rustls' process-wide state is used |
//! | `native-tls` | the system's TLS library, on tokio; used if it is the only one, or if `.native_tls()` is called |
//! | `tokio` | `TokioExecutor`, and `Tokio`, the runtime of sessions |
//! | `async-std` | `AsyncStdExecutor` |
//! | `smol` | `SmolExecutor`; without async-std if that is switched off |
//! | `http2` | WebSockets over HTTP/2 on tokio |
//!
//! Without TLS, `https` and `wss` are refused before anything is dialled.

mod adapter;
#[cfg(any(feature = "async-std", feature = "smol"))]
mod async_io;
#[cfg(feature = "async-std")]
mod async_std;
mod combination;
mod connector_state;
mod destination;
mod dial;
mod exchange;
mod executor;
pub mod http1;
mod http1_connection;
mod http_connector;
mod map;
mod options;
#[cfg(feature = "http2")]
mod over_http2;
mod pool;
mod route;
mod send;
#[cfg(feature = "smol")]
mod smol;
mod stream;
#[cfg(any(feature = "async-std", feature = "smol"))]
mod timer_queue;
mod tls;
#[cfg(feature = "tokio")]
mod tokio;
#[cfg(feature = "tokio")]
mod tokio_executor;
#[cfg(feature = "tokio")]
mod tokio_io;

#[cfg(feature = "async-std")]
pub use crate::async_std::AsyncStdExecutor;
#[cfg(feature = "smol")]
pub use crate::smol::SmolExecutor;
pub use crate::{
    executor::Executor,
    http_connector::HttpConnector,
    options::{ConnectOptions, TcpOptions},
    stream::ConnectedStream,
    tls::{TlsConnector, TlsOptions},
};
#[cfg(feature = "tokio")]
pub use crate::{
    tokio::{Tokio, Within},
    tokio_executor::TokioExecutor,
    tokio_io::{FromTokio, IntoTokio},
};
#[doc(hidden)]
pub use drivetrain_engine;
#[cfg(feature = "rustls")]
#[doc(hidden)]
pub use rustls;
