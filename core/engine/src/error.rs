//! One error type, with a kind for decisions and accessors for data.

use std::{borrow::Cow, convert::Infallible, error::Error as StdError, fmt, sync::Arc};

use bytes::Bytes;

use crate::{
    capability::Capability,
    close::{CloseCode, CloseReason, Outcome},
    handshake_phases::HandshakePhases,
};

/// Any error, as [`Error::other`] takes it.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// A `Result` whose error is drivetrain's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an error, for `match`.
///
/// The kind names the side that failed: the caller (`InvalidInput`, `Unsupported`), the peer (`Rejected`,
/// `Status`, `Protocol`, `TooBig`), or the network (`Connect`, `Tls`, `Timeout`, `Io`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The input can never work; nothing was sent.
    InvalidInput,
    /// The engine lacks a required capability; nothing was sent. See [`Error::capability`].
    Unsupported,
    /// No connection could be opened.
    Connect,
    /// TLS could not be set up, or the peer's certificate was refused.
    Tls,
    /// The server answered the handshake, but not with a WebSocket. See [`Error::response`].
    Rejected,
    /// An HTTP response had an error status and the caller treats this as an error, or
    /// expected an event stream. See [`Error::response`].
    Status,
    /// The peer broke HTTP's or WebSocket's rules.
    Protocol,
    /// A frame, message, event or response exceeds its limit.
    TooBig,
    /// A time limit has expired.
    Timeout,
    /// The session is closed. See [`Error::outcome`].
    Closed,
    /// A value could not be converted to or from a message.
    Convert,
    /// Reading or writing failed, or the connection ended without a Close.
    Io,
    /// An error of user code, or of no other kind.
    Other,
}

/// Why a failed request may be repeated automatically: the server cannot have acted on it, or acting
/// twice equals acting once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Replay {
    /// The server has not processed the request, or no byte of it was sent: it may be
    /// repeated with any method (RFC 9113 section 8.7).
    NotProcessed,
    /// A reused connection ended without a response to this request: it may be repeated if its
    /// method is idempotent (RFC 9110 section 9.2.2).
    Unanswered,
}

