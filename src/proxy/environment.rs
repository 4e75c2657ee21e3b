//! The proxies of the environment, in every form that curl accepts.

use std::{env, ffi::OsString};

use drivetrain_engine::{Error, ErrorKind, Proxy, Result};
use percent_encoding::percent_decode_str;

use super::{Proxies, ProxyChoice};

impl Proxies {
    /// The proxies of the environment, read now: `HTTP_PROXY` for `http` and `ws`, `HTTPS_PROXY` for `https` and `wss`,
    /// `ALL_PROXY` for schemes without a variable, and `NO_PROXY` for [`no_proxy`](Self::no_proxy). A name in lower case
    /// is read second; an empty variable counts as not set. In a CGI program (`REQUEST_METHOD` is set) upper-case
    /// `HTTP_PROXY` is a header of the request and is ignored.
    ///
    /// A value is read as curl reads it: `http://`, `https://`, `socks5://`, `socks5h://` and `socks://` (the last three
    /// mean the same here), or no scheme, which is `http`; a path is ignored.
    ///
    /// A value that is invalid or not supported (SOCKS4, or a proxy that the engine has no capability for) does not
    /// fail [`build`](crate::HttpClientBuilder::build). It is a warning of `tracing` and a row of
    /// [`settings`](crate::HttpClient::settings), both without the value. Each request for which that proxy is chosen
    /// fails with [`InvalidInput`](crate::ErrorKind::InvalidInput) or [`Unsupported`](crate::ErrorKind::Unsupported);
    /// none bypasses it. An invalid entry of `NO_PROXY` is ignored.
    pub fn from_env() -> Self {
        read(|name| env::var_os(name))
    }
}

/// The variables that name proxies; each may be in lower case.
const VARIABLES: [&str; 3] = ["ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY"];

pub(super) fn read(variable: impl Fn(&str) -> Option<OsString>) -> Proxies {
    let is_cgi = variable("REQUEST_METHOD").is_some();
    let get = |name: &str| {
        // In a CGI program this variable is a header of the request.
        let upper = if is_cgi && name == "HTTP_PROXY" { None } else { variable(name) };
        let set = |value: &OsString| !value.is_empty();
        upper.filter(set).or_else(|| variable(&name.to_ascii_lowercase()).filter(set))
    };
    let mut proxies = Proxies::new();
    for name in VARIABLES {
        let Some(value) = get(name) else { continue };
        let choice = ProxyChoice { proxy: proxy(value), variable: Some(name) };
        let choice = proxies.reported(choice);
        match name {
            "ALL_PROXY" => proxies.all = Some(choice),
            "HTTP_PROXY" => proxies.http = Some(choice),
            _ => proxies.https = Some(choice),
        }
    }
    if let Some(value) = get("NO_PROXY") {
        exceptions(&mut proxies, value);
    }
    proxies
}

/// Ignores invalid entries, so that the proxy is used.
fn exceptions(proxies: &mut Proxies, value: OsString) {
    let Ok(list) = value.into_string() else {
        return proxies.report("NO_PROXY", "it is not valid Unicode, and no host is left out");
    };
    for (index, entry) in super::exceptions::entries(&list).enumerate() {
        if proxies.except.add(entry).is_err() {
            let which = index + 1;
            let what =
                format!("entry {which} is no host to leave out of proxying, and does not count");
            proxies.report("NO_PROXY", &what);
        }
    }
}

fn proxy(value: OsString) -> Result<Proxy> {
    let text = value.into_string().map_err(|_| invalid("it is not valid Unicode"))?;
    parse(text.trim())
}

