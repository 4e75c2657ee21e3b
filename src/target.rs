//! Parses the URLs and headers that users give.

use std::sync::{Arc, Mutex, PoisonError};

use drivetrain_engine::{Error, ErrorKind, Result};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use tower_http::follow_redirect::RequestUri;
use url::Url;

/// Parses a URL as `url::Url` does (IDNA, dots, defaults), relative to `base` if it has no scheme.
pub(crate) fn parse(text: &str, base: Option<&Url>) -> Result<Url> {
    check_slashes(text)?;
    let parsed = match base {
        Some(base) => base.join(text),
        None => Url::parse(text),
    };
    let url = parsed.map_err(|error| {
        let hint = match error {
            url::ParseError::RelativeUrlWithoutBase => {
                ": begin with a scheme, or install DefaultRequest with a base_url"
            }
            _ => "",
        };
        invalid(format!("`{}` is not a valid URL: {error}{hint}", redact(text))).with_source(error)
    })?;
    if !matches!(url.scheme(), "http" | "https" | "ws" | "wss") {
        return Err(invalid(format!(
            "scheme `{}` is not supported: use http, https, ws or wss",
            url.scheme()
        )));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(invalid(format!("`{}` has no host", redact(text))));
    }
    Ok(url)
}

/// Refuses URLs that a browser repairs in silence: `ws:///path` and `ws:path` would have the host `path`.
fn check_slashes(text: &str) -> Result<()> {
    let text = text.trim_start();
    let is_slash = |c: char| c == '/' || c == '\\';
    let (scheme, rest) = match text.split_once(':') {
        Some((scheme, rest))
            if ["http", "https", "ws", "wss"].iter().any(|it| scheme.eq_ignore_ascii_case(it)) =>
        {
            (scheme, rest)
        }
        // A path, an authority without a scheme, or a scheme that is refused later.
        _ if text.chars().take_while(|&c| is_slash(c)).nth(1).is_some() => ("", text),
        _ => return Ok(()),
    };
    match rest.strip_prefix("//").is_some_and(|place| !place.starts_with(is_slash)) {
        true => Ok(()),
        false => Err(invalid(format!(
            "`{}` has no host: write `{scheme}{}//host/path`",
            redact(text),
            if scheme.is_empty() { "" } else { ":" },
        ))),
    }
}

/// A URL as an engine takes it.
pub(crate) struct Target {
    /// With scheme `http` or `https`, without userinfo and fragment.
    pub(crate) uri: Uri,
    pub(crate) secure: bool,
    /// The userinfo as a header.
    pub(crate) authorization: Option<HeaderValue>,
}

impl Target {
    /// For a plain request; the fragment is not sent, as in browsers.
    pub(crate) fn for_request(mut url: Url) -> Result<Self> {
        if matches!(url.scheme(), "ws" | "wss") {
            return Err(invalid(format!(
                "scheme `{}` is for WebSockets: use client.web_socket(..), or http and https here",
                url.scheme()
            )));
        }
        url.set_fragment(None);
        Self::new(url)
    }

    /// For a WebSocket: a fragment is an error (RFC 6455 section 3).
    pub(crate) fn for_web_socket(url: Url) -> Result<Self> {
        if url.fragment().is_some() {
            return Err(invalid(
                "a WebSocket URL has no fragment: leave out `#` and what follows, or write it as %23",
            ));
        }
        Self::new(url)
    }

    /// Adds the userinfo's credentials to the headers, unless they have some.
    pub(crate) fn authorize(authorization: Option<HeaderValue>, headers: &mut HeaderMap) {
        if let Some(value) = authorization {
            headers.entry(header::AUTHORIZATION).or_insert(value);
        }
    }

    fn new(mut url: Url) -> Result<Self> {
        let authorization = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => Some(basic_auth(&decoded(user), password.map(decoded).as_deref())?),
        };
        let scheme = match url.scheme() {
            "ws" => "http",
            "wss" => "https",
            other => other,
        }
        .to_owned();
        // These fail only for URLs without a host, and this URL has one.
        let unchanged = |()| invalid("the URL cannot be used");
        url.set_scheme(&scheme).map_err(unchanged)?;
        url.set_username("").map_err(unchanged)?;
        url.set_password(None).map_err(unchanged)?;
        let uri = Uri::try_from(url.as_str())
            .map_err(|error| invalid("the URL cannot be sent over HTTP").with_source(error))?;
        Ok(Self { uri, secure: scheme == "https", authorization })
    }
}

