//! The server's side of the handshake, without I/O (RFC 6455 section 4.2, RFC 8441 section 5).

mod origins;
mod refusal;

use std::{fmt, sync::Arc};

use base64::{
    Engine as _,
    alphabet::STANDARD as ALPHABET,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};

pub use origins::Origins;
pub use refusal::{RefusalKind, UpgradeRefusal};

use self::origins::{AllowedHosts, requested_host};
use crate::{
    connection::{NegotiatedExtension, Protocol},
    error::{Result, invalid},
    extension::Extension,
    handshake::{
        Accepted,
        syntax::{is_token, parse_extensions},
        verify::{accept_value, list},
    },
};

/// The `:protocol` of an extended CONNECT (RFC 8441 section 4), and the token in `Upgrade`.
const WEBSOCKET: &str = "websocket";

/// Keys whose last character has stray bits decode too: no attack needs them, and some clients send them.
const KEYS: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// What a server accepts in a handshake: [`check`](Self::check) decides on one request.
///
/// ```
/// use drivetrain_engine::{Origins, UpgradeRules};
/// use http::Request;
///
/// let rules = UpgradeRules::new().subprotocols(["chat.v2", "chat.v1"]);
/// let request = Request::get("/chat")
///     .header("host", "example.com")
///     .header("connection", "Upgrade")
///     .header("upgrade", "websocket")
///     .header("sec-websocket-version", "13")
///     .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
///     .header("sec-websocket-protocol", "chat.v1, chat.v2")
///     .body(())?;
/// let upgrade = rules.check(&request, None).expect("acceptable");
/// assert_eq!(upgrade.response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// assert_eq!(upgrade.accepted.subprotocol.as_deref(), Some("chat.v2"));
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct UpgradeRules {
    origins: Origins,
    hosts: Option<AllowedHosts>,
    subprotocols: Vec<String>,
    requires_subprotocol: bool,
    extensions: Vec<Arc<dyn Extension>>,
}

/// A handshake that may be accepted.
#[derive(Debug)]
#[non_exhaustive]
pub struct Upgrade {
    /// What carries the frames.
    pub protocol: Protocol,
    /// What is agreed on.
    pub accepted: Accepted,
    /// The head of the answer: 101 on HTTP/1.1, 200 on HTTP/2.
    pub response: Response<()>,
}

impl UpgradeRules {
    /// Accepts origins of the same host, no subprotocol and no extension.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets which origins may open a WebSocket. Default: [`Origins::same_host`].
    #[must_use]
    pub fn origins(mut self, origins: Origins) -> Self {
        self.origins = origins;
        self
    }

    /// Sets the hosts that requests may name in `Host` (`:authority` on HTTP/2), without a port for any port:
    /// `localhost`, `127.0.0.1`, `[::1]`, `*.example.com`, `example.com:8443`. Others get 421. A server on localhost or in
    /// a private network needs this against DNS rebinding, where `Origin` and `Host` both name the attacker's domain.
    /// Default: any host.
    #[must_use]
    pub fn hosts(mut self, hosts: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.hosts = Some(AllowedHosts::new(hosts));
        self
    }

    /// Sets the subprotocols, the preferred one first; the first that the client offers too is chosen. Names compare with
    /// case. Default: none, so that offers are ignored.
    #[must_use]
    pub fn subprotocols(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.subprotocols = names.into_iter().map(Into::into).collect();
        self
    }

    /// Refuses clients without a subprotocol in common, with 400. Default: they are accepted without one.
    #[must_use]
    pub fn require_subprotocol(mut self) -> Self {
        self.requires_subprotocol = true;
        self
    }

    /// Sets the extensions to agree to, in the order in which they are applied to what goes out. Default: none.
    #[must_use]
    pub fn extensions(mut self, extensions: impl IntoIterator<Item = Arc<dyn Extension>>) -> Self {
        self.extensions = extensions.into_iter().collect();
        self
    }

