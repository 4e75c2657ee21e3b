//! Which proxy is for whom.

use std::{
    env,
    ffi::OsString,
    fmt::{self, Write as _},
};

use drivetrain_engine::{Engine, Error, ErrorKind, Proxy, Result};
use http::Uri;

use crate::options::require;

mod exceptions;

use exceptions::Exceptions;

/// The proxies of a client, for [`HttpClientBuilder::proxy`](crate::HttpClientBuilder::proxy). Default:
/// none, whatever the environment says: see [`from_env`](Self::from_env).
///
/// A proxy is chosen for each hop by its URL, that of a redirect again: `ws` counts as `http`, `wss` as
/// `https`. Where one is set, nothing is sent past it: a proxy that refuses or cannot be reached is an
/// error of kind [`Connect`](ErrorKind::Connect).
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
    all: Option<Proxy>,
    http: Option<Proxy>,
    https: Option<Proxy>,
    except: Exceptions,
    /// What was given wrongly first, for `build()`.
    fault: Option<Error>,
}

impl Proxies {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Those of the environment, as it is now: `HTTP_PROXY` for `http` and `ws`, `HTTPS_PROXY` for `https`
    /// and `wss`, `ALL_PROXY` for what has none of its own, and `NO_PROXY` as
    /// [`no_proxy`](Self::no_proxy) takes it. Each may be in lower case, which is looked at second; an empty
    /// one is not set. In a CGI program (`REQUEST_METHOD` is set) upper-case `HTTP_PROXY` is a header of the
    /// request's and is left out.
    ///
    /// A value that is no proxy is an error of [`build`](crate::HttpClientBuilder::build) that names the
    /// variable and not its value.
    pub fn from_env() -> Self {
        Self::from_variables(|name| env::var_os(name))
    }

    /// A proxy for every URL that has none by its scheme: a [`Proxy`], or a URL as [`Proxy::parse`] reads
    /// it. An invalid one is an error of [`build`](crate::HttpClientBuilder::build).
    #[must_use]
    pub fn all(mut self, proxy: impl TryInto<Proxy, Error: Into<Error>>) -> Self {
        if let Some(proxy) = self.valid(proxy) {
            self.all = Some(proxy);
        }
        self
    }

    /// The proxy for `http` and `ws`. Otherwise as [`all`](Self::all).
    #[must_use]
    pub fn http(mut self, proxy: impl TryInto<Proxy, Error: Into<Error>>) -> Self {
        if let Some(proxy) = self.valid(proxy) {
            self.http = Some(proxy);
        }
        self
    }

