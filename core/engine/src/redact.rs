//! Redaction of secrets.

use std::{borrow::Cow, fmt};

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};

/// A `Debug` of headers without credentials: [secret](is_secret) values are left out, and URLs lose their
/// userinfo, query and fragment.
pub fn redacted(headers: &HeaderMap) -> impl fmt::Debug + '_ {
    Redacted(headers)
}

/// Whether a header is known to carry a secret: its value is marked
/// [sensitive](HeaderValue::set_sensitive), or its name is `Authorization`, `Cookie`, `Set-Cookie`, a challenge,
/// `Sec-WebSocket-Protocol`, or has a word in it such as `key`, `token`, `secret`, `auth`, `password` or `session`
/// (`X-Api-Key`, `X-Auth-Token`, `X-Amz-Security-Token`).
///
/// Such a header is neither printed nor sent to another origin.
///
/// ```
/// use drivetrain_engine::is_secret;
/// use http::{HeaderName, HeaderValue};
///
/// let value = HeaderValue::from_static("42");
/// assert!(is_secret(&HeaderName::from_static("x-api-key"), &value));
/// assert!(!is_secret(&HeaderName::from_static("idempotency-key"), &value));
/// ```
pub fn is_secret(name: &HeaderName, value: &HeaderValue) -> bool {
    value.is_sensitive() || is_secret_name(name.as_str())
}

/// A URI for printing: without userinfo and fragment, and with the names of its query only.
pub fn redacted_uri(uri: &Uri) -> String {
    let text = uri.to_string();
    let text = text.split('#').next().unwrap_or_default();
    match text.split_once('?') {
        Some((place, query)) => format!("{}?{}", without_userinfo(place), names(query)),
        None => without_userinfo(text).into_owned(),
    }
}

struct Redacted<'a>(&'a HeaderMap);

impl fmt::Debug for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (name, value) in self.0 {
            let text = value.to_str().ok().filter(|text| may_be_url(name, text));
            match text {
                _ if is_secret(name, value) => map.entry(&name.as_str(), &"redacted"),
                Some(text) => map.entry(&name.as_str(), &without_queries(text)),
                None => map.entry(&name.as_str(), value),
            };
        }
        map.finish()
    }
}

fn is_secret_name(name: &str) -> bool {
    const WHOLE: [&str; 4] = ["sec-websocket-protocol", "dpop", "x-honeycomb-team", "x-wp-nonce"];
    const WORDS: [&str; 24] = [
        "auth",
        "authorization",
        "authenticate",
        "authentication",
        "cookie",
        "cookie2",
        "key",
        "apikey",
        "token",
        "secret",
        "password",
        "passwd",
        "passphrase",
        "pwd",
        "credential",
        "credentials",
        "jwt",
        "session",
        "sessionid",
        "sid",
        "bearer",
        "otp",
        "signature",
        "assertion",
    ];
    const ENDS: [&str; 4] = ["token", "secret", "password", "apikey"];
    /// Keys without secrets.
    const HARMLESS: [&str; 5] =
        ["sec-websocket-key", "idempotency-key", "x-idempotency-key", "surrogate-key", "cache-key"];
    let is_secret_word =
        |word: &str| WORDS.contains(&word) || ENDS.iter().any(|end| word.ends_with(end));
    WHOLE.contains(&name)
        || (!HARMLESS.contains(&name) && name.split(['-', '_']).any(is_secret_word))
}

fn may_be_url(name: &HeaderName, value: &str) -> bool {
    const URLS: [HeaderName; 5] = [
        header::LOCATION,
        header::CONTENT_LOCATION,
        header::REFERER,
        header::REFRESH,
        header::LINK,
    ];
    URLS.contains(name) || value.contains("://")
}

/// The URLs in a header's value without userinfo, query and fragment; in `Link` a `>` ends each.
fn without_queries(value: &str) -> String {
    let urls = value.split('>').map(|url| match url.find(['?', '#']) {
        Some(at) => format!("{}{}…", without_userinfo(&url[..at]), &url[at..=at]),
        None => without_userinfo(url).into_owned(),
    });
    urls.collect::<Vec<_>>().join(">")
}

