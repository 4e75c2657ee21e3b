//! Opens the stream to a host: name resolution, TCP, TLS.

use std::{
    future::{Future, poll_fn},
    io,
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use drivetrain_engine::{
    ConnectTimeout, Error, ErrorKind, HandshakePhases, Instant, Result, Runtime, Timer,
};
use http::{Uri, uri::Scheme};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

#[cfg(any(feature = "rustls", feature = "native-tls"))]
use crate::tls::Failed;
use crate::{
    executor::Executor,
    http_connector::Shared,
    http1::bound_unsent,
    map::{self, Stage},
    options::ConnectOptions,
    route::{self, Route},
    stream::ConnectedStream,
    tls::TlsConnector,
};

/// How long one address is tried before the next is tried beside it (RFC 8305 section 5).
pub(crate) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// After this much silence the system probes a connection, and again this often.
pub(crate) const PROBES: Duration = Duration::from_secs(15);

/// What is dialled, and what may share a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Destination {
    pub(crate) is_secure: bool,
    /// Without brackets around an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Whether the URL says the port.
    has_port: bool,
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
    fn dialled(&self) -> String {
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

/// Opens a stream to a destination, within the limit if there is one. `tls` makes the TLS of a secure one.
pub(crate) async fn dial<R: Executor>(
    runtime: &dyn Runtime,
    shared: &Shared,
    destination: &Destination,
    limit: Option<ConnectTimeout>,
    tls: impl FnOnce() -> Result<TlsConnector> + Send,
) -> Result<ConnectedStream> {
    let dialling = async {
        let mut phases = HandshakePhases::default();
        let mut clock = Stopwatch::new(runtime);
        let mut stream = match &destination.route {
            #[cfg(unix)]
            Route::Socket(socket) => R::connect_unix(socket.path())
                .await
                .map_err(|error| map::dialling(&destination.dialled(), Stage::Connect, error))?,
            _ => {
                let (addresses, is_resolved) = resolve::<R>(&shared.options, destination).await?;
                phases.dns = clock.lap().filter(|_| is_resolved);
                connect::<R>(runtime, &shared.options, destination, addresses).await?
            }
        };
        phases.tcp = clock.lap();
        if let Some(proxy) = destination.route.https_proxy() {
            stream = secure(stream, shared.tls()?, proxy.host(), &destination.dialled()).await?;
        }
        if let Route::Tunnel(proxy) = &destination.route {
            stream = route::tunnel(stream, proxy, destination, shared.options.limits()).await?;
        }
        if destination.route.proxy().is_some() {
            phases.proxy = clock.lap();
        }
        if destination.is_secure {
            stream = secure(stream, tls()?, &destination.host, &destination.authority()).await?;
            phases.tls = clock.lap();
        }
        Ok(stream.with_phases(phases))
    };
    let Some(ConnectTimeout(limit)) = limit else { return dialling.await };
    let mut dialling = pin!(dialling);
    let mut timer = runtime.timer(runtime.now() + limit);
    poll_fn(|cx| match dialling.as_mut().poll(cx) {
        Poll::Pending => timer.poll(cx).map(|()| {
            let by = by(destination);
            let message = format!("connecting to {}{by} took too long", destination.authority());
            Err(Error::new(ErrorKind::Timeout, message))
        }),
        ready => ready,
    })
    .await
}

/// The time that phases take which follow each other.
pub(crate) struct Stopwatch<'a> {
    runtime: &'a dyn Runtime,
    since: Instant,
}

impl<'a> Stopwatch<'a> {
    pub(crate) fn new(runtime: &'a dyn Runtime) -> Self {
        Self { runtime, since: runtime.now() }
    }

    /// The time since the phase before.
    pub(crate) fn lap(&mut self) -> Option<Duration> {
        let now = self.runtime.now();
        Some(now.saturating_since(std::mem::replace(&mut self.since, now)))
    }
}

/// TLS with this host over a stream; `peer` is for the error.
#[cfg_attr(
    not(any(feature = "rustls", feature = "native-tls")),
    allow(unused_variables, reason = "there is no TLS that could fail")
)]
async fn secure(
    stream: ConnectedStream,
    tls: TlsConnector,
    host: &str,
    peer: &str,
) -> Result<ConnectedStream> {
    tls.secure(host, stream).await.map_err(|failed| match failed {
        #[cfg(feature = "rustls")]
        Failed::Name(error) => error,
        #[cfg(feature = "rustls")]
        Failed::Io(error) => map::dialling(peer, Stage::Tls, error),
        #[cfg(feature = "native-tls")]
        Failed::Native(error) => map::dialling(peer, Stage::Tls, error),
    })
}

