//! Repeating a request with new credentials after a 401.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use drivetrain_engine::{Body, Error, Result, redacted, redacted_uri};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use tower::{Layer, Service, ServiceExt as _};

use super::HttpService;

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

/// A request or a handshake that a server answered with 401, for
/// [`on_unauthorized`](crate::HttpClientBuilder::on_unauthorized).
#[derive(Clone)]
pub struct Unauthorized {
    uri: Uri,
    headers: HeaderMap,
    is_cross_origin: bool,
}

impl Unauthorized {
    /// The URI that answered with 401. The new credentials are sent there: check that the host may have them.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Whether a redirect has led the call to another origin. Always `false`
    /// unless [`Redirects::ask_unauthorized_across_origins`](crate::Redirects::ask_unauthorized_across_origins)
    /// is set.
    pub fn is_cross_origin(&self) -> bool {
        self.is_cross_origin
    }

    /// The headers of the 401, `WWW-Authenticate` among them.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }
}

impl fmt::Debug for Unauthorized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unauthorized")
            .field("uri", &redacted_uri(&self.uri))
            .field("is_cross_origin", &self.is_cross_origin)
            .field("headers", &redacted(&self.headers))
            .finish()
    }
}

/// Marks, in the extensions of a request, that a redirect has led it to another origin.
#[derive(Clone, Copy)]
pub(super) struct Elsewhere {
    pub(super) asks_hook: bool,
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
        let elsewhere = request.extensions().get::<Elsewhere>().copied();
        if elsewhere.is_some_and(|elsewhere| !elsewhere.asks_hook) {
            return self.inner.call(request);
        }
        let again = again(&request);
        let first = self.inner.call(request);
        let (inner, hook) = (self.inner.clone(), self.hook.clone());
        Box::pin(async move {
            let response = first.await?;
            let Some(mut again) = again.filter(|_| response.status() == StatusCode::UNAUTHORIZED)
            else {
                return Ok(response);
            };
            let unauthorized = Unauthorized {
                uri: again.uri().clone(),
                headers: response.headers().clone(),
                is_cross_origin: elsewhere.is_some(),
            };
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
