//! The innermost service: one call of the engine, for one request or handshake.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use drivetrain_engine::{
    Answer, Body, Capability, ConnectTimeout, Engine, Error, ErrorKind, Handshake, HandshakePhases,
    Result, UnixSocket,
};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use tower::Service;
use url::Url;

use super::{exchange, transfer_coding};
use crate::{
    capability::require,
    proxy::Proxies,
    target::{self, Target, UrlFragment},
};

/// Calls the engine: a request gives a response, a handshake a connection.
#[derive(Clone, Debug)]
pub(super) struct EngineService {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) connect_timeout: Option<ConnectTimeout>,
    pub(super) proxies: Arc<Proxies>,
    pub(super) unix_socket: Option<UnixSocket>,
}

impl Service<Request<Body>> for EngineService {
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

impl EngineService {
    async fn send(self, mut request: Request<Body>) -> Result<Response<Body>> {
        let is_handshake = Handshake::is_in(&request);
        self.prepare(&mut request, is_handshake)?;
        if !is_handshake {
            say_length(&mut request)?;
            let fragment = request.extensions().get::<UrlFragment>().cloned();
            let is_checked = transfer_coding::must_be_understood(&request);
            let mut response = exchange::execute(&*self.engine, request).await?;
            if is_checked {
                response = transfer_coding::understood(response);
            }
            if let Some(fragment) = fragment {
                fragment.passes(&mut response);
            }
            return Ok(response);
        }
        // Each attempt has a key of its own.
        let handshake = Handshake::try_from(request.map(drop))?.renewed()?;
        // A layer, the cookie jar, the 401 hook or a redirect may have added some.
        if !handshake.headers().is_empty() {
            require(&*self.engine, Capability::HandshakeHeaders)?;
        }
        match self.engine.connect(handshake).await? {
            Answer::Refused(response) => Ok(transfer_coding::understood(response)),
            Answer::Open(connection) => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                if let Some(head) = connection.response() {
                    *response.status_mut() = head.status();
                    *response.version_mut() = head.version();
                    *response.headers_mut() = head.headers().clone();
                    if let Some(phases) = head.extensions().get::<HandshakePhases>() {
                        response.extensions_mut().insert(*phases);
                    }
                }
                connection.attach(&mut response);
                Ok(response)
            }
        }
    }

    /// Checks the URI, which may come from a layer or from a redirect, and adds what the engine needs to know.
    fn prepare(&self, request: &mut Request<Body>, is_handshake: bool) -> Result<()> {
        target::is_for_origin(request.headers())?;
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
        if let Some(socket) = &self.unix_socket {
            request.extensions_mut().insert(socket.clone());
        }
        // Each redirect may lead to a URL for which another proxy, or none, is configured.
        if let Some(proxy) = self.proxies.proxy_for(request.uri())? {
            let proxy = proxy.clone();
            request.extensions_mut().insert(proxy);
        }
        Ok(())
    }
}

/// Refuses a `Content-Length` that is not the body's, and adds one where a server expects it.
fn say_length(request: &mut Request<Body>) -> Result<()> {
    let length = request.body().size_hint().exact();
    let said = request.headers().get_all(header::CONTENT_LENGTH).iter().collect::<Vec<_>>();
    if said.is_empty() {
        // RFC 9110 section 8.6: zero is sent, too, where the method expects a body.
        let expects_a_body = [Method::POST, Method::PUT, Method::PATCH].contains(request.method());
        let is_said_otherwise = request.headers().contains_key(header::TRANSFER_ENCODING);
        if expects_a_body && length == Some(0) && !is_said_otherwise {
            request.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(0));
        }
        return Ok(());
    }
    if request.headers().contains_key(header::TRANSFER_ENCODING) {
        return Err(invalid(
            "content-length cannot be sent beside transfer-encoding: leave it out",
        ));
    }
    let number = |value: &HeaderValue| value.to_str().ok()?.trim().parse::<u64>().ok();
    let [said] = said[..] else {
        return Err(invalid("content-length is set more than once: leave it out"));
    };
    match (number(said), length) {
        (None, _) => Err(invalid("content-length is not a number: leave it out")),
        (Some(said), Some(length)) if said != length => Err(invalid(format!(
            "content-length is {said}, and the body has {length} bytes: leave it out"
        ))),
        _ => Ok(()),
    }
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}
