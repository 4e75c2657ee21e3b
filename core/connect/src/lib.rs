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
//! | `native-tls` | the system's TLS library; used if it is the only one, or if `.native_tls()` is called |
//! | `dial` | the dialer and the handshake; each of the other features but `tokio-runtime` switches it on |
//! | `tokio` | `TokioExecutor`, and what `tokio-runtime` has |
//! | `tokio-runtime` | `Tokio`, the runtime of sessions, and adapters between the I/O traits; enough for a server |
//! | `async-std` | `AsyncStdExecutor` |
//! | `smol` | `SmolExecutor`; without async-std if that is switched off |
//! | `http2` | WebSockets over HTTP/2 on tokio |
//!
//! Without TLS, `https` and `wss` are refused before anything is dialled.

#[cfg(feature = "dial")]
mod adapter;
#[cfg(any(feature = "async-std", feature = "smol"))]
mod async_io;
#[cfg(feature = "async-std")]
mod async_std;
#[cfg(feature = "dial")]
mod combination;
#[cfg(feature = "dial")]
mod connector_state;
#[cfg(feature = "dial")]
mod destination;
#[cfg(feature = "dial")]
mod dial;
#[cfg(feature = "dial")]
mod exchange;
#[cfg(feature = "dial")]
mod executor;
#[cfg(feature = "dial")]
pub mod http1;
#[cfg(feature = "dial")]
mod http1_connection;
#[cfg(feature = "dial")]
mod http_connector;
#[cfg(feature = "dial")]
mod map;
#[cfg(feature = "dial")]
mod options;
#[cfg(feature = "http2")]
mod over_http2;
#[cfg(feature = "dial")]
mod pool;
#[cfg(feature = "dial")]
mod route;
#[cfg(feature = "dial")]
mod send;
#[cfg(feature = "smol")]
mod smol;
#[cfg(feature = "dial")]
mod stream;
#[cfg(any(feature = "async-std", feature = "smol"))]
mod timer_queue;
#[cfg(feature = "dial")]
mod tls;
#[cfg(feature = "tokio")]
mod tokio_executor;
#[cfg(any(feature = "tokio-runtime", feature = "native-tls"))]
mod tokio_io;
#[cfg(feature = "tokio-runtime")]
mod tokio_runtime;

#[cfg(feature = "async-std")]
pub use crate::async_std::AsyncStdExecutor;
#[cfg(feature = "smol")]
pub use crate::smol::SmolExecutor;
#[cfg(feature = "tokio")]
pub use crate::tokio_executor::TokioExecutor;
#[cfg(any(feature = "tokio-runtime", feature = "native-tls"))]
pub use crate::tokio_io::{FromTokio, IntoTokio};
#[cfg(feature = "tokio-runtime")]
pub use crate::tokio_runtime::{Tokio, Within};
#[cfg(feature = "dial")]
pub use crate::{
    executor::Executor,
    http_connector::HttpConnector,
    options::{ConnectOptions, TcpOptions},
    stream::ConnectedStream,
    tls::{TlsConnector, TlsOptions},
};
#[doc(hidden)]
pub use drivetrain_engine;
#[cfg(feature = "rustls")]
#[doc(hidden)]
pub use rustls;
