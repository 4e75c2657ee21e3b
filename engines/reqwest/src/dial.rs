//! Dials as reqwest does, for what reqwest does not dial.

use std::{
    error::Error as StdError,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
    vec,
};

use http::Uri;
use hyper_util::client::legacy::connect::{
    HttpConnector,
    dns::{GaiResolver, Name},
};
use tokio::net::TcpStream;
use tower_service::Service;

use crate::options::Options;

/// Connects to the host of this URI with reqwest's connector, its defaults, and the options that were set.
pub(crate) async fn dial(
    options: &Options,
    uri: Uri,
) -> Result<TcpStream, Box<dyn StdError + Send + Sync>> {
    /// reqwest's own defaults.
    const PROBES: Duration = Duration::from_secs(15);
    let mut connector = HttpConnector::new_with_resolver(Resolver(options.resolve.clone().into()));
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_local_address(options.local_address);
    connector.set_keepalive(options.tcp_keepalive.unwrap_or(Some(PROBES)));
    connector.set_keepalive_interval(Some(PROBES));
    connector.set_keepalive_retries(Some(3));
    #[cfg(target_os = "linux")]
    connector.set_tcp_user_timeout(Some(2 * PROBES));
    Ok(connector.call(uri).await?.into_inner())
}

/// The system's resolver, but for the names that `Reqwest::resolve` was given.
#[derive(Clone)]
struct Resolver(Arc<[(String, Vec<SocketAddr>)]>);

type Addresses = vec::IntoIter<SocketAddr>;

impl Service<Name> for Resolver {
    type Response = Addresses;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Addresses>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        // The one that was set last, as in reqwest.
        let given = self.0.iter().rev().find(|(host, _)| host.eq_ignore_ascii_case(name.as_str()));
        let given = given.map(|(_, addresses)| addresses.clone());
        Box::pin(async move {
            match given {
                Some(addresses) => Ok(addresses.into_iter()),
                None => {
                    let addresses = GaiResolver::new().call(name).await?;
                    Ok(addresses.collect::<Vec<_>>().into_iter())
                }
            }
        })
    }
}
