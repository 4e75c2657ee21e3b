//! One error for everything, with a kind to decide on and accessors for the data.

use std::{borrow::Cow, convert::Infallible, error::Error as StdError, fmt, sync::Arc};

use bytes::Bytes;

use crate::{Capability, CloseCode, CloseReason, Outcome};

/// Any error at all, as [`Error::other`] takes it.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// A `Result` whose error is drivetrain's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, to decide on with `match`.
///
/// The kind says who failed: the caller (`InvalidInput`, `Unsupported`), the peer (`Rejected`,
/// `Status`, `Protocol`, `TooBig`), or what is between (`Connect`, `Tls`, `Timeout`, `Io`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller gave something that can never work; nothing was sent.
    InvalidInput,
    /// The engine cannot do what was asked for; nothing was sent. See [`Error::capability`].
    Unsupported,
    /// No connection could be opened.
    Connect,
    /// TLS could not be set up, or the peer's certificate was refused.
    Tls,
    /// The server answered the handshake, but not with a WebSocket. See [`Error::response`].
    Rejected,
    /// An HTTP response had an error status and the caller asked for that to be an error, or it is where
    /// an event stream was expected. See [`Error::response`].
    Status,
    /// The peer broke HTTP's or WebSocket's rules.
    Protocol,
    /// A frame, a message, an event or a response is larger than the limit that was set.
    TooBig,
    /// Something did not happen in time.
    Timeout,
    /// The session is closed. See [`Error::outcome`].
    Closed,
    /// A value could not be converted to or from a message.
    Convert,
    /// Reading or writing failed, or the connection ended without a Close.
    Io,
    /// An error of the user's own code, or one that fits nowhere else.
    Other,
}