/// The proxy or the socket on the route, for a message.
fn by(destination: &Destination) -> String {
    match &destination.route {
        Route::Direct => String::new(),
        _ => format!(" through {}", destination.dialled()),
    }
}

/// The addresses of the host, or of the proxy on the route to it, and whether they were asked for.
async fn resolve<R: Executor>(
    options: &ConnectOptions,
    destination: &Destination,
) -> Result<(Vec<SocketAddr>, bool)> {
    let (host, port, has_port) = match destination.route.proxy() {
        None => (destination.host.as_str(), destination.port, destination.has_port),
        Some(proxy) => (proxy.host(), proxy.port(), true),
    };
    let given = options.tcp.resolve.iter().rev().find(|(name, _)| name.eq_ignore_ascii_case(host));
    let (resolved, is_asked) = match (host.parse::<IpAddr>(), given, &options.tcp.resolver) {
        (Ok(address), ..) => (Ok(vec![SocketAddr::new(address, port)]), false),
        (Err(_), Some((_, addresses)), _) => (Ok(addresses.clone()), false),
        (Err(_), None, Some(resolver)) => (resolver.resolve(host).await, true),
        (Err(_), None, None) => (R::resolve(host, port).await, true),
    };
    let mut addresses =
        resolved.map_err(|error| map::dialling(&destination.dialled(), Stage::Resolve, error))?;
    for address in addresses.iter_mut().filter(|it| has_port || it.port() == 0) {
        address.set_port(port);
    }
    if let Some(local) = options.tcp.local_address {
        addresses.retain(|address| address.is_ipv4() == local.is_ipv4());
    }
    Ok((addresses, is_asked))
}

/// Connects to the first of these addresses that answers.
async fn connect<R: Executor>(
    runtime: &dyn Runtime,
    options: &ConnectOptions,
    destination: &Destination,
    addresses: Vec<SocketAddr>,
) -> Result<ConnectedStream> {
    let attempt = |address| async move { R::connect(socket(options, address)?, address).await };
    race(runtime, interleaved(addresses), attempt)
        .await
        .map_err(|error| map::dialling(&destination.dialled(), Stage::Connect, error))
}

/// A socket for this address with the options that were set, before it is connected.
fn socket(options: &ConnectOptions, address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    bound_unsent(&socket)?;
    if let Some(after) = options.tcp.keepalive.unwrap_or(Some(PROBES)) {
        let keepalive = TcpKeepalive::new().with_time(after);
        #[cfg(not(any(target_os = "openbsd", target_os = "haiku")))]
        let keepalive = keepalive.with_interval(PROBES);
        #[cfg(any(
            target_os = "android",
            target_os = "linux",
            target_os = "macos",
            target_os = "freebsd"
        ))]
        let keepalive = keepalive.with_retries(3);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    #[cfg(any(target_os = "android", target_os = "linux"))]
    socket.set_tcp_user_timeout(Some(2 * PROBES))?;
    if let Some(local) = options.tcp.local_address {
        socket.bind(&SocketAddr::new(local, 0).into())?;
    }
    Ok(socket)
}

/// The addresses with their families in turn, beginning with that of the first (RFC 8305 section 4).
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let is_ipv4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == is_ipv4);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut all = Vec::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return all;
        }
        all.extend(pair.into_iter().flatten());
    }
}

