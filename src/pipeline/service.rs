//! The type of all services in the stack, and the conversion of any service into it.

use std::{
    any::Any,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use drivetrain_engine::{Body, Error, Result};
use http::{Request, Response};
use tower::{Service, ServiceExt as _, util::BoxCloneSyncService};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The services between a [`layer`](crate::HttpClientBuilder::layer) and the engine, as one [`tower::Service`].
///
/// A handshake is a request: a GET with `Upgrade: websocket`. The response to an accepted handshake has status 101 and
/// carries the open connection in its extensions. A layer that returns another response instead closes the
/// connection.
///
/// ```
/// use drivetrain::{Body, Error, HttpService, http};
///
/// // The bounds that a layer may rely on:
/// fn is_a_service<S: tower::Service<
///     http::Request<Body>,
///     Response = http::Response<Body>,
///     Error = Error,
/// > + Clone>() {}
/// is_a_service::<HttpService>();
/// ```
#[derive(Clone)]
pub struct HttpService(BoxCloneSyncService<Request<Body>, Response<Body>, Error>);

impl HttpService {
    pub(super) fn new<S>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Error>,
        S: Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        Self(BoxCloneSyncService::new(service))
    }
}

impl Service<Request<Body>> for HttpService {
    type Response = Response<Body>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.call(request)
    }
}

impl fmt::Debug for HttpService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpService").finish_non_exhaustive()
    }
}

/// Makes any service one of the stack.
pub(crate) fn erase<S, B>(service: S) -> HttpService
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    HttpService::new(service.map_response(|response| response.map(body)).map_err(
        |error: S::Error| match error.into().downcast::<Error>() {
            Ok(error) => *error,
            Err(error) => Error::other(error),
        },
    ))
}

/// Converts a body; one that has the stack's type already is not wrapped.
fn body<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let mut slot = Some(body);
    if let Some(body) = (&mut slot as &mut dyn Any).downcast_mut::<Option<Body>>() {
        return body.take().unwrap_or_default();
    }
    slot.map_or_else(Body::empty, Body::streaming)
}
