//! The innermost service: one hop, by the engine.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use drivetrain_engine::{
    Answer, Body, Capability, ConnectTimeout, Engine, Error, Handshake, Result,
};
use http::{Request, Response, StatusCode};
use tower::Service;
use url::Url;

use crate::{
    Proxies,
    options::require,
    target::{self, Target},
};

/// Asks the engine, for a response or for a connection.
#[derive(Clone, Debug)]
pub(super) struct Hop {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) connect_timeout: Option<ConnectTimeout>,
    pub(super) proxies: Arc<Proxies>,
}

impl Service<Request<Body>> for Hop {
    type Response = Response<Body>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}

impl Hop {
    async fn send(self, mut request: Request<Body>) -> Result<Response<Body>> {
        let is_handshake = Handshake::is_in(&request);
        self.prepare(&mut request, is_handshake)?;
        if !is_handshake {
            return self.engine.execute(request).await;
        }
        // Each attempt has a key of its own.
        let handshake = Handshake::try_from(request.map(drop))?.renewed()?;
        match self.engine.connect(handshake).await? {
            Answer::Refused(response) => Ok(response),
            Answer::Open(connection) => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                if let Some(head) = connection.response() {
                    *response.status_mut() = head.status();
                    *response.version_mut() = head.version();
                    *response.headers_mut() = head.headers().clone();
                }
                connection.attach(&mut response);
                Ok(response)
            }
        }
    }

    /// The URI of this hop may come from a layer or from a server: it is looked at here, once for all.
    fn prepare(&self, request: &mut Request<Body>, is_handshake: bool) -> Result<()> {
        let uri = request.uri();
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        let has_userinfo =
            uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        if !is_http || has_userinfo {
            let url: Url = target::parse(&uri.to_string(), None)?;
            let Target { uri, authorization, .. } = match is_handshake {
                true => Target::for_web_socket(url)?,
                false => Target::for_request(url)?,
            };
            *request.uri_mut() = uri;
            Target::authorize(authorization, request.headers_mut());
        }
        if request.uri().scheme_str() == Some("https") {
            require(&*self.engine, Capability::Tls)?;
        }
        if let Some(timeout) = self.connect_timeout {
            request.extensions_mut().insert(timeout);
        }
        // By the URI of this hop: a redirect may lead to where another proxy, or none, is to be used.
        if let Some(proxy) = self.proxies.proxy_for(request.uri()) {
            let proxy = proxy.clone();
            request.extensions_mut().insert(proxy);
        }
        Ok(())
    }
}
