//! The cookies of each request and handshake, redirects included.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use drivetrain_engine::{Body, Error, Result};
use http::{Request, Response, header};
use tower::{Layer, Service};

use super::HttpService;
use crate::cookie_jar::{self, CookieJar};

pub(super) struct CookiesLayer(pub(super) CookieJar);

impl Layer<HttpService> for CookiesLayer {
    type Service = Cookies;

    fn layer(&self, inner: HttpService) -> Cookies {
        Cookies { inner, jar: self.0.clone() }
    }
}

/// Sends the jar's cookies and stores those of the response.
#[derive(Clone)]
pub(super) struct Cookies {
    inner: HttpService,
    jar: CookieJar,
}

impl Service<Request<Body>> for Cookies {
    type Response = Response<Body>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The engine service refuses a URI that is not valid here.
        let url = cookie_jar::cookie_url(&request.uri().to_string()).ok();
        if let (Some(url), false) = (&url, request.headers().contains_key(header::COOKIE)) {
            if let Some(value) = self.jar.header(url) {
                request.headers_mut().insert(header::COOKIE, value);
            }
        }
        let jar = self.jar.clone();
        let response = self.inner.call(request);
        Box::pin(async move {
            let response = response.await?;
            if let Some(url) = url {
                jar.store(&url, response.headers());
            }
            Ok(response)
        })
    }
}
