//! What was set on a [`Reqwest`], and what of it can never work.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use drivetrain_engine::{Error, ErrorKind, NativeSetting, Result, Support};
use reqwest::{Client, ClientBuilder};

#[cfg(feature = "rustls")]
use crate::over_http2;
use crate::{Reqwest, clients::Purpose, tls::Secure};

type Hook = Arc<dyn Fn(ClientBuilder) -> ClientBuilder + Send + Sync>;

#[derive(Clone, Default)]
pub(crate) struct Options {
    pub(crate) preconfigured: Option<Client>,
    pub(crate) pool_idle_timeout: Option<Option<Duration>>,
    pub(crate) pool_max_idle_per_host: Option<usize>,
    pub(crate) http1_only: bool,
    pub(crate) web_socket_over_http2: bool,
    pub(crate) http2_keep_alive_interval: Option<Duration>,
    pub(crate) local_address: Option<IpAddr>,
    pub(crate) tcp_keepalive: Option<Option<Duration>>,
    pub(crate) resolve: Vec<(String, Vec<SocketAddr>)>,
    pub(crate) secure: Secure,
    pub(crate) hooks: Vec<Hook>,
    /// What was set, in order, for `settings()` and `check()`.
    pub(crate) set: Vec<Set>,
}

/// An option that was set.
#[derive(Clone, Debug)]
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    /// Whether handshakes use it as well.
    pub(crate) handshakes: bool,
}

impl Options {
    pub(crate) fn apply(&self, mut builder: ClientBuilder) -> ClientBuilder {
        if let Some(limit) = self.pool_idle_timeout {
            builder = builder.pool_idle_timeout(limit);
        }
        if let Some(most) = self.pool_max_idle_per_host {
            builder = builder.pool_max_idle_per_host(most);
        }
        if let Some(interval) = self.http2_keep_alive_interval {
            builder = builder.http2_keep_alive_interval(interval);
        }
        if let Some(after) = self.tcp_keepalive {
            builder = builder.tcp_keepalive(after);
        }
        for (host, addresses) in &self.resolve {
            builder = builder.resolve_to_addrs(host, addresses);
        }
        builder.local_address(self.local_address)
    }
}

impl Reqwest {
    pub(crate) fn client(&self, engine: &'static str, purpose: Purpose) -> Result<Client> {
        self.clients.get(engine, &self.options, purpose)
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// Why a tunnel for `ws` cannot be made with these options, if so.
    pub(crate) fn no_tunnel(&self) -> Option<&'static str> {
        (!self.options.hooks.is_empty()).then_some(Self::HOOK_AND_TUNNEL)
    }

    pub(crate) fn preconfigured_client(&self) -> Option<&Client> {
        self.options.preconfigured.as_ref()
    }

    /// Refuses what can never work; `handshakes` says whether the engine opens WebSockets, for which
    /// options beside a preconfigured client have a meaning.
    pub(crate) fn check_options(&self, engine: &'static str, handshakes: bool) -> Result<()> {
        let dead = |set: &&Set| set.name != "preconfigured" && !(handshakes && set.handshakes);
        if self.options.preconfigured.is_some() {
            if let Some(set) = self.options.set.iter().find(dead) {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!(
                        "{} has no effect on the preconfigured client: set it on that client's \
                         builder",
                        set.name
                    ),
                )
                .with_engine(engine));
            }
        }
        self.check_http2(handshakes).map_err(|error| error.with_engine(engine))?;
        self.options.secure.check().map_err(|error| error.with_engine(engine))
    }

    fn check_http2(&self, handshakes: bool) -> Result<()> {
        if !self.options.web_socket_over_http2 {
            return Ok(());
        }
        #[cfg(feature = "native-tls")]
        let is_native = self.options.secure.is_native();
        #[cfg(not(feature = "native-tls"))]
        let is_native = false;
        let why = if !handshakes {
            "this engine opens no WebSockets: use Tungstenite or FastWebSockets"
        } else if !self.options.hooks.is_empty() {
            "a configure hook beside it would be lost: leave one of them out"
        } else if is_native {
            "it needs rustls: leave native_tls out"
        } else {
            return Ok(());
        };
        let message = format!("web_socket_over_http2 is not possible: {why}");
        Err(Error::new(ErrorKind::InvalidInput, message))
    }

    /// The connections for WebSockets over HTTP/2, if they are wanted.
    #[cfg(feature = "rustls")]
    pub(crate) fn http2_links(&self) -> Option<&over_http2::Links> {
        self.options.web_socket_over_http2.then_some(&*self.http2)
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
        let note = |set: &Set| match (set.name, handshakes, set.handshakes) {
            ("preconfigured", true, _) => {
                Some("serves HTTP only; handshakes use a client of the engine's own")
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
                let setting = NativeSetting::new(set.name, set.value.clone());
                match note(set) {
                    Some(note) => setting.with_note(note),
                    None => setting,
                }
            })
            .collect()
    }
}
