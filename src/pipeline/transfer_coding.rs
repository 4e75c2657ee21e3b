//! Transfer codings (RFC 9112 section 7): no engine asks for one, and none decodes another than `chunked`.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use drivetrain_engine::{Body, Error, ErrorKind, Result};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body::{Body as _, Frame};

/// Whether the response has a body that the caller does not decode: a `TE` asks for transfer codings.
pub(super) fn must_be_understood<B>(request: &Request<B>) -> bool {
    request.method() != Method::HEAD && !request.headers().contains_key(header::TE)
}

/// The response, whose body is an error if it is in a transfer coding that was not asked for: the engine has not decoded
/// it, and nothing above expects a coding that belongs to the connection. The head stays.
pub(super) fn understood(response: Response<Body>) -> Response<Body> {
    let has_none = matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || response.body().is_end_stream();
    if has_none || are_understood(response.headers()) {
        return response;
    }
    let (parts, body) = response.into_parts();
    // What is on the way is of no use, nor is its connection.
    drop(body);
    let codings = parts.headers.get_all(header::TRANSFER_ENCODING).iter();
    let codings: Vec<_> = codings.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    let message = format!(
        "the body has the transfer coding `{}`, which was not asked for",
        codings.join(", ").escape_debug()
    );
    let body = Body::streaming(Unreadable(Some(Error::new(ErrorKind::Protocol, message))));
    Response::from_parts(parts, body)
}

/// Nothing but `chunked`, once. `identity`, of RFC 2616, is no coding.
fn are_understood(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::TRANSFER_ENCODING).iter();
    let codings = lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"));
    let codings: Vec<_> = codings.take(2).collect();
    match codings[..] {
        [] => true,
        [coding] => coding.eq_ignore_ascii_case(b"chunked"),
        _ => false,
    }
}

/// A body that is an error, once.
struct Unreadable(Option<Error>);

impl http_body::Body for Unreadable {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>>>> {
        Poll::Ready(self.0.take().map(Err))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}
