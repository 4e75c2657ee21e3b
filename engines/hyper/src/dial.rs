//! Opens the stream to a host: name resolution, TCP, TLS.

use std::{
    future::{Future, poll_fn},
    io,
    net::{IpAddr, SocketAddr, TcpStream},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use async_io::{Async, Timer};
use drivetrain_engine::{ConnectTimeout, Error, ErrorKind, Proxy, Result};
use http::{Uri, uri::Scheme};

use crate::{
    map::{self, Stage},
    proxied::{self, Way},
    runtime::Flavour,
    stream::Stream,
    tls::Secure,
};

/// How long one address is tried before the next is tried beside it (RFC 8305 section 5).
const STAGGER: Duration = Duration::from_millis(250);

/// What is dialled, and what may share a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) is_secure: bool,
    /// Without brackets around an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) way: Way,
}

impl Place {
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
        let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        Ok(Self { is_secure, host, port, way: Way::Direct })
    }

    /// The host and the port, whatever it is.
    pub(crate) fn full_authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// What the `Host` header says: the port only where it is not the scheme's own.
    pub(crate) fn authority(&self) -> String {
        let Self { is_secure, host, port, .. } = self;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let default = if *is_secure { 443 } else { 80 };
        if *port == default { host } else { format!("{host}:{port}") }
    }
}

/// Dials within the limit, if there is one.
#[cfg_attr(
    not(feature = "rustls"),
    expect(unused_variables, reason = "whoever has no TLS is refused before")
)]
pub(crate) async fn dial<R: Flavour>(
    place: &Place,
    secure: &Secure,
    limit: Option<ConnectTimeout>,
) -> Result<Stream> {
    let dialling = async {
        let (host, port) = match place.way.proxy() {
            None => (place.host.as_str(), place.port),
            Some(proxy) => (proxy.host(), proxy.port()),
        };
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => R::resolve(host, port)
                .await
                .map_err(|error| map::dialling(place, Stage::Resolve, error))?,
        };
        let failed = |error| map::dialling(place, Stage::Connect, error);
        let stream = race(addresses, Async::<TcpStream>::connect).await.map_err(failed)?;
        stream.get_ref().set_nodelay(true).map_err(failed)?;
        let stream = match &place.way {
            Way::Tunnel(proxy) => proxied::tunnel(stream, proxy, place).await?,
            Way::Direct | Way::Forwarded(_) => stream,
        };
        #[cfg(feature = "rustls")]
        if place.is_secure {
            return shake_hands(place, secure, stream).await;
        }
        Ok(Stream::plain(stream))
    };
    let Some(ConnectTimeout(limit)) = limit else { return dialling.await };
    let mut dialling = pin!(dialling);
    let mut timer = Timer::after(limit);
    poll_fn(|cx| match dialling.as_mut().poll(cx) {
        Poll::Pending => Pin::new(&mut timer).poll(cx).map(|_| {
            let message = format!("connecting to {}{} took too long", place.authority(), by(place));
            Err(Error::new(ErrorKind::Timeout, message))
        }),
        ready => ready,
    })
    .await
}

/// The proxy on the way, for a message.
pub(crate) fn by(place: &Place) -> String {
    let by = |proxy: &Proxy| format!(" through the proxy {}", proxy.authority());
    place.way.proxy().map(by).unwrap_or_default()
}

#[cfg(feature = "rustls")]
async fn shake_hands(place: &Place, secure: &Secure, stream: crate::stream::Tcp) -> Result<Stream> {
    let name = rustls::pki_types::ServerName::try_from(place.host.clone()).map_err(|error| {
        let message = format!("`{}` is not a name that TLS can verify", place.host);
        Error::new(ErrorKind::InvalidInput, message).with_source(error)
    })?;
    let connector = futures_rustls::TlsConnector::from(secure.config()?);
    match connector.connect(name, stream).await {
        Ok(stream) => Ok(Stream::tls(stream)),
        Err(error) => Err(map::dialling(place, Stage::Tls, error)),
    }
}

