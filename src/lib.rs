#![cfg_attr(docsrs, feature(doc_cfg))]
//! One HTTP and WebSocket stack over interchangeable engines, client and server.
//!
//! A Cargo feature adds an engine, and a program passes the engine as a value. Sessions, keepalive, closing,
//! limits, converters and errors are the same on every engine. The client refuses by name what an engine cannot
//! do, before it sends a byte.
//!
#![cfg_attr(
    doc,
    doc = "The [`guide`] has a tutorial, how-tos, reference pages such as the [limitations](guide::limitations) of \
           each engine, and explanation such as [the session](guide::session)."
)]
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
//! | type | use |
//! |---|---|
//! | [`HttpClient`] | every program |
//! | [`engine`] | the engines in this build, and their options |
//! | [`WebSockets`], [`HttpTimeout`], [`DefaultRequest`] | plugins of a client |
//! | [`Proxies`] | a proxy for each URL |
//! | [`WebSocketRequest`] | opening a WebSocket: headers, subprotocols, options of one session |
//! | [`Session`] | an open WebSocket |
//! | [`extension`] | compression, and your own extensions |
//! | [`RawSession`] | an open WebSocket without a session layer |
//! | [`RequestBuilder`], [`Response`] | plain HTTP, with [`Body`] and [`multipart::Form`] |
//! | [`reconnect`] | a session that outlives its connection |
//! | [`sse`] | server-sent events with reconnecting |
//! | [`Error`] | the kind of a failure, its data and its cause |
//!
//! `tracing` subscribers see calls and sessions, and [`Session::stats`] counts.
//!
//! # Cargo features
//!
//! | feature | adds | default |
//! |---|---|---|
//! | `native` | `engine::Native`: tokio, the native codec | |
//! | `tungstenite` | `engine::Tungstenite`: tokio | yes |
//! | `fastwebsockets` | `engine::FastWebSockets`: tokio | |
//! | `native-async-std` | `engine::NativeAsyncStd`: async-std, the native codec, no tokio runtime | |
//! | `native-smol` | `engine::NativeSmol`: smol, the native codec, no tokio runtime | |
//! | `async-std` | `engine::AsyncStd`: async-std, no tokio runtime | |
//! | `smol` | `engine::Smol`: smol, no tokio runtime | |
//! | `reqwest` | `engine::Reqwest`: HTTP only, on tokio; part of the tokio engines | yes |
//! | `json` | the `Json` converter, and JSON bodies | yes |
//! | `cookies` | `CookieJar`, for requests and handshakes | |
//! | `public-suffix` | `cookies`, and the public suffix list, so that no site sets cookies for all of `co.uk` | |
//! | `deflate` | `extension::PermessageDeflate`: compressed WebSocket messages | |
//! | `gzip`, `brotli`, `zstd` | the client requests and decompresses responses in this encoding | |
//! | `rustls` | TLS by rustls on every engine | yes |
//! | `native-tls` | TLS by the system, on engines that select it, or alone | |
//! | `server` | the module `server`: WebSocket servers on hyper and tower | |
//! | `axum` | `server`, and its extractor and handlers for axum | |
//! | `testing` | `testing::MockEngine`: an engine in memory for tests, with faults and a clock that the test moves | |
//! | `full` | all engines, `json`, `cookies`, `public-suffix`, `deflate`, the encodings, `rustls`, `server` and `axum` | |
//!
//! A feature only adds names. Several engines may be on at once. A program selects one where it builds the client.

mod capability;
mod client;
#[cfg(feature = "cookies")]
mod cookie_jar;
mod deadline;
mod default_request;
pub mod engine;
mod error_body;
pub mod extension;
#[cfg(any(all(doc, not(doctest)), all(doctest, feature = "full")))]
pub mod guide;
mod http_timeout;
pub mod multipart;
mod options;
mod pipeline;
mod plugin;
mod proxy;
pub mod reconnect;
mod request;
mod response;
mod response_body;
pub mod sse;
mod target;
#[cfg(feature = "testing")]
pub mod testing;
mod trace;
mod web_socket;

/// The README's code compiles, as the [`guide`]'s does.
#[cfg(all(doctest, feature = "full"))]
mod readme {
    #![doc = include_str!("../README.md")]
}

pub use bytes::Bytes;
pub use client::{HttpClient, HttpClientBuilder};
#[cfg(feature = "cookies")]
pub use cookie_jar::{Cookie, CookieJar};
pub use default_request::DefaultRequest;
pub use drivetrain_engine::{
    Body, Capability, CloseCode, CloseReason, Error, ErrorKind, Frame, HandshakePhases,
    NegotiatedExtension, OpCode, Outcome, Protocol, Proxy, ProxyScheme, RawFrame, Requirement,
    Resolver, Result, Rsv, Support, TlsVersion, Utf8Bytes,
};
/// WebSocket servers, with the client's sessions.
#[cfg(feature = "server")]
pub use drivetrain_server as server;
#[cfg(feature = "json")]
pub use drivetrain_session::Json;
pub use drivetrain_session::{
    AppliedBy, ConvertError, Converter, Incoming, MessageKind, MessageReader, MessageWriter,
    Outgoing, RawSession, Session, SessionStats, SetBy, Setting, Settings, Traffic, WebSockets,
    erased_serde,
};
pub use http;
pub use http_timeout::HttpTimeout;
pub use pipeline::{HttpService, Redirects, Unauthorized};
pub use plugin::Plugin;
pub use proxy::Proxies;
pub use request::RequestBuilder;
pub use response::Response;
pub use web_socket::WebSocketRequest;
