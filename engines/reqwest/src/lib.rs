//! The engine of [drivetrain](https://docs.rs/drivetrain) that speaks HTTP with [reqwest] on tokio.
//!
//! [`Reqwest`] is an engine of its own, for programs that need no WebSockets. Drivetrain's WebSocket
//! engines on tokio use it for their HTTP requests and, through [`Hop`], for their handshakes; with them
//! its options are set by `.http(Reqwest::new()…)`.
//!
//! # Features
//!
//! | | |
//! |---|---|
//! | `rustls` (default) | `https` with rustls and ring; nothing of rustls' process-wide state is used |
//! | `native-tls` | `https` with the system's TLS library; used if it is the only one, or if `.native_tls()` is called |
//!
//! Without either, `https` is refused before anything is dialled.

mod brought;
mod clients;
mod connect;
mod dial;
mod driver;
mod map;
mod opened;
mod options;
#[cfg(feature = "rustls")]
mod over_http2;
mod proxied;
mod request;
mod runtime;
mod tls;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

#[cfg(any(feature = "rustls", feature = "native-tls"))]
use drivetrain_engine::TlsVersion;
use drivetrain_engine::{
    Answer, Body, Capability, Engine, EngineSettings, Error, Handshake, Result, Runtime, Support,
    async_trait,
};
use reqwest::{Client, ClientBuilder};

pub use brought::{BoxStream, Stream};
pub use connect::Hop;
pub use opened::{Opened, Upgrade};
/// The version of reqwest that the options speak.
pub use reqwest;
pub use runtime::Tokio;

use clients::Clients;
use options::{Options, Set};

/// HTTP over [reqwest] on tokio.
///
/// The value is its configuration: nothing is made, read or dialled before the first request. Clones
/// share their connections; setting an option on a clone gives that clone its own.
///
/// Requests are one hop each: reqwest's redirects, environment proxies, retries, `Referer` and
/// decompression are off, as drivetrain does these above. (Two things of reqwest's remain: it adds
/// `Accept: */*` where there is no `Accept`, and sends a request again that met a kept connection which
/// had closed before a byte of it was sent.) A
/// [`ConnectTimeout`](drivetrain_engine::ConnectTimeout) of a request is kept by a client per distinct
/// duration, and so is a [`Proxy`](drivetrain_engine::Proxy), eight at most; connections are not reused
/// across them.
///
/// ```
/// use std::time::Duration;
/// use drivetrain_reqwest::Reqwest;
///
/// let engine = Reqwest::new()
///     .pool_idle_timeout(Duration::from_secs(30))
///     .configure(|builder| builder.user_agent("weather/1.0"));
/// ```
#[derive(Clone, Default)]
pub struct Reqwest {
    options: Options,
    clients: Arc<Clients>,
    #[cfg(feature = "rustls")]
    http2: Arc<over_http2::Links>,
}

impl Reqwest {
    pub(crate) const NAME: &'static str = "reqwest";

    const NO_WEB_SOCKETS: &'static str =
        "reqwest speaks HTTP only: use Tungstenite or FastWebSockets";

    const PRECONFIGURED_TIMEOUT: &'static str =
        "the preconfigured client has its own: set connect_timeout on its builder";
    const PRECONFIGURED_PROXY: &'static str =
        "the preconfigured client has its own: set proxy on its builder";
    const OVER_HTTP1: &'static str =
        "handshakes use HTTP/1.1: Reqwest::web_socket_over_http2 switches it on";
    const HOOK_AND_TUNNEL: &'static str = "a ws:// tunnel is not dialled by reqwest, so that what a configure hook sets would be lost: \
         leave the hook out, or use wss:// or a SOCKS5 proxy";

    /// HTTP with reqwest's own defaults, the system's CA certificates, and no client certificate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Uses this client for HTTP requests as it is, with its own redirects, proxies, cookies, timeouts
    /// and TLS. Default: none.
    ///
    /// It does not serve handshakes: those need HTTP/1.1 only, and a made client does not tell how it
    /// was made. They use a client of the engine's own, to which the options of this value apply.
    /// A connect timeout and a proxy that are set above are refused.
    pub fn preconfigured(self, client: Client) -> Self {
        self.set("preconfigured", "a reqwest::Client", false, |options| {
            options.preconfigured = Some(client);
        })
    }

    /// Closes a connection that has been idle for this long; `None` keeps it. Default: 90 s.
    pub fn pool_idle_timeout(self, limit: impl Into<Option<Duration>>) -> Self {
        let limit = limit.into();
        self.set("pool_idle_timeout", show(limit), false, |options| {
            options.pool_idle_timeout = Some(limit);
        })
    }

