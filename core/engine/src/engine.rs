//! The trait of an engine.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    body::Body,
    capability::{Capability, Support},
    connection::Connection,
    error::Result,
    handshake::Handshake,
    runtime::Runtime,
    settings::EngineSettings,
};

/// Executes HTTP requests and opens WebSockets, one exchange each.
///
/// The value *is* its configuration: an engine's options are methods of its type, set before the value is
/// passed to `HttpClient::new`. Methods take `&self`, and many tasks may call them.
///
/// **One exchange.** [`execute`](Self::execute) and [`connect`](Self::connect) do one exchange with the
/// host of the URI. Redirects, proxies from the environment, cookies, decompression
/// and retries of the library are off, because drivetrain does these above the engine, in
/// the same way on every engine.
///
/// **Lazy.** Creating an engine does no I/O, needs no runtime and does not fail. Fallible parts are
/// created at first use.
///
/// drivetrain's `examples/custom_engine.rs` is an example; `drivetrain-conformance`
/// tests an engine against this contract.
#[async_trait]
pub trait Engine: Send + Sync + fmt::Debug + 'static {
    /// The engine's name in errors, tests and tables: lower case, such as `tungstenite`.
    fn name(&self) -> &str;

    /// Whether this configured value offers a capability. The answer must be true: tests
    /// compare it with the behaviour. An unknown capability is [`Support::Missing`].
    fn support(&self, capability: Capability) -> Support;

    /// Options of the engine that the session layer applies, such as a ping interval, and the
    /// engine's own settings for users to read. Default: none.
    fn settings(&self) -> EngineSettings {
        EngineSettings::default()
    }

    /// Refuses an impossible configuration. Called when the client is built, and again by
    /// calls on a client without a builder. No I/O. Default: accepts everything.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput); the message names the option and a valid value.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// The runtime for the task and timers of this engine's sessions.
    ///
    /// # Errors
    /// [`Other`](crate::ErrorKind::Other) if the engine must be called inside a runtime and
    /// is not; the error names the runtime.
    fn runtime(&self) -> Result<Arc<dyn Runtime>>;

    /// Sends one HTTP request (scheme `http` or `https`) and returns the response's head, with its body
    /// still streaming. A [`ConnectTimeout`] in the request's extensions limits connecting. With a
    /// [`Proxy`](crate::Proxy) in the extensions, the engine connects to the proxy and never to the host.
    ///
    /// # Errors
    /// Any kind that fits; any status is a response, not an error. If the error has
    /// [`Error::with_replay`](crate::Error::with_replay), the client repeats the request.
    ///
    /// # Cancel safety
    /// Dropping the future ends the request.
    async fn execute(&self, request: http::Request<Body>) -> Result<http::Response<Body>>;

    /// Sends one handshake and opens the connection, or returns the response that refused it.
    ///
    /// # Errors
    /// Any kind that fits; an answer other than 101 is [`Answer::Refused`], not an error.
    ///
    /// # Cancel safety
    /// Dropping the future ends the attempt and frees the socket.
    async fn connect(&self, handshake: Handshake) -> Result<Answer>;
}

/// A server's answer to a handshake.
#[derive(Debug)]
pub enum Answer {
    /// The WebSocket is open.
    Open(Connection),
    /// The server answered otherwise. The response is like any other: middleware may act on it.
    Refused(http::Response<Body>),
}

/// Time limit for connecting (name resolution, TCP, a proxy's tunnel, TLS); in the extensions of a request and of a
/// [`Handshake`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectTimeout(
    /// The limit, above zero.
    pub Duration,
);

/// In the extensions of a request: use a connection without earlier requests, because a reused connection failed.
/// An engine without a choice ignores this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NewConnection;

/// Time limit for an upload after its response is complete: 1 s.
pub const UPLOAD_GRACE: Duration = Duration::from_secs(1);

macro_rules! forward {
    ($pointer:ident) => {
        #[async_trait]
        impl<E: Engine + ?Sized> Engine for $pointer<E> {
            fn name(&self) -> &str {
                (**self).name()
            }

            fn support(&self, capability: Capability) -> Support {
                (**self).support(capability)
            }

            fn settings(&self) -> EngineSettings {
                (**self).settings()
            }

            fn check(&self) -> Result<()> {
                (**self).check()
            }

            fn runtime(&self) -> Result<Arc<dyn Runtime>> {
                (**self).runtime()
            }

            async fn execute(&self, request: http::Request<Body>) -> Result<http::Response<Body>> {
                (**self).execute(request).await
            }

            async fn connect(&self, handshake: Handshake) -> Result<Answer> {
                (**self).connect(handshake).await
            }
        }
    };
}

forward!(Arc);
forward!(Box);
