//! Tests without sockets and without sleeping.
//!
//! | to test | start from |
//! |---|---|
//! | a program that uses this crate | [`MockEngine`]: an engine with scripted responses, peers and faults, on a [`Clock`] that the test moves |
//! | a server | `loopback` (feature `server`): a client whose engine is the service, on a [`Clock`] too; `handshake` for a service that is called by hand |
//! | code on top of sessions or engines | [`pipe`], or [`pipe_of`] a role, and [`TestRuntime`]: one connection in memory; the test is the other end |
//!
//! [`MockEngine`] has its own example. A pipe in a few lines:
//!
//! ```
//! use std::time::Duration;
//! use drivetrain::{ErrorKind, OpCode, WebSockets, testing::{TestRuntime, pipe}};
//!
//! let runtime = TestRuntime::new();
//! let (connection, mut peer) = pipe();
//! let plugin = WebSockets::new()
//!     .ping_interval(Duration::from_secs(20))
//!     .ping_timeout(Duration::from_secs(10));
//! let mut session = runtime.session(connection, plugin);
//!
//! runtime.advance(Duration::from_secs(20));
//! assert_eq!(peer.receive().map(|frame| frame.opcode), Some(OpCode::Ping));
//! runtime.advance(Duration::from_secs(10)); // and no pong
//! let error = runtime.block_on(session.receive()).unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::Timeout);
//! ```

mod clock;
#[cfg(feature = "server")]
mod loopback;
mod mock;
mod pipe;
mod pipe_engine;
mod virtual_time;
mod wire;
mod worker;

pub use clock::TestRuntime;
/// The request of a handshake for a service that is called by hand.
#[cfg(feature = "server")]
pub use drivetrain_server::testing::handshake;
#[cfg(feature = "server")]
pub use loopback::{Loopback, loopback};
pub use mock::{MockEngine, MockPeer, MockRequest, MockRoute, MockWebSocket, Reply, Script};
pub use pipe::{PipePeer, pipe, pipe_of};
pub use virtual_time::Clock;
