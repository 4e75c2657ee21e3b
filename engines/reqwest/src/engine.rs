//! The engine's value: its options.

use std::{fmt, sync::Arc, time::Duration};

use drivetrain_connect::ConnectOptions;
use drivetrain_engine::{Error, ErrorKind, NativeSetting, Result, Support};
use reqwest::{Client, ClientBuilder};

use crate::{
    clients::Clients,
    options::{LARGEST_HEAD, Options, Set},
    purpose::Purpose,
    replay::Answered,
    tunnelled,
};

/// HTTP over [reqwest] on tokio.
///
/// The value is its configuration: nothing is made, read or dialled before the first request. Clones
/// share their connections; setting an option on a clone gives that clone its own.
///
/// Each request is one exchange: reqwest's redirects, environment proxies, retries, `Referer` and
/// decompression are off, as drivetrain does these above. (Two things of reqwest's remain: it adds
/// `Accept: */*` where there is no `Accept`, and sends a request again that met a kept connection which
/// had closed before a byte of it was sent.) A
/// [`ConnectTimeout`](drivetrain_engine::ConnectTimeout) of a request is kept by a client per distinct
/// duration, and so is a [`Proxy`](drivetrain_engine::Proxy), a [`UnixSocket`](drivetrain_engine::UnixSocket) and a
/// tokio runtime, eight at most; connections are not reused across them. A preconfigured client is one for all
/// runtimes: make one for each.
///
/// Some requests are sent with hyper's client over connections of the engine's own, with the same options: through a
/// SOCKS5 proxy, and for `https` through any, so that an error has what the proxy answered; those whose body
/// streams, which the client has each body do that is longer than 64 KiB; and those with a `Host` of their own where
/// HTTP/2 is possible. That `Host` is the `:authority` (RFC 9113 section 8.3.1); the URL's host is dialled and verified.
/// These requests have connections of their own for each origin, 64 origins at most. On its own connections the engine
/// reads an early answer before a write fails, and ends those whose upload lasts a second longer than its answer. Beside a
/// [`configure`](Self::configure) hook, by a preconfigured client, over a Unix socket, and to an HTTP proxy for `http`,
/// reqwest sends them, which can do neither: up to 4 early answers of 100 are lost to the reset behind them, and a
/// server that has answered, and neither reads nor closes, is waited for until reqwest's `tcp_user_timeout` ends the
/// connection. There a `Host` of the request's own is sent over HTTP/1.1, by a preconfigured client as that client does
/// it. A `Host` that is no authority, or over `https` has the port 443, is sent over HTTP/1.1 as well.
///
/// A request that no connection has taken after 30 s and its connect timeout, because none opens or none has a stream
/// to spare, fails as one that was not processed: the client sends it again, at last over a new connection without
/// that limit. hyper may have forgotten it. This does not hold beside a hook or for a preconfigured client.
///
/// [`max_header_size`](Self::max_header_size) is at most 384 KiB, which is what reqwest reads.
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
}

impl Reqwest {
    pub(crate) const NAME: &'static str = "reqwest";

    pub(crate) const NO_WEB_SOCKETS: &'static str =
        "reqwest speaks HTTP only: use Tungstenite or FastWebSockets";

    pub(crate) const PRECONFIGURED_TIMEOUT: &'static str =
        "the preconfigured client has its own: set connect_timeout on its builder";
    pub(crate) const PRECONFIGURED_RESOLVER: &'static str =
        "the preconfigured client has its own: set dns_resolver on its builder";
    pub(crate) const PRECONFIGURED_UNIX_SOCKET: &'static str =
        "the preconfigured client has its own: set unix_socket on its builder";
    pub(crate) const PRECONFIGURED_PROXY: &'static str =
        "the preconfigured client has its own: set proxy on its builder";
    pub(crate) const OVER_HTTP1: &'static str =
        "handshakes use HTTP/1.1: Reqwest::web_socket_over_http2 switches it on";

    /// HTTP with reqwest's own defaults, the system's CA certificates, and no client certificate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Uses this client for HTTP requests as it is, with its own redirects, proxies, cookies, timeouts
    /// and TLS. Default: none.
    ///
    /// It does not serve handshakes: those need HTTP/1.1 only, and a made client does not tell how it
    /// was made. They are dialled by the engine, with the options of this value.
    /// A connect timeout and a proxy that are set above are refused.
    pub fn preconfigured(self, client: Client) -> Self {
        self.set("preconfigured", "a reqwest::Client", |options| {
            options.preconfigured = Some(client);
        })
    }