/// Parses a header.
pub(crate) fn header(
    name: impl TryInto<HeaderName, Error: Into<http::Error>>,
    value: impl TryInto<HeaderValue, Error: Into<http::Error>>,
) -> Result<(HeaderName, HeaderValue)> {
    let name = name.try_into().map_err(|error| {
        invalid("a header name is not valid: letters, digits and !#$%&'*+-.^_`|~ only")
            .with_source(error.into())
    })?;
    let value = value.try_into().map_err(|error| {
        invalid(format!(
            "the value of header `{name}` is not valid: no line breaks or control bytes"
        ))
        .with_source(error.into())
    })?;
    check_name(&name)?;
    Ok((name, value))
}

/// Refuses headers that must not reach an origin, which a layer may have set.
pub(crate) fn is_for_origin(headers: &HeaderMap) -> Result<()> {
    match headers.contains_key(header::PROXY_AUTHORIZATION) {
        true => check_name(&header::PROXY_AUTHORIZATION),
        false => Ok(()),
    }
}

fn check_name(name: &HeaderName) -> Result<()> {
    if name != header::PROXY_AUTHORIZATION {
        return Ok(());
    }
    Err(invalid(
        "header `proxy-authorization` cannot be set: it would reach the origin. Give the credentials to the proxy: \
         `http://user:password@host` or Proxy::basic_auth",
    ))
}

/// The `Authorization` of basic auth (RFC 7617).
pub(crate) fn basic_auth(user: &str, password: Option<&str>) -> Result<HeaderValue> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    if user.contains(':') {
        return Err(invalid("a user name for basic auth must not contain a colon"));
    }
    let credentials = format!("{user}:{}", password.unwrap_or_default());
    sensitive(format!("Basic {}", STANDARD.encode(credentials)))
}

/// The `Authorization` of a bearer token (RFC 6750).
pub(crate) fn bearer_auth(token: &str) -> Result<HeaderValue> {
    sensitive(format!("Bearer {token}"))
}

/// The fragment of the last `Location` that had one, since a [`Uri`] has no fragment. It is in the extensions of all
/// requests of a call, and of its response.
#[derive(Clone, Default)]
pub(crate) struct UrlFragment(Arc<Mutex<Option<String>>>);

impl UrlFragment {
    /// Notes the fragment of a redirect.
    pub(crate) fn passes<B>(self, response: &mut http::Response<B>) {
        let location =
            response.headers().get(header::LOCATION).filter(|_| response.status().is_redirection());
        let found = location.and_then(|location| location.to_str().ok()?.split_once('#'));
        if let Some((_, fragment)) = found {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(fragment.to_owned());
        }
        response.extensions_mut().insert(self);
    }

    fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The URL that answered, after redirects. A `Location` without a fragment inherits the one before it
/// (RFC 9110 section 10.2.2).
pub(crate) fn answered<B>(response: &http::Response<B>, asked: Url) -> Url {
    let last = response.extensions().get::<RequestUri>();
    let Some(mut last) = last.and_then(|RequestUri(uri)| Url::parse(&uri.to_string()).ok()) else {
        return asked;
    };
    let fragment = response.extensions().get().and_then(UrlFragment::get);
    last.set_fragment(fragment.as_deref().or(asked.fragment()));
    last
}

/// The URL for display: without userinfo, fragment and the values of its query, which may be secret.
pub(crate) fn display(url: &Url) -> String {
    let mut url = url.clone();
    // These fail only for a URL that has no userinfo.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    let query = without_values(&url);
    url.set_query(query.as_deref());
    url.set_fragment(None);
    url.into()
}

/// The query with each value redacted.
pub(crate) fn without_values(url: &Url) -> Option<String> {
    const REDACTED: &str = "REDACTED";
    let query = url.query().filter(|query| !query.is_empty())?;
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) => format!("{name}={REDACTED}"),
        None => REDACTED.to_owned(),
    });
    Some(pairs.collect::<Vec<_>>().join("&"))
}

