//! The answer to a handshake that is not accepted.

use std::{borrow::Cow, fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

/// Why a server refuses a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalKind {
    /// The server is shutting down, or has as many sessions as it may have: 503.
    Unavailable,
    /// The request does not ask for a WebSocket: 426.
    NotAnUpgrade,
    /// The method is not the one for WebSockets: 405.
    Method,
    /// Another version of the protocol than 13: 426; a repeated one: 400.
    Version,
    /// The key is missing, repeated or not a key: 400.
    Key,
    /// The host is not one of the server's: 421.
    Host,
    /// The page that opens the WebSocket is of an origin that may not: 403.
    Origin,
    /// Subprotocols that cannot be read, or none in common where one is required: 400.
    Subprotocol,
    /// Extensions that cannot be read, or a required one that was not offered: 400.
    Extension,
    /// The request has a body: 400.
    Body,
    /// The server is wired in a way that no handshake can succeed: 500.
    Wiring,
}

impl RefusalKind {
    /// Its name in events: lower case, with underscores.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::NotAnUpgrade => "not_an_upgrade",
            Self::Method => "method",
            Self::Version => "version",
            Self::Key => "key",
            Self::Host => "host",
            Self::Origin => "origin",
            Self::Subprotocol => "subprotocol",
            Self::Extension => "extension",
            Self::Body => "body",
            Self::Wiring => "wiring",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotAnUpgrade | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::Origin => StatusCode::FORBIDDEN,
            Self::Key | Self::Subprotocol | Self::Extension | Self::Body => StatusCode::BAD_REQUEST,
            Self::Wiring => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// The answer to a handshake that is not accepted: a status, headers, and one line of plain text.
///
/// `Display` is the line.
#[derive(Clone)]
pub struct UpgradeRefusal(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: RefusalKind,
    status: StatusCode,
    message: Cow<'static, str>,
    headers: HeaderMap,
}

impl UpgradeRefusal {
    /// A refusal of this kind, with the kind's status. The client reads the message: it must not quote the request.
    pub fn new(kind: RefusalKind, message: impl Into<Cow<'static, str>>) -> Self {
        let (status, message) = (kind.status(), message.into());
        Self(Box::new(Inner { kind, status, message, headers: HeaderMap::new() }))
    }

    /// The server takes no session now: 503, `Retry-After` with this time in whole seconds, at least one, and
    /// `Connection: close`.
    pub fn unavailable(message: impl Into<Cow<'static, str>>, retry_after: Duration) -> Self {
        let seconds = HeaderValue::from(retry_after.as_secs().max(1));
        Self::new(RefusalKind::Unavailable, message)
            .with_header(header::RETRY_AFTER, Some(seconds))
            .with_header(header::CONNECTION, Some(HeaderValue::from_static("close")))
    }

    /// The server is wired wrongly: 500. The client is not told how; the server's log is.
    pub fn wiring(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(RefusalKind::Wiring, message)
    }

    pub(super) fn method(allowed: &'static str) -> Self {
        Self::new(RefusalKind::Method, "this method opens no WebSocket")
            .with_header(header::ALLOW, Some(HeaderValue::from_static(allowed)))
    }

    /// A 426 names what to upgrade to (RFC 9110 section 15.5.22).
    pub(super) fn asking_for_upgrade(self) -> Self {
        self.with_header(header::UPGRADE, Some(HeaderValue::from_static("websocket")))
            .with_header(header::CONNECTION, Some(HeaderValue::from_static("Upgrade")))
    }

    pub(super) fn with_status(mut self, status: StatusCode) -> Self {
        self.0.status = status;
        self
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: Option<HeaderValue>) -> Self {
        if let Some(value) = value {
            self.0.headers.insert(name, value);
        }
        self
    }

    /// Why.
    pub fn kind(&self) -> RefusalKind {
        self.0.kind
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The answer.
    pub fn response(&self) -> Response<Bytes> {
        let text = match self.0.kind {
            RefusalKind::Wiring => "internal error\n".into(),
            _ => format!("{}\n", self.0.message),
        };
        let mut response = Response::new(Bytes::from(text));
        *response.status_mut() = self.0.status;
        *response.headers_mut() = self.0.headers.clone();
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
        response
    }
}

impl fmt::Display for UpgradeRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for UpgradeRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpgradeRefusal")
            .field("kind", &self.0.kind)
            .field("status", &self.0.status)
            .field("message", &self.0.message)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for UpgradeRefusal {}
