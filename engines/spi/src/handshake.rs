//! The one handshake of all engines: the request that is sent and the check of its answer
//! (RFC 6455 section 4.1).

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header, uri::Scheme,
};
use sha1::{Digest, Sha1};

use crate::{Error, ErrorKind, Extension, Result, redacted};

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
    extensions: Vec<String>,
    limits: Limits,
}

/// What a valid 101 answer agreed to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// The subprotocol the server chose, one of those offered.
    pub subprotocol: Option<String>,
    /// The extensions the server accepted, each one that was offered.
    pub extensions: Vec<Extension>,
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
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(invalid(format!(
                "subprotocol `{}` is not a token: letters, digits and !#$%&'*+-.^_`|~ only, no spaces",
                name.escape_debug()
            )));
        }
        if self.offer.subprotocols.contains(&name) {
            return Err(invalid(format!("subprotocol `{name}` is offered twice")));
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
    /// header, which HTTP libraries add; whoever writes it by hand adds the URI's authority.
    pub fn request(&self) -> Request<()> {
        self.clone().into()
    }

    /// Whether a request was made from a handshake, so that `Handshake::try_from` takes it back.
    pub fn is_in<B>(request: &Request<B>) -> bool {
        request.extensions().get::<Offer>().is_some()
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

    /// Checks the head of a 200 answer over HTTP/2, where no key is to be proven (RFC 8441 section 5).
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] if it is not 200, or a subprotocol or extension was chosen that was not
    /// offered. The error carries the response.
    pub fn verify_http2<B>(&self, response: &Response<B>) -> Result<Accepted> {
        let accepted = match response.status() {
            StatusCode::OK => self.agreed(response.headers()),
            other => Err(format!("the server answered {other} and not 200")),
        };
        accepted.map_err(|message| wrong(message, response))
    }

    /// Checks the head of a 101 answer (RFC 6455 section 4.1, the client's second list).
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] if it is not 101, or `Upgrade`, `Connection` or `Sec-WebSocket-Accept`
    /// are missing or wrong, or a subprotocol or extension was chosen that was not offered. The error
    /// carries the response.
    pub fn verify<B>(&self, response: &Response<B>) -> Result<Accepted> {
        self.accepted(response).map_err(|message| wrong(message, response))
    }

    fn accepted<B>(&self, response: &Response<B>) -> Result<Accepted, String> {
        let headers = response.headers();
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(format!("the server answered {} and not 101", response.status()));
        }
        let mut upgrades = headers.get_all(header::UPGRADE).iter().peekable();
        if upgrades.peek().is_none()
            || !upgrades.all(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
        {
            return Err("the server's 101 has no `Upgrade: websocket`".into());
        }
        if !list(headers, header::CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade")) {
            return Err("the server's 101 has no `Connection: Upgrade`".into());
        }
        let mut accepts = headers.get_all(header::SEC_WEBSOCKET_ACCEPT).iter();
        let accept = accepts.next().ok_or("the server's 101 has no Sec-WebSocket-Accept")?;
        if accepts.next().is_some()
            || accept.as_bytes().trim_ascii() != accept_value(self.offer.key.as_bytes()).as_bytes()
        {
            return Err("the server's Sec-WebSocket-Accept does not fit the key it was sent".into());
        }
        self.agreed(headers)
    }

    fn agreed(&self, headers: &HeaderMap) -> Result<Accepted, String> {
        Ok(Accepted {
            subprotocol: self.accepted_subprotocol(headers)?,
            extensions: self.accepted_extensions(headers)?,
        })
    }

    fn accepted_subprotocol(&self, headers: &HeaderMap) -> Result<Option<String>, String> {
        let mut chosen = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
        let Some(name) = chosen.next() else { return Ok(None) };
        let name = String::from_utf8_lossy(name.as_bytes().trim_ascii()).into_owned();
        if chosen.next().is_some() {
            return Err("the server chose more than one subprotocol".into());
        }
        if !self.offer.subprotocols.contains(&name) {
            return Err(format!(
                "the server chose subprotocol `{}`, which was not offered",
                name.escape_debug()
            ));
        }
        Ok(Some(name))
    }

    fn accepted_extensions(&self, headers: &HeaderMap) -> Result<Vec<Extension>, String> {
        let mut accepted = Vec::new();
        for value in headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS) {
            let parsed = value
                .to_str()
                .ok()
                .and_then(parse_extensions)
                .ok_or("the server's Sec-WebSocket-Extensions cannot be read")?;
            accepted.extend(parsed);
        }
        let offered = |name: &str| {
            self.offer
                .extensions
                .iter()
                .any(|offer| parse_extensions(offer).is_some_and(|parsed| parsed[0].name() == name))
        };
        if let Some(stranger) = accepted.iter().find(|extension| !offered(extension.name())) {
            return Err(format!(
                "the server chose extension `{}`, which was not offered",
                stranger.name().escape_debug()
            ));
        }
        Ok(accepted)
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
            .field("uri", &self.uri)
            .field("headers", &redacted(&self.headers))
            .field("subprotocols", &self.offer.subprotocols)
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