fn sensitive(value: String) -> Result<HeaderValue> {
    let mut value = HeaderValue::try_from(value).map_err(|error| {
        invalid("the credentials contain a line break or a control byte").with_source(error)
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Redacts an invalid URL for display: without userinfo, query and fragment.
fn redact(text: &str) -> String {
    let (text, query) = match text.find(['?', '#']) {
        Some(at) if text[at..].starts_with('?') => (&text[..at], "?…"),
        Some(at) => (&text[..at], "#…"),
        None => (text, ""),
    };
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let scheme = text.find(':').filter(|&end| text[..end].chars().all(is_scheme));
    let behind = scheme.map_or(0, |end| end + 1);
    let start = text.len() - text[behind..].trim_start_matches(['/', '\\']).len();
    // A path alone has no userinfo, even if it has an `@`.
    let is_path = scheme.is_none() && start < 2;
    match text.rfind('@').filter(|_| !is_path) {
        Some(at) if at >= start => format!("{}…@{}{query}", &text[..start], &text[at + 1..]),
        _ => format!("{text}{query}"),
    }
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web_socket(text: &str) -> Result<Target> {
        parse(text, None).and_then(Target::for_web_socket)
    }

    #[test]
    fn schemes_are_mapped_and_ports_follow_the_scheme() {
        for (given, uri, secure) in [
            ("ws://a.example/x", "http://a.example/x", false),
            ("http://a.example", "http://a.example/", false),
            ("wss://a.example:8443/x?y=1", "https://a.example:8443/x?y=1", true),
            ("https://bücher.example/", "https://xn--bcher-kva.example/", true),
            ("ws://[::1]:9/", "http://[::1]:9/", false),
        ] {
            let target = web_socket(given).expect(given);
            assert_eq!((target.uri.to_string().as_str(), target.secure), (uri, secure));
        }
    }

    #[test]
    fn userinfo_becomes_basic_auth_and_leaves_the_url() {
        let target = web_socket("ws://us%65r:p%40ss@a.example/").expect("valid");
        assert_eq!(target.uri.to_string(), "http://a.example/");
        let header = target.authorization.expect("one");
        assert!(header.is_sensitive());
        assert_eq!(header.to_str().expect("ASCII"), "Basic dXNlcjpwQHNz");
    }

    #[test]
    fn what_can_never_work_is_refused_with_what_would() {
        for (url, says) in [
            ("ftp://a.example/", "use http, https, ws or wss"),
            ("ws://", "host"),
            ("ws:///x", "host"),
            ("WSS:x", "host"),
            ("http:/x?token=secret", "host"),
            ("http:\\\\x", "host"),
            ("///x", "host"),
            ("/path", "begin with a scheme"),
            ("ws://a.example/#top", "fragment"),
            ("ws://user:secret@a b/", "ws://…@a b/"),
            ("ws:user:secret@a b/", "ws:…@a b/"),
            ("//user:secret@a/", "//…@a/"),
            ("ws://a b/?token=secret", "ws://a b/?…"),
            ("ws://a b/#token=secret", "ws://a b/#…"),
            ("/users/@me?token=secret", "`/users/@me?…`"),
        ] {
            let error = web_socket(url).err().unwrap_or_else(|| panic!("{url} was accepted"));
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(says), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let error = parse("ws://a.example", None).and_then(Target::for_request).err();
        assert!(error.expect("refused").to_string().contains("web_socket"));
    }

    #[test]
    fn what_people_see_has_no_secret() {
        let url = parse("ws://me:secret@a.example/x?token=secret&b=secret&secret#secret", None);
        let shown = display(&url.expect("valid"));
        assert_eq!(shown, "ws://a.example/x?token=REDACTED&b=REDACTED&REDACTED");
    }

    #[test]
    fn a_path_is_joined_to_the_base() {
        let base = parse("https://a.example/api/", None).expect("valid");
        let url = parse("events?x=1", Some(&base)).expect("valid");
        let target = Target::for_web_socket(url).expect("valid");
        assert_eq!(target.uri.to_string(), "https://a.example/api/events?x=1");
    }
}
