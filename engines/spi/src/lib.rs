//! The contract between [drivetrain](https://docs.rs/drivetrain) and an engine.
//!
//! An engine does two things, one hop each: it executes an HTTP request ([`Engine::execute`]) and it
//! opens a WebSocket ([`Engine::connect`]). Everything a user sees above that (sessions, keepalive,
//! closing, limits, converters) is drivetrain's and the same for every engine. So an engine hands back a
//! [`Connection`]: a [`Transport`] of frames plus an honest list of what it does by itself
//! ([`Duties`]). What it cannot do it says in [`Engine::support`], and drivetrain refuses it by name.
//!
//! This crate has no I/O and no runtime. Time comes from the engine's [`Runtime`].
//!
//! | you write | you get |
//! |---|---|
//! | [`Engine`] | an engine for `HttpClient::new(..)` |
//! | [`Transport`] | the frames of one connection |
//! | [`Runtime`] | tasks and time for the sessions on your engine |
//! | [`Handshake`] | the request to send and the check of its answer, done for you |

mod body;
mod body_stream;
mod capability;
mod close;
mod connection;
mod engine;
mod error;
mod frame;
mod handshake;
mod proxy;
mod redact;
mod runtime;
mod settings;
mod tls_version;
mod transport;
mod utf8;

pub use async_trait::async_trait;
pub use body::Body;
pub use capability::{Capability, Requirement, Support};
pub use close::{CloseCode, CloseReason, Outcome};
pub use connection::{Connection, Duties, Extension, Protocol, Role, Unit};
pub use engine::{Answer, ConnectTimeout, Engine};
pub use error::{BoxError, Error, ErrorKind, Result};
pub use frame::{Frame, OpCode, RawFrame, Rsv, Utf8Bytes};
pub use handshake::{Accepted, Handshake, Limits};
pub use proxy::{Proxy, ProxyScheme};
pub use redact::redacted;
pub use runtime::{Instant, Runtime, Timer};
pub use settings::{EngineSettings, NativeSetting};
pub use tls_version::TlsVersion;
pub use transport::Transport;
pub use utf8::Utf8Check;