/// The error of every fallible function of drivetrain.
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
    /// Whether the message needs the engine's name as its subject.
    is_of_engine: bool,
    engine: Option<Cow<'static, str>>,
    capability: Option<Capability>,
    response: Option<http::Response<Bytes>>,
    outcome: Option<Outcome>,
    close_code: Option<CloseCode>,
    is_transient: Option<bool>,
    replay: Option<Replay>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Makes an error of this kind. The message is lower case, without a full stop, and names
    /// a remedy if one is known.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            is_of_engine: false,
            engine: None,
            capability: None,
            response: None,
            outcome: None,
            close_code: None,
            is_transient: None,
            replay: None,
            source: None,
        }))
    }

    /// Wraps an error of user code for `?` and `run`. The wrapped error is the
    /// [`source`](StdError::source) and the kind is [`ErrorKind::Other`].
    pub fn other(source: impl Into<BoxError>) -> Self {
        let source = source.into();
        Self::new(ErrorKind::Other, source.to_string()).with_source(source)
    }

    /// The error of a read that ends inside a frame.
    pub fn inside_frame(source: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, "the connection ended in the middle of a frame")
            .with_source(source)
    }

    /// Makes an error about an engine. The text begins with "the engine", or with the
    /// engine's name after [`with_engine`](Self::with_engine).
    ///
    /// ```
    /// use drivetrain_engine::{Error, ErrorKind};
    ///
    /// let error = Error::of_engine(ErrorKind::Other, "needs a tokio runtime");
    /// assert_eq!(error.to_string(), "the engine needs a tokio runtime");
    /// assert_eq!(error.with_engine("native").to_string(), "engine `native` needs a tokio runtime");
    /// ```
    pub fn of_engine(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        let mut error = Self::new(kind, message);
        error.inner().is_of_engine = true;
        error
    }

    /// Refuses a missing capability with the engine's reason. A half of an engine does not know
    /// the engine's name and uses this; see [`of_engine`](Self::of_engine).
    pub fn not_offered(capability: Capability, reason: &str) -> Self {
        let message = format!("does not offer {}: {reason}", capability.name());
        let mut error = Self::of_engine(ErrorKind::Unsupported, message);
        error.inner().capability = Some(capability);
        error
    }

    /// Refuses a capability that the named engine lacks, with the engine's reason.
    pub fn unsupported(
        engine: impl Into<Cow<'static, str>>,
        capability: Capability,
        reason: &str,
    ) -> Self {
        Self::not_offered(capability, reason).with_engine(engine)
    }

    /// Sets the engine's name.
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

    /// Adds the response that refused the handshake; keep at most 64 KiB of its body. Of its extensions only
    /// [`HandshakePhases`] are kept: a library may have left its connection there, which an error must not keep open.
    #[must_use]
    pub fn with_response(mut self, mut response: http::Response<Bytes>) -> Self {
        let phases = response.extensions_mut().remove::<HandshakePhases>();
        response.extensions_mut().clear();
        if let Some(phases) = phases {
            response.extensions_mut().insert(phases);
        }
        self.inner().response = Some(response);
        self
    }

    /// Adds the outcome of the session.
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

    /// Overrides whether a later retry may succeed: see
    /// [`is_transient`](Self::is_transient).
    #[must_use]
    pub fn with_transient(mut self, is_transient: bool) -> Self {
        self.inner().is_transient = Some(is_transient);
        self
    }

    /// Marks the failed request as repeatable. Default: not repeatable.
    #[must_use]
    pub fn with_replay(mut self, replay: Replay) -> Self {
        self.inner().replay = Some(replay);
        self
    }

    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The name of the involved engine, if any.
    pub fn engine(&self) -> Option<&str> {
        self.0.engine.as_deref()
    }

    /// The capability that the engine lacks, for [`ErrorKind::Unsupported`].
    pub fn capability(&self) -> Option<Capability> {
        self.0.capability
    }

    /// The response that refused a handshake or an event stream, or whose status is the error: status,
    /// headers, and up to 64 KiB of its body.
    pub fn response(&self) -> Option<&http::Response<Bytes>> {
        self.0.response.as_ref()
    }

    /// The peer's Close, if the session has received one.
    pub fn close_reason(&self) -> Option<&CloseReason> {
        self.0.outcome.as_ref()?.received.as_ref()
    }

    /// The outcome of the session, if it has ended.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.0.outcome.as_ref()
    }

    /// The code of the Close that a session sends for this error, if any.
    pub fn close_code(&self) -> Option<CloseCode> {
        self.0.close_code.or(match self.0.kind {
            ErrorKind::TooBig => Some(CloseCode::TOO_BIG),
            ErrorKind::Protocol => Some(CloseCode::PROTOCOL_ERROR),
            _ => None,
        })
    }

    /// Whether a later retry may succeed: the network failed, the peer was too slow, the server, or a
    /// proxy that was asked for a tunnel, answered 408, 425, 429 or 5xx (except 501 and 505), or the peer closed
    /// with 1001, 1006, 1011, 1012, 1013 or 1014. Wrong credentials, a proxy's rule and a refused certificate
    /// are not transient.
    ///
    /// The peer's Close decides before any later failure of the connection: an end with 4001 is
    /// not transient, even if the network failed before the answer.
    pub fn is_transient(&self) -> bool {
        let closed_for_a_time = |reason: &CloseReason| {
            matches!(u16::from(reason.code()), 1001 | 1006 | 1011 | 1012 | 1013 | 1014)
        };
        let answered_for_a_time = |response: &http::Response<Bytes>| {
            let status = response.status().as_u16();
            matches!(status, 408 | 425 | 429 | 500 | 502..=504 | 506..=599)
        };
        if let Some(is_transient) = self.0.is_transient {
            return is_transient;
        }
        match self.0.kind {
            ErrorKind::Connect if self.response().is_some_and(|it| !answered_for_a_time(it)) => {
                false
            }
            ErrorKind::Connect | ErrorKind::Timeout | ErrorKind::Io => {
                self.close_reason().is_none_or(closed_for_a_time)
            }
            ErrorKind::Rejected | ErrorKind::Status => {
                self.response().is_some_and(answered_for_a_time)
            }
            ErrorKind::Closed => self.close_reason().is_some_and(closed_for_a_time),
            _ => false,
        }
    }

    /// Why the failed request may be repeated, if it may. The client has already repeated it as often as it
    /// fails.
    pub fn replay(&self) -> Option<Replay> {
        self.0.replay
    }

    fn inner(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }
}

/// Refuses an input that can never work.
pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { message, is_of_engine, engine, .. } = &*self.0;
        match (is_of_engine, engine) {
            (false, _) => f.write_str(message),
            (true, None) => write!(f, "the engine {message}"),
            (true, Some(engine)) => write!(f, "engine `{engine}` {message}"),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            kind,
            message: _,
            is_of_engine: _,
            engine,
            capability,
            response,
            outcome,
            close_code,
            is_transient: _,
            replay,
            source,
        } = &*self.0;
        let mut debug = f.debug_struct("Error");
        debug.field("kind", kind).field("message", &self.to_string());
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
        if let Some(replay) = replay {
            debug.field("replay", replay);
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

/// Recovers a drivetrain error that passed through an I/O trait.
impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let error = match error.downcast::<Self>() {
            Ok(ours) => return ours,
            Err(error) => error,
        };
        let message = match error.kind() {
            Io::UnexpectedEof => "the connection was lost: its end was not announced".into(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_what_is_not_offered_has_the_latest_name_of_the_engine() {
        let error = Error::not_offered(Capability::Tls, "it was built without TLS");
        assert_eq!(error.to_string(), "the engine does not offer TLS: it was built without TLS");
        assert_eq!(error.engine(), None);
        let named = error.with_engine("half").with_engine("native");
        let text = "engine `native` does not offer TLS: it was built without TLS";
        assert_eq!(named.to_string(), text);
        assert!(format!("{named:?}").contains(text), "{named:?}");
        assert_eq!((named.engine(), named.capability()), (Some("native"), Some(Capability::Tls)));
        assert_eq!(named.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn the_text_of_any_other_error_has_no_name() {
        let error = Error::new(ErrorKind::Io, "it failed").with_engine("native");
        assert_eq!((error.to_string().as_str(), error.engine()), ("it failed", Some("native")));
    }
}
