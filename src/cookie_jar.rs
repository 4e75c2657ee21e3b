//! Cookies (RFC 6265), with the defences of its successor draft (RFC 6265bis).

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use drivetrain_engine::{Error, ErrorKind, Result};
use http::{HeaderMap, HeaderValue, header};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

use crate::target;

mod cookie;
mod date;
mod domain;
mod saved;
mod set_cookie;
mod store;

pub use cookie::Cookie;
use set_cookie::SetCookie;
use store::Store;

/// Cookies that servers set, sent back to them with requests and handshakes alike.
///
/// A clone is the same jar: keep one to read it, or share it between clients. A request with a `Cookie` header of its
/// own gets no cookies of the jar.
///
/// The rules are those of RFC 6265, and of RFC 6265bis where it closes a hole:
/// - `Secure` cookies are set and sent over TLS only, and a server without TLS cannot replace them; the
///   rules of the name prefixes `__Host-` and `__Secure-` hold.
/// - A cookie for a domain of one label, such as `Domain=com`, is refused. So is, with the feature
///   `public-suffix`, one for any domain under which strangers register names (`co.uk`, `github.io`).
/// - Cookies are sent with the longest path first and, where paths are as long, the oldest first. Bytes beyond
///   ASCII are sent back as they came.
///
/// A cookie has at most 4096 bytes (name and value), a domain 180 cookies, the jar 3000. A further cookie replaces the
/// least recently used one; within a domain, one without `Secure` first. Expired cookies do not count.
///
/// The jar is in memory. To save it, serialize it: it is a sequence of [`Cookie`]s.
///
/// ```
/// # #[cfg(feature = "tungstenite")]
/// # fn example() -> drivetrain::Result<()> {
/// use drivetrain::{CookieJar, HttpClient, engine::Tungstenite};
///
/// let jar = CookieJar::new();
/// jar.set("https://example.com/", "session=1; Path=/; Secure")?;
/// let client = HttpClient::builder(Tungstenite::new()).cookie_jar(jar.clone()).build()?;
/// assert_eq!(jar.cookies("https://example.com/")?.as_deref(), Some("session=1"));
/// # Ok(()) }
/// # #[cfg(feature = "json")]
/// # fn persistence() -> Result<(), Box<dyn std::error::Error>> {
/// # use drivetrain::{Cookie, CookieJar};
/// # let jar = CookieJar::new();
///
/// // All cookies, or without those that end with the session:
/// let saved = serde_json::to_string(&jar)?;
/// let lasting: CookieJar = jar.iter().filter(|cookie| cookie.expires().is_some()).collect();
/// let jar: CookieJar = serde_json::from_str(&saved)?;
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct CookieJar(Arc<Mutex<Store>>);

impl CookieJar {
    /// An empty jar.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a cookie as the server of this URL would set it, such as `name=value; Path=/`. An expired cookie removes the
    /// one that it replaces.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a URL or a cookie that is not valid, and for a cookie that this
    /// server may not set, such as one for another domain.
    pub fn set(&self, url: impl AsRef<str>, cookie: impl AsRef<str>) -> Result<()> {
        let url = cookie_url(url.as_ref())?;
        let set = SetCookie::parse(cookie.as_ref().as_bytes()).map_err(|why| {
            Error::new(ErrorKind::InvalidInput, format!("the cookie is not valid: {why}"))
        })?;
        self.lock().set(set, &url, now()).map_err(|why| {
            let message = format!("{} cannot set this cookie: {why}", target::display(&url));
            Error::new(ErrorKind::InvalidInput, message)
        })
    }

    /// The `Cookie` header for this URL; `None` if no cookie is sent there. `ws` counts as `http`, `wss` as `https`.
    /// Bytes that are not UTF-8 are shown as U+FFFD and sent unchanged.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a URL that is not valid.
    pub fn cookies(&self, url: impl AsRef<str>) -> Result<Option<String>> {
        let pairs = self.lock().matching(&cookie_url(url.as_ref())?, now());
        Ok((!pairs.is_empty()).then(|| String::from_utf8_lossy(&pairs).into_owned()))
    }

    /// A copy of the cookies that are not expired, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Cookie> + use<> {
        self.lock().all(now()).into_iter()
    }

    /// Removes the cookie with this one's name, domain and path. Returns whether there was one.
    pub fn remove(&self, cookie: &Cookie) -> bool {
        self.lock().remove(cookie)
    }

    /// Removes all cookies.
    pub fn clear(&self) {
        *self.lock() = Store::default();
    }

    pub(crate) fn header(&self, url: &Url) -> Option<HeaderValue> {
        let pairs = self.lock().matching(url, now());
        if pairs.is_empty() {
            return None;
        }
        let mut value = HeaderValue::try_from(pairs).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    pub(crate) fn store(&self, url: &Url, headers: &HeaderMap) {
        let now = now();
        let lines = headers.get_all(header::SET_COOKIE).iter();
        // An invalid cookie is ignored (RFC 6265 section 5.2).
        for cookie in lines.filter_map(|line| SetCookie::parse(line.as_bytes()).ok()) {
            // So is one that this server may not set (section 5.3).
            let _ = self.lock().set(cookie, url, now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        // After a panic of another thread the jar still holds whole cookies.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for CookieJar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CookieJar({} cookies)", self.iter().count())
    }
}

impl Extend<Cookie> for CookieJar {
    fn extend<T: IntoIterator<Item = Cookie>>(&mut self, cookies: T) {
        for cookie in cookies {
            self.lock().insert(cookie, now());
        }
    }
}

/// Expired cookies are left out.
impl FromIterator<Cookie> for CookieJar {
    fn from_iter<T: IntoIterator<Item = Cookie>>(cookies: T) -> Self {
        let mut jar = Self::new();
        jar.extend(cookies);
        jar
    }
}

/// The sequence of all cookies that are not expired, including those that end with the session.
impl Serialize for CookieJar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for CookieJar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Cookie>::deserialize(deserializer)?.into_iter().collect())
    }
}

/// Parses a URL for cookies: `ws` and `wss` become `http` and `https`.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] for a URL that is not valid.
pub(crate) fn cookie_url(url: &str) -> Result<Url> {
    let mut url = target::parse(url, None)?;
    let scheme = if matches!(url.scheme(), "https" | "wss") { "https" } else { "http" };
    // It fails only between special and other schemes, and all four are special.
    let _ = url.set_scheme(scheme);
    Ok(url)
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
