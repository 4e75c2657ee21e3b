//! A tunnel through an HTTP proxy for `ws`, which reqwest does not make: it sends whatever is not `https`
//! to a proxy in absolute form (RFC 6455 section 4.1 wants `CONNECT` here too). Everything else that goes
//! through a proxy is reqwest's own doing.

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

use bytes::Bytes;
use drivetrain_engine::{Body, Error, ErrorKind, Proxy, Result};
use http::{Method, Request, Uri, header};
use hyper::client::conn::http1;
use hyper_util::{
    client::legacy::connect::{
        HttpConnector,
        dns::{GaiResolver, Name},
    },
    rt::TokioIo,
};
use tokio::net::TcpStream;
use tower_service::Service;

use crate::{Options, Upgrade, driver::Driver};

/// Opens a tunnel through the proxy to the host of this URI, within the limit, if there is one.
pub(crate) async fn tunnel(
    engine: &'static str,
    options: &Options,
    proxy: &Proxy,
    target: &Uri,
    limit: Option<Duration>,
) -> Result<Upgrade> {
    let opening = async {
        let stream = dial(options, proxy).await.map_err(|error| {
            let message = format!("cannot connect to the proxy {}", proxy.authority());
            Error::new(ErrorKind::Connect, message).with_source(error)
        })?;
        connect(stream, proxy, target).await
    };
    let opened = match limit {
        None => opening.await,
        Some(limit) => tokio::time::timeout(limit, opening).await.unwrap_or_else(|_| {
            let message =
                format!("connecting through the proxy {} took too long", proxy.authority());
            Err(Error::new(ErrorKind::Timeout, message))
        }),
    };
    opened.map_err(|error| error.with_engine(engine))
}

/// The proxy as reqwest takes it.
pub(crate) fn for_reqwest(proxy: &Proxy) -> reqwest::Result<reqwest::Proxy> {
    let made = reqwest::Proxy::all(proxy.to_string())?;
    Ok(match proxy.credentials() {
        Some((user, password)) => made.basic_auth(user, password),
        None => made,
    })
}

/// Dials as reqwest does: with its connector, its defaults, and the options that were set.
async fn dial(
    options: &Options,
    proxy: &Proxy,
) -> Result<TcpStream, Box<dyn StdError + Send + Sync>> {
    /// reqwest's own defaults.
    const PROBES: Duration = Duration::from_secs(15);
    let mut connector = HttpConnector::new_with_resolver(Resolver(options.resolve.clone().into()));
    connector.set_nodelay(true);
    connector.set_local_address(options.local_address);
    connector.set_keepalive(options.tcp_keepalive.unwrap_or(Some(PROBES)));
    connector.set_keepalive_interval(Some(PROBES));
    connector.set_keepalive_retries(Some(3));
    #[cfg(target_os = "linux")]
    connector.set_tcp_user_timeout(Some(2 * PROBES));
    let uri = Uri::try_from(format!("http://{}/", proxy.authority()))?;
    Ok(connector.call(uri).await?.into_inner())
}

/// Asks for the tunnel (RFC 9110 section 9.3.6).
async fn connect(stream: TcpStream, proxy: &Proxy, target: &Uri) -> Result<Upgrade> {
    let name = proxy.authority();
    let failed = |error: hyper::Error| {
        let message = match error.is_parse() {
            true => format!("the answer of the proxy {name} is not HTTP"),
            false => format!("the proxy {name} ended the connection before the tunnel was open"),
        };
        Error::new(ErrorKind::Connect, message).with_source(error)
    };
    let (mut sender, connection) =
        http1::handshake::<_, Body>(TokioIo::new(stream)).await.map_err(failed)?;
    let mut driver = Driver::Running(Box::pin(connection.with_upgrades()));
    let mut response = match driver.until(sender.send_request(request(proxy, target)?)).await {
        Ok(response) => response,
        Err(error) => return Err(failed(driver.take_error().unwrap_or(error))),
    };
    if !response.status().is_success() {
        let message = format!("the proxy {name} refused the tunnel with {}", response.status());
        let head = response.map(|_| Bytes::new());
        return Err(Error::new(ErrorKind::Connect, message).with_response(head));
    }
    let upgrade = hyper::upgrade::on(&mut response);
    driver.until(upgrade).await.map(Upgrade::from).map_err(failed)
}

fn request(proxy: &Proxy, target: &Uri) -> Result<Request<Body>> {
    let authority =
        format!("{}:{}", target.host().unwrap_or_default(), target.port_u16().unwrap_or(80));
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(authority.as_str())
        .header(header::HOST, authority.as_str());
    if let Some(credentials) = proxy.authorization() {
        request = request.header(header::PROXY_AUTHORIZATION, credentials);
    }
    request.body(Body::empty()).map_err(|error| {
        let message = "the URL's host cannot be asked of a proxy";
        Error::new(ErrorKind::InvalidInput, message).with_source(error)
    })
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
