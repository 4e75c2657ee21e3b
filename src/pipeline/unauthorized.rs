//! The answer to a 401: new credentials, and the request once more.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use drivetrain_engine::{Body, Error, Result, redacted};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use tower::{Layer, Service, ServiceExt as _};

use super::HttpService;
use crate::target;

type Renewal = Pin<Box<dyn Future<Output = Result<Option<HeaderValue>>> + Send>>;

/// The user's hook.
#[derive(Clone)]
pub(crate) struct Hook(Arc<dyn Fn(Unauthorized) -> Renewal + Send + Sync>);

impl Hook {
    pub(crate) fn new<F, Fut>(hook: F) -> Self
    where
        F: Fn(Unauthorized) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<HeaderValue>>> + Send + 'static,
    {
        Self(Arc::new(move |unauthorized| Box::pin(hook(unauthorized))))
    }
}

/// A request or a handshake that a server answered with 401: what
/// [`on_unauthorized`](crate::HttpClientBuilder::on_unauthorized) is given.
#[derive(Clone)]
pub struct Unauthorized {
    uri: Uri,
    headers: HeaderMap,
}

impl Unauthorized {
    /// Where the request was sent. New credentials are sent there again: check that the host is the one that
    /// they are for, since a redirect may have led elsewhere.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The headers of the 401, `WWW-Authenticate` among them.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }
}

impl fmt::Debug for Unauthorized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unauthorized")
            .field("uri", &target::redacted(&self.uri))
            .field("headers", &redacted(&self.headers))
            .finish()
    }
}

pub(super) struct UnauthorizedLayer(pub(super) Hook);

impl Layer<HttpService> for UnauthorizedLayer {
    type Service = Reauthorize;

    fn layer(&self, inner: HttpService) -> Reauthorize {
        Reauthorize { inner, hook: self.0.clone() }
    }
}

/// Repeats a request that was answered with 401, once.
#[derive(Clone)]
pub(super) struct Reauthorize {
    inner: HttpService,
    hook: Hook,
}

impl Service<Request<Body>> for Reauthorize {
    type Response = Response<Body>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let again = again(&request);
        let first = self.inner.call(request);
        let (inner, hook) = (self.inner.clone(), self.hook.clone());
        Box::pin(async move {
            let response = first.await?;
            let Some(mut again) = again.filter(|_| response.status() == StatusCode::UNAUTHORIZED)
            else {
                return Ok(response);
            };
            let unauthorized =
                Unauthorized { uri: again.uri().clone(), headers: response.headers().clone() };
            let Some(mut authorization) = (hook.0)(unauthorized).await? else {
                return Ok(response);
            };
            drop(response);
            authorization.set_sensitive(true);
            again.headers_mut().insert(header::AUTHORIZATION, authorization);
            inner.oneshot(again).await
        })
    }
}

/// The same request again, unless its body streams.
fn again(request: &Request<Body>) -> Option<Request<Body>> {
    let mut again = Request::new(request.body().try_clone()?);
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.version_mut() = request.version();
    *again.headers_mut() = request.headers().clone();
    *again.extensions_mut() = request.extensions().clone();
    Some(again)
}
