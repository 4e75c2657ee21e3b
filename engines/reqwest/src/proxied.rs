//! A tunnel through an HTTP proxy for `ws`, which reqwest does not make: it sends whatever is not `https`
//! to a proxy in absolute form (RFC 6455 section 4.1 wants `CONNECT` here too). Everything else that goes
//! through a proxy is reqwest's own doing.

use std::time::Duration;

use bytes::Bytes;
use drivetrain_engine::{Body, Error, ErrorKind, Proxy, Result};
use http::{Method, Request, Uri, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::{Upgrade, dial::dial, driver::Driver, options::Options};

/// Opens a tunnel through the proxy to the host of this URI, within the limit, if there is one.
pub(crate) async fn tunnel(
    engine: &'static str,
    options: &Options,
    proxy: &Proxy,
    target: &Uri,
    limit: Option<Duration>,
) -> Result<Upgrade> {
    let opening = async {
        let address =
            Uri::try_from(format!("http://{}/", proxy.authority())).map_err(Error::other)?;
        let stream = dial(options, address).await.map_err(|error| {
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