    /// Keeps this many idle connections a host at most; zero reuses none. Default: no limit.
    pub fn pool_max_idle_per_host(self, most: usize) -> Self {
        self.set("pool_max_idle_per_host", most, false, |options| {
            options.pool_max_idle_per_host = Some(most);
        })
    }

    /// Does not offer HTTP/2 to servers. Default: it is offered (by ALPN, so for `https`). Handshakes
    /// never offer it.
    pub fn http1_only(self) -> Self {
        self.set("http1_only", true, false, |options| options.http1_only = true)
    }

    /// Opens `wss` over HTTP/2 where the server allows it (RFC 8441): the sockets of one host share one
    /// connection, which is closed with the last of them. Default: off. Needs rustls, and goes without
    /// [`configure`](Self::configure), as reqwest has no such handshake.
    ///
    /// A server that does not negotiate HTTP/2, or does not allow it there, gets HTTP/1.1, and is
    /// remembered; so does `ws`, and whatever goes through a proxy. A socket's peer is slowed down by
    /// HTTP/2's own windows, 256 KiB a socket.
    #[cfg(feature = "rustls")]
    pub fn web_socket_over_http2(self) -> Self {
        self.set("web_socket_over_http2", true, true, |options| {
            options.web_socket_over_http2 = true;
        })
    }

    /// Pings an HTTP/2 connection in use this often, and gives it up when the answer takes longer than
    /// 20 s. Default: off.
    pub fn http2_keep_alive_interval(self, interval: Duration) -> Self {
        self.set("http2_keep_alive_interval", show(Some(interval)), false, |options| {
            options.http2_keep_alive_interval = Some(interval);
        })
    }

    /// Dials from this address of the machine's. Default: the system chooses.
    pub fn local_address(self, address: IpAddr) -> Self {
        self.set("local_address", address, true, |options| options.local_address = Some(address))
    }

    /// Sends TCP keepalive probes after this much silence; `None` sends none. Default: 15 s.
    pub fn tcp_keepalive(self, after: impl Into<Option<Duration>>) -> Self {
        let after = after.into();
        self.set("tcp_keepalive", show(after), true, |options| {
            options.tcp_keepalive = Some(after);
        })
    }

    /// Dials these addresses for this host name, without asking DNS; a port of zero is the URL's.
    /// Default: none.
    pub fn resolve(
        self,
        host: impl Into<String>,
        addresses: impl IntoIterator<Item = SocketAddr>,
    ) -> Self {
        let host = host.into();
        let addresses: Vec<_> = addresses.into_iter().collect();
        self.set("resolve", format!("{host} to {addresses:?}"), true, |options| {
            options.resolve.push((host, addresses));
        })
    }

    /// Trusts the certificates in `pem`, which may be a bundle, as well as the system's. Default: none.
    ///
    /// What cannot be read is told when the client is built.
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    pub fn root_certificate_pem(self, pem: impl AsRef<[u8]>) -> Self {
        let pem = pem.as_ref();
        self.set("root_certificate_pem", format!("{} bytes", pem.len()), true, |options| {
            options.secure.root(pem);
        })
    }

    /// Trusts the root certificates that were given, and not the system's. Default: both.
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    pub fn only_these_roots(self) -> Self {
        self.set("only_these_roots", true, true, |options| options.secure.only_these_roots())
    }

    /// Refuses servers that only speak an older TLS. Default: [`TlsVersion::V1_2`] with rustls, the library's
    /// own with native-tls.
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    pub fn min_tls_version(self, version: TlsVersion) -> Self {
        self.set("min_tls_version", version, true, |options| {
            options.secure.min_version(version);
        })
    }

    /// **Accepts whatever certificate a server shows, for any name: anybody in between can read and change
    /// everything.** For tests alone. Default: certificates are verified. Roots cannot be set beside it.
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    pub fn danger_accept_any_certificate(self) -> Self {
        self.set("danger_accept_any_certificate", "true: NO VERIFICATION", true, |options| {
            options.secure.accept_any_certificate();
        })
    }

    /// Presents this certificate to a server that asks for one. Default: none.
    ///
    /// `chain_and_key` is one PEM text with the chain, leaf first, and the private key, not encrypted;
    /// with native-tls the key is PKCS#8. What cannot be read is told when the client is built.
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    pub fn client_certificate_pem(self, chain_and_key: impl AsRef<[u8]>) -> Self {
        let pem = chain_and_key.as_ref();
        self.set("client_certificate_pem", "set", true, |options| {
            options.secure.client_certificate(pem);
        })
    }

