//! One cookie.

use std::{
    borrow::Cow,
    fmt,
    time::{Duration, SystemTime},
};

use url::Url;

use super::{
    domain,
    set_cookie::{self, SetCookie},
};

/// The end of the year 9999, the latest expiry.
const LAST: i64 = 253_402_300_799;

/// A cookie of a [`CookieJar`](crate::CookieJar).
///
/// It comes out of a jar with [`iter`](crate::CookieJar::iter), is saved with serde, and goes into a jar with
/// [`Extend`] or [`collect`](Iterator::collect). Debug output does not show its value.
#[derive(Clone, PartialEq, Eq)]
pub struct Cookie {
    pub(super) name: Box<[u8]>,
    pub(super) value: Box<[u8]>,
    pub(super) domain: Box<str>,
    pub(super) is_host_only: bool,
    pub(super) path: Box<str>,
    /// In seconds since 1970.
    pub(super) expires: Option<i64>,
    pub(super) is_secure: bool,
    pub(super) is_http_only: bool,
}

impl Cookie {
    /// The name. Bytes that are not UTF-8 are shown as U+FFFD.
    pub fn name(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.name)
    }

    /// The value. Bytes that are not UTF-8 are shown as U+FFFD; [`value_bytes`](Self::value_bytes) has them.
    pub fn value(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.value)
    }

    /// The value, as the server sent it.
    pub fn value_bytes(&self) -> &[u8] {
        &self.value
    }

    /// The host that the cookie is sent to, or the domain of such hosts, without a leading dot.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Whether it is sent to [`domain`](Self::domain) alone, and not to hosts below it.
    pub fn is_host_only(&self) -> bool {
        self.is_host_only
    }

    /// The path that it is sent for, with all paths below it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// When it expires; `None` at the end of the session, which is when a jar in memory is dropped.
    pub fn expires(&self) -> Option<SystemTime> {
        let seconds = Duration::from_secs(self.expires?.unsigned_abs());
        match self.expires? {
            0.. => SystemTime::UNIX_EPOCH.checked_add(seconds),
            _ => SystemTime::UNIX_EPOCH.checked_sub(seconds),
        }
    }

    /// Whether it is sent over TLS only.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Whether the server hides it from scripts. A client runs none.
    pub fn is_http_only(&self) -> bool {
        self.is_http_only
    }

    /// The cookie that a server of this URL sets (RFC 6265 section 5.3, RFC 6265bis section 5.7).
    pub(super) fn new(set: SetCookie<'_>, url: &Url, now: i64) -> Result<Self, &'static str> {
        if set.is_secure && url.scheme() != "https" {
            return Err("a Secure cookie is set over TLS only");
        }
        let (domain, is_host_only) = domain_of(set.domain, url)?;
        let path = set.path.filter(|path| path.starts_with(b"/"));
        let max_age =
            set.max_age.map(|age| if age > 0 { now.saturating_add(age) } else { i64::MIN });
        let cookie = Self {
            name: set.name.into(),
            value: set.value.into(),
            domain,
            is_host_only,
            path: path.map_or_else(
                || default_path(url).into(),
                |path| String::from_utf8_lossy(path).into(),
            ),
            expires: max_age.or(set.expires).map(|expires| expires.min(LAST)),
            is_secure: set.is_secure,
            is_http_only: set.is_http_only,
        };
        let is_bare = path.is_some() && set.domain.is_none();
        cookie
            .obeys_prefix(is_bare)
            .then_some(cookie)
            .ok_or("it breaks the rules of its name prefix")
    }

    /// Refuses a cookie that no server could have set.
    pub(super) fn checked(mut self) -> Result<Self, &'static str> {
        set_cookie::check(&self.name, &self.value)?;
        let is_trimmed = |text: &[u8]| set_cookie::trim(text).len() == text.len();
        let is_whole = |text: &[u8]| is_trimmed(text) && !text.contains(&b';');
        if !is_whole(&self.name) || self.name.contains(&b'=') || !is_whole(&self.value) {
            return Err("it has a character that ends a name or a value");
        }
        let host = Url::parse(&format!("http://{}/", self.domain)).ok();
        let is_host = host.is_some_and(|url| domain::host(&url) == &*self.domain);
        if !is_host || (!self.is_host_only && domain::is_public(&self.domain)) {
            return Err("it has a domain that no server may set");
        }
        if !self.path.starts_with('/') {
            return Err("its path does not begin with /");
        }
        self.expires = self.expires.map(|expires| expires.min(LAST));
        self.obeys_prefix(true).then_some(self).ok_or("it breaks the rules of its name prefix")
    }

    /// `__Secure-` and `__Host-` (RFC 6265bis section 4.1.3): the latter with a path and without a domain.
    fn obeys_prefix(&self, is_bare: bool) -> bool {
        let begins = |prefix: &[u8]| {
            self.name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        let is_of_host = is_bare && self.is_host_only && &*self.path == "/";
        (self.is_secure || !begins(b"__Secure-"))
            && (self.is_secure && is_of_host || !begins(b"__Host-"))
    }

    pub(super) fn is_expired(&self, now: i64) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Whether one would replace the other.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.name == other.name && self.path == other.path && self.domain == other.domain
    }

    /// Whether it is sent to this path (RFC 6265 section 5.1.4).
    pub(super) fn is_for_path(&self, path: &str) -> bool {
        path.strip_prefix(&*self.path).is_some_and(|rest| {
            rest.is_empty() || self.path.ends_with('/') || rest.starts_with('/')
        })
    }
}

fn domain_of(attribute: Option<&[u8]>, url: &Url) -> Result<(Box<str>, bool), &'static str> {
    let host = domain::host(url);
    let Some(attribute) = attribute else { return Ok((host.into(), true)) };
    let refused = "it is for another domain";
    let domain = domain::canonical(attribute).ok_or(refused)?;
    if !domain::with_parents(url).any(|parent| parent == domain) {
        return Err(refused);
    }
    let is_name = matches!(url.host(), Some(url::Host::Domain(_)));
    match is_name && domain::is_public(&domain) {
        true if domain != host => Err("it is for a public suffix"),
        is_public => Ok((domain.into(), is_public || !is_name)),
    }
}

/// The directory of the URL's path (RFC 6265 section 5.1.4).
fn default_path(url: &Url) -> &str {
    match url.path().rfind('/') {
        None | Some(0) => "/",
        Some(last) => &url.path()[..last],
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cookie")
            .field("name", &self.name())
            .field("value", &format_args!("{} bytes", self.value.len()))
            .field("domain", &self.domain)
            .field("path", &self.path)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}
