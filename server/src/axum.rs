//! Extractor and handlers for axum, on axum-core alone.

use std::{
    future::{self, Future, Ready},
    mem,
};

use axum_core::{
    body::Body,
    extract::{FromRef, FromRequestParts},
    response::{IntoResponse, Response},
};
use drivetrain_engine::Result;
use drivetrain_session::{RawSession, Session};
use http::{Request, request::Parts};

use crate::{refusal::Refusal, upgrade::WebSocketUpgrade, upgrader::Upgrader};

/// A handler for a route that opens WebSockets: `any(web_socket(async |session| { … }))`. The router's state is the
/// [`Upgrader`], or has one ([`FromRef`]); one in the request's extensions comes first, such as by a layer for one route.
///
/// Use `any` rather than `get`: HTTP/2 opens WebSockets with CONNECT, and `get` would serve HEAD. For how `handler` ends,
/// see [`WebSocketUpgrade::run`]; with extractors beside the session, use [`WebSocketUpgrade`] as the last one but the body.
pub fn web_socket<F, Fut>(
    handler: F,
) -> impl Fn(WebSocketUpgrade) -> Ready<Response> + Clone + Send + Sync + 'static
where
    F: Fn(Session) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    move |upgrade: WebSocketUpgrade| future::ready(upgrade.run(handler.clone()).map(Body::new))
}

/// The same for raw sessions: see [`WebSocketUpgrade::run_raw`].
pub fn raw_web_socket<F, Fut>(
    handler: F,
) -> impl Fn(WebSocketUpgrade) -> Ready<Response> + Clone + Send + Sync + 'static
where
    F: Fn(RawSession) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    move |upgrade: WebSocketUpgrade| future::ready(upgrade.run_raw(handler.clone()).map(Body::new))
}

/// Checks the request; the rejection is the [`Refusal`], which `Result<WebSocketUpgrade, Refusal>` shows to the handler.
impl<S> FromRequestParts<S> for WebSocketUpgrade
where
    S: Send + Sync,
    Upgrader: FromRef<S>,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let upgrader = parts.extensions.get::<Upgrader>().cloned();
        let upgrader = upgrader.unwrap_or_else(|| Upgrader::from_ref(state));
        let (mut own, ()) = Request::new(()).into_parts();
        mem::swap(&mut own, parts);
        let mut request = Request::from_parts(own, ());
        let upgrade = upgrader.upgrade(&mut request);
        *parts = request.into_parts().0;
        upgrade
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.response().map(Body::new)
    }
}