/// What every fallible function of drivetrain returns.
///
/// `Display` is this level only, in lower case; [`source`](StdError::source) is the cause below.
/// A clone is cheap and is the same error: a session repeats the error it ended with.
///
/// ```
/// use drivetrain_engine::{CloseReason, ErrorKind};
///
/// let error = CloseReason::new(1005, "").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::InvalidInput);
/// assert!(error.to_string().contains("1005"));
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    engine: Option<Cow<'static, str>>,
    capability: Option<Capability>,
    response: Option<http::Response<Bytes>>,
    outcome: Option<Outcome>,
    close_code: Option<CloseCode>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Makes an error of this kind; the message is lower case, without a full stop, and says what
    /// would be right if that is known.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            engine: None,
            capability: None,
            response: None,
            outcome: None,
            close_code: None,
            source: None,
        }))
    }

    /// Wraps an error of the user's own, so that `?` and `run` can carry it; it is the
    /// [`source`](StdError::source) and the kind is [`ErrorKind::Other`].
    pub fn other(source: impl Into<BoxError>) -> Self {
        let source = source.into();
        Self::new(ErrorKind::Other, source.to_string()).with_source(source)
    }

    /// Refuses what the engine named cannot do, with the engine's own reason.
    pub fn unsupported(
        engine: impl Into<Cow<'static, str>>,
        capability: Capability,
        reason: &str,
    ) -> Self {
        let engine = engine.into();
        let message = format!("engine `{engine}` does not offer {}: {reason}", capability.name());
        let mut error = Self::new(ErrorKind::Unsupported, message).with_engine(engine);
        error.inner().capability = Some(capability);
        error
    }

    /// Adds the engine's name.
    #[must_use]
    pub fn with_engine(mut self, engine: impl Into<Cow<'static, str>>) -> Self {
        self.inner().engine = Some(engine.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.inner().source = Some(Arc::from(source.into()));
        self
    }

    /// Adds the response that refused the handshake; keep at most 64 KiB of its body. Its extensions are
    /// dropped: a library may have left its connection there, which an error must not keep open.
    #[must_use]
    pub fn with_response(mut self, mut response: http::Response<Bytes>) -> Self {
        response.extensions_mut().clear();
        self.inner().response = Some(response);
        self
    }

    /// Adds how the session ended.
    #[must_use]
    pub fn with_outcome(mut self, outcome: Outcome) -> Self {
        self.inner().outcome = Some(outcome);
        self
    }

    /// Sets the code of the Close that the session sends for this error. Default: 1009 for
    /// [`ErrorKind::TooBig`], 1002 for [`ErrorKind::Protocol`], none for the others.
    #[must_use]
    pub fn with_close_code(mut self, code: CloseCode) -> Self {
        self.inner().close_code = Some(code);
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The name of the engine it happened on, where one was involved.
    pub fn engine(&self) -> Option<&str> {
        self.0.engine.as_deref()
    }

    /// The capability that the engine lacks, for [`ErrorKind::Unsupported`].
    pub fn capability(&self) -> Option<Capability> {
        self.0.capability
    }

    /// The response that refused a handshake: status, headers, and up to 64 KiB of its body.
    pub fn response(&self) -> Option<&http::Response<Bytes>> {
        self.0.response.as_ref()
    }

    /// The Close that the peer sent, if the session had received one.
    pub fn close_reason(&self) -> Option<&CloseReason> {
        self.0.outcome.as_ref()?.received.as_ref()
    }

    /// How the session ended, if it was one that had ended.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.0.outcome.as_ref()
    }

    /// The code of the Close that a session sends for this error, if it sends one.
    pub fn close_code(&self) -> Option<CloseCode> {
        self.0.close_code.or(match self.0.kind {
            ErrorKind::TooBig => Some(CloseCode::TOO_BIG),
            ErrorKind::Protocol => Some(CloseCode::PROTOCOL_ERROR),
            _ => None,
        })
    }

    /// Whether trying again later may work: the network failed, the peer was too slow, the server
    /// answered 408, 425, 429 or 5xx (but 501 and 505), or closed with 1001, 1006, 1011, 1012, 1013 or 1014.
    ///
    /// The peer's Close, if one came, says more than how the connection ended after it: one with 4001 is
    /// not transient, even if the network failed before it was answered.
    pub fn is_transient(&self) -> bool {
        let closed_for_a_time = |reason: &CloseReason| {
            matches!(u16::from(reason.code()), 1001 | 1006 | 1011 | 1012 | 1013 | 1014)
        };
        match self.0.kind {
            ErrorKind::Connect | ErrorKind::Timeout | ErrorKind::Io => {
                self.close_reason().is_none_or(closed_for_a_time)
            }
            ErrorKind::Rejected | ErrorKind::Status => self.response().is_some_and(|response| {
                matches!(response.status().as_u16(), 408 | 425 | 429 | 500 | 502..=504 | 506..=599)
            }),
            ErrorKind::Closed => self.close_reason().is_some_and(closed_for_a_time),
            _ => false,
        }
    }

    fn inner(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, message, engine, capability, response, outcome, close_code, source } =
            &*self.0;
        let mut debug = f.debug_struct("Error");
        debug.field("kind", kind).field("message", message);
        if let Some(engine) = engine {
            debug.field("engine", engine);
        }
        if let Some(capability) = capability {
            debug.field("capability", capability);
        }
        if let Some(response) = response {
            debug.field("status", &response.status());
        }
        if let Some(outcome) = outcome {
            debug.field("outcome", outcome);
        }
        if let Some(code) = close_code {
            debug.field("close_code", code);
        }
        if let Some(source) = source {
            debug.field("source", source);
        }
        debug.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn StdError + 'static))
    }
}

/// One of ours that went through a trait of I/O, such as a stream of a message, is itself again.
impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let error = match error.downcast::<Self>() {
            Ok(ours) => return ours,
            Err(error) => error,
        };
        let message = match error.kind() {
            Io::UnexpectedEof => "the connection ended in the middle of a frame".into(),
            Io::ConnectionReset => "the peer reset the connection".into(),
            Io::BrokenPipe => "the peer closed the connection for writing".into(),
            _ => Cow::Owned(format!("input or output failed: {error}")),
        };
        Self::new(ErrorKind::Io, message).with_source(error)
    }
}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
