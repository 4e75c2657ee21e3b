//! A destination: the host that a request is for, and the route to it.

use drivetrain_engine::{Error, ErrorKind, Result};
use http::{Uri, uri::Scheme};

use crate::route::Route;

/// What is dialled, and what may share a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Destination {
    pub(crate) is_secure: bool,
    /// Without brackets around an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Whether the URL says the port.
    pub(crate) has_port: bool,
    pub(crate) route: Route,
}

impl Destination {
    pub(crate) fn of(uri: &Uri) -> Result<Self> {
        let invalid = |message: String| Err(Error::new(ErrorKind::InvalidInput, message));
        let is_secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(other) => {
                return invalid(format!("scheme `{other}` is not one for HTTP: use http or https"));
            }
            None => return invalid("the URL has no scheme: use http:// or https://".into()),
        };
        let host = match uri.host().unwrap_or_default() {
            "" => return invalid("the URL has no host".into()),
            host => host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase(),
        };
        let has_port = uri.port_u16().is_some();
        let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        Ok(Self { is_secure, host, port, has_port, route: Route::Direct })
    }

    /// What is connected to, for a message: the host, or the proxy on the route to it.
    pub(crate) fn dialled(&self) -> String {
        match &self.route {
            Route::Direct => self.authority(),
            Route::Forwarded(proxy) | Route::Tunnel(proxy) => {
                format!("the proxy {}", proxy.authority())
            }
            Route::Socket(socket) => socket.to_string(),
        }
    }

    /// What the `Host` header says: the port only where it is not the scheme's own.
    pub(crate) fn authority(&self) -> String {
        let Self { is_secure, host, port, .. } = self;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let default = if *is_secure { 443 } else { 80 };
        if *port == default { host } else { format!("{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_read_from_uris() {
        for (uri, secure, host, port, authority) in [
            ("http://Example.com", false, "example.com", 80, "example.com"),
            ("https://u:p@example.com:80/x", true, "example.com", 80, "example.com:80"),
            ("http://[::1]:443", false, "::1", 443, "[::1]:443"),
            ("https://[::1]", true, "::1", 443, "[::1]"),
        ] {
            let destination = Destination::of(&uri.parse().expect("a URI")).expect("a destination");
            assert_eq!(
                (
                    destination.is_secure,
                    &*destination.host,
                    destination.port,
                    &*destination.authority()
                ),
                (secure, host, port, authority)
            );
        }
        for uri in ["ftp://example.com", "/path", "example.com:80"] {
            let error = Destination::of(&uri.parse().expect("a URI")).expect_err(uri);
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    }
}
