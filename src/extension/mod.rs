//! Extensions of the WebSocket protocol: compression ([`PermessageDeflate`], feature `deflate`), and the
//! [`Extension`] trait for those of your own.
//!
//! An extension is set on the plugin for all sessions, or on one request:
//!
//! ```
//! # #[cfg(all(feature = "deflate", feature = "tungstenite"))]
//! # fn example() -> drivetrain::Result<()> {
//! use drivetrain::{HttpClient, WebSockets, engine::Tungstenite, extension::PermessageDeflate};
//!
//! let client = HttpClient::builder(Tungstenite::new())
//!     .install(WebSockets::new().extension(PermessageDeflate::new()))
//!     .build()?;
//! let request = client.web_socket("wss://example.com/"); // compressed if the server agrees
//! let request = client.web_socket("wss://example.com/").extensions([]); // not compressed
//! # Ok(()) }
//! ```
//!
//! What the server agreed to is [`Session::extensions`](crate::Session::extensions); what was offered, and which
//! of it is required, is in [`Session::settings`](crate::Session::settings). Whether an engine can is
//! [`Capability::Extensions`](crate::Capability::Extensions); on one that cannot, an extension is refused by name.

#[cfg(feature = "deflate")]
mod agreed;
#[cfg(feature = "deflate")]
mod deflate;
#[cfg(feature = "deflate")]
mod deflater;
#[cfg(feature = "deflate")]
mod inflater;

#[cfg(feature = "deflate")]
pub use deflate::PermessageDeflate;
pub use drivetrain_engine::{Extension, MessagePart, NegotiatedExtension, Role, Transform};