    /// Closes a connection that has been idle for this long; `None` keeps it. Default: 90 s.
    pub fn pool_idle_timeout(self, limit: impl Into<Option<Duration>>) -> Self {
        let limit = limit.into();
        self.set("pool_idle_timeout", show(limit), |options| {
            options.pool_idle_timeout = Some(limit);
        })
    }

    /// Keeps this many idle connections a host at most; zero reuses none. Default: no limit.
    pub fn pool_max_idle_per_host(self, most: usize) -> Self {
        self.set("pool_max_idle_per_host", most, |options| {
            options.pool_max_idle_per_host = Some(most);
        })
    }

    /// Does not offer HTTP/2 to servers. Default: it is offered (by ALPN, so for `https`). Handshakes
    /// never offer it.
    pub fn http1_only(self) -> Self {
        self.set("http1_only", true, |options| options.http1_only = true)
    }

    /// Opens `wss` over HTTP/2 where the server allows it (RFC 8441): the sockets of one host share one
    /// connection, which is closed with the last of them. Default: off. Needs rustls.
    ///
    /// A server that does not negotiate HTTP/2, or does not allow it there, gets HTTP/1.1, and is
    /// remembered; so does `ws`, unless [`http2_prior_knowledge`](Self::http2_prior_knowledge) is set, and
    /// whatever goes through a proxy or a Unix socket. A socket's peer is slowed down by HTTP/2's own windows,
    /// 256 KiB a socket; one that nobody reads takes nothing from the others.
    #[cfg(feature = "rustls")]
    pub fn web_socket_over_http2(self) -> Self {
        let mut http = self.map_options(ConnectOptions::web_socket_over_http2);
        http.options.web_socket_over_http2 = true;
        http
    }

    /// Speaks HTTP/2 in clear text, to servers that are known to (RFC 9113 section 3.3): for `http`, and for `ws`
    /// with [`web_socket_over_http2`](Self::web_socket_over_http2). `https` negotiates as before. Default: HTTP/1.1.
    pub fn http2_prior_knowledge(self) -> Self {
        self.set("http2_prior_knowledge", true, |options| {
            options.http2_prior_knowledge = true;
            #[cfg(feature = "rustls")]
            options.dial(ConnectOptions::http2_prior_knowledge);
        })
    }

    /// Pings an HTTP/2 connection in use this often, and gives it up when the answer takes longer than
    /// 20 s. Default: off.
    pub fn http2_keep_alive_interval(self, interval: Duration) -> Self {
        self.set("http2_keep_alive_interval", show(Some(interval)), |options| {
            options.http2_keep_alive_interval = Some(interval);
            #[cfg(feature = "rustls")]
            options.dial(|options| options.http2_keep_alive_interval(interval));
        })
    }

    /// Changes reqwest's own builder for HTTP requests, for what has no method here; called again for each client that
    /// is made. Default: nothing.
    ///
    /// Handshakes are not reqwest's: a hook changes nothing of them, and the options of this value do. The hook's
    /// proxies are used where none was set above. Its retries are used beside the client's own, which repeats what is
    /// safe; reqwest does not repeat a body that streams. Its redirects, `Referer`, decompression and TLS are
    /// overwritten by the engine's. Cookies are drivetrain's: leave reqwest's off.
    pub fn configure(
        self,
        hook: impl Fn(ClientBuilder) -> ClientBuilder + Send + Sync + 'static,
    ) -> Self {
        self.set("configure", "a hook", |options| options.hooks.push(Arc::new(hook)))
    }

    /// Sets an option that handshakes share, on this value alone.
    fn map_options(mut self, with: impl FnOnce(ConnectOptions) -> ConnectOptions) -> Self {
        self.options.dial(with);
        let setting = self.options.dialer.options().settings().last().cloned();
        self.options.set.extend(setting.map(|setting| Set { setting, handshakes: true }));
        self.clients = Arc::default();
        self
    }

    /// Sets an option on this value alone: clones made before keep their clients.
    fn set(
        mut self,
        name: &'static str,
        value: impl ToString,
        with: impl FnOnce(&mut Options),
    ) -> Self {
        with(&mut self.options);
        let setting = NativeSetting::new(name, value.to_string());
        self.options.set.push(Set { setting, handshakes: false });
        self.clients = Arc::default();
        self
    }
}

