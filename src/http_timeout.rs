//! Time limits for HTTP.

use std::time::Duration;

use drivetrain_engine::{Error, ErrorKind, Result};

/// Time limits for requests and handshakes. All are off unless set. A limit that passes is an error of kind
/// [`ErrorKind::Timeout`].
///
/// | limit | for a request | for a WebSocket |
/// |---|---|---|
/// | [`connect`](Self::connect) | name resolution, TCP, a proxy's tunnel and TLS, for each connection | the same |
/// | [`request`](Self::request) | from sending to the response's head, redirects and the answer to a 401 included | does not apply: see [`handshake_timeout`](crate::WebSockets::handshake_timeout) |
/// | [`socket`](Self::socket) | between two chunks of the response's body | does not apply: see [`ping_interval`](crate::WebSockets::ping_interval) |
///
/// # Example
/// ```
/// use std::time::Duration;
/// use drivetrain::HttpTimeout;
///
/// let timeout = HttpTimeout::new()
///     .connect(Duration::from_secs(5))
///     .request(Duration::from_secs(30));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HttpTimeout {
    pub(crate) connect: Option<Duration>,
    pub(crate) request: Option<Duration>,
    pub(crate) socket: Option<Duration>,
}

impl HttpTimeout {
    /// No limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long opening a connection may take. Default: no limit. Needs the engine's capability
    /// [`ConnectTimeout`](crate::Capability::ConnectTimeout).
    #[must_use]
    pub fn connect(mut self, limit: Duration) -> Self {
        self.connect = Some(limit);
        self
    }

    /// How long the head of the response may take. Default: no limit.
    #[must_use]
    pub fn request(mut self, limit: Duration) -> Self {
        self.request = Some(limit);
        self
    }

    /// How long the response's body may pause. Default: no limit.
    #[must_use]
    pub fn socket(mut self, limit: Duration) -> Self {
        self.socket = Some(limit);
        self
    }

    pub(crate) fn overridden_by(self, later: Self) -> Self {
        Self {
            connect: later.connect.or(self.connect),
            request: later.request.or(self.request),
            socket: later.socket.or(self.socket),
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        for (name, limit) in
            [("connect", self.connect), ("request", self.request), ("socket", self.socket)]
        {
            if limit == Some(Duration::ZERO) {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!("a {name} timeout of zero is not possible: leave it out for no limit"),
                ));
            }
        }
        Ok(())
    }
}