/// The first address that answers. They are tried in the resolver's order, the next one as soon as one
/// fails or has not answered in time; the order is not changed to prefer a family.
async fn race<T, F>(addresses: Vec<SocketAddr>, connect: impl Fn(SocketAddr) -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut addresses = addresses.into_iter();
    let mut attempts = Vec::new();
    let mut stagger = Timer::never();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let stream = poll_fn(|cx| {
        let mut is_next = attempts.is_empty();
        loop {
            let mut index = 0;
            while index < attempts.len() {
                let attempt: &mut Pin<Box<F>> = &mut attempts[index];
                match attempt.as_mut().poll(cx) {
                    Poll::Ready(Ok(stream)) => return Poll::Ready(Some(stream)),
                    Poll::Ready(Err(error)) => {
                        failure = error;
                        is_next = true;
                        drop(attempts.swap_remove(index));
                    }
                    Poll::Pending => index += 1,
                }
            }
            is_next |= Pin::new(&mut stagger).poll(cx).is_ready();
            match if is_next { addresses.next() } else { None } {
                Some(address) => {
                    attempts.push(Box::pin(connect(address)));
                    stagger.set_after(STAGGER);
                    is_next = false;
                }
                None if attempts.is_empty() => return Poll::Ready(None),
                None => return Poll::Pending,
            }
        }
    })
    .await;
    stream.ok_or(failure)
}

#[cfg(test)]
mod tests {
    use std::{sync::Mutex, time::Instant};

    use futures_util::future::{Either, pending, ready};

    use super::*;

    fn addresses(count: u8) -> Vec<SocketAddr> {
        (1..=count).map(|last| ([127, 0, 0, last], 1).into()).collect()
    }

    #[test]
    fn an_address_that_refuses_gives_way_at_once_and_one_that_is_silent_after_the_stagger() {
        for (silent, least, most) in [(false, 0, 200), (true, 250, 2000)] {
            let start = Instant::now();
            let tried = Mutex::new(Vec::new());
            let winner = async_io::block_on(race(addresses(3), |address| {
                tried.lock().expect("no panic").push(address);
                match address.ip().to_string().as_str() {
                    "127.0.0.1" if silent => Either::Left(pending()),
                    "127.0.0.1" => Either::Right(ready(Err(io::ErrorKind::HostUnreachable.into()))),
                    _ => Either::Right(ready(Ok(address))),
                }
            }));
            let took = start.elapsed().as_millis();
            assert_eq!(winner.expect("one answers"), addresses(3)[1]);
            assert_eq!(tried.into_inner().expect("no panic"), addresses(2), "in the given order");
            assert!((least..most).contains(&took), "{took} ms, silent: {silent}");
        }
    }

    #[test]
    fn the_last_failure_is_told() {
        let refused = |_| ready(Err::<(), _>(io::Error::from(io::ErrorKind::ConnectionRefused)));
        for (count, kind) in [(0, io::ErrorKind::NotFound), (2, io::ErrorKind::ConnectionRefused)] {
            let failure = async_io::block_on(race(addresses(count), refused));
            assert_eq!(failure.expect_err("nobody answers").kind(), kind);
        }
    }

    #[test]
    fn places_are_read_from_uris() {
        for (uri, secure, host, port, authority) in [
            ("http://Example.com", false, "example.com", 80, "example.com"),
            ("https://u:p@example.com:80/x", true, "example.com", 80, "example.com:80"),
            ("http://[::1]:443", false, "::1", 443, "[::1]:443"),
            ("https://[::1]", true, "::1", 443, "[::1]"),
        ] {
            let place = Place::of(&uri.parse().expect("a URI")).expect("a place");
            assert_eq!(
                (place.is_secure, &*place.host, place.port, &*place.authority()),
                (secure, host, port, authority)
            );
        }
        for uri in ["ftp://example.com", "/path", "example.com:80"] {
            let error = Place::of(&uri.parse().expect("a URI")).expect_err(uri);
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    }
}
