//! The proxy of one request.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Uri};
use percent_encoding::percent_decode_str;

use crate::{
    capability::Capability,
    error::{Error, ErrorKind, Result},
};

/// A proxy, in the extensions of a request and of a [`Handshake`](crate::Handshake): the
/// engine connects to the proxy only, and fails with [`ErrorKind::Connect`] if the proxy
/// fails, with [`ErrorKind::Tls`] if TLS with an HTTPS proxy fails.
///
/// `https` and every handshake use a tunnel (`CONNECT`, RFC 9110 section 9.3.6; for `ws` RFC 6455
/// section 4.1). Plain `http` goes to an HTTP proxy in absolute form. An HTTPS proxy is an HTTP proxy that is
/// reached over TLS: its certificate is verified as a server's is. A SOCKS5 proxy (RFC 1928) resolves the
/// target's name, so names that only the proxy knows work. `Debug` and `Display` never print credentials.
///
/// ```
/// use drivetrain_engine::Proxy;
///
/// let proxy = Proxy::parse("http://user:pass%21@proxy.example:3128")?;
/// assert_eq!(proxy.to_string(), "http://proxy.example:3128");
/// assert_eq!(proxy.credentials(), Some(("user", "pass!")));
/// # Ok::<(), drivetrain_engine::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Proxy {
    scheme: ProxyScheme,
    /// Lower case, without brackets around an IPv6 address.
    host: String,
    port: u16,
    credentials: Option<(String, String)>,
}

/// The protocol of a [`Proxy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProxyScheme {
    /// HTTP/1.1 without TLS.
    Http,
    /// HTTP/1.1 over TLS.
    Https,
    /// SOCKS5, which resolves names at the proxy.
    Socks5,
}

impl Proxy {
    /// Parses `http://host:port`, `https://host:port`, `socks5://host:port` or `socks5h://host:port` (the last two
    /// mean the same), each with or without `user:password@`, percent-encoded. Without a scheme it is `http`; without
    /// a port it is 80 for `http`, 443 for `https` and 1080 for SOCKS5.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for anything else; the message shows a valid form.
    pub fn parse(url: &str) -> Result<Self> {
        let uri: Uri = url.trim().parse().map_err(|_| invalid("a proxy is not a valid URL"))?;
        let scheme = match uri.scheme_str().map(str::to_ascii_lowercase).as_deref() {
            None | Some("http") => ProxyScheme::Http,
            Some("socks5" | "socks5h") => ProxyScheme::Socks5,
            Some("https") => ProxyScheme::Https,
            Some(other) => return Err(invalid(format!("a proxy's scheme cannot be `{other}`"))),
        };
        if !matches!(uri.path_and_query().map(http::uri::PathAndQuery::as_str), None | Some("/")) {
            return Err(invalid("a proxy's URL has no path"));
        }
        let authority = uri.authority().ok_or_else(|| invalid("a proxy's URL has no host"))?;
        let (userinfo, address) = match authority.as_str().rsplit_once('@') {
            Some((userinfo, address)) => (Some(userinfo), address),
            None => (None, authority.as_str()),
        };
        // An invalid port, or a colon without a port, is not a missing port.
        let has_port = address.rsplit(']').next().is_some_and(|rest| rest.contains(':'));
        let port = match (authority.port_u16(), has_port, scheme) {
            (Some(port), ..) => port,
            (None, true, _) => return Err(invalid("a proxy's port is not a number up to 65535")),
            (None, false, ProxyScheme::Http) => 80,
            (None, false, ProxyScheme::Https) => 443,
            (None, false, ProxyScheme::Socks5) => 1080,
        };
        let proxy = Self::new(scheme, authority.host(), port)?;
        let Some(userinfo) = userinfo else { return Ok(proxy) };
        let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        proxy.basic_auth(decoded(user)?, decoded(password)?)
    }

