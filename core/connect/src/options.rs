//! How connections are opened: one set of options for every runtime.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use drivetrain_engine::{HeadLimits, NativeSetting, Resolver, Result};

use crate::{pool, tls::TlsOptions};

/// The options of [`ConnectOptions`], each once: its documentation, its arguments, what it sets, and the value that
/// [`ConnectOptions::settings`] shows. They come in groups, as not each engine has all of them.
///
/// `own` writes the methods of [`ConnectOptions`]. `forward` writes methods of the same names for a type that has
/// `fn map_options(self, with: impl FnOnce(ConnectOptions) -> ConnectOptions) -> Self`.
#[doc(hidden)]
#[macro_export]
macro_rules! connect_options {
    ($mode:ident head $($for:ty)?) => {
        $crate::connect_options! { @$mode [$($for)?] options
            /// Refuses answers with more header fields than this. Default: that of
            /// [`HeadLimits`](drivetrain_engine::HeadLimits).
            fn max_headers(most: usize) {
                options.limits.max_headers = most;
                most
            }

            /// Refuses answers whose headers, names and values together, have more bytes than this. Default: that of
            /// [`HeadLimits`](drivetrain_engine::HeadLimits).
            fn max_header_size(bytes: usize) {
                options.limits.max_header_size = bytes;
                bytes
            }
        }
    };
    ($mode:ident dial $($for:ty)?) => {
        $crate::connect_options! { @$mode [$($for)?] options
            /// Dials from this address of the machine's, and hosts of its family alone. Default: the system chooses.
            fn local_address(address: ::core::net::IpAddr) {
                options.tcp.local_address = Some(address);
                address
            }

            /// Sends TCP keepalive probes after this much silence; `None` sends none. Default: 15 s.
            fn tcp_keepalive(
                after: impl ::core::convert::Into<::core::option::Option<::core::time::Duration>>,
            ) {
                let after = after.into();
                options.tcp.keepalive = Some(after);
                show(after)
            }

            /// Dials these addresses for this host name, without asking DNS. A port of zero is the URL's, and a port
            /// in the URL is used in any case. Default: none.
            fn resolve(
                host: impl ::core::convert::Into<::std::string::String>,
                addresses: impl ::core::iter::IntoIterator<Item = ::core::net::SocketAddr>,
            ) {
                let (host, addresses) = (host.into(), addresses.into_iter().collect::<Vec<_>>());
                let value = format!("{host} to {addresses:?}");
                options.tcp.resolve.push((host, addresses));
                value
            }

            /// Resolves host names by this function, where [`resolve`](Self::resolve) has no addresses. Default: the
            /// system's resolver.
            fn resolver(resolver: $crate::drivetrain_engine::Resolver) {
                options.tcp.resolver = Some(resolver);
                "a function"
            }
        }
    };
    ($mode:ident pool $($for:ty)?) => {
        $crate::connect_options! { @$mode [$($for)?] options
            /// Closes an HTTP connection that has been idle for this long, when the next request comes or ends;
            /// `None` keeps it. Default: 30 s.
            fn pool_idle_timeout(
                limit: impl ::core::convert::Into<::core::option::Option<::core::time::Duration>>,
            ) {
                options.pool.idle_timeout = limit.into();
                show(options.pool.idle_timeout)
            }

            /// Keeps this many idle HTTP connections a host at most, and 1024 for all of them; zero reuses none.
            /// Default: 32.
            fn pool_max_idle_per_host(most: usize) {
                options.pool.max_idle_per_host = most;
                most
            }
        }
    };
    ($mode:ident tls $($for:ty)?) => {
        $crate::connect_options! { @$mode [$($for)?] options
            /// Trusts the certificates in `pem`, which may be a bundle, as well as the system's. Default: none.
            ///
            /// Certificates that cannot be read are refused when the client is built.
            fn root_certificate_pem(pem: impl AsRef<[u8]>) {
                options.tls.root_certificate_pem(pem.as_ref());
                format!("{} bytes", pem.as_ref().len())
            }

            /// Trusts the root certificates that were given, and not the system's. Default: both.
            fn only_these_roots() {
                options.tls.only_these_roots();
                true
            }

            /// Refuses servers that only speak an older TLS. Default:
            /// [`TlsVersion::V1_2`](drivetrain_engine::TlsVersion::V1_2) with rustls, the library's own with
            /// native-tls.
            fn min_tls_version(version: $crate::drivetrain_engine::TlsVersion) {
                options.tls.min_version(version);
                version
            }

            /// **Accepts any certificate of a server, for any name: an attacker in between can read and change
            /// everything.** For tests alone. Default: certificates are verified. Roots cannot be set beside it.
            fn danger_accept_any_certificate() {
                options.tls.danger_accept_any_certificate();
                "true: NO VERIFICATION"
            }

            /// Presents this certificate to a server that asks for one. Default: none.
            ///
            /// `chain_and_key` is one PEM text with the chain, leaf first, and the private key, not encrypted; with
            /// native-tls the key is PKCS#8. A text that cannot be read is refused when the client is built.
            fn client_certificate_pem(chain_and_key: impl AsRef<[u8]>) {
                options.tls.client_certificate_pem(chain_and_key.as_ref());
                "set"
            }
        }
    };
    ($mode:ident rustls $($for:ty)?) => {
        $crate::connect_options! { @$mode [$($for)?] options
            /// Trusts the certificate in `der` as well as the system's. Default: none.
            ///
            /// A certificate that cannot be read is refused when the client is built.
            fn root_certificate_der(der: impl AsRef<[u8]>) {
                let value = format!("{} bytes", der.as_ref().len());
                options.tls.set_of_rustls("root_certificate_der", |tls| tls.root_certificate_der(der));
                value
            }

            /// Uses this configuration of rustls, with its own provider, roots and client certificate; only its ALPN
            /// list is overwritten. Default: none. The other TLS options cannot be set beside it.
            fn rustls_config(config: ::std::sync::Arc<$crate::rustls::ClientConfig>) {
                options.tls.set_of_rustls("rustls_config", |tls| tls.preconfigured(config));
                "a rustls::ClientConfig"
            }
        }
    };
    ($mode:ident native_tls $($for:ty)?) => {
        $crate::connect_options! { @$mode [$($for)?] options
            /// Uses the system's TLS library. Default: rustls, if this build has it.
            ///
            /// The library takes an end without a `close_notify` for a clean one, and closing sends a `close_notify`
            /// without ending the socket's writing direction, which is done when the connection is dropped.
            fn native_tls() {
                options.tls.use_native();
                true
            }
        }
    };
    (@own [] $options:ident $(
        $(#[$attribute:meta])*
        fn $option:ident($($argument:ident: $type:ty),* $(,)?) $set:block
    )+) => {
        impl ConnectOptions {
            $(
                $(#[$attribute])*
                #[must_use]
                pub fn $option(mut self, $($argument: $type),*) -> Self {
                    let $options = &mut self;
                    let value = $set;
                    self.note(stringify!($option), value)
                }
            )+
        }
    };
    (@forward [$for:ty] $options:ident $(
        $(#[$attribute:meta])*
        fn $option:ident($($argument:ident: $type:ty),* $(,)?) $set:block
    )+) => {
        impl $for {
            $(
                $(#[$attribute])*
                #[must_use]
                pub fn $option(self, $($argument: $type),*) -> Self {
                    self.map_options(|options| options.$option($($argument),*))
                }
            )+
        }
    };
}

/// How connections are opened and kept, and what is read of an answer's head. The value is the configuration: nothing
/// is read or dialled, and no setter fails; [`check`](Self::check) reports mistakes. Of two calls that set the same
/// thing the later wins.
///
/// ```
/// use std::time::Duration;
/// use drivetrain_connect::ConnectOptions;
///
/// let options = ConnectOptions::new()
///     .tcp_keepalive(Duration::from_secs(60))
///     .resolve("api.test", [([127, 0, 0, 1], 8080).into()]);
/// assert!(options.check().is_ok());
/// ```
#[derive(Clone, Default)]
pub struct ConnectOptions {
    pub(crate) tls: TlsOptions,
    pub(crate) limits: HeadLimits,
    pub(crate) pool: pool::PoolLimits,
    pub(crate) tcp: TcpOptions,
    #[cfg(feature = "http2")]
    pub(crate) http2: Http2,
    /// What was set, in order; never a key.
    set: Vec<NativeSetting>,
}

/// How TCP connections are opened, as it was set on [`ConnectOptions`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TcpOptions {
    /// The address to dial from.
    pub local_address: Option<IpAddr>,
    /// When keepalive probes begin; outer `None`: not set, inner `None`: none.
    pub keepalive: Option<Option<Duration>>,
    /// The addresses of host names; the last entry for a name counts.
    pub resolve: Vec<(String, Vec<SocketAddr>)>,
    /// What resolves host names that are not in [`resolve`](Self::resolve); `None`: the system.
    pub resolver: Option<Resolver>,
}

/// WebSockets over HTTP/2.
#[cfg(feature = "http2")]
#[derive(Clone, Default)]
pub(crate) struct Http2 {
    pub(crate) is_on: bool,
    pub(crate) prior_knowledge: bool,
    pub(crate) keep_alive_interval: Option<Duration>,
}

impl ConnectOptions {
    /// The defaults of each option: the system's CA certificates, and no client certificate.
    pub fn new() -> Self {
        Self::default()
    }

    /// The limits for the head of an answer.
    pub fn limits(&self) -> HeadLimits {
        self.limits
    }

    /// TLS as it was set.
    pub fn tls(&self) -> &TlsOptions {
        &self.tls
    }

    /// How TCP connections are opened.
    pub fn tcp(&self) -> &TcpOptions {
        &self.tcp
    }

    /// The options that were set, in order, for the user to read; never a key.
    pub fn settings(&self) -> &[NativeSetting] {
        &self.set
    }

    /// Refuses options that can never work. No I/O.
    ///
    /// # Errors
    /// [`InvalidInput`](drivetrain_engine::ErrorKind::InvalidInput), saying which option and what would be right.
    pub fn check(&self) -> Result<()> {
        self.tls.check().and_then(|()| self.limits.check())
    }

    fn note(mut self, name: &'static str, value: impl ToString) -> Self {
        self.set.push(NativeSetting::new(name, value.to_string()));
        self
    }
}

connect_options!(own head);
connect_options!(own dial);
connect_options!(own pool);
#[cfg(any(feature = "rustls", feature = "native-tls"))]
connect_options!(own tls);
#[cfg(feature = "rustls")]
connect_options!(own rustls);

#[cfg(feature = "native-tls")]
connect_options!(own native_tls);

/// WebSockets over HTTP/2 (RFC 8441), on tokio with rustls.
#[cfg(feature = "http2")]
impl ConnectOptions {
    /// Opens `wss` over HTTP/2 where the server allows it: the sockets of one host share one connection, which is
    /// closed with the last of them. Default: off.
    #[must_use]
    pub fn web_socket_over_http2(mut self) -> Self {
        self.http2.is_on = true;
        self.note("web_socket_over_http2", true)
    }

    /// Opens `ws` over HTTP/2 in clear text too, to servers that are known to speak it (RFC 9113 section 3.3).
    /// Default: HTTP/1.1.
    #[must_use]
    pub fn http2_prior_knowledge(mut self) -> Self {
        self.http2.prior_knowledge = true;
        self.note("http2_prior_knowledge", true)
    }

    /// Pings an HTTP/2 connection this often, and gives it up when the answer takes longer than 20 s. Default: off.
    #[must_use]
    pub fn http2_keep_alive_interval(mut self, interval: Duration) -> Self {
        self.http2.keep_alive_interval = Some(interval);
        self.note("http2_keep_alive_interval", show(Some(interval)))
    }
}

/// Prints what was set, never certificates or keys.
impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("ConnectOptions");
        for set in &self.set {
            debug.field(&set.name, &format_args!("{}", set.value));
        }
        debug.finish()
    }
}

fn show(duration: Option<Duration>) -> String {
    duration.map_or_else(|| "off".to_owned(), |duration| format!("{duration:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dial::{ATTEMPT_DELAY, PROBES};

    /// The text of comments and code, without its line breaks.
    fn flat(source: &str) -> String {
        let words = source.split_whitespace().filter(|word| !["///", "//!"].contains(word));
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn defaults_are_documented_as_they_are() {
        let pool::PoolLimits { idle_timeout, max_idle_per_host } = pool::PoolLimits::default();
        let idle = idle_timeout.expect("a limit").as_secs();
        let (most, probes) = (pool::MOST, PROBES.as_secs());
        let options = flat(include_str!("options.rs"));
        for says in [
            format!("Default: {idle} s. fn pool_idle_timeout("),
            format!("Default: {max_idle_per_host}. fn pool_max_idle_per_host("),
            format!(", and {most} for all of them;"),
            format!("Default: {probes} s. fn tcp_keepalive("),
        ] {
            assert!(options.contains(&says), "it is not documented: {says}");
        }
        let page = flat(include_str!("lib.rs"));
        for says in [
            format!("Up to {max_idle_per_host} connections wait"),
            format!("to their host, {idle} s each;"),
            format!("has not answered for {} ms (", ATTEMPT_DELAY.as_millis()),
        ] {
            assert!(page.contains(&says), "it is not documented: {says}");
        }
    }
}
