//! The engine of [drivetrain](https://docs.rs/drivetrain) on tokio with fastwebsockets' frames.
//!
//! Its connector is drivetrain-reqwest's, with the options of [`Reqwest`] (feature `tokio`, on by default). Its framing is
//! [`FastWebSocketsFraming`], which works on any runtime and for both roles: fastwebsockets reads the frames, and encodes
//! them into a buffer that the framing writes, so that a burst costs one write and a dropped future costs nothing.
//!
//! ```
//! use std::time::Duration;
//! use drivetrain_fastwebsockets::{FastWebSockets, Reqwest};
//!
//! let engine = FastWebSockets::new()
//!     .max_frame_size(1 << 20)
//!     .ping_interval(Duration::from_secs(20))
//!     .http(Reqwest::new().tcp_keepalive(Duration::from_secs(60)));
//! ```
//!
//! # What is different from the other engines
//!
//! Reserved bits are missing in both directions, hence extensions that need them: fastwebsockets cannot
//! write them and refuses frames that have them (1002). A text message in one frame is checked to be
//! UTF-8 by the library when all of it is there, on raw sessions too (1007). A frame above 1 GiB is too
//! big whatever the limits say, as the library reserves what is announced in one piece.

mod framer;
mod framing;
mod map;

#[cfg(feature = "tokio")]
pub use drivetrain_reqwest::{Reqwest, reqwest};
/// The version of fastwebsockets that a hook of `preconfigured` speaks.
pub use fastwebsockets;
pub use framer::Gate;
pub use framing::FastWebSocketsFraming;

#[cfg(feature = "tokio")]
drivetrain_reqwest::engine! {
    /// HTTP and WebSockets on tokio: reqwest for HTTP, fastwebsockets' frames.
    pub struct FastWebSockets(FastWebSocketsFraming) = "fastwebsockets";
}

#[cfg(feature = "tokio")]
impl FastWebSockets {
    /// Sets the most payload bytes of an incoming data frame; the smallest limit set anywhere wins.
    /// Default: not set, but never above 1 GiB. Zero is refused when the client is built.
    ///
    /// fastwebsockets has this option under the name `max_message_size`, and counts frames all the same:
    /// a message of several frames is limited by `max_message_size` of the `WebSockets` plugin only.
    #[must_use]
    pub fn max_frame_size(self, bytes: usize) -> Self {
        self.map_framing(|framing| framing.max_frame_size(bytes))
    }

    /// Changes the library's socket that a WebSocket is read with; of several hooks each is called, in
    /// order. Default: nothing.
    ///
    /// It is called for each connection before its first frame, and again when a large read buffer is
    /// given back, so it must do the same each time. Of the socket's setters
    ///
    /// * `set_max_message_size` is honoured as the library means it: a single frame of that size *or
    ///   above*, control frames among them, is [`TooBig`](drivetrain_engine::ErrorKind::TooBig). As the library does not
    ///   tell the value, `settings()` cannot list it: prefer [`max_frame_size`](Self::max_frame_size);
    /// * `set_auto_close` and `set_auto_pong` are set to `false` afterwards: the session answers;
    /// * `set_writev`, `set_writev_threshold` and `set_auto_apply_mask` mean nothing here: the socket
    ///   only reads, and the engine writes whole batches of frames.
    ///
    /// ```
    /// use drivetrain_fastwebsockets::FastWebSockets;
    ///
    /// let engine = FastWebSockets::new()
    ///     .preconfigured(|socket| socket.set_max_message_size(64 << 10));
    /// ```
    #[must_use]
    pub fn preconfigured(
        self,
        hook: impl Fn(&mut fastwebsockets::WebSocket<Gate>) + Send + Sync + 'static,
    ) -> Self {
        self.map_framing(|framing| framing.preconfigured(hook))
    }
}
