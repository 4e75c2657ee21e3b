//! Decompression of responses, with tower-http's service. Handshakes pass it by: a 101 has no body.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use drivetrain_engine::{Body, Error, Handshake, Result};
use http::{Request, Response};
use tower::{Layer, Service};
use tower_http::decompression::DecompressionLayer;

use super::{HttpService, service::erase};

pub(super) struct ForRequests;

impl Layer<HttpService> for ForRequests {
    type Service = Decompress;

    fn layer(&self, inner: HttpService) -> Decompress {
        let decompressing = erase(DecompressionLayer::new().layer(inner.clone()));
        Decompress { inner, decompressing }
    }
}

#[derive(Clone)]
pub(super) struct Decompress {
    inner: HttpService,
    decompressing: HttpService,
}

impl Service<Request<Body>> for Decompress {
    type Response = Response<Body>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match Handshake::is_in(&request) {
            true => self.inner.call(request),
            false => self.decompressing.call(request),
        }
    }
}
