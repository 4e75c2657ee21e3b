//! The one handshake of all engines: the request that is sent and the check of its answer
//! (RFC 6455 section 4.1).

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header, uri::Scheme,
};

use crate::{
    connection::NegotiatedExtension,
    error::{Error, ErrorKind, Result, invalid},
    redact::{redacted, redacted_uri},
};

pub(crate) mod syntax;
pub(crate) mod verify;

use self::syntax::{is_token, parse_extensions};

/// The largest frames and messages to accept, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// The largest payload of one frame. Default: 16 MiB.
    pub max_frame_size: usize,
    /// The largest message, all its fragments together. Default: 64 MiB.
    pub max_message_size: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_frame_size: 16 << 20, max_message_size: 64 << 20 }
    }
}

/// A request to open a WebSocket, and everything that is needed to check the answer.
///
/// An engine sends [`request`](Self::request) and gives the head of a 101 answer to
/// [`verify`](Self::verify); any other answer is [`Answer::Refused`](crate::Answer::Refused).
///
/// ```
/// use drivetrain_engine::Handshake;
///
/// let handshake = Handshake::new("wss://example.com/chat".parse()?)?.subprotocol("chat.v2")?;
/// let request = handshake.request();
/// assert_eq!(request.uri(), "https://example.com/chat");
/// assert_eq!(request.headers()["sec-websocket-version"], "13");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Handshake {
    uri: Uri,
    headers: HeaderMap,
    offer: Offer,
    extensions: http::Extensions,
}

/// What is the handshake's own in a request; it travels in the request's extensions.
#[derive(Clone)]
struct Offer {
    key: HeaderValue,
    subprotocols: Vec<String>,
    /// Not offered any more: see [`Handshake::withhold_subprotocols`].
    withheld: Vec<String>,
    extensions: Vec<String>,
    limits: Limits,
}

/// What a valid 101 answer agreed to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// The subprotocol the server chose, one of those offered.
    pub subprotocol: Option<String>,
    /// The extensions the server accepted, each one that was offered.
    pub extensions: Vec<NegotiatedExtension>,
}

impl Handshake {
    /// A handshake with this URI and a fresh random key. `ws` and `http` mean the same, so do `wss` and
    /// `https`; the URI is kept as `http` or `https`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for another scheme or a URI without a host.
    pub fn new(uri: Uri) -> Result<Self> {
        let scheme = match uri.scheme_str() {
            Some("ws" | "http") => Scheme::HTTP,
            Some("wss" | "https") => Scheme::HTTPS,
            Some(other) => {
                return Err(invalid(format!(
                    "scheme `{other}` is not one for WebSockets: use ws, wss, http or https"
                )));
            }
            None => return Err(invalid("the URL has no scheme: use ws:// or wss://")),
        };
        let mut parts = uri.into_parts();
        parts.scheme = Some(scheme);
        if parts.authority.as_ref().is_none_or(|authority| authority.host().is_empty()) {
            return Err(invalid("the URL has no host"));
        }
        let uri = Uri::from_parts(parts)
            .map_err(|error| invalid("the URL is not valid").with_source(error))?;
        let offer = Offer {
            key: fresh_key()?,
            subprotocols: Vec::new(),
            withheld: Vec::new(),
            extensions: Vec::new(),
            limits: Limits::default(),
        };
        Ok(Self { uri, headers: HeaderMap::new(), offer, extensions: http::Extensions::new() })
    }