/// As curl reads it: the scheme may be missing, anything may stand behind the authority, and credentials need
/// no encoding. Messages quote nothing but a scheme: there may be a password in it.
fn parse(text: &str) -> Result<Proxy> {
    let (scheme, rest) = match text.split_once(":/") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest.trim_start_matches('/')),
        None => (String::new(), text.trim_start_matches('/')),
    };
    let (userinfo, address) = split_address(rest);
    let (host, port) = split_port(address)?;
    let proxy = match scheme.as_str() {
        "" | "http" => Proxy::http(host, port.unwrap_or(80))?,
        "https" => Proxy::https(host, port.unwrap_or(443))?,
        "socks" | "socks5" | "socks5h" => Proxy::socks5(host, port.unwrap_or(1080))?,
        "socks4" | "socks4a" => {
            return Err(unsupported("a SOCKS4 proxy is not supported, but SOCKS5 is: socks5://"));
        }
        _ => return Err(invalid("its scheme is none of http, https, socks5 and socks5h")),
    };
    let (user, password) = match userinfo.map(|it| it.split_once(':').unwrap_or((it, ""))) {
        None | Some(("", "")) => return Ok(proxy),
        Some(pair) => pair,
    };
    proxy.basic_auth(decoded(user)?, decoded(password)?)
}

/// Userinfo, and host with port.
fn split_address(text: &str) -> (Option<&str>, &str) {
    let authority = text.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((userinfo, address)) => (Some(userinfo), address),
        None => (None, authority),
    }
}

fn split_port(address: &str) -> Result<(String, Option<u16>)> {
    let at = address.rfind(']').unwrap_or_default();
    let (host, port) = match address[at..].split_once(':') {
        Some((rest, port)) => (&address[..at + rest.len()], Some(port)),
        None => (address, None),
    };
    let port = port.map(str::parse).transpose();
    let port = port.map_err(|_| invalid("its port is not a number up to 65535"))?;
    // As in a URL: names in other scripts become ASCII (IDNA).
    let host = match url::Host::parse(host) {
        Ok(name) if !host.is_ascii() => name.to_string(),
        _ => host.to_owned(),
    };
    Ok((host, port))
}

fn decoded(text: &str) -> Result<String> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(Into::into).map_err(|_| invalid("its credentials are not UTF-8"))
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