/// The first address that answers. They are tried in their order, the next one as soon as one fails or has not
/// answered in time.
async fn race<T, F>(
    runtime: &dyn Runtime,
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut addresses = addresses.into_iter();
    let mut attempts = Vec::new();
    let mut delay: Option<Box<dyn Timer>> = None;
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
            is_next |= delay.as_mut().is_some_and(|delay| delay.poll(cx).is_ready());
            match if is_next { addresses.next() } else { None } {
                Some(address) => {
                    attempts.push(Box::pin(connect(address)));
                    is_next = false;
                    // The last one has all the time.
                    let is_last = addresses.as_slice().is_empty();
                    let at = runtime.now() + ATTEMPT_DELAY;
                    delay = (!is_last).then(|| runtime.timer(at));
                }
                None if attempts.is_empty() => return Poll::Ready(None),
                None => return Poll::Pending,
            }
        }
    })
    .await;
    stream.ok_or(failure)
}

#[cfg(all(test, feature = "smol"))]
mod tests {
    use std::{sync::Mutex, time::Instant};

    use futures_util::future::{Either, pending, ready};

    use super::*;
    use crate::{async_io::Tasks, smol::SmolExecutor};

    fn block_on<T, F: Future<Output = io::Result<T>>>(
        addresses: Vec<SocketAddr>,
        connect: impl Fn(SocketAddr) -> F,
    ) -> io::Result<T> {
        ::async_io::block_on(race(&Tasks::<SmolExecutor>::new(), addresses, connect))
    }

    fn addresses(count: u8) -> Vec<SocketAddr> {
        (1..=count).map(|last| ([127, 0, 0, last], 1).into()).collect()
    }

    #[test]
    fn an_address_that_refuses_gives_way_at_once_and_one_that_is_silent_after_the_delay() {
        for (silent, least, most) in [(false, 0, 200), (true, 250, 2000)] {
            // It is enough if it is so once: a machine may stand still.
            assert!((0..5).any(|_| took(silent, least) < most), "silent: {silent}");
        }
    }

    /// After how many milliseconds there is a winner.
    fn took(silent: bool, least: u128) -> u128 {
        let start = Instant::now();
        let tried = Mutex::new(Vec::new());
        let winner = block_on(addresses(3), |address| {
            tried.lock().expect("no panic").push(address);
            match address.ip().to_string().as_str() {
                "127.0.0.1" if silent => Either::Left(pending()),
                "127.0.0.1" => Either::Right(ready(Err(io::ErrorKind::HostUnreachable.into()))),
                _ => Either::Right(ready(Ok(address))),
            }
        });
        let took = start.elapsed().as_millis();
        assert_eq!(winner.expect("one answers"), addresses(3)[1]);
        assert_eq!(tried.into_inner().expect("no panic"), addresses(2), "in the given order");
        assert!(took >= least, "{took} ms, silent: {silent}");
        took
    }

    #[test]
    fn the_last_failure_is_told() {
        let refused = |_| ready(Err::<(), _>(io::Error::from(io::ErrorKind::ConnectionRefused)));
        for (count, kind) in [(0, io::ErrorKind::NotFound), (2, io::ErrorKind::ConnectionRefused)] {
            let failure = block_on(addresses(count), refused);
            assert_eq!(failure.expect_err("nobody answers").kind(), kind);
        }
    }

    #[test]
    fn families_are_tried_in_turn() {
        let of = |all: &[&str]| -> Vec<SocketAddr> {
            all.iter().map(|ip| SocketAddr::new(ip.parse().expect("an address"), 1)).collect()
        };
        for (resolved, tried) in [
            (&["::1", "::2", "127.0.0.1"][..], &["::1", "127.0.0.1", "::2"][..]),
            (&["127.0.0.1", "::1", "::2"], &["127.0.0.1", "::1", "::2"]),
            (&["::1", "::2"], &["::1", "::2"]),
            (&[], &[]),
        ] {
            assert_eq!(interleaved(of(resolved)), of(tried));
        }
    }

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