    /// Refuses rules that can never work.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for an origin or host that cannot be read, for a
    /// subprotocol that is no token or set twice, for a required one where none is set, and for extensions that fail their
    /// [`check`](Extension::check), have one name or use one reserved bit.
    pub fn validate(&self) -> Result<()> {
        self.origins.validate()?;
        self.hosts.as_ref().map_or(Ok(()), AllowedHosts::validate)?;
        for (i, name) in self.subprotocols.iter().enumerate() {
            let shown = name.escape_debug();
            if name.is_empty() || !name.bytes().all(is_token) {
                return Err(invalid(format!("subprotocol `{shown}` is not a token")));
            }
            if self.subprotocols[..i].contains(name) {
                return Err(invalid(format!("subprotocol `{shown}` is set twice")));
            }
        }
        if self.requires_subprotocol && self.subprotocols.is_empty() {
            return Err(invalid("a subprotocol is required and none is set"));
        }
        for (i, extension) in self.extensions.iter().enumerate() {
            extension.check()?;
            let name = extension.name();
            for before in &self.extensions[..i] {
                if before.name() == name {
                    return Err(invalid(format!("extension `{name}` is set twice")));
                }
                if before.rsv().intersects(extension.rsv()) {
                    let before = before.name();
                    return Err(invalid(format!(
                        "extensions `{before}` and `{name}` use the same reserved bit: set one of them"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Decides on a request. `protocol` is the `:protocol` pseudo-header of HTTP/2, which HTTP libraries keep in a type of
    /// their own; `None` on HTTP/1.1.
    ///
    /// The order of the checks is fixed, so that the same request gets the same answer on every server: is it an
    /// upgrade (426), method (405), version (426, 400), key (400), host (421), origin (403), subprotocol (400), extensions
    /// (400), body (400). Lists are read over all their lines, tokens compare without case.
    ///
    /// # Errors
    /// The refusal to answer with.
    pub fn check<B>(
        &self,
        request: &Request<B>,
        protocol: Option<&str>,
    ) -> Result<Upgrade, UpgradeRefusal> {
        let headers = request.headers();
        let carrier = match request.version() {
            Version::HTTP_2 | Version::HTTP_3 => {
                is_extended_connect(request.method(), protocol)?;
                Protocol::H2
            }
            _ => {
                is_upgrade(request)?;
                Protocol::H1
            }
        };
        check_version(headers)?;
        let key = match carrier {
            Protocol::H1 => Some(key(headers)?),
            _ => None,
        };
        let host = requested_host(request);
        if self.hosts.as_ref().is_some_and(|hosts| !hosts.allow(host)) {
            return Err(UpgradeRefusal::new(
                RefusalKind::Host,
                "this server does not serve the requested host",
            ));
        }
        if !self.origins.allow(headers, host) {
            return Err(UpgradeRefusal::new(RefusalKind::Origin, "the origin is not allowed"));
        }
        let subprotocol = self.subprotocol(headers)?;
        let extensions = self.negotiate(headers)?;
        has_no_body(headers)?;
        let accepted = Accepted { subprotocol, extensions };
        let response = answer(key, &accepted)?;
        Ok(Upgrade { protocol: carrier, accepted, response })
    }

    /// The preferred of the client's subprotocols.
    fn subprotocol(&self, headers: &HeaderMap) -> Result<Option<String>, UpgradeRefusal> {
        let refusal = |message| UpgradeRefusal::new(RefusalKind::Subprotocol, message);
        let mut offered: Vec<&str> = Vec::new();
        for line in headers.get_all(header::SEC_WEBSOCKET_PROTOCOL) {
            let line = line.to_str().map_err(|_| refusal("a subprotocol is not a token"))?;
            for name in line.split(',').map(str::trim).filter(|name| !name.is_empty()) {
                if !name.bytes().all(is_token) {
                    return Err(refusal("a subprotocol is not a token"));
                }
                if offered.contains(&name) {
                    return Err(refusal("a subprotocol is offered twice"));
                }
                offered.push(name);
            }
        }
        let chosen = self.subprotocols.iter().find(|name| offered.contains(&name.as_str()));
        match chosen {
            None if self.requires_subprotocol => {
                let refusal = refusal("no subprotocol in common");
                let names = HeaderValue::try_from(self.subprotocols.join(", "));
                Err(refusal.with_header(header::SEC_WEBSOCKET_PROTOCOL, names.ok()))
            }
            chosen => Ok(chosen.cloned()),
        }
    }

    /// What each extension answers, in the order in which they are applied.
    fn negotiate(&self, headers: &HeaderMap) -> Result<Vec<NegotiatedExtension>, UpgradeRefusal> {
        let refusal = |message| UpgradeRefusal::new(RefusalKind::Extension, message);
        let mut offered = Vec::new();
        for line in headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS) {
            let parsed = line.to_str().ok().and_then(parse_extensions);
            offered
                .extend(parsed.ok_or_else(|| refusal("Sec-WebSocket-Extensions cannot be read"))?);
        }
        let mut agreed = Vec::new();
        for extension in &self.extensions {
            let own = |offer: &&NegotiatedExtension| offer.name() == extension.name();
            let offers: Vec<_> = offered.iter().filter(own).cloned().collect();
            let answer = if offers.is_empty() { None } else { extension.answer(&offers) };
            match answer {
                Some(answer) => agreed.push(answer),
                None if extension.is_required() => {
                    let message = format!("extension `{}` is required", extension.name());
                    return Err(UpgradeRefusal::new(RefusalKind::Extension, message));
                }
                None => {}
            }
        }
        Ok(agreed)
    }
}

impl fmt::Debug for UpgradeRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpgradeRules")
            .field("origins", &self.origins)
            .field("hosts", &self.hosts)
            .field("subprotocols", &self.subprotocols)
            .field("requires_subprotocol", &self.requires_subprotocol)
            .field("extensions", &self.extensions)
            .finish()
    }
}

/// HTTP/1.1 with the two headers that ask for WebSockets, and GET.
fn is_upgrade<B>(request: &Request<B>) -> Result<(), UpgradeRefusal> {
    let headers = request.headers();
    let has = |name, token: &str| list(headers, name).any(|it| it.eq_ignore_ascii_case(token));
    if request.version() < Version::HTTP_11
        || !has(header::CONNECTION, "upgrade")
        || !has(header::UPGRADE, WEBSOCKET)
    {
        let message = "this resource speaks WebSocket only: ask for an upgrade";
        return Err(UpgradeRefusal::new(RefusalKind::NotAnUpgrade, message).asking_for_upgrade());
    }
    match *request.method() {
        Method::GET => Ok(()),
        _ => Err(UpgradeRefusal::method("GET")),
    }
}

/// HTTP/2 has no `Upgrade`: the method and `:protocol` ask for WebSockets.
fn is_extended_connect(method: &Method, protocol: Option<&str>) -> Result<(), UpgradeRefusal> {
    match method == Method::CONNECT && protocol.is_some_and(|it| it.eq_ignore_ascii_case(WEBSOCKET))
    {
        true => Ok(()),
        false => Err(UpgradeRefusal::method("CONNECT")),
    }
}

fn check_version(headers: &HeaderMap) -> Result<(), UpgradeRefusal> {
    let mut lines = headers.get_all(header::SEC_WEBSOCKET_VERSION).iter();
    let version = lines.next();
    if lines.next().is_some() {
        return Err(UpgradeRefusal::new(RefusalKind::Version, "Sec-WebSocket-Version is repeated")
            .with_status(StatusCode::BAD_REQUEST));
    }
    match version.is_some_and(|version| version.as_bytes().trim_ascii() == b"13") {
        true => Ok(()),
        false => {
            let refusal =
                UpgradeRefusal::new(RefusalKind::Version, "only version 13 is spoken here");
            let spoken = HeaderValue::from_static("13");
            Err(refusal
                .asking_for_upgrade()
                .with_header(header::SEC_WEBSOCKET_VERSION, Some(spoken)))
        }
    }
}

/// The one key, which is 16 bytes in base64.
fn key(headers: &HeaderMap) -> Result<&[u8], UpgradeRefusal> {
    let refusal = |message| UpgradeRefusal::new(RefusalKind::Key, message);
    let mut lines = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
    let key = lines.next().ok_or_else(|| refusal("Sec-WebSocket-Key is missing"))?;
    if lines.next().is_some() {
        return Err(refusal("Sec-WebSocket-Key is repeated"));
    }
    let key = key.as_bytes().trim_ascii();
    // 16 bytes are 24 characters.
    match key.len() == 24 && KEYS.decode(key).is_ok_and(|bytes| bytes.len() == 16) {
        true => Ok(key),
        false => Err(refusal("Sec-WebSocket-Key is not 16 bytes in base64")),
    }
}

/// A body would be read as frames, or the other way round.
fn has_no_body(headers: &HeaderMap) -> Result<(), UpgradeRefusal> {
    let is_zero = |length: &HeaderValue| length.as_bytes().trim_ascii() == b"0";
    if headers.contains_key(header::TRANSFER_ENCODING)
        || !headers.get_all(header::CONTENT_LENGTH).iter().all(is_zero)
    {
        return Err(UpgradeRefusal::new(RefusalKind::Body, "a handshake has no body"));
    }
    Ok(())
}

fn answer(key: Option<&[u8]>, accepted: &Accepted) -> Result<Response<()>, UpgradeRefusal> {
    let mut response = Response::new(());
    if let Some(key) = key {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, value(accept_value(key))?);
    }
    let headers = response.headers_mut();
    if let Some(name) = &accepted.subprotocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value(name.clone())?);
    }
    if !accepted.extensions.is_empty() {
        let all: Vec<_> = accepted.extensions.iter().map(ToString::to_string).collect();
        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, value(all.join(", "))?);
    }
    Ok(response)
}

/// Only an extension of the user's can answer what is no header value.
fn value(text: String) -> Result<HeaderValue, UpgradeRefusal> {
    HeaderValue::try_from(text)
        .map_err(|_| UpgradeRefusal::wiring("an extension's answer is not a header value"))
}

#[cfg(test)]
mod tests;