fn wrong<B>(message: String, response: &Response<B>) -> Error {
    let mut seen = Response::new(bytes::Bytes::new());
    *seen.status_mut() = response.status();
    *seen.headers_mut() = response.headers().clone();
    Error::new(ErrorKind::Protocol, message).with_response(seen)
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

/// 16 random bytes in base64 (RFC 6455 section 4.1, 7).
fn fresh_key() -> Result<HeaderValue> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::new(ErrorKind::Other, "the system has no randomness to give").with_source(error)
    })?;
    HeaderValue::try_from(BASE64.encode(bytes)).map_err(Error::other)
}

fn accept_value(key: &[u8]) -> String {
    let digest = Sha1::new()
        .chain_update(key)
        .chain_update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
        .finalize();
    BASE64.encode(digest)
}

/// The elements of a comma-separated header, over all its lines.
fn list(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// The only whitespace around the parts of a header (RFC 9110 section 5.6.3). Other whitespace may not even
/// stand in one: a request with such an offer would go out without it.
const WHITESPACE: [char; 2] = [' ', '\t'];

/// Reads `name; parameter=value; parameter="value", name2` (RFC 6455 section 9.1); `None` if it is not
/// well-formed. A quoted value must be a token once unquoted, so that no comma or semicolon can hide.
fn parse_extensions(value: &str) -> Option<Vec<Extension>> {
    let token = |text: &str| {
        let text = text.trim_matches(WHITESPACE);
        (!text.is_empty() && text.bytes().all(is_token)).then(|| text.to_owned())
    };
    let mut extensions = Vec::new();
    let elements = value.split(',').map(|element| element.trim_matches(WHITESPACE));
    for element in elements.filter(|element| !element.is_empty()) {
        let mut parts = element.split(';');
        let name = token(parts.next()?)?;
        let mut parameters = Vec::new();
        for part in parts {
            let parameter = match part.split_once('=') {
                None => (token(part)?, None),
                Some((name, value)) => {
                    let value = value.trim_matches(WHITESPACE);
                    let bare = value
                        .strip_prefix('"')
                        .map_or(Some(value), |inner| inner.strip_suffix('"'))?;
                    (token(name)?, Some(token(bare)?))
                }
            };
            parameters.push(parameter);
        }
        extensions.push(Extension::new(name, parameters));
    }
    Some(extensions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshake() -> Handshake {
        let mut handshake =
            Handshake::new(Uri::from_static("ws://server.example.com/chat")).expect("valid");
        // The key and its answer from RFC 6455 section 1.3.
        handshake.offer.key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        handshake
    }

    fn answer(headers: &[(&'static str, &str)]) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).expect("a header value");
            response.headers_mut().append(*name, value);
        }
        response
    }

    const RIGHT: [(&str, &str); 3] = [
        ("upgrade", "WebSocket"),
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
    ];

    #[test]
    fn the_answer_of_the_rfc_is_accepted() {
        assert_eq!(handshake().verify(&answer(&RIGHT)).expect("valid"), Accepted::default());
    }

    #[test]
    fn a_missing_or_wrong_header_is_a_protocol_error_with_the_response() {
        for left_out in 0..3 {
            let mut headers = RIGHT.to_vec();
            headers.remove(left_out);
            let error = handshake().verify(&answer(&headers)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
            assert_eq!(error.response().expect("carries it").status(), 101);
        }
        for (place, wrong) in [(0, "websocket2"), (1, "close"), (2, "s3pPLMBiTxaQ9kYGzzhZRbK+xOX=")]
        {
            let mut headers = RIGHT.to_vec();
            headers[place].1 = wrong;
            assert!(handshake().verify(&answer(&headers)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_what_was_offered_may_be_chosen() {
        let offered = handshake()
            .subprotocol("chat")
            .and_then(|h| h.extension("permessage-deflate; client_max_window_bits"))
            .expect("valid");
        let with = |name: &'static str, value: &str| {
            let headers: Vec<_> = RIGHT.iter().copied().chain([(name, value)]).collect();
            offered.verify(&answer(&headers))
        };
        let accepted = with("sec-websocket-protocol", "chat").expect("offered");
        assert_eq!(accepted.subprotocol.as_deref(), Some("chat"));
        assert!(with("sec-websocket-protocol", "Chat").is_err());
        assert!(with("sec-websocket-protocol", "chat, other").is_err());
        let accepted =
            with("sec-websocket-extensions", "permessage-deflate; server_max_window_bits=\"10\"")
                .expect("offered");
        assert_eq!(
            accepted.extensions[0].to_string(),
            "permessage-deflate; server_max_window_bits=10"
        );
        assert!(with("sec-websocket-extensions", "x-other").is_err());
        assert!(with("sec-websocket-extensions", "permessage-deflate; =").is_err());
    }

    #[test]
    fn every_upgrade_header_has_to_be_websocket() {
        for other in ["h2c", "websocket2"] {
            for at in [0, 1] {
                let mut headers = RIGHT.to_vec();
                headers.insert(at, ("upgrade", other));
                assert!(handshake().verify(&answer(&headers)).is_err(), "{other} at {at}");
            }
        }
    }

    #[test]
    fn an_offer_with_what_no_header_may_hold_is_refused_and_not_left_out() {
        for offer in
            ["x-foo\r", "\nx-foo", "x-foo\u{b}; a", "\u{a0}x-bar\u{2003}; a", "x; a=\u{85}b"]
        {
            let error = handshake().extension(offer).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{offer:?}");
        }
        let offered = handshake().extension("\tx-foo ;\ta = b").expect("spaces and tabs are fine");
        assert!(offered.request().headers().contains_key("sec-websocket-extensions"));
    }

    #[test]
    fn what_belongs_to_the_handshake_cannot_be_set() {
        for name in OWN {
            let error = handshake().header(name, HeaderValue::from_static("x")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
        assert!(handshake().subprotocol("with space").is_err());
        assert!(handshake().subprotocol("").is_err());
        assert!(handshake().subprotocol("a").and_then(|h| h.subprotocol("a")).is_err());
    }

    #[test]
    fn a_handshake_survives_being_a_request() {
        let original = handshake()
            .header(header::ORIGIN, HeaderValue::from_static("https://a.example"))
            .and_then(|h| h.subprotocol("chat"))
            .expect("valid");
        let mut request: Request<()> = original.clone().into();
        request.headers_mut().insert("x-added", HeaderValue::from_static("by a layer"));
        let back = Handshake::try_from(request).expect("the same");
        assert_eq!(back.headers().len(), 2);
        assert_eq!(back.subprotocols(), ["chat"]);
        assert_eq!(back.offer.key, original.offer.key);
        assert!(Handshake::try_from(Request::new(())).is_err());
    }

    #[test]
    fn schemes_are_mapped_and_others_refused() {
        for (uri, scheme) in [("ws://a", "http"), ("http://a", "http"), ("wss://a", "https")] {
            let handshake = Handshake::new(uri.parse().expect("a URI")).expect("valid");
            assert_eq!(handshake.uri().scheme_str(), Some(scheme));
        }
        assert!(Handshake::new(Uri::from_static("ftp://a")).is_err());
        assert!(Handshake::new(Uri::from_static("/path")).is_err());
    }
}