    /// An HTTP proxy.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for an invalid host and for port zero.
    pub fn http(host: impl AsRef<str>, port: u16) -> Result<Self> {
        Self::new(ProxyScheme::Http, host.as_ref(), port)
    }

    /// An HTTP proxy that is reached over TLS.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for an invalid host and for port zero.
    pub fn https(host: impl AsRef<str>, port: u16) -> Result<Self> {
        Self::new(ProxyScheme::Https, host.as_ref(), port)
    }

    /// A SOCKS5 proxy.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for an invalid host and for port zero.
    pub fn socks5(host: impl AsRef<str>, port: u16) -> Result<Self> {
        Self::new(ProxyScheme::Socks5, host.as_ref(), port)
    }

    /// Adds credentials: basic authentication (RFC 7617) for an HTTP proxy, RFC 1929 for SOCKS5.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a user name with a colon (HTTP), and for one that is empty or
    /// longer than 255 bytes, or such a password (SOCKS5).
    pub fn basic_auth(
        mut self,
        user: impl Into<String>,
        password: impl Into<String>,
    ) -> Result<Self> {
        let (user, password) = (user.into(), password.into());
        match self.scheme {
            ProxyScheme::Http | ProxyScheme::Https if user.contains(':') => {
                return Err(invalid("a user name for an HTTP proxy must not contain a colon"));
            }
            ProxyScheme::Socks5 if [&user, &password].iter().any(|it| !fits(it)) => {
                return Err(invalid(
                    "user name and password for a SOCKS5 proxy have 1 to 255 bytes each",
                ));
            }
            _ => self.credentials = Some((user, password)),
        }
        Ok(self)
    }

    /// The protocol.
    pub fn scheme(&self) -> ProxyScheme {
        self.scheme
    }

    /// The capability that an engine needs for this proxy.
    pub fn capability(&self) -> Capability {
        match self.scheme {
            ProxyScheme::Http => Capability::Proxies,
            ProxyScheme::Https => Capability::HttpsProxies,
            ProxyScheme::Socks5 => Capability::SocksProxies,
        }
    }

    /// Whether it speaks HTTP, with or without TLS.
    pub fn is_http(&self) -> bool {
        matches!(self.scheme, ProxyScheme::Http | ProxyScheme::Https)
    }

    /// Its host, without brackets around an IPv6 address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`, with brackets around an IPv6 address, as errors show it.
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// User name and password.
    pub fn credentials(&self) -> Option<(&str, &str)> {
        self.credentials.as_ref().map(|(user, password)| (user.as_str(), password.as_str()))
    }

    /// The value of `Proxy-Authorization` for an HTTP proxy with credentials, marked sensitive.
    pub fn authorization(&self) -> Option<HeaderValue> {
        let (user, password) = self.credentials().filter(|_| self.is_http())?;
        let encoded = STANDARD.encode(format!("{user}:{password}"));
        // Base64 is valid in a header.
        let mut value = HeaderValue::try_from(format!("Basic {encoded}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// The error for a proxy that failed: [`ErrorKind::Connect`], with the proxy's name.
    /// `what` follows the name.
    pub fn failed(&self, what: impl fmt::Display) -> Error {
        Error::new(ErrorKind::Connect, format!("the proxy {} {what}", self.authority()))
    }

    /// The error for a proxy that answered a `CONNECT` with a status other than 2xx. It has the response,
    /// whose status decides whether the error is transient.
    pub fn refused(&self, response: http::Response<Bytes>) -> Error {
        let what = format_args!("refused the tunnel with {}", response.status()).to_string();
        self.failed(what).with_response(response)
    }

    fn new(scheme: ProxyScheme, host: &str, port: u16) -> Result<Self> {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let proxy = Self { scheme, host, port, credentials: None };
        let is_authority = proxy.authority().parse::<http::uri::Authority>().is_ok();
        if proxy.host.is_empty() || proxy.host.contains('@') || !is_authority {
            return Err(invalid("a proxy's host is not valid"));
        }
        if port == 0 {
            return Err(invalid("a proxy's port cannot be zero"));
        }
        Ok(proxy)
    }
}

impl FromStr for Proxy {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self> {
        Self::parse(url)
    }
}

impl TryFrom<&str> for Proxy {
    type Error = Error;

    fn try_from(url: &str) -> Result<Self> {
        Self::parse(url)
    }
}

impl TryFrom<String> for Proxy {
    type Error = Error;

    fn try_from(url: String) -> Result<Self> {
        Self::parse(&url)
    }
}

/// Without the credentials.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            ProxyScheme::Http => "http",
            ProxyScheme::Https => "https",
            ProxyScheme::Socks5 => "socks5h",
        };
        write!(f, "{scheme}://{}", self.authority())
    }
}

