//! Asks for content codings (RFC 9110 section 8.4) and decodes them. Handshakes are left alone, as a 101 has no body.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use drivetrain_engine::{Body, Error, Handshake, Result};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use tower::{Layer, Service};

use super::{encodings::ENCODINGS, service::HttpService};

mod coding;
mod decoded;

use coding::Coding;
use decoded::Decoded;

pub(super) struct ForRequests;

impl Layer<HttpService> for ForRequests {
    type Service = Decompress;

    fn layer(&self, inner: HttpService) -> Decompress {
        Decompress { inner }
    }
}

#[derive(Clone)]
pub(super) struct Decompress {
    inner: HttpService,
}

impl Service<Request<Body>> for Decompress {
    type Response = Response<Body>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if Handshake::is_in(&request) || !ask(request.headers_mut()) {
            return self.inner.call(request);
        }
        let is_head = *request.method() == Method::HEAD;
        let response = self.inner.call(request);
        Box::pin(async move {
            let response = response.await?;
            match is_head || is_in_part(&response) {
                true => Ok(response),
                false => decoded(response),
            }
        })
    }
}

/// Asks for the known codings. Returns whether it did: not for a request with an `Accept-Encoding` of its own, and not
/// for a range, since a part of an encoded body cannot be decoded.
fn ask(headers: &mut HeaderMap) -> bool {
    if headers.contains_key(header::ACCEPT_ENCODING) {
        return false;
    }
    let is_for_part = headers.contains_key(header::RANGE);
    let codings = HeaderValue::from_static(if is_for_part { "identity" } else { ENCODINGS });
    headers.insert(header::ACCEPT_ENCODING, codings);
    !is_for_part
}

/// Whether the body is missing or partial: its headers then describe the whole representation.
fn is_in_part(response: &Response<Body>) -> bool {
    use StatusCode as Is;
    matches!(response.status(), Is::NO_CONTENT | Is::NOT_MODIFIED | Is::PARTIAL_CONTENT)
        || http_body::Body::is_end_stream(response.body())
}

/// The decoded response; unchanged if one of its codings is unknown.
fn decoded(response: Response<Body>) -> Result<Response<Body>> {
    let Some(codings) = coding::of(response.headers())? else { return Ok(response) };
    let (mut parts, mut body) = response.into_parts();
    // The last coding of the list was applied last (RFC 9110 section 8.4).
    for coding in codings.into_iter().rev() {
        body = Body::streaming(Decoded::new(body, coding));
    }
    parts.headers.remove(header::CONTENT_ENCODING);
    parts.headers.remove(header::CONTENT_LENGTH);
    Ok(Response::from_parts(parts, body))
}
