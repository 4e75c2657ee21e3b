//! What an engine implements.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{Body, Capability, Connection, EngineSettings, Handshake, Result, Runtime, Support};

/// Executes HTTP requests and opens WebSockets, one hop each.
///
/// The value *is* its configuration: an engine's own options are methods of its type, set before it is
/// handed to `HttpClient::new`. A method here takes `&self` and may be called from many tasks.
///
/// **One hop.** [`execute`](Self::execute) and [`connect`](Self::connect) do one exchange with the
/// host of the URI and nothing else: redirects, proxies from the environment, cookies, decompression
/// and retries of the library below are switched off, because drivetrain does these above, once, and so
/// the same on every engine.
///
/// **Nothing early.** Making an engine does no I/O, needs no runtime and does not fail. What can fail is
/// made at first use.
///
/// An example to start from is drivetrain's `examples/custom_engine.rs`; `drivetrain-conformance`
/// tests an engine against this contract.
#[async_trait]
pub trait Engine: Send + Sync + fmt::Debug + 'static {
    /// The engine's name in errors, tests and tables: lower case, such as `tungstenite`.
    fn name(&self) -> &str;

    /// Whether this value, as it is configured, offers a capability. The answer must be true: tests
    /// compare it with what happens. An unknown capability is [`Support::Missing`].
    fn support(&self, capability: Capability) -> Support;

    /// What was set on the engine for the session layer to apply, such as a ping interval, and the
    /// engine's own settings for the user to read. Default: nothing.
    fn settings(&self) -> EngineSettings {
        EngineSettings::default()
    }

    /// Refuses a configuration that can never work. Called when the client is built, and again by
    /// calls on a client that was made without building. No I/O. Default: everything is accepted.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput), saying which option and what would be right.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// The runtime that sessions on this engine use for their task and timers.
    ///
    /// # Errors
    /// [`Other`](crate::ErrorKind::Other) if the engine needs to be called from within a runtime and
    /// is not; the error names it.
    fn runtime(&self) -> Result<Arc<dyn Runtime>>;

    /// Sends one HTTP request (scheme `http` or `https`) and returns the response's head, its body
    /// still streaming. A [`ConnectTimeout`] in the request's extensions limits the dialling; a
    /// [`Proxy`](crate::Proxy) there is what is dialled, and never the host itself.
    ///
    /// # Errors
    /// Any kind that fits; any status is a response, not an error.
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

/// What a server says to a handshake.
#[derive(Debug)]
pub enum Answer {
    /// The WebSocket is open.
    Open(Connection),
    /// The server answered something else. It is a response like any other: middleware may act on it.
    Refused(http::Response<Body>),
}

/// How long the dialling (name resolution, TCP, a proxy's tunnel, TLS) may take; in the extensions of a request and of a
/// [`Handshake`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectTimeout(
    /// The limit, above zero.
    pub Duration,
);

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
