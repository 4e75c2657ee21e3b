//! The contract between [drivetrain](https://docs.rs/drivetrain) and an engine.
//!
//! An engine does two things: it executes an HTTP request ([`Engine::execute`]) and
//! opens a WebSocket ([`Engine::connect`]). drivetrain adds everything else (sessions, keepalive,
//! closing, limits, converters), the same for every engine. An engine returns a
//! [`Connection`]: a [`Transport`] of frames, plus a list of the engine's own duties
//! ([`Duties`]). [`Engine::support`] answers for each capability, and drivetrain refuses missing ones by name.
//!
//! This crate has no I/O and no runtime. Time comes from the engine's [`Runtime`].
//!
//! | you write | you get |
//! |---|---|
//! | [`Engine`] | an engine for `HttpClient::new(..)` |
//! | [`Framing`] and [`Connector`] | an engine of two halves, [`Combined`], each of which combines with any other |
//! | [`Transport`] | the frames of one connection |
//! | [`Runtime`] | tasks and time for the sessions on your engine |
//! | [`Handshake`] | the request to send and the check of its answer, done for you |
//! | [`UpgradeRules`] | the check of such a request and its answer, for a server |
//! | [`Extension`] | an extension of the protocol, for any engine that shows reserved bits |

mod body;
mod body_stream;
mod byte_stream;
mod capability;
mod close;
mod combined;
mod connection;
mod connector;
mod engine;
mod error;
mod extension;
mod frame;
#[doc(hidden)]
pub mod frame_rules;
mod framing;
mod handshake;
mod handshake_phases;
mod head_limits;
mod proxy;
mod redact;
mod resolver;
mod runtime;
mod settings;
mod text;
mod tls_version;
mod transport;
mod unix_socket;
mod upgrade;
mod utf8;

pub use async_trait::async_trait;
pub use body::Body;
pub use byte_stream::{BoxStream, ByteStream};
pub use bytes::Bytes;
pub use capability::{Capability, Requirement, Support};
pub use close::{CloseCode, CloseReason, Outcome};
pub use combined::Combined;
pub use connection::{Connection, Duties, NegotiatedExtension, Protocol, Role, Unit};
pub use connector::{Connector, UpgradeResult};
pub use engine::{Answer, ConnectTimeout, Engine, NewConnection, UPLOAD_GRACE};
pub use error::{BoxError, Error, ErrorKind, Replay, Result};
pub use extension::{Extension, MessagePart, Transform};
pub use frame::{Frame, OpCode, RawFrame, Rsv};
pub use framing::{Framing, IntoFraming};
pub use handshake::{Accepted, Handshake, Limits};
pub use handshake_phases::HandshakePhases;
pub use head_limits::HeadLimits;
#[doc(hidden)]
pub use http;
pub use proxy::{Proxy, ProxyScheme};
pub use redact::{is_secret, redacted, redacted_uri};
pub use resolver::Resolver;
pub use runtime::{Instant, Runtime, Timer};
pub use settings::{EngineSettings, NativeSetting};
pub use text::Utf8Bytes;
pub use tls_version::TlsVersion;
pub use transport::{Progress, Transport};
pub use unix_socket::UnixSocket;
pub use upgrade::{Origins, RefusalKind, Upgrade, UpgradeRefusal, UpgradeRules};
pub use utf8::Utf8Check;
