//! The engine of [drivetrain](https://docs.rs/drivetrain) on tokio with tungstenite's frames.
//!
//! Its connector is drivetrain-reqwest's, with the options of [`Reqwest`]; its framing is [`TungsteniteFraming`], the
//! workspace's framer with tungstenite's frame header, which shows reserved bits, fragments and control frames.
//!
//! ```
//! use std::time::Duration;
//! use drivetrain_tungstenite::{Reqwest, Tungstenite};
//!
//! let engine = Tungstenite::new()
//!     .read_buffer_size(64 << 10)
//!     .ping_interval(Duration::from_secs(20))
//!     .http(Reqwest::new().tcp_keepalive(Duration::from_secs(60)));
//! ```

pub use drivetrain_codec::TungsteniteFraming;
pub use drivetrain_reqwest::{Reqwest, reqwest};
/// tungstenite's own configuration, as tokio-tungstenite 0.30 exports it.
pub use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

drivetrain_reqwest::engine! {
    /// HTTP and WebSockets on tokio: reqwest for HTTP, tungstenite's frames.
    pub struct Tungstenite(TungsteniteFraming) = "tungstenite";
}
drivetrain_codec::tungstenite_options!(Tungstenite);
