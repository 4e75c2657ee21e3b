//! Requests that the mock has received.

use std::fmt;

use bytes::Bytes;
#[cfg(feature = "json")]
use drivetrain_engine::{Error, ErrorKind, Result};
use drivetrain_engine::{Handshake, redacted, redacted_uri};
use http::{HeaderMap, Method, Uri, request::Parts};

/// A request or handshake that a [`MockEngine`](super::MockEngine) has received, as an engine would send it: after
/// default headers, cookies, redirects and the answer to a 401. Each redirect is a request.
#[derive(Clone)]
pub struct MockRequest {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    subprotocols: Option<Vec<String>>,
}

impl MockRequest {
    pub(super) fn new(parts: &Parts, body: Bytes) -> Self {
        let Parts { method, uri, headers, .. } = parts;
        let (method, uri, headers) = (method.clone(), uri.clone(), headers.clone());
        Self { method, uri, headers, body, subprotocols: None }
    }

    pub(super) fn handshake(handshake: &Handshake) -> Self {
        let (parts, ()) = handshake.request().into_parts();
        let subprotocols = Some(handshake.subprotocols().to_vec());
        Self { subprotocols, ..Self::new(&parts, Bytes::new()) }
    }

    /// The method; GET for a handshake.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The whole URI, its scheme `http` or `https`.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The path.
    pub fn path(&self) -> &str {
        self.uri.path()
    }

    /// The query, as it was sent.
    pub fn query(&self) -> Option<&str> {
        self.uri.query()
    }

    /// The headers, including those of a handshake (`Sec-WebSocket-Key` and others). `Host` is not included:
    /// it is the authority of the [`uri`](Self::uri).
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The first value of a header, if present and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The whole body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The whole body as text, with invalid UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The whole body, read as JSON.
    ///
    /// # Errors
    /// [`Convert`](crate::ErrorKind::Convert) if the body does not match.
    #[cfg(feature = "json")]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(drivetrain_session::without_byte_order_mark(&self.body)).map_err(
            |error| {
                let message =
                    format!("the body of {self} is not the JSON that was asked for: {error}");
                Error::new(ErrorKind::Convert, message).with_source(error)
            },
        )
    }

    /// Whether this is a WebSocket handshake.
    pub fn is_handshake(&self) -> bool {
        self.subprotocols.is_some()
    }

    /// The subprotocols that a handshake offered, the preferred one first.
    pub fn subprotocols(&self) -> &[String] {
        self.subprotocols.as_deref().unwrap_or_default()
    }
}

impl fmt::Display for MockRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_handshake() { "WebSocket" } else { self.method.as_str() };
        write!(f, "{what} {}", self.uri)
    }
}

impl fmt::Debug for MockRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockRequest")
            .field("method", &self.method)
            .field("uri", &redacted_uri(&self.uri))
            .field("headers", &redacted(&self.headers))
            .field("body", &self.body.len())
            .field("subprotocols", &self.subprotocols().len())
            .finish()
    }
}
