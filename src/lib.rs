#![cfg_attr(docsrs, feature(doc_cfg))]
//! One HTTP and WebSocket client over interchangeable engines.
//!
//! Pick an engine by Cargo feature, pass it as a value, and everything above it is the same on every
//! engine: sessions, keepalive, closing, limits, converters, errors. What an engine cannot do is refused
//! by name before a byte is sent, and printed in a table that tests compare with reality:
//! `docs/limitations.md`.
//!
//! ```no_run
//! # #[cfg(feature = "tungstenite")]
//! # async fn example() -> drivetrain::Result<()> {
//! use drivetrain::{Frame, HttpClient, engine::Tungstenite};
//!
//! let client = HttpClient::new(Tungstenite::new()); // the WebSockets plugin is installed
//! client
//!     .web_socket("ws://127.0.0.1:8080/echo")
//!     .run(async |session| {
//!         session.send("hello").await?;
//!         while let Some(frame) = session.receive().await? {
//!             if let Frame::Text(text) = frame {
//!                 println!("{text}");
//!             }
//!         }
//!         Ok(())
//!     })
//!     .await
//! # }
//! ```
//!
//! | start from | for |
//! |---|---|
//! | [`HttpClient`] | everything |
//! | [`engine`] | the engines in this build, and what each has to configure |
//! | [`WebSockets`], [`HttpTimeout`], [`DefaultRequest`] | what is installed on a client |
//! | [`Proxies`] | which proxy is for which URL |
//! | [`WebSocketRequest`] | opening a WebSocket: headers, subprotocols, options of one session |
//! | [`Session`] | an open WebSocket |
//! | [`extension`] | compression, and extensions of your own |
//! | [`RawSession`] | the same without any automatism |
//! | [`RequestBuilder`], [`Response`] | plain HTTP, with [`Body`] and [`multipart::Form`] |
//! | [`reconnect`] | a session that outlives its connection |
//! | [`sse`] | server-sent events, reconnecting |
//! | [`Error`] | what went wrong, and whose fault it was |
//!
//! What happens can be seen by any subscriber of `tracing`, and [`Session::stats`] counts; see
//! `docs/observability.md`.
//!
//! # Cargo features
//!
//! | feature | adds | default |
//! |---|---|---|
//! | `native` | `engine::Native`: tokio, frames of our own | |
//! | `tungstenite` | `engine::Tungstenite`: tokio | yes |
//! | `fastwebsockets` | `engine::FastWebSockets`: tokio | |
//! | `async-std` | `engine::AsyncStd`: async-std, no tokio runtime | |
//! | `smol` | `engine::Smol`: smol, no tokio runtime | |
//! | `reqwest` | `engine::Reqwest`: HTTP only, on tokio; comes with the tokio engines | yes |
//! | `json` | the `Json` converter, and JSON bodies | yes |
//! | `cookies` | `CookieJar`, for requests and handshakes | |
//! | `deflate` | `extension::PermessageDeflate`: WebSocket messages are compressed | |
//! | `gzip`, `brotli`, `zstd` | responses are asked for in this encoding and decompressed | |
//! | `rustls` | TLS by rustls on every engine | yes |
//! | `native-tls` | TLS by the system, on the tokio engines that ask for it | |
//! | `testing` | `testing::MockEngine`: an engine in memory for tests, with faults and a clock that the test moves | |
//! | `full` | all engines, `json`, `cookies`, `deflate`, the encodings and `rustls` | |
//!
//! A feature only adds names. Several engines may be on at once; which one a program uses is said where
//! the client is made.

mod client;
mod deadline;
mod default_request;
pub mod engine;
pub mod extension;
mod extensions;
mod http_timeout;
#[cfg(feature = "json")]
mod json;
pub mod multipart;
mod options;
mod pipeline;
mod plugin;
mod proxy;
pub mod reconnect;
mod request;
mod response;
mod response_body;
mod session;
pub mod sse;
mod target;
#[cfg(feature = "testing")]
pub mod testing;
mod trace;
mod web_socket;
mod web_sockets;

/// The pages' code compiles.
#[cfg(all(doctest, feature = "full"))]
mod pages {
    mod readme {
        #![doc = include_str!("../README.md")]
    }
    mod coming_from_ktor {
        #![doc = include_str!("../docs/coming-from-ktor.md")]
    }
    #[cfg(feature = "testing")]
    mod testing {
        #![doc = include_str!("../docs/testing.md")]
    }
    mod observability {
        #![doc = include_str!("../docs/observability.md")]
    }
    mod writing_an_engine {
        #![doc = include_str!("../docs/writing-an-engine.md")]
    }
}

pub use bytes::Bytes;
pub use client::{HttpClient, HttpClientBuilder};
pub use default_request::DefaultRequest;
pub use drivetrain_engine::{
    Body, Capability, CloseCode, CloseReason, Error, ErrorKind, Frame, NegotiatedExtension, OpCode,
    Outcome, Protocol, Proxy, ProxyScheme, RawFrame, Requirement, Result, Rsv, Support, TlsVersion,
    Utf8Bytes,
};
pub use http;
pub use http_timeout::HttpTimeout;
#[cfg(feature = "json")]
pub use json::Json;
#[cfg(feature = "cookies")]
pub use pipeline::CookieJar;
pub use pipeline::{HttpService, Redirects, Unauthorized};
pub use plugin::Plugin;
pub use proxy::Proxies;
pub use request::RequestBuilder;
pub use response::Response;
pub use session::{
    AppliedBy, ConvertError, Converter, Incoming, MessageKind, MessageReader, MessageWriter,
    Outgoing, RawSession, Session, SessionStats, SetBy, Setting, Settings, Traffic, erased_serde,
};
pub use web_socket::WebSocketRequest;
pub use web_sockets::WebSockets;
