//! Which proxy serves which URL.

use std::fmt::{self, Write as _};

use drivetrain_engine::{Engine, Error, Proxy, Result};
use drivetrain_session::{AppliedBy, SetBy, Setting};
use http::Uri;

use crate::capability::require;

mod environment;
mod exceptions;

use exceptions::Exceptions;

/// The proxies of a client, for [`HttpClientBuilder::proxy`](crate::HttpClientBuilder::proxy). Default:
/// none, whatever the environment says: see [`from_env`](Self::from_env).
///
/// A proxy is chosen by the URL of each request, redirects included: `ws` counts as `http`, `wss` as `https`. Where one
/// is set, no request bypasses it: a proxy that refuses or cannot be reached is an error of kind
/// [`Connect`](crate::ErrorKind::Connect).
///
/// # Example
/// ```
/// # #[cfg(feature = "tungstenite")]
/// # fn example() -> drivetrain::Result<()> {
/// use drivetrain::{HttpClient, Proxies, Proxy, engine::Tungstenite};
///
/// let proxies = Proxies::new()
///     .all("socks5h://127.0.0.1:1080")
///     .https(Proxy::http("proxy.example", 3128)?.basic_auth("user", "password")?)
///     .no_proxy("localhost, 10.0.0.0/8, .internal.example");
/// let client = HttpClient::builder(Tungstenite::new()).proxy(proxies).build()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct Proxies {
    all: Option<ProxyChoice>,
    http: Option<ProxyChoice>,
    https: Option<ProxyChoice>,
    except: Exceptions,
    /// The first invalid argument, for `build()`.
    fault: Option<Error>,
    /// Variables of the environment that cannot be used, with the reason.
    unused: Vec<(&'static str, String)>,
}

/// The proxy for some URLs, or the error of every request for them.
#[derive(Clone)]
struct ProxyChoice {
    proxy: Result<Proxy>,
    /// The variable of the environment that it comes from, if any.
    variable: Option<&'static str>,
}

impl From<Proxy> for ProxyChoice {
    fn from(proxy: Proxy) -> Self {
        Self { proxy: Ok(proxy), variable: None }
    }
}

impl Proxies {
    /// No proxy.
    pub fn new() -> Self {
        Self::default()
    }

    /// The proxy for every URL whose scheme has none: a [`Proxy`], or a URL as [`Proxy::parse`] reads it. An invalid one
    /// is an error of [`build`](crate::HttpClientBuilder::build).
    #[must_use]
    pub fn all(mut self, proxy: impl TryInto<Proxy, Error: Into<Error>>) -> Self {
        if let Some(proxy) = self.valid(proxy) {
            self.all = Some(proxy.into());
        }
        self
    }

    /// The proxy for `http` and `ws`. Otherwise as [`all`](Self::all).
    #[must_use]
    pub fn http(mut self, proxy: impl TryInto<Proxy, Error: Into<Error>>) -> Self {
        if let Some(proxy) = self.valid(proxy) {
            self.http = Some(proxy.into());
        }
        self
    }

    /// The proxy for `https` and `wss`. Otherwise as [`all`](Self::all).
    #[must_use]
    pub fn https(mut self, proxy: impl TryInto<Proxy, Error: Into<Error>>) -> Self {
        if let Some(proxy) = self.valid(proxy) {
            self.https = Some(proxy.into());
        }
        self
    }

    /// Hosts to connect to directly, besides those of earlier calls; with commas between them:
    ///
    /// | entry | is |
    /// |---|---|
    /// | `example.com`, `.example.com`, `*.example.com` | the host and all its subdomains |
    /// | `192.0.2.1`, `::1`, `[::1]` | a URL with this address; names are not resolved for it |
    /// | `10.0.0.0/8`, `fd00::/8` | a URL with an address of this network |
    /// | `example.com:8080` | the same for this port alone |
    /// | `*` | every host |
    ///
    /// Any other entry is an error of [`build`](crate::HttpClientBuilder::build).
    #[must_use]
    pub fn no_proxy(mut self, hosts: impl AsRef<str>) -> Self {
        let added = self.except.add(hosts.as_ref());
        self.note(added);
        self
    }

    /// The proxy for a URL.
    ///
    /// # Errors
    /// The reason why the proxy of the environment cannot be used.
    pub(crate) fn proxy_for(&self, uri: &Uri) -> Result<Option<&Proxy>> {
        let is_secure = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        let own = if is_secure { &self.https } else { &self.http };
        let Some(choice) = own.as_ref().or(self.all.as_ref()) else { return Ok(None) };
        let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        match self.except.contains(uri.host().unwrap_or_default(), port) {
            true => Ok(None),
            false => choice.proxy.as_ref().map(Some).map_err(Clone::clone),
        }
    }

