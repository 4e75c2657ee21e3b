//! The engine of [drivetrain](https://docs.rs/drivetrain) with frames of its own.
//!
//! [`NativeFraming`] is this crate's half of an engine: frames by [`drivetrain_codec`], for both roles, over any stream
//! of futures-io. `Native` (feature `tokio`, on by default) combines it with reqwest's connector, `NativeAsyncStd` and
//! `NativeSmol` (features `async-std` and `smol`) with drivetrain-connect's, without tokio. A server needs the framing
//! alone: switch the default features off.
//!
//! # Features
//!
//! | | |
//! |---|---|
//! | `tokio` (default) | `Native` |
//! | `async-std` | `NativeAsyncStd`; nothing of tokio's runtime if `tokio` is switched off |
//! | `smol` | `NativeSmol`; neither tokio's runtime nor async-std if those are switched off |
//! | `rustls` | `https` and `wss` with rustls and ring |
//! | `native-tls` | `https` and `wss` with the system's TLS library; used if it is the only one, or if `.native_tls()` is called |
//!
//! Without either library of TLS, `https` and `wss` are refused before anything is dialled.

mod framing;

#[cfg(feature = "async-std")]
pub use drivetrain_connect::AsyncStdExecutor;
#[cfg(feature = "smol")]
pub use drivetrain_connect::SmolExecutor;
#[cfg(feature = "tokio")]
pub use drivetrain_reqwest::{Reqwest, reqwest};
pub use framing::NativeFraming;

#[cfg(feature = "tokio")]
drivetrain_reqwest::engine! {
    /// HTTP and WebSockets on tokio: reqwest for HTTP, drivetrain's own frames.
    ///
    /// ```
    /// use std::time::Duration;
    /// use drivetrain_native::{Native, Reqwest};
    ///
    /// let engine = Native::new()
    ///     .ping_interval(Duration::from_secs(20))
    ///     .http(Reqwest::new().tcp_keepalive(Duration::from_secs(60)));
    /// ```
    pub struct Native(NativeFraming) = "native";
}
#[cfg(feature = "tokio")]
drivetrain_codec::buffer_options!(Native, map_framing);

#[cfg(feature = "async-std")]
drivetrain_connect::engine! {
    /// HTTP/1.1 and WebSockets on [async-std](https://docs.rs/async-std), without tokio: hyper for HTTP, drivetrain's
    /// own frames.
    ///
    /// ```
    /// use std::time::Duration;
    /// use drivetrain_native::NativeAsyncStd;
    ///
    /// let engine =
    ///     NativeAsyncStd::new().ping_interval(Duration::from_secs(20)).write_buffer_size(64 << 10);
    /// ```
    pub struct NativeAsyncStd(AsyncStdExecutor, NativeFraming) = "native-async-std";
}
#[cfg(feature = "async-std")]
drivetrain_codec::buffer_options!(NativeAsyncStd, map_framing);

#[cfg(feature = "smol")]
drivetrain_connect::engine! {
    /// HTTP/1.1 and WebSockets on [smol](https://docs.rs/smol), without tokio: hyper for HTTP, drivetrain's own
    /// frames.
    ///
    /// ```no_run
    /// # #[cfg(unix)]
    /// # async fn example() -> std::io::Result<()> {
    /// use async_io::Async;
    /// use drivetrain_native::NativeSmol;
    /// use std::os::unix::net::UnixStream;
    ///
    /// let engine = NativeSmol::over(Async::<UnixStream>::connect("/run/app.sock").await?);
    /// # Ok(())
    /// # }
    /// ```
    pub struct NativeSmol(SmolExecutor, NativeFraming) = "native-smol";
}
#[cfg(feature = "smol")]
drivetrain_codec::buffer_options!(NativeSmol, map_framing);
