//! A `Host` of a request's own.

use drivetrain_engine::Body;
use http::{
    HeaderValue, Request, Uri, header,
    uri::{Authority, PathAndQuery, Scheme},
};

/// The name that a request has for its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// The URL's.
    OfUrl,
    /// The header's, in HTTP/1.1: reqwest makes the `:authority` of HTTP/2 of the URL alone.
    Header,
    /// The header's, which the request's URI has in place of this origin's. The origin is dialled.
    InUri(Uri),
}

impl Host {
    pub(crate) fn of(request: &Request<Body>) -> Self {
        let host = request.headers().get(header::HOST).map(HeaderValue::as_bytes);
        let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
        match host.is_none() || host == authority {
            true => Self::OfUrl,
            false => Self::Header,
        }
    }

    /// Moves the `Host` into the URI, from which hyper makes the `:authority` of HTTP/2 (RFC 9113 section 8.3.1) and the
    /// `Host` of HTTP/1.1; `None`, and an unchanged request, if that is not the same name. `is_http2` says that nothing
    /// else will be spoken.
    pub(crate) fn into_uri(request: &mut Request<Body>, is_http2: bool) -> Option<Self> {
        let uri = request.uri();
        let scheme = uri.scheme()?.clone();
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return None };
        let host = Authority::try_from(host.as_bytes()).ok()?;
        let is_valid = !host.host().is_empty() && !host.as_str().contains('@');
        if !is_valid || !(is_http2 || is_written_in_full(&host, &scheme)) {
            return None;
        }
        // Without credentials.
        let origin = match uri.port() {
            Some(port) => format!("{}:{port}", uri.host()?),
            None => uri.host()?.to_owned(),
        };
        let root = PathAndQuery::from_static("/");
        let origin = Uri::builder().scheme(scheme).authority(origin).path_and_query(root);
        let origin = origin.build().ok()?;
        let mut parts = uri.clone().into_parts();
        parts.authority = Some(host);
        *request.uri_mut() = Uri::from_parts(parts).ok()?;
        request.headers_mut().remove(header::HOST);
        Some(Self::InUri(origin))
    }
}

/// Whether hyper's client writes this authority into a `Host` as it is: it leaves out the scheme's own port, and what
/// is none.
fn is_written_in_full(authority: &Authority, scheme: &Scheme) -> bool {
    let default = if *scheme == Scheme::HTTPS { 443 } else { 80 };
    match authority.port() {
        Some(port) => port.as_u16() != default,
        None => authority.as_str() == authority.host(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(url: &str, hosts: &[&str], is_http2: bool) -> Option<(String, String)> {
        let mut request = Request::get(url);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        let mut request = request.body(Body::empty()).expect("a request");
        let Some(Host::InUri(origin)) = Host::into_uri(&mut request, is_http2) else {
            assert_eq!(request.uri(), url);
            assert_eq!(request.headers().len(), hosts.len());
            return None;
        };
        assert!(request.headers().is_empty());
        Some((origin.to_string(), request.uri().to_string()))
    }

    #[test]
    fn a_host_becomes_the_authority_and_the_origin_stays_known() {
        for (url, host, origin, uri) in [
            ("https://a.test/x?y", "b.test", "https://a.test/", "https://b.test/x?y"),
            ("https://u:p@a.test:1/", "b.test:2", "https://a.test:1/", "https://b.test:2/"),
            ("http://[::1]:1/", "[::2]", "http://[::1]:1/", "http://[::2]/"),
            ("http://a.test", "B.test:443", "http://a.test/", "http://B.test:443/"),
        ] {
            let expected = Some((origin.to_owned(), uri.to_owned()));
            assert_eq!(moved(url, &[host], false), expected, "{host}");
        }
    }

    #[test]
    fn a_host_that_is_no_authority_stays_a_header() {
        for is_http2 in [false, true] {
            for host in ["", ":1", "a b", "u@b.test", "b.test/", "b.test:1:2"] {
                assert_eq!(moved("https://a.test/", &[host], is_http2), None, "{host}");
            }
            assert_eq!(moved("https://a.test/", &["b.test", "c.test"], is_http2), None);
        }
    }

    /// A server may compare the bytes, or a signature cover them.
    #[test]
    fn a_host_that_http_1_would_shorten_stays_a_header_unless_that_is_not_spoken() {
        for (url, host) in [
            ("https://a.test/", "b.test:443"),
            ("http://a.test/", "b.test:80"),
            ("http://a.test/", "b.test:"),
            ("http://a.test/", "b.test:99999"),
        ] {
            assert_eq!(moved(url, &[host], false), None, "{host}");
            let (_, uri) = moved(url, &[host], true).expect("it is the :authority");
            assert!(uri.contains(host), "{uri}");
        }
    }
}
