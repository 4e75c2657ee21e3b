//! Extensions of the WebSocket protocol: compression (`PermessageDeflate`, feature `deflate`), and the [`Extension`]
//! trait to write your own.
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
//! [`Session::extensions`](crate::Session::extensions) has the extensions that the server agreed to,
//! [`Session::settings`](crate::Session::settings) those that were offered or required. An engine without the capability
//! [`Extensions`](crate::Capability::Extensions) refuses them by name.

pub use drivetrain_engine::{Extension, MessagePart, NegotiatedExtension, Role, Transform};
#[cfg(feature = "deflate")]
pub use drivetrain_session::PermessageDeflate;