/// The authority without userinfo.
fn without_userinfo(place: &str) -> Cow<'_, str> {
    let Some(start) = place.find("//").map(|at| at + 2) else { return place.into() };
    let end = place[start..].find('/').map_or(place.len(), |at| start + at);
    match place[start..end].rfind('@') {
        Some(at) => format!("{}{}", &place[..start], &place[start + at + 1..]).into(),
        None => place.into(),
    }
}

fn names(query: &str) -> String {
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) => format!("{name}=REDACTED"),
        None if pair.is_empty() => String::new(),
        None => "REDACTED".to_owned(),
    });
    pairs.collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_names_are_secret_and_their_relatives_are() {
        let is_secret = |name: &str| is_secret_name(&name.to_ascii_lowercase());
        for name in [
            "Authorization",
            "Proxy-Authorization",
            "Cookie",
            "Set-Cookie",
            "Set-Cookie2",
            "WWW-Authenticate",
            "Proxy-Authenticate",
            "Authentication-Info",
            "Sec-WebSocket-Protocol",
            "X-Api-Key",
            "api-key",
            "apikey",
            "X-Auth-Token",
            "X-Access-Token",
            "X-CSRF-Token",
            "X-XSRF-TOKEN",
            "X-Amz-Security-Token",
            "X-Goog-Api-Key",
            "Ocp-Apim-Subscription-Key",
            "x-functions-key",
            "X-Vault-Token",
            "Private-Token",
            "X-Shopify-Access-Token",
            "xi-api-key",
            "X-Session-Id",
            "CF-Access-Client-Secret",
            "Cf-Access-Jwt-Assertion",
            "X-Hasura-Admin-Secret",
            "X-Authtoken",
            "DPoP",
            "X-Honeycomb-Team",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in [
            "Accept",
            "Content-Type",
            "Sec-WebSocket-Key",
            "Sec-WebSocket-Version",
            "Idempotency-Key",
            "X-Request-Id",
            "Author",
            "X-Author",
            "Last-Event-ID",
            "Keep-Alive",
            "X-RateLimit-Tokens",
            "Origin",
            "X-Keyboard",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn headers_are_printed_without_their_secrets() {
        let mut headers = HeaderMap::new();
        let mut marked = HeaderValue::from_static("secret");
        marked.set_sensitive(true);
        headers.insert("x-mine", marked);
        for (name, value) in [
            ("x-api-key", "secret"),
            ("sec-websocket-protocol", "chat, secret"),
            ("location", "/cb?code=secret&state=secret"),
            ("content-location", "https://me:secret@a.example/x#secret"),
            ("link", "</p?cursor=secret>; rel=next, <//u:secret@b/q#secret>; rel=prev"),
            ("refresh", "5; url=/cb?code=secret"),
            ("x-forwarded-url", "https://a.example/?token=secret"),
            ("accept", "text/html?"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let printed = format!("{:?}", redacted(&headers));
        assert!(!printed.contains("secret"), "{printed}");
        for shown in ["/cb?…", "https://a.example/x#…", "</p?…>; rel=next, <//b/q#…>", "text/html?"]
        {
            assert!(printed.contains(shown), "{shown}: {printed}");
        }
    }

    #[test]
    fn a_uri_keeps_its_shape() {
        for (uri, shown) in [
            ("http://me:secret@a:1/x?token=secret&flag", "http://a:1/x?token=REDACTED&REDACTED"),
            ("/x?a=b@c", "/x?a=REDACTED"),
            ("/users/@me", "/users/@me"),
            ("http://a/@x", "http://a/@x"),
            ("http://a/?", "http://a/?"),
        ] {
            assert_eq!(redacted_uri(&uri.parse().expect(uri)), shown);
        }
    }
}
