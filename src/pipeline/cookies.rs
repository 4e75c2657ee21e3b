//! Cookies (RFC 6265), kept by `cookie_store`.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use cookie_store::{CookieStore, RawCookie};
use drivetrain_engine::{Body, Error, ErrorKind, Result};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use tower::{Layer, Service};
use url::Url;

use super::HttpService;
use crate::target;

/// Name and value together (RFC 6265bis section 5.6).
const LONGEST: usize = 4096;
/// As in browsers; RFC 6265 section 6.1 asks for 50 at least.
const MOST_OF_A_HOST: usize = 180;

/// Cookies that servers set, sent back to them with requests and handshakes alike.
///
/// A clone is the same jar: keep one to look into it, or share it between clients. A request with a `Cookie`
/// header of its own gets none of the jar's. `Secure` cookies are set and sent over TLS only, `__Host-` and
/// `__Secure-` names keep what they promise, a cookie has at most 4 KiB, and a host may set 180. Kept in
/// memory only; public suffixes are not known to it, so that a server may set a cookie for the whole of
/// `co.uk`.
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
/// ```
#[derive(Clone, Default)]
pub struct CookieJar(Arc<Mutex<CookieStore>>);

impl CookieJar {
    /// An empty jar.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a cookie in, as the server of this URL would set it: `name=value; Path=/`, and so on.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a URL or a cookie that is not valid, and for a cookie that this
    /// server may not set, such as one for another domain.
    pub fn set(&self, url: impl AsRef<str>, cookie: impl AsRef<str>) -> Result<()> {
        let url = place(url.as_ref())?;
        let invalid = |why: String| Error::new(ErrorKind::InvalidInput, why);
        let cookie = RawCookie::parse(cookie.as_ref().to_owned())
            .map_err(|error| invalid(format!("the cookie is not valid: {error}")))?;
        insert(&mut self.lock(), &cookie, &url).map_err(|error| {
            invalid(format!("{} cannot set this cookie: {error}", target::display(&url)))
        })
    }

    /// The `Cookie` header that goes to this URL; `None` if none does. `ws` counts as `http`, `wss` as
    /// `https`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a URL that is not valid.
    pub fn cookies(&self, url: impl AsRef<str>) -> Result<Option<String>> {
        Ok(self.header(&place(url.as_ref())?))
    }

    /// Throws all away.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn header(&self, url: &Url) -> Option<String> {
        let store = self.lock();
        // To the store a loopback address is as good as TLS.
        let is_plain = !is_secure(url);
        let pairs: Vec<String> = store
            .matches(url)
            .into_iter()
            .filter(|cookie| !(is_plain && cookie.secure() == Some(true)))
            .map(|cookie| format!("{}={}", cookie.name(), cookie.value()))
            .collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    fn store(&self, url: &Url, headers: &HeaderMap) {
        let cookies = headers
            .get_all(header::SET_COOKIE)
            .iter()
            // What is no cookie is passed over (RFC 6265 section 5.2).
            .filter_map(|value| RawCookie::parse(value.to_str().ok()?.to_owned()).ok());
        let mut store = self.lock();
        for cookie in cookies {
            // One that this server may not set is passed over as well (section 5.3).
            let _ = insert(&mut store, &cookie, url);
        }
    }

    fn lock(&self) -> MutexGuard<'_, CookieStore> {
        // A jar that another thread's panic left behind still holds whole cookies.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for CookieJar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CookieJar({} cookies)", self.lock().iter_any().count())
    }
}

/// Puts a cookie in, unless this server may not set it (RFC 6265bis section 5.7, as far as the store does
/// not look at it).
fn insert(
    store: &mut CookieStore,
    cookie: &RawCookie<'static>,
    url: &Url,
) -> Result<(), std::borrow::Cow<'static, str>> {
    let (name, is_safe) = (cookie.name(), cookie.secure() == Some(true));
    if name.len() + cookie.value().len() > LONGEST {
        return Err("it is longer than 4096 bytes".into());
    }
    if is_safe && !is_secure(url) {
        return Err("a Secure cookie is set over TLS only".into());
    }
    let begins = |prefix: &str| {
        name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    let is_of_host = cookie.domain().is_none_or(str::is_empty) && cookie.path() == Some("/");
    if (begins("__Secure-") && !is_safe) || (begins("__Host-") && !(is_safe && is_of_host)) {
        return Err("it is not what its name promises".into());
    }
    let of_host: Vec<_> = store.iter_unexpired().filter(|it| it.domain.matches(url)).collect();
    let mut same = of_host.iter().filter(|it| it.name() == name).peekable();
    if of_host.len() >= MOST_OF_A_HOST && same.peek().is_none() {
        return Err("its host has too many".into());
    }
    if !is_secure(url) && same.any(|it| it.secure() == Some(true)) {
        return Err("there is a Secure one of this name".into());
    }
    store.insert_raw(cookie, url).map(drop).map_err(|error| error.to_string().into())
}

fn is_secure(url: &Url) -> bool {
    url.scheme() == "https"
}

fn place(url: &str) -> Result<Url> {
    let mut url = target::parse(url, None)?;
    let scheme = if matches!(url.scheme(), "https" | "wss") { "https" } else { "http" };
    // Refused only between special and other schemes, and all four are special.
    let _ = url.set_scheme(scheme);
    Ok(url)
}

pub(super) struct CookiesLayer(pub(super) CookieJar);

impl Layer<HttpService> for CookiesLayer {
    type Service = Cookies;

    fn layer(&self, inner: HttpService) -> Cookies {
        Cookies { inner, jar: self.0.clone() }
    }
}

/// Sends the jar's cookies and keeps those that come.
#[derive(Clone)]
pub(super) struct Cookies {
    inner: HttpService,
    jar: CookieJar,
}

impl Service<Request<Body>> for Cookies {
    type Response = Response<Body>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // A URI that is none of ours is refused by the hop, which comes next.
        let url = place(&request.uri().to_string()).ok();
        if let (Some(url), false) = (&url, request.headers().contains_key(header::COOKIE)) {
            let value = self.jar.header(url).and_then(|value| HeaderValue::try_from(value).ok());
            if let Some(mut value) = value {
                value.set_sensitive(true);
                request.headers_mut().insert(header::COOKIE, value);
            }
        }
        let jar = self.jar.clone();
        let response = self.inner.call(request);
        Box::pin(async move {
            let response = response.await?;
            if let Some(url) = url {
                jar.store(&url, response.headers());
            }
            Ok(response)
        })
    }
}