    /// Uses this configuration of rustls, with its own provider, roots and client certificate; only its
    /// ALPN list is overwritten. Default: none. The other TLS options cannot be set beside it.
    #[cfg(feature = "rustls")]
    pub fn rustls_config(self, config: Arc<rustls::ClientConfig>) -> Self {
        self.set("rustls_config", "a rustls::ClientConfig", true, |options| {
            options.secure.change(|tls| tls.preconfigured(config));
        })
    }

    /// Uses the system's TLS library. Default: rustls, if this crate has it.
    #[cfg(feature = "native-tls")]
    pub fn native_tls(self) -> Self {
        self.set("native_tls", true, true, |options| options.secure.use_native())
    }

    /// Changes reqwest's own builder, for what has no method here; called again for each client that is
    /// made, those for handshakes included. Default: nothing.
    ///
    /// The hook's proxies are used where none was set above; `ws` through an HTTP proxy that was set above
    /// is refused beside a hook, as reqwest cannot dial it. Its redirects, retries, `Referer`,
    /// decompression and, with rustls, TLS are overwritten by the engine's; a `timeout` or `read_timeout`
    /// also ends a handshake, but not the WebSocket it opened. Cookies are drivetrain's: leave reqwest's off.
    pub fn configure(
        self,
        hook: impl Fn(ClientBuilder) -> ClientBuilder + Send + Sync + 'static,
    ) -> Self {
        self.set("configure", "a hook", true, |options| options.hooks.push(Arc::new(hook)))
    }

    /// Sets an option on this value alone: clones made before keep their clients.
    fn set(
        mut self,
        name: &'static str,
        value: impl ToString,
        handshakes: bool,
        with: impl FnOnce(&mut Options),
    ) -> Self {
        with(&mut self.options);
        self.options.set.push(Set { name, value: value.to_string(), handshakes });
        self.clients = Arc::default();
        #[cfg(feature = "rustls")]
        {
            self.http2 = Arc::default();
        }
        self
    }
}

#[async_trait]
impl Engine for Reqwest {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn support(&self, capability: Capability) -> Support {
        const TLS: bool = cfg!(any(feature = "rustls", feature = "native-tls"));
        const NO_TLS: &str =
            "it was built without TLS: switch on cargo feature `rustls` or `native-tls`";
        match capability {
            Capability::Http1 => Support::Offered,
            Capability::Tls | Capability::ClientCertificates if TLS => Support::Offered,
            Capability::Tls | Capability::ClientCertificates => Support::missing(NO_TLS),
            Capability::Http2 if self.options.http1_only => {
                Support::missing("http1_only was called")
            }
            Capability::Http2 if TLS => Support::Offered,
            Capability::Http2 => Support::missing(NO_TLS),
            Capability::ConnectTimeout if self.options.preconfigured.is_some() => {
                Support::missing(Self::PRECONFIGURED_TIMEOUT)
            }
            Capability::Proxies | Capability::SocksProxies
                if self.options.preconfigured.is_some() =>
            {
                Support::missing(Self::PRECONFIGURED_PROXY)
            }
            Capability::ConnectTimeout | Capability::Proxies | Capability::SocksProxies => {
                Support::Offered
            }
            _ => Support::missing(Self::NO_WEB_SOCKETS),
        }
    }

    fn settings(&self) -> EngineSettings {
        let mut settings = EngineSettings::default();
        settings.native = self.native_settings(false);
        settings
    }

    fn check(&self) -> Result<()> {
        self.check_options(Self::NAME, false)
    }

    fn runtime(&self) -> Result<Arc<dyn Runtime>> {
        Tokio::current(Self::NAME)
    }

    async fn execute(&self, request: http::Request<Body>) -> Result<http::Response<Body>> {
        request::execute(Self::NAME, self, request).await
    }

    async fn connect(&self, _: Handshake) -> Result<Answer> {
        Err(Error::unsupported(Self::NAME, Capability::WebSockets, Self::NO_WEB_SOCKETS))
    }
}

/// Prints what was set, never certificates, keys or the headers of a preconfigured client.
impl fmt::Debug for Reqwest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Reqwest");
        for set in &self.options.set {
            debug.field(set.name, &format_args!("{}", set.value));
        }
        debug.finish()
    }
}

fn show(duration: Option<Duration>) -> String {
    duration.map_or_else(|| "off".to_owned(), |duration| format!("{duration:?}"))
}
