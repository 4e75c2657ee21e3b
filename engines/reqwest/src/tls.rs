//! The TLS of reqwest's clients.

#[cfg(any(feature = "rustls", feature = "native-tls"))]
use drivetrain_connect::TlsConnector;
use drivetrain_engine::Result;
#[cfg(any(feature = "rustls", feature = "native-tls"))]
use drivetrain_engine::{Proxy, ProxyScheme};
use reqwest::ClientBuilder;

use crate::{options::Options, purpose::Purpose};

/// Sets the TLS of a client. One that needs none gets TLS that trusts nobody, so that it works on a machine
/// without a CA store.
#[cfg_attr(
    not(any(feature = "rustls", feature = "native-tls")),
    allow(unused_variables, reason = "there is no TLS to set")
)]
pub(crate) fn apply(
    builder: ClientBuilder,
    options: &Options,
    purpose: &Purpose,
) -> Result<ClientBuilder> {
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    let builder = {
        let tls = options.dialer.options().tls();
        // With the host, or with the proxy on the way to it.
        let is_https = |proxy: &Proxy| proxy.scheme() == ProxyScheme::Https;
        let made = match purpose.secure || purpose.proxy.as_ref().is_some_and(is_https) {
            true => tls.connector(options.alpn(purpose))?,
            false => tls.trusting_nobody()?,
        };
        match made {
            #[cfg(feature = "rustls")]
            TlsConnector::Rustls(config) => {
                builder.tls_backend_preconfigured(std::sync::Arc::unwrap_or_clone(config))
            }
            #[cfg(feature = "native-tls")]
            TlsConnector::Native(connector) => builder.tls_backend_preconfigured(connector),
            _ => builder,
        }
    };
    Ok(builder)
}