    /// Refuses invalid proxies and those that the engine does not offer, before any I/O. Proxies of the environment are
    /// refused when a request needs them.
    pub(crate) fn check(&mut self, engine: &dyn Engine) -> Result<()> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let slots: [fn(&mut Self) -> &mut Option<ProxyChoice>; 3] =
            [|it| &mut it.all, |it| &mut it.http, |it| &mut it.https];
        for slot in slots {
            let Some(mut choice) = slot(self).take() else { continue };
            if let Ok(proxy) = &choice.proxy {
                let offered = require(engine, proxy.capability());
                if choice.variable.is_none() {
                    offered?;
                } else if let Err(error) = offered {
                    choice.proxy = Err(error);
                    choice = self.reported(choice);
                }
            }
            *slot(self) = Some(choice);
        }
        Ok(())
    }

    /// Whether no proxy is set.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_none() && self.http.is_none() && self.https.is_none()
    }

    /// Variables that cannot be used, as rows of `settings()`.
    pub(crate) fn unused(&self) -> impl Iterator<Item = Setting> {
        self.unused.iter().map(|(variable, why)| {
            Setting::new(*variable, format!("not used: {why}"), SetBy::Client, AppliedBy::Client)
        })
    }

    /// Reports a variable whose proxy cannot be used, and names it in the error.
    fn reported(&mut self, mut choice: ProxyChoice) -> ProxyChoice {
        if let (Err(error), Some(variable)) = (&choice.proxy, choice.variable) {
            self.report(variable, &error.to_string());
            let message = format!("the environment's {variable} cannot be used: {error}");
            choice.proxy = Err(Error::new(error.kind(), message));
        }
        choice
    }

    fn report(&mut self, variable: &'static str, why: &str) {
        tracing::warn!(target: "drivetrain::http", variable, why, "environment's proxy not used");
        self.unused.push((variable, why.to_owned()));
    }

    fn valid(&mut self, proxy: impl TryInto<Proxy, Error: Into<Error>>) -> Option<Proxy> {
        match proxy.try_into() {
            Ok(proxy) => Some(proxy),
            Err(error) => {
                self.note(Err(error.into()));
                None
            }
        }
    }

    fn note(&mut self, result: Result<()>) {
        if let (Err(error), None) = (result, &self.fault) {
            self.fault = Some(error);
        }
    }
}

/// For all URLs.
impl From<Proxy> for Proxies {
    fn from(proxy: Proxy) -> Self {
        Self::new().all(proxy)
    }
}

/// For all URLs; an invalid one is an error of [`build`](crate::HttpClientBuilder::build).
impl From<&str> for Proxies {
    fn from(url: &str) -> Self {
        Self::new().all(url)
    }
}

/// For all URLs; an invalid one is an error of [`build`](crate::HttpClientBuilder::build).
impl From<String> for Proxies {
    fn from(url: String) -> Self {
        Self::new().all(url)
    }
}

impl fmt::Display for ProxyChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.proxy, self.variable) {
            (Ok(proxy), _) => write!(f, "{proxy:?}"),
            (Err(_), variable) => write!(f, "{} cannot be used", variable.unwrap_or_default()),
        }
    }
}

/// The proxies in words, without credentials.
impl fmt::Display for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        let rows = [("http, ws", &self.http), ("https, wss", &self.https)];
        for (name, proxy) in rows {
            if let Some(proxy) = proxy {
                write!(text, "{name}: {proxy}; ")?;
            }
        }
        match &self.all {
            Some(proxy) if text.is_empty() => write!(text, "{proxy}; ")?,
            Some(proxy) => write!(text, "others: {proxy}; ")?,
            None if text.is_empty() => return f.write_str("none"),
            None => {}
        }
        if !self.except.is_empty() {
            write!(text, "not for {}", self.except)?;
        }
        f.write_str(text.trim_end_matches("; "))
    }
}

/// Never prints credentials.
impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxies({self})")?;
        match &self.fault {
            Some(error) => write!(f, " with a fault: {error}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn chosen(proxies: &Proxies, url: &str) -> Option<String> {
        let url = url::Url::parse(url).expect(url);
        let target = crate::target::Target::for_web_socket(url).expect("a target");
        proxies.proxy_for(&target.uri).expect("a usable proxy").map(ToString::to_string)
    }

    #[test]
    fn the_scheme_chooses_and_ws_counts_as_http() {
        let proxies = Proxies::new().all("http://all:1").https("socks5://secure:2");
        for (url, expected) in [
            ("http://a/", "http://all:1"),
            ("ws://a/", "http://all:1"),
            ("https://a/", "socks5h://secure:2"),
            ("wss://a/", "socks5h://secure:2"),
        ] {
            assert_eq!(chosen(&proxies, url).as_deref(), Some(expected), "{url}");
        }
        assert_eq!(chosen(&Proxies::new().http("a:1"), "wss://a/"), None);
        assert_eq!(chosen(&Proxies::new().https("a:1"), "ws://a/"), None);
    }

    #[test]
    fn exceptions_go_directly() {
        let proxies =
            Proxies::from("http://p:1").no_proxy("a.example, 10.0.0.0/8").no_proxy("b:81");
        for (url, is_direct) in [
            ("ws://a.example/", true),
            ("wss://x.a.example/", true),
            ("http://10.1.2.3/", true),
            ("http://b:81/", true),
            ("http://b/", false),
            ("http://nota.example/", false),
        ] {
            assert_eq!(chosen(&proxies, url).is_none(), is_direct, "{url}");
        }
    }

    #[test]
    fn what_a_program_sets_wrongly_fails_its_build() {
        let later = Proxies::new().all("ftp://a").no_proxy("/");
        assert!(later.fault.expect("refused").to_string().contains("ftp"));
        // And replaces what the environment has.
        let proxies =
            environment::read(|name| (name == "ALL_PROXY").then(|| "ftp://a".into())).all("b:1");
        assert_eq!(chosen(&proxies, "ws://a/").as_deref(), Some("http://b:1"));
    }

    #[test]
    fn what_is_set_is_shown_without_credentials() {
        let proxies = Proxies::from("http://u:secret@a:1").https("b:2").no_proxy("c, d");
        assert_eq!(
            proxies.to_string(),
            "https, wss: http://b:2; others: http://a:1 with credentials; not for c, d"
        );
        assert_eq!(Proxies::new().no_proxy("c").to_string(), "none");
        assert!(!format!("{proxies:?}").contains("secret"));
    }
}
