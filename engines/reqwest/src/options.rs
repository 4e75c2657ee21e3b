//! What was set on a [`Reqwest`](crate::Reqwest).

use std::{sync::Arc, time::Duration};

use drivetrain_connect::{ConnectOptions, HttpConnector, TokioExecutor};
use drivetrain_engine::{HeadLimits, NativeSetting, Resolver};
use reqwest::{Client, ClientBuilder};

use crate::{host::Host, purpose::Purpose};

type Hook = Arc<dyn Fn(ClientBuilder) -> ClientBuilder + Send + Sync>;

/// How long a connection waits for another request, if nothing was set.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// What fits into hyper's buffer, whose size reqwest does not change.
pub(crate) const LARGEST_HEAD: usize = 384 << 10;

/// What is read of a head over HTTP/2. A larger one would cost the connection, and with it the other
/// requests, so that the limit itself is looked at later.
pub(crate) const READ_OVER_HTTP2: u32 = 1 << 20;

#[derive(Clone, Default)]
pub(crate) struct Options {
    pub(crate) preconfigured: Option<Client>,
    /// Outer `None`: not set.
    pub(crate) pool_idle_timeout: Option<Option<Duration>>,
    pub(crate) pool_max_idle_per_host: Option<usize>,
    pub(crate) http1_only: bool,
    pub(crate) http2_prior_knowledge: bool,
    pub(crate) web_socket_over_http2: bool,
    pub(crate) http2_keep_alive_interval: Option<Duration>,
    /// What dials for handshakes and tunnels, with the options that they share with requests.
    pub(crate) dialer: HttpConnector<TokioExecutor>,
    pub(crate) hooks: Vec<Hook>,
    /// What was set, in order, for `settings()` and `check()`.
    pub(crate) set: Vec<Set>,
}

/// An option that was set.
#[derive(Clone, Debug)]
pub(crate) struct Set {
    pub(crate) setting: NativeSetting,
    /// Whether handshakes use it as well.
    pub(crate) handshakes: bool,
}

impl Options {
    /// Changes the options that handshakes share.
    pub(crate) fn dial(&mut self, with: impl FnOnce(ConnectOptions) -> ConnectOptions) {
        self.dialer = std::mem::take(&mut self.dialer).map_options(with);
    }

    pub(crate) fn pool_idle_timeout(&self) -> Option<Duration> {
        self.pool_idle_timeout.unwrap_or(Some(POOL_IDLE_TIMEOUT))
    }

    pub(crate) fn limits(&self) -> HeadLimits {
        self.dialer.options().limits()
    }

    pub(crate) fn speaks_http1_alone(&self, purpose: &Purpose) -> bool {
        purpose.host == Host::Header || self.http1_only
    }

    /// In clear text, where nothing is negotiated.
    pub(crate) fn speaks_http2_alone(&self, purpose: &Purpose) -> bool {
        self.http2_prior_knowledge && !purpose.secure && !self.speaks_http1_alone(purpose)
    }

    /// What is offered to a server with TLS.
    pub(crate) fn alpn(&self, purpose: &Purpose) -> &'static [&'static str] {
        match self.speaks_http1_alone(purpose) {
            true => &["http/1.1"],
            false => &["h2", "http/1.1"],
        }
    }

    pub(crate) fn apply(&self, mut builder: ClientBuilder) -> ClientBuilder {
        let tcp = self.dialer.options().tcp();
        if let Some(most) = self.pool_max_idle_per_host {
            builder = builder.pool_max_idle_per_host(most);
        }
        if let Some(interval) = self.http2_keep_alive_interval {
            builder = builder.http2_keep_alive_interval(interval);
        }
        if let Some(after) = tcp.keepalive {
            builder = builder.tcp_keepalive(after);
            if after.is_none() {
                // Either of these alone switches the probes on, after the system's time.
                builder = builder
                    .tcp_keepalive_interval(None::<Duration>)
                    .tcp_keepalive_retries(None::<u32>);
            }
        }
        if let Some(resolver) = &tcp.resolver {
            builder = builder.dns_resolver(Dns(resolver.clone()));
        }
        for (host, addresses) in &tcp.resolve {
            builder = builder.resolve_to_addrs(host, addresses);
        }
        builder
            .pool_idle_timeout(self.pool_idle_timeout())
            .http1_title_case_headers()
            .http1_max_headers(self.limits().max_headers)
            .http1_allow_obsolete_multiline_headers_in_responses(true)
            .http1_ignore_invalid_headers_in_responses(true)
            .http2_max_header_list_size(READ_OVER_HTTP2)
            .local_address(tcp.local_address)
    }
}

/// A resolver as reqwest takes it.
struct Dns(Resolver);

impl reqwest::dns::Resolve for Dns {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let resolver = self.0.clone();
        Box::pin(async move {
            let addresses = resolver.resolve(name.as_str()).await?;
            Ok(Box::new(addresses.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_idle_timeout_is_documented_as_it_is() {
        let limit = Options::default().pool_idle_timeout().expect("a limit").as_secs();
        let says = format!("Default: {limit} s.\n    pub fn pool_idle_timeout(");
        assert!(include_str!("engine.rs").contains(&says), "it is not documented: {says}");
    }
}
