//! HTTP requests, and what a request and a handshake have in common.

use std::time::Duration;

use drivetrain_engine::{
    Body, Capability, ConnectTimeout, Engine as _, Error, ErrorKind, Proxy, ProxyScheme, Result,
    Support,
};
use http::{Request, Response, Uri};

use crate::{
    Reqwest,
    clients::Purpose,
    map::{self, During},
    runtime::{self, Within},
};

/// [`Hop::execute`], for the engine of this name.
pub(crate) async fn execute(
    engine: &'static str,
    http: &Reqwest,
    request: Request<Body>,
) -> Result<Response<Body>> {
    let handle = runtime::current(engine)?;
    let exchange = async {
        let uri = request.uri().clone();
        let secure = is_secure(engine, http, &uri)?;
        let connect_timeout = timeout(request.extensions());
        let proxy = request.extensions().get::<Proxy>().cloned();
        let client = match http.preconfigured_client() {
            Some(client) => {
                for (capability, is_asked_for) in [
                    (Capability::ConnectTimeout, connect_timeout.is_some()),
                    (Capability::Proxies, proxy.as_ref().is_some_and(is_http)),
                    (Capability::SocksProxies, proxy.is_some()),
                ] {
                    if let (true, Support::Missing(reason)) =
                        (is_asked_for, http.support(capability))
                    {
                        return Err(Error::unsupported(engine, capability, &reason));
                    }
                }
                client.clone()
            }
            None => {
                let proxy = proxy.clone();
                http.client(engine, Purpose { handshake: false, secure, connect_timeout, proxy })?
            }
        };
        let by = proxy.as_ref();
        let failed = |error| map::failed(engine, During::Request, Some(&uri), by, error);
        let request = reqwest::Request::try_from(request.map(map::request_body)).map_err(failed)?;
        let response = client.execute(request).await.map_err(failed)?;
        Ok(map::response(engine, &handle, response.into()))
    };
    Within::new(handle.clone(), exchange).await
}

/// Whether the URI is one for TLS; refuses what cannot be reached before anything is dialled.
pub(crate) fn is_secure(engine: &'static str, http: &Reqwest, uri: &Uri) -> Result<bool> {
    let invalid =
        |message: String| Err(Error::new(ErrorKind::InvalidInput, message).with_engine(engine));
    if uri.host().is_none_or(str::is_empty) {
        return invalid("the URL has no host".into());
    }
    match uri.scheme_str() {
        Some("http") => Ok(false),
        Some("https") => match http.support(Capability::Tls) {
            Support::Offered => Ok(true),
            Support::Missing(why) => Err(Error::unsupported(engine, Capability::Tls, &why)),
        },
        Some(other) => invalid(format!("scheme `{other}` is not one for HTTP: use http or https")),
        None => invalid("the URL has no scheme: use http:// or https://".into()),
    }
}

pub(crate) fn is_http(proxy: &Proxy) -> bool {
    proxy.scheme() == ProxyScheme::Http
}

pub(crate) fn timeout(extensions: &http::Extensions) -> Option<Duration> {
    extensions.get::<ConnectTimeout>().map(|limit| limit.0)
}
