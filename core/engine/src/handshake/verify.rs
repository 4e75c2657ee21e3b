//! The check of the answer.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, header};
use sha1::{Digest, Sha1};

use super::{Accepted, Handshake, syntax::parse_extensions};
use crate::{
    connection::NegotiatedExtension,
    error::{Error, ErrorKind, Result},
};

impl Handshake {
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
    /// [`ErrorKind::Protocol`] if it is not 101, or in HTTP/1.0, or `Upgrade`, `Connection` or `Sec-WebSocket-Accept`
    /// are missing or wrong, or a subprotocol or extension was chosen that was not offered, or twice. The
    /// error carries the response.
    pub fn verify<B>(&self, response: &Response<B>) -> Result<Accepted> {
        self.accepted(response).map_err(|message| wrong(message, response))
    }

    /// The head of the 101 that a server accepts this handshake with (RFC 6455 section 4.2.2), no subprotocol and
    /// no extension chosen: for engines that are their own peer, such as one for tests.
    ///
    /// ```
    /// use drivetrain_engine::Handshake;
    ///
    /// let handshake = Handshake::new("ws://example.com/chat".parse()?)?;
    /// assert!(handshake.verify(&handshake.acceptance()).is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn acceptance(&self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        // Base64 is a header value.
        if let Ok(accept) = HeaderValue::try_from(accept_value(self.offer.key.as_bytes())) {
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        response
    }

    fn accepted<B>(&self, response: &Response<B>) -> Result<Accepted, String> {
        let headers = response.headers();
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(format!("the server answered {} and not 101", response.status()));
        }
        if response.version() < Version::HTTP_11 {
            // It has no 101, and no Upgrade (RFC 9110 sections 7.8 and 15.2).
            return Err(format!("the server's 101 is in {:?}", response.version()));
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
        match self.offer.subprotocols.contains(&name) {
            true => Ok(Some(name)),
            false => Err(self.not_offered(&name)),
        }
    }

    /// A name is quoted unless it resembles one of the caller's, which may be a secret.
    fn not_offered(&self, name: &str) -> String {
        let is_like = |own: &String| {
            let (own, name) = (own.to_ascii_lowercase(), name.to_ascii_lowercase());
            name.contains(&own)
        };
        if self.offer.withheld.iter().any(is_like) {
            return "the server chose a subprotocol that is not offered after a redirect to another origin"
                .into();
        }
        if self.offer.subprotocols.iter().any(is_like) {
            return "the server chose a subprotocol that is like one that was offered, but not the same"
                .into();
        }
        format!("the server chose subprotocol `{}`, which was not offered", name.escape_debug())
    }

    fn accepted_extensions(&self, headers: &HeaderMap) -> Result<Vec<NegotiatedExtension>, String> {
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
        let names = || accepted.iter().map(NegotiatedExtension::name);
        if let Some((_, twice)) =
            names().enumerate().find(|(i, name)| names().take(*i).any(|before| before == *name))
        {
            return Err(format!("the server chose extension `{twice}` twice"));
        }
        Ok(accepted)
    }
}

fn wrong<B>(message: String, response: &Response<B>) -> Error {
    let mut seen = Response::new(bytes::Bytes::new());
    *seen.status_mut() = response.status();
    *seen.headers_mut() = response.headers().clone();
    Error::new(ErrorKind::Protocol, message).with_response(seen)
}

pub(crate) fn accept_value(key: &[u8]) -> String {
    let digest = Sha1::new()
        .chain_update(key)
        .chain_update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
        .finalize();
    BASE64.encode(digest)
}

/// The elements of a comma-separated header, over all its lines.
pub(crate) fn list(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}
