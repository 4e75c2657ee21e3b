//! The engine of [drivetrain](https://docs.rs/drivetrain) on async-std, and on smol.
//!
//! Their connector is drivetrain-connect's: one HTTP/1.1 exchange at a time, connections that are kept for another
//! request, a connection of its own for each WebSocket. Their framing is [`TungsteniteFraming`], the workspace's framer
//! with tungstenite's frame header. There is no tokio runtime below either.
//!
//! ```no_run
//! use drivetrain_async_std::AsyncStd;
//! use drivetrain_engine::{Body, Engine};
//!
//! # async fn example() -> drivetrain_engine::Result<()> {
//! let engine = AsyncStd::new().read_buffer_size(64 << 10);
//! let mut request = http::Request::new(Body::empty());
//! *request.uri_mut() = http::Uri::from_static("http://127.0.0.1:8080/");
//! let response = engine.execute(request).await?;
//! assert!(response.status().is_success());
//! # Ok(())
//! # }
//! ```
//!
//! # Runtime
//!
//! Sockets and timers are driven by async-io's own thread: an engine can be used under any executor.
//! Tasks run on the global executor of async-std or smol, which starts when it is first needed.
//!
//! # Features
//!
//! | | |
//! |---|---|
//! | `rustls` (default) | `https` and `wss` with rustls and ring; nothing of rustls' process-wide state is used |
//! | `native-tls` | `https` and `wss` with the system's TLS library; used if it is the only one, or if `.native_tls()` is called |
//! | `async-std` (default) | `AsyncStd` |
//! | `smol` | `Smol`, the engine on smol; without async-std if that is switched off |
//!
//! Without either library of TLS, `https` and `wss` are refused before anything is dialled.

/// tungstenite's own configuration, as async-tungstenite 0.35 exports it.
pub use async_tungstenite::tungstenite::protocol::WebSocketConfig;
pub use drivetrain_codec::TungsteniteFraming;
#[cfg(feature = "async-std")]
pub use drivetrain_connect::AsyncStdExecutor;
#[cfg(feature = "smol")]
pub use drivetrain_connect::SmolExecutor;

#[cfg(feature = "async-std")]
drivetrain_connect::engine! {
    /// HTTP/1.1 and WebSockets on [async-std](https://docs.rs/async-std): hyper for HTTP, tungstenite's frames.
    ///
    /// ```
    /// use std::time::Duration;
    /// use drivetrain_async_std::AsyncStd;
    ///
    /// let engine = AsyncStd::new().ping_interval(Duration::from_secs(20)).write_buffer_size(64 << 10);
    /// ```
    pub struct AsyncStd(AsyncStdExecutor, TungsteniteFraming) = "async-std";
}
#[cfg(feature = "async-std")]
drivetrain_codec::tungstenite_options!(AsyncStd);

#[cfg(feature = "smol")]
drivetrain_connect::engine! {
    /// HTTP/1.1 and WebSockets on [smol](https://docs.rs/smol): hyper for HTTP, tungstenite's frames.
    pub struct Smol(SmolExecutor, TungsteniteFraming) = "smol";
}
#[cfg(feature = "smol")]
drivetrain_codec::tungstenite_options!(Smol);