fn unsupported(message: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, message)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use http::Uri;

    use super::{super::tests::chosen, *};

    fn environment(variables: &[(&str, &str)]) -> Proxies {
        let map: HashMap<_, _> = variables.iter().copied().collect();
        read(|name| map.get(name).map(OsString::from))
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
    fn what_curl_takes_is_taken() {
        let direct = None;
        for (value, expected) in [
            ("proxy:3128", Some("http://proxy:3128")),
            ("proxy", Some("http://proxy:80")),
            ("//proxy:3128", Some("http://proxy:3128")),
            ("HTTP://Proxy:3128/", Some("http://proxy:3128")),
            ("http:/proxy:3128", Some("http://proxy:3128")),
            ("http://proxy:3128/some/path?a#b", Some("http://proxy:3128")),
            (" http://proxy:3128\n", Some("http://proxy:3128")),
            ("127.0.0.1:3128", Some("http://127.0.0.1:3128")),
            ("[::1]:3128", Some("http://[::1]:3128")),
            ("http://[::1]", Some("http://[::1]:80")),
            ("http://bücher.example:1", Some("http://xn--bcher-kva.example:1")),
            ("my_proxy:1", Some("http://my_proxy:1")),
            ("socks://127.0.0.1:1080/", Some("socks5h://127.0.0.1:1080")),
            ("https://proxy", Some("https://proxy:443")),
            ("HTTPS://u:p@proxy:1/", Some("https://proxy:1")),
            ("socks5://proxy", Some("socks5h://proxy:1080")),
            ("socks5h://[::1]:9", Some("socks5h://[::1]:9")),
            ("SOCKS5H://u:p@proxy", Some("socks5h://proxy:1080")),
            ("http://@proxy:1", Some("http://proxy:1")),
            ("http://:@proxy:1", Some("http://proxy:1")),
            ("", direct),
        ] {
            let proxies = environment(&[("ALL_PROXY", value)]);
            assert_eq!(chosen(&proxies, "wss://a/").as_deref(), expected, "{value}");
            assert!(proxies.unused.is_empty(), "{value}: {proxies:?}");
        }
        for (value, user, password) in [
            ("u:p@proxy", "u", "p"),
            ("http://u@proxy", "u", ""),
            ("http://u:p%40%3Ass@proxy:1", "u", "p@:ss"),
            ("http://DOMAIN\\u:p^{|}\"<> ß@proxy:1", "DOMAIN\\u", "p^{|}\"<> ß"),
            ("http://u:p@p@proxy:1", "u", "p@p"),
        ] {
            let proxies = environment(&[("http_proxy", value)]);
            let uri = Uri::from_static("http://a/");
            let proxy = proxies.proxy_for(&uri).expect(value).expect(value);
            assert_eq!((proxy.host(), proxy.credentials()), ("proxy", Some((user, password))));
        }
    }

    /// Neither a failed build nor a direct connection, and nothing secret.
    #[test]
    fn what_cannot_be_used_fails_the_requests_that_need_it() {
        use ErrorKind::{InvalidInput, Unsupported};
        for (value, kind) in [
            ("socks4://u:secret@a", Unsupported),
            ("socks4a://a:1", Unsupported),
            ("ftp://u:secret@a", InvalidInput),
            ("secret:/a", InvalidInput),
            ("http://u:secret@", InvalidInput),
            ("http://", InvalidInput),
            ("/", InvalidInput),
            ("a:secret", InvalidInput),
            ("u:secret@a:99999", InvalidInput),
            ("a:", InvalidInput),
            ("a:0", InvalidInput),
            ("[::1:3128", InvalidInput),
            ("::1", InvalidInput),
            ("u:secret@a b:1", InvalidInput),
            ("http://u:secret/x@a:1", InvalidInput),
            ("u:secret%ff@a:1", InvalidInput),
            ("socks5://secret@a:1", InvalidInput),
            ("secret%3a:secret@a", InvalidInput),
        ] {
            let proxies =
                environment(&[("HTTPS_PROXY", value), ("ALL_PROXY", "all:1"), ("NO_PROXY", "b")]);
            assert!(proxies.fault.is_none(), "{value}");
            let error = proxies.proxy_for(&Uri::from_static("https://a/")).expect_err(value);
            assert_eq!((error.kind(), error.is_transient()), (kind, false), "{value}");
            assert!(error.to_string().contains("HTTPS_PROXY"), "{error}");
            let [(variable, why)] = &proxies.unused[..] else { panic!("{value}: {proxies:?}") };
            assert_eq!(*variable, "HTTPS_PROXY");
            let printed = format!("{proxies} {proxies:?} {error:?} {why}");
            assert!(!printed.contains("secret"), "{printed}");
            assert!(printed.contains("HTTPS_PROXY cannot be used"), "{printed}");
            // Others are not concerned.
            assert_eq!(chosen(&proxies, "wss://b/"), None);
            assert_eq!(chosen(&proxies, "ws://a/").as_deref(), Some("http://all:1"));
        }
    }

    #[test]
    fn an_exception_that_is_not_understood_does_not_count() {
        let list = "a, http://u:secret@b,10.0.0.0/99 , 10.1.*, c,.d,*.e, f:81, [::1],10.2.0.0/16";
        let proxies = environment(&[("all_proxy", "p:1"), ("no_proxy", list)]);
        for (url, is_direct) in [
            ("ws://a/", true),
            ("ws://b/", false),
            ("ws://10.1.0.1/", false),
            ("ws://c/", true),
            ("ws://x.d/", true),
            ("ws://x.e/", true),
            ("ws://f/", false),
            ("ws://f:81/", true),
            ("ws://[::1]/", true),
            ("ws://10.2.3.4/", true),
        ] {
            assert_eq!(chosen(&proxies, url).is_none(), is_direct, "{url}");
        }
        let told: Vec<_> = proxies.unused.iter().map(|(_, why)| &why[..7]).collect();
        assert_eq!(told, ["entry 2", "entry 3", "entry 4"]);
        assert!(!format!("{:?}", proxies.unused).contains("secret"));
        let all = environment(&[("all_proxy", "p:1"), ("NO_PROXY", "*")]);
        assert_eq!(chosen(&all, "ws://a/"), None);
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_unicode_is_told() {
        use std::os::unix::ffi::OsStringExt as _;

        let broken = || Some(OsString::from_vec(b"http://\xff".to_vec()));
        let proxies = read(|name| broken().filter(|_| name.ends_with("_PROXY")));
        assert_eq!(proxies.unused.len(), 4, "{proxies:?}");
        assert!(proxies.proxy_for(&Uri::from_static("http://a/")).is_err());
    }
}
