//! Which pages may open a WebSocket (RFC 6455 section 10.2), and which hosts a server answers for.

use std::{fmt, net::Ipv6Addr, sync::Arc};

use http::{HeaderMap, HeaderValue, Request, header};

use crate::error::{Error, Result, invalid};

/// The origins whose pages may open a WebSocket.
///
/// Browsers let any page open a WebSocket to any server, with the server's cookies; `Origin` alone tells where the page
/// came from. Other clients send none, and pass unless [`require`](Self::require) says otherwise.
///
/// An entry that cannot be read makes every handshake fail and is an error of
/// [`UpgradeRules::validate`](crate::UpgradeRules::validate); it never lets an origin in.
///
/// ```
/// use drivetrain_engine::Origins;
///
/// let origins = Origins::same_host().and("https://app.example.com").and("https://*.example.org");
/// ```
#[derive(Clone)]
pub struct Origins {
    same_host: bool,
    any: bool,
    required: bool,
    entries: Vec<OriginPattern>,
    predicates: Vec<Arc<Predicate>>,
    error: Option<Error>,
}

/// Whether an origin, if there is one, may open a WebSocket with these headers.
type Predicate = dyn Fn(Option<&str>, &HeaderMap) -> bool + Send + Sync;

impl Origins {
    /// The origins with the host and port of the request's `Host` (`:authority` on HTTP/2). Behind a proxy that changes
    /// `Host`, add the public origins.
    pub fn same_host() -> Self {
        Self { same_host: true, ..Self::none() }
    }

    /// These origins alone: see [`and`](Self::and).
    pub fn list(entries: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        entries.into_iter().fold(Self::none(), |all, entry| all.and(entry.as_ref()))
    }

    /// Every origin: for resources without cookies and other credentials of the browser's.
    pub fn any() -> Self {
        Self { any: true, ..Self::none() }
    }

    /// Those for which `predicate` holds, which gets the origin, if there is one, and the request's headers.
    pub fn check(
        predicate: impl Fn(Option<&str>, &HeaderMap) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self { predicates: vec![Arc::new(predicate)], ..Self::none() }
    }

    /// Allows one more: `https://app.example.com`, with a port unless it is the scheme's default; `https://*.example.com`
    /// for every subdomain, but not the domain itself; `localhost:3000` for http and https; `null` for pages without an
    /// origin, such as files and sandboxed frames.
    #[must_use]
    pub fn and(mut self, entry: &str) -> Self {
        match OriginPattern::parse(entry) {
            Some(entry) => self.entries.push(entry),
            None => {
                let entry = entry.escape_debug();
                self.error.get_or_insert(invalid(format!(
                    "`{entry}` is not an origin: write `https://example.com`, `https://*.example.com`, \
                     `example.com:8443` or `null`"
                )));
            }
        }
        self
    }

    /// Refuses requests without `Origin`, too. Default: they pass, as they come from no browser.
    #[must_use]
    pub fn require(mut self) -> Self {
        self.required = true;
        self
    }

    fn none() -> Self {
        Self {
            same_host: false,
            any: false,
            required: false,
            entries: Vec::new(),
            predicates: Vec::new(),
            error: None,
        }
    }

    pub(super) fn validate(&self) -> Result<()> {
        self.error.clone().map_or(Ok(()), Err)
    }

    pub(super) fn allow(&self, headers: &HeaderMap, host: Option<&str>) -> bool {
        let mut lines = headers.get_all(header::ORIGIN).iter();
        let origin = lines.next().map(HeaderValue::to_str);
        if lines.next().is_some() || self.error.is_some() {
            return false;
        }
        let origin = match origin {
            Some(Ok(origin)) => Some(origin.trim()),
            Some(Err(_)) => return false,
            None => None,
        };
        if self.predicates.iter().any(|holds| holds(origin, headers)) {
            return true;
        }
        let Some(origin) = origin else {
            // A predicate alone decides on requests without an origin, too.
            let decides = self.any || self.same_host || !self.entries.is_empty();
            return decides && !self.required;
        };
        if self.any || self.entries.iter().any(|entry| entry.matches(origin)) {
            return true;
        }
        let origin =
            Origin::parse(origin).filter(|origin| matches!(origin.scheme, "http" | "https"));
        let Some((origin, host)) = origin.zip(host).filter(|_| self.same_host) else {
            return false;
        };
        let default = default_port(origin.scheme);
        Authority::parse(host).is_some_and(|host| {
            host.is_of(origin.authority.host)
                && host.port.or(default) == origin.authority.port.or(default)
        })
    }
}

impl Default for Origins {
    fn default() -> Self {
        Self::same_host()
    }
}

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origins")
            .field("same_host", &self.same_host)
            .field("any", &self.any)
            .field("required", &self.required)
            .field("entries", &self.entries)
            .field("predicates", &self.predicates.len())
            .field("error", &self.error)
            .finish()
    }
}

/// The hosts that a server answers for.
#[derive(Clone, Debug)]
pub(super) struct AllowedHosts {
    entries: Vec<OriginPattern>,
    error: Option<Error>,
}