    /// The proxy for `https` and `wss`. Otherwise as [`all`](Self::all).
    #[must_use]
    pub fn https(mut self, proxy: impl TryInto<Proxy, Error: Into<Error>>) -> Self {
        if let Some(proxy) = self.valid(proxy) {
            self.https = Some(proxy);
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
    /// What is none of these is an error of [`build`](crate::HttpClientBuilder::build).
    #[must_use]
    pub fn no_proxy(mut self, hosts: impl AsRef<str>) -> Self {
        let added = self.except.add(hosts.as_ref());
        self.note(added);
        self
    }

    /// The proxy for a URL.
    pub(crate) fn proxy_for(&self, uri: &Uri) -> Option<&Proxy> {
        let is_secure = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
        let own = if is_secure { &self.https } else { &self.http };
        let proxy = own.as_ref().or(self.all.as_ref())?;
        let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        (!self.except.contains(uri.host().unwrap_or_default(), port)).then_some(proxy)
    }

    /// Refuses what was given wrongly, and what the engine does not offer, before any I/O.
    pub(crate) fn check(&self, engine: &dyn Engine) -> Result<()> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        for proxy in [&self.all, &self.http, &self.https].into_iter().flatten() {
            require(engine, proxy.capability())?;
        }
        Ok(())
    }

    /// Whether no proxy is set.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_none() && self.http.is_none() && self.https.is_none()
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let is_cgi = variable("REQUEST_METHOD").is_some();
        let mut proxies = Self::new();
        let read = |name: &'static str| {
            let lower = name.to_ascii_lowercase();
            let upper = if is_cgi && name == "HTTP_PROXY" { None } else { variable(name) };
            let value = upper.or_else(|| variable(&lower)).filter(|value| !value.is_empty())?;
            let wrong = move |error: Error| {
                let message = format!("the environment's {name} cannot be used: {error}");
                Error::new(ErrorKind::InvalidInput, message).with_source(error)
            };
            let text = value
                .into_string()
                .map_err(|_| wrong(Error::new(ErrorKind::InvalidInput, "it is not valid Unicode")));
            Some((text, wrong))
        };
        for name in ["ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"] {
            let Some((text, wrong)) = read(name) else { continue };
            let set = text.and_then(|text| {
                let slot = match name {
                    "NO_PROXY" => return proxies.except.add(&text).map_err(wrong),
                    "ALL_PROXY" => &mut proxies.all,
                    "HTTP_PROXY" => &mut proxies.http,
                    _ => &mut proxies.https,
                };
                *slot = Some(Proxy::parse(&text).map_err(wrong)?);
                Ok(())
            });
            proxies.note(set);
        }
        proxies
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

/// What is set, for people; without credentials.
impl fmt::Display for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        let rows = [("http, ws", &self.http), ("https, wss", &self.https)];
        for (name, proxy) in rows {
            if let Some(proxy) = proxy {
                write!(text, "{name}: {proxy:?}; ")?;
            }
        }
        match &self.all {
            Some(proxy) if text.is_empty() => write!(text, "{proxy:?}; ")?,
            Some(proxy) => write!(text, "others: {proxy:?}; ")?,
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
    use std::collections::HashMap;

    use super::*;

    fn chosen(proxies: &Proxies, url: &str) -> Option<String> {
        let url = url::Url::parse(url).expect(url);
        let target = crate::target::Target::for_web_socket(url).expect("a target");
        proxies.proxy_for(&target.uri).map(ToString::to_string)
    }

    fn environment(variables: &[(&str, &str)]) -> Proxies {
        let map: HashMap<_, _> = variables.iter().copied().collect();
        Proxies::from_variables(|name| map.get(name).map(OsString::from))
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
    fn the_environment_is_read_as_others_read_it() {
        let proxies = environment(&[
            ("HTTP_PROXY", "http://upper:1"),
            ("http_proxy", "http://lower:1"),
            ("https_proxy", "http://secure:1"),
            ("ALL_PROXY", "socks5://all:1"),
            ("NO_PROXY", "direct.example"),
        ]);
        assert_eq!(chosen(&proxies, "ws://a/").as_deref(), Some("http://upper:1"));
        assert_eq!(chosen(&proxies, "wss://a/").as_deref(), Some("http://secure:1"));
        assert_eq!(chosen(&proxies, "ws://direct.example/"), None);
        let all = environment(&[("ALL_PROXY", "all:1"), ("HTTPS_PROXY", "")]);
        assert_eq!(chosen(&all, "wss://a/").as_deref(), Some("http://all:1"));
        assert!(environment(&[]).is_empty());
    }

    #[test]
    fn a_cgi_program_does_not_believe_the_proxy_header() {
        let request = [("REQUEST_METHOD", "GET"), ("HTTP_PROXY", "http://attacker:1")];
        assert!(environment(&request).is_empty());
        let trusted = environment(&[request[0], request[1], ("http_proxy", "http://lower:1")]);
        assert_eq!(chosen(&trusted, "ws://a/").as_deref(), Some("http://lower:1"));
    }

    #[test]
    fn a_value_that_is_no_proxy_is_told_and_not_quoted() {
        for variable in [("HTTP_PROXY", "ftp://u:secret@a"), ("NO_PROXY", "10.0.0.0/99")] {
            let fault = environment(&[variable]).fault.expect("refused");
            assert_eq!(fault.kind(), ErrorKind::InvalidInput);
            assert!(fault.to_string().contains(variable.0), "{fault}");
            assert!(!fault.to_string().contains("secret"), "{fault}");
        }
        let later = Proxies::new().all("ftp://a").no_proxy("/");
        assert!(later.fault.expect("refused").to_string().contains("ftp"));
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