drivetrain_connect::connect_options!(forward head Reqwest);
drivetrain_connect::connect_options!(forward dial Reqwest);
#[cfg(any(feature = "rustls", feature = "native-tls"))]
drivetrain_connect::connect_options!(forward tls Reqwest);
#[cfg(feature = "rustls")]
drivetrain_connect::connect_options!(forward rustls Reqwest);

#[cfg(feature = "native-tls")]
drivetrain_connect::connect_options!(forward native_tls Reqwest);

impl Reqwest {
    pub(crate) fn client(&self, engine: &'static str, purpose: Purpose) -> Result<Client> {
        self.clients.get(engine, &self.options, purpose)
    }

    pub(crate) fn tunnelled(&self, purpose: Purpose) -> Result<tunnelled::Client> {
        self.clients.tunnelled(&self.options, purpose)
    }

    /// The connections that have answered a request of this engine value.
    pub(crate) fn answered(&self) -> &Answered {
        &self.clients.answered
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// Whether its clients are as someone else made them, or had them made by a hook.
    pub(crate) fn is_configured_by_others(&self) -> bool {
        self.options.preconfigured.is_some() || !self.options.hooks.is_empty()
    }

    pub(crate) fn preconfigured_client(&self) -> Option<&Client> {
        self.options.preconfigured.as_ref()
    }

    /// Refuses what can never work; `handshakes` says whether the engine opens WebSockets, for which
    /// options beside a preconfigured client have a meaning.
    pub(crate) fn check_options(&self, engine: &'static str, handshakes: bool) -> Result<()> {
        let dead =
            |set: &&Set| set.setting.name != "preconfigured" && !(handshakes && set.handshakes);
        if self.options.preconfigured.is_some() {
            if let Some(set) = self.options.set.iter().find(dead) {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!(
                        "{} has no effect on the preconfigured client: set it on that client's \
                         builder",
                        set.setting.name
                    ),
                )
                .with_engine(engine));
            }
        }
        self.check_http2(handshakes).map_err(|error| error.with_engine(engine))?;
        self.check_limits().map_err(|error| error.with_engine(engine))
    }

    fn check_limits(&self) -> Result<()> {
        self.options.dialer.options().check()?;
        if self.options.limits().max_header_size > LARGEST_HEAD {
            let message =
                format!("max_header_size is at most {LARGEST_HEAD} bytes: reqwest reads no more");
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        Ok(())
    }

    fn check_http2(&self, handshakes: bool) -> Result<()> {
        if self.options.http2_prior_knowledge && self.options.http1_only {
            let message = "http2_prior_knowledge and http1_only contradict: leave one of them out";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        if !self.options.web_socket_over_http2 {
            return Ok(());
        }
        let why = if !handshakes {
            "this engine opens no WebSockets: use Tungstenite or FastWebSockets"
        } else if self.options.dialer.options().tls().is_native() {
            "it needs rustls: leave native_tls out"
        } else {
            return Ok(());
        };
        let message = format!("web_socket_over_http2 is not possible: {why}");
        Err(Error::new(ErrorKind::InvalidInput, message))
    }

    /// Whether WebSockets go over HTTP/2; only an engine that opens some offers it.
    pub(crate) fn over_http2(&self) -> Support {
        match self.options.web_socket_over_http2 {
            true => Support::Offered,
            false => Support::missing(Self::OVER_HTTP1),
        }
    }

    pub(crate) fn native_settings(&self, handshakes: bool) -> Vec<NativeSetting> {
        let is_preconfigured = self.options.preconfigured.is_some();
        let note = |set: &Set| match (&*set.setting.name, handshakes, set.handshakes) {
            ("preconfigured", true, _) => {
                Some("serves HTTP only; handshakes are dialled by the engine")
            }
            ("preconfigured", false, _) => Some("its own redirects, proxies and timeouts apply"),
            (_, true, false) => Some("HTTP only"),
            (_, true, true) if is_preconfigured => Some("handshakes only"),
            _ => None,
        };
        self.options
            .set
            .iter()
            .map(|set| {
                let setting = set.setting.clone();
                match note(set) {
                    Some(note) => setting.with_note(note),
                    None => setting,
                }
            })
            .collect()
    }
}

/// Prints what was set, never certificates, keys or the headers of a preconfigured client.
impl fmt::Debug for Reqwest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Reqwest");
        for set in &self.options.set {
            debug.field(&set.setting.name, &format_args!("{}", set.setting.value));
        }
        debug.finish()
    }
}

fn show(duration: Option<Duration>) -> String {
    duration.map_or_else(|| "off".to_owned(), |duration| format!("{duration:?}"))
}