impl AllowedHosts {
    pub(super) fn new(entries: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let mut hosts = Self { entries: Vec::new(), error: None };
        for entry in entries {
            let entry = entry.as_ref();
            match OriginPattern::parse_host(entry) {
                Some(parsed) => hosts.entries.push(parsed),
                None => {
                    let entry = entry.escape_debug();
                    hosts.error.get_or_insert(invalid(format!(
                        "`{entry}` is not a host: write `example.com`, `*.example.com`, `127.0.0.1` or `[::1]:8080`"
                    )));
                }
            }
        }
        hosts
    }

    pub(super) fn validate(&self) -> Result<()> {
        self.error.clone().map_or(Ok(()), Err)
    }

    pub(super) fn allow(&self, host: Option<&str>) -> bool {
        let host = host.and_then(Authority::parse);
        host.is_some_and(|host| {
            self.entries.iter().any(|entry| {
                entry.covers(host.host) && (entry.port.is_none() || entry.port == host.port)
            })
        })
    }
}

/// The host and port that a request is for: of its target in absolute form, or else its only `Host`.
pub(super) fn requested_host<B>(request: &Request<B>) -> Option<&str> {
    if let Some(authority) = request.uri().authority() {
        return Some(authority.as_str());
    }
    let mut lines = request.headers().get_all(header::HOST).iter();
    let host = lines.next()?.to_str().ok()?.trim();
    lines.next().is_none().then_some(host)
}

/// What was configured, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OriginPattern {
    /// `None`: http and https.
    scheme: Option<String>,
    host: String,
    /// Every subdomain of the host instead of the host.
    subdomains: bool,
    port: Option<u16>,
}

impl OriginPattern {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if text == "null" {
            return Some(Self {
                scheme: Some(text),
                host: String::new(),
                subdomains: false,
                port: None,
            });
        }
        let Some((scheme, host)) = text.split_once("://") else {
            return Self::parse_host(&text);
        };
        let entry = Self::parse_host(host)?;
        let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        (scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(is_scheme))
        .then(|| Self { scheme: Some(scheme.to_owned()), ..entry })
    }

    fn parse_host(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        let (subdomains, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, &*text),
        };
        let Authority { host, port } = Authority::parse(rest)?;
        (!host.contains('*')).then(|| Self {
            scheme: None,
            host: host.to_owned(),
            subdomains,
            port,
        })
    }

    fn matches(&self, origin: &str) -> bool {
        if self.scheme.as_deref() == Some("null") {
            return origin == "null";
        }
        let Some(origin) = Origin::parse(origin) else { return false };
        let is_scheme = match &self.scheme {
            Some(scheme) => scheme.eq_ignore_ascii_case(origin.scheme),
            None => matches!(origin.scheme, "http" | "https"),
        };
        let default = default_port(origin.scheme);
        is_scheme
            && self.covers(origin.authority.host)
            && self.port.or(default) == origin.authority.port.or(default)
    }

    fn covers(&self, host: &str) -> bool {
        if !self.subdomains {
            return Authority { host: &self.host, port: None }.is_of(host);
        }
        let Some(at) = host.len().checked_sub(self.host.len()) else { return false };
        host.is_char_boundary(at)
            && host[at..].eq_ignore_ascii_case(&self.host)
            && host[..at].len() > 1
            && host[..at].ends_with('.')
    }
}

/// What a browser sends (RFC 6454 section 7).
#[derive(Clone, Copy, Debug)]
struct Origin<'a> {
    scheme: &'a str,
    authority: Authority<'a>,
}

impl<'a> Origin<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let scheme = match scheme {
            _ if scheme.eq_ignore_ascii_case("http") => "http",
            _ if scheme.eq_ignore_ascii_case("https") => "https",
            other => other,
        };
        Some(Self { scheme, authority: Authority::parse(rest)? })
    }
}

#[derive(Clone, Copy, Debug)]
struct Authority<'a> {
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// `host`, `host:port`, `[v6]`, `[v6]:port`, and nothing else: no userinfo, no path.
    fn parse(text: &'a str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, after) = rest.split_once(']')?;
                address.parse::<Ipv6Addr>().ok()?;
                (&text[..address.len() + 2], after)
            }
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(digits.parse().ok()?)
            }
            None if port.is_empty() => None,
            _ => return None,
        };
        let is_plain =
            |byte: u8| byte.is_ascii_alphanumeric() || b"-._~*".contains(&byte) || byte >= 0x80;
        let is_host = host.starts_with('[') || (!host.is_empty() && host.bytes().all(is_plain));
        is_host.then_some(Self { host, port })
    }

    fn is_of(&self, host: &str) -> bool {
        let address = |host: &str| {
            let inner = host.strip_prefix('[')?.strip_suffix(']')?;
            inner.parse::<Ipv6Addr>().ok()
        };
        self.host.eq_ignore_ascii_case(host)
            || address(self.host).is_some_and(|own| address(host) == Some(own))
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}