    /// Adds a header of the caller's.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a header that is the handshake's own: `Upgrade`, `Connection`,
    /// `Sec-WebSocket-Key`, `-Version`, `-Accept`, `-Extensions`, and `-Protocol` (which
    /// [`subprotocol`](Self::subprotocol) sets), and for those that would frame a body.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Result<Self> {
        check_header(&name)?;
        self.headers.append(name, value);
        Ok(self)
    }

    /// Offers a subprotocol; the first offered is the one preferred.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if it is not a token (RFC 9110 section 5.6.2) or offered already.
    pub fn subprotocol(mut self, name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        // Its name may be a secret, and is not quoted.
        let number = self.offer.subprotocols.len() + 1;
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(invalid(format!(
                "subprotocol {number} is not a token: letters, digits and !#$%&'*+-.^_`|~ only, no spaces",
            )));
        }
        if let Some(at) = self.offer.subprotocols.iter().position(|before| *before == name) {
            let message =
                format!("a subprotocol is offered twice: {number} is the same as {}", at + 1);
            return Err(invalid(message));
        }
        self.offer.subprotocols.push(name);
        Ok(self)
    }

    /// Offers an extension: its name and parameters as they stand in the header, such as
    /// `permessage-deflate; client_max_window_bits`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if it is not one well-formed element of the header.
    pub fn extension(mut self, offer: impl Into<String>) -> Result<Self> {
        let offer = offer.into();
        match parse_extensions(&offer) {
            Some(parsed) if parsed.len() == 1 => self.offer.extensions.push(offer),
            _ => {
                return Err(invalid(format!(
                    "`{}` is not an extension offer: `name; parameter=value` is",
                    offer.escape_debug()
                )));
            }
        }
        Ok(self)
    }

    /// Sets the limits for what comes in; an engine that can enforces them as early as it can.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.offer.limits = limits;
        self
    }

    /// The URI, its scheme `http` or `https`.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The caller's headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The subprotocols offered, the preferred one first.
    pub fn subprotocols(&self) -> &[String] {
        &self.offer.subprotocols
    }

    /// The extensions offered, as [`extension`](Self::extension) took them.
    pub fn offered_extensions(&self) -> &[String] {
        &self.offer.extensions
    }

    /// The limits for what comes in.
    pub fn limits(&self) -> Limits {
        self.offer.limits
    }

    /// Typed extras for the engine, such as a [`ConnectTimeout`](crate::ConnectTimeout).
    pub fn extensions(&self) -> &http::Extensions {
        &self.extensions
    }

    /// Typed extras for the engine, to add to.
    pub fn extensions_mut(&mut self) -> &mut http::Extensions {
        &mut self.extensions
    }

    /// The same handshake with a fresh key, for another attempt.
    ///
    /// # Errors
    /// [`ErrorKind::Other`] if the system has no randomness to give.
    pub fn renewed(mut self) -> Result<Self> {
        self.offer.key = fresh_key()?;
        Ok(self)
    }

    /// The request to send: a GET with the caller's headers and the handshake's own. It has no `Host`
    /// header, which HTTP libraries add; code that writes it by hand adds the URI's authority.
    pub fn request(&self) -> Request<()> {
        self.clone().into()
    }

    /// Whether a request was made from a handshake, so that `Handshake::try_from` takes it back.
    pub fn is_in<B>(request: &Request<B>) -> bool {
        request.extensions().get::<Offer>().is_some()
    }

    /// Takes the offered subprotocols out of a request that was made from a handshake: for a redirect to another
    /// origin, since they often carry tokens. The server must not choose one then. Nothing happens to any other
    /// request.
    pub fn withhold_subprotocols<B>(request: &mut Request<B>) {
        if let Some(offer) = request.extensions_mut().get_mut::<Offer>() {
            offer.withheld.append(&mut offer.subprotocols);
            request.headers_mut().remove(header::SEC_WEBSOCKET_PROTOCOL);
        }
    }

    /// The request to send over HTTP/2 (RFC 8441 section 5): a CONNECT to the `https` URI with the caller's
    /// headers and those of the handshake's own that are left there. The engine adds `:protocol`
    /// (`websocket`) in its library's way.
    pub fn http2_request(&self) -> Request<()> {
        let mut request = self.request();
        for name in [header::UPGRADE, header::CONNECTION, header::SEC_WEBSOCKET_KEY] {
            request.headers_mut().remove(name);
        }
        *request.method_mut() = Method::CONNECT;
        *request.version_mut() = Version::HTTP_2;
        request
    }
}

impl From<Handshake> for Request<()> {
    fn from(handshake: Handshake) -> Self {
        let Handshake { uri, mut headers, offer, mut extensions } = handshake;
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::SEC_WEBSOCKET_KEY, offer.key.clone());
        headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        for (name, values) in [
            (header::SEC_WEBSOCKET_PROTOCOL, &offer.subprotocols),
            (header::SEC_WEBSOCKET_EXTENSIONS, &offer.extensions),
        ] {
            // What was offered was checked to be tokens, so that it is a header value.
            if let (false, Ok(value)) =
                (values.is_empty(), HeaderValue::try_from(values.join(", ")))
            {
                headers.insert(name, value);
            }
        }
        extensions.insert(offer);
        let mut request = Self::new(());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        *request.extensions_mut() = extensions;
        request
    }
}

impl TryFrom<Request<()>> for Handshake {
    type Error = Error;

    /// Takes back what `Request::from(handshake)` gave, with the URI and the headers that middleware
    /// left in it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the request was not made from a handshake, or its URI is none.
    fn try_from(request: Request<()>) -> Result<Self> {
        let (mut parts, ()) = request.into_parts();
        let offer = parts
            .extensions
            .remove::<Offer>()
            .ok_or_else(|| invalid("the request was not made from a WebSocket handshake"))?;
        let mut handshake = Self::new(parts.uri)?;
        for name in OWN {
            parts.headers.remove(name);
        }
        handshake.headers = parts.headers;
        handshake.offer = offer;
        handshake.extensions = parts.extensions;
        Ok(handshake)
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake")
            .field("uri", &redacted_uri(&self.uri))
            .field("headers", &redacted(&self.headers))
            .field("subprotocols", &self.offer.subprotocols.len())
            .field("extensions", &self.offer.extensions)
            .field("limits", &self.offer.limits)
            .finish_non_exhaustive()
    }
}

/// The headers that are the handshake's own.
const OWN: [HeaderName; 7] = [
    header::UPGRADE,
    header::CONNECTION,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::SEC_WEBSOCKET_ACCEPT,
    header::SEC_WEBSOCKET_PROTOCOL,
    header::SEC_WEBSOCKET_EXTENSIONS,
];

fn check_header(name: &HeaderName) -> Result<()> {
    if name == header::SEC_WEBSOCKET_PROTOCOL {
        return Err(invalid(
            "header `sec-websocket-protocol` is the handshake's: use .subprotocol(..)",
        ));
    }
    if OWN.contains(name) {
        return Err(invalid(format!("header `{name}` is the handshake's and cannot be set")));
    }
    if [header::CONTENT_LENGTH, header::TRANSFER_ENCODING].contains(name) {
        return Err(invalid(format!("header `{name}` cannot be set: a handshake has no body")));
    }
    Ok(())
}

/// 16 random bytes in base64 (RFC 6455 section 4.1, 7).
fn fresh_key() -> Result<HeaderValue> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::new(ErrorKind::Other, "the system has no randomness to give").with_source(error)
    })?;
    HeaderValue::try_from(BASE64.encode(bytes)).map_err(Error::other)
}

#[cfg(test)]
mod tests;