/// Shows whether credentials exist, without their values.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        match self.credentials {
            Some(_) => f.write_str(" with credentials"),
            None => Ok(()),
        }
    }
}

fn fits(credential: &str) -> bool {
    (1..=255).contains(&credential.len())
}

fn decoded(text: &str) -> Result<String> {
    match percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(invalid("a proxy's credentials are not UTF-8")),
    }
}

/// Messages never quote the input: it may contain a password.
fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        for (url, is, port, credentials) in [
            ("http://Proxy.Example", "http://proxy.example:80", 80, None),
            ("proxy.example:3128", "http://proxy.example:3128", 3128, None),
            ("HTTP://127.0.0.1:1/", "http://127.0.0.1:1", 1, None),
            ("https://Proxy.Example", "https://proxy.example:443", 443, None),
            ("https://u:p@a:9", "https://a:9", 9, Some(("u", "p"))),
            ("socks5://[::1]", "socks5h://[::1]:1080", 1080, None),
            ("socks5h://a:9", "socks5h://a:9", 9, None),
            ("http://u:p%40s%3As@a:9", "http://a:9", 9, Some(("u", "p@s:s"))),
            ("http://u@a:9", "http://a:9", 9, Some(("u", ""))),
            ("socks5://u:p@a", "socks5h://a:1080", 1080, Some(("u", "p"))),
        ] {
            let proxy = Proxy::parse(url).expect(url);
            assert_eq!((&*proxy.to_string(), proxy.port()), (is, port), "{url}");
            assert_eq!(proxy.credentials(), credentials, "{url}");
        }
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_being_quoted() {
        for url in [
            "",
            "/path",
            "https://u:secret@a:0",
            "socks4://u:secret@a:1",
            "http://u:secret@a:99999",
            "http://u:secret@a:",
            "http://u:secret@a:0",
            "http://u:secret@a/path",
            "http://u:secret@a b",
            "http://u:secret%ff@a",
            "http://",
            "socks5://u@a",
            "http://secret%3a:secret@a",
        ] {
            let error = Proxy::parse(url).expect_err(url);
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}");
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
        assert!(Proxy::http("a b", 1).is_err() && Proxy::http("", 1).is_err());
        assert!(Proxy::http("u@a", 1).is_err() && Proxy::socks5("a", 0).is_err());
    }

    #[test]
    fn credentials_are_a_sensitive_header_and_nowhere_printed() {
        let proxy =
            Proxy::http("a", 1).and_then(|proxy| proxy.basic_auth("Aladdin", "open sesame"));
        let proxy = proxy.expect("valid");
        let header = proxy.authorization().expect("one");
        assert!(header.is_sensitive());
        assert_eq!(header, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(format!("{proxy:?} {proxy}"), "http://a:1 with credentials http://a:1");
        let secure = Proxy::parse("https://Aladdin:open%20sesame@a").expect("valid");
        assert_eq!(secure.authorization(), proxy.authorization());
        let socks = Proxy::parse("socks5://u:p@a").expect("valid");
        assert_eq!(socks.authorization(), None);
    }
}
