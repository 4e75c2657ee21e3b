//! Responses and failures of the mock.

use std::{
    collections::VecDeque,
    fmt,
    future::{Future, pending},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use drivetrain_engine::{Body, ConnectTimeout, Error, ErrorKind, Result};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{CONTENT_TYPE, LOCATION},
};
use http_body::{Frame, SizeHint};

use crate::{target, testing::Clock};

/// An answer of a [`MockEngine`](super::MockEngine): a response, optionally with faults, or a failure.
///
/// A status, a text and an [`http::Response`] convert to replies.
///
/// ```
/// use std::time::Duration;
/// use drivetrain::{http::StatusCode, testing::Reply};
///
/// let json = Reply::from(r#"{"id":7}"#).header("content-type", "application/json");
/// let slow = Reply::from("late").after(Duration::from_secs(30));
/// let broken = Reply::new(StatusCode::OK).body("the first half").cut();
/// let refused = Reply::refused();
/// ```
#[derive(Clone)]
#[must_use = "a reply is given to a route"]
pub struct Reply {
    after: Duration,
    head: ReplyHead,
    body: VecDeque<BodyPart>,
}

#[derive(Clone)]
enum ReplyHead {
    Response(StatusCode, HeaderMap),
    Fails(Error),
    /// No response.
    Never,
    /// No connection.
    Unreachable,
}

#[derive(Clone)]
enum BodyPart {
    Bytes(Bytes),
    Pause(Duration),
    Stall,
    Fails(Error),
}

impl Reply {
    /// A response with this status, without headers or body.
    pub fn new(status: StatusCode) -> Self {
        Self::of(ReplyHead::Response(status, HeaderMap::new()))
    }

    /// 200 with a value as JSON. A value that JSON cannot represent fails the request with
    /// [`ErrorKind::Convert`].
    #[cfg(feature = "json")]
    pub fn json<T: serde::Serialize + ?Sized>(value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(json) => Self::typed("application/json").body(json),
            Err(error) => {
                let message = "the value that the mock was to answer cannot be written as JSON";
                Self::fails(Error::new(ErrorKind::Convert, message).with_source(error))
            }
        }
    }

    /// 200 with an event stream. The [`body`](Self::body) has the events, such as `data: one\n\n`.
    pub fn event_stream() -> Self {
        Self::typed("text/event-stream")
    }

    /// 302 to this place.
    pub fn redirect(to: &str) -> Self {
        Self::new(StatusCode::FOUND).header(LOCATION, to)
    }

    /// No response: the request fails with this error.
    pub fn fails(error: Error) -> Self {
        Self::of(ReplyHead::Fails(error))
    }

    /// No response: the connection is refused ([`ErrorKind::Connect`]).
    pub fn refused() -> Self {
        Self::fails(Error::new(ErrorKind::Connect, "the connection was refused"))
    }

    /// No response: the server accepts the request and never answers. Request and handshake timeouts
    /// end it.
    pub fn never() -> Self {
        Self::of(ReplyHead::Never)
    }

    /// No response: connecting never finishes. A connect timeout ends it, and the timeouts of
    /// [`never`](Self::never).
    pub fn unreachable() -> Self {
        Self::of(ReplyHead::Unreachable)
    }

    /// Sets the status, if this is a response.
    pub fn status(mut self, status: StatusCode) -> Self {
        if let ReplyHead::Response(known, _) = &mut self.head {
            *known = status;
        }
        self
    }

    /// Adds a header, if this is a response. An invalid header fails the request with
    /// [`ErrorKind::InvalidInput`].
    pub fn header(
        mut self,
        name: impl TryInto<HeaderName, Error: Into<http::Error>>,
        value: impl TryInto<HeaderValue, Error: Into<http::Error>>,
    ) -> Self {
        if let ReplyHead::Response(_, headers) = &mut self.head {
            match target::header(name, value) {
                Ok((name, value)) => {
                    headers.append(name, value);
                }
                Err(error) => self.head = ReplyHead::Fails(error),
            }
        }
        self
    }

    /// Adds a chunk of the body. Each chunk is read separately.
    pub fn body(self, piece: impl Into<Bytes>) -> Self {
        self.part(BodyPart::Bytes(piece.into()))
    }

    /// Delays the answer by this time on the mock's clock.
    pub fn after(mut self, delay: Duration) -> Self {
        self.after = delay;
        self
    }

    /// Delays the next chunk of the body by this time on the mock's clock.
    pub fn pause(self, pause: Duration) -> Self {
        self.part(BodyPart::Pause(pause))
    }

    /// Stalls the body: no further chunk and no end.
    pub fn stall(self) -> Self {
        self.part(BodyPart::Stall)
    }

    /// The connection ends here, in the middle of the body ([`ErrorKind::Io`]).
    pub fn cut(self) -> Self {
        let message = "the connection ended in the middle of the body";
        self.then_fail(Error::new(ErrorKind::Io, message))
    }

    /// Reading the body fails here with this error.
    pub fn then_fail(self, error: Error) -> Self {
        self.part(BodyPart::Fails(error))
    }

    const fn of(head: ReplyHead) -> Self {
        Self { after: Duration::ZERO, head, body: VecDeque::new() }
    }

    fn typed(content_type: &'static str) -> Self {
        Self::new(StatusCode::OK).header(CONTENT_TYPE, content_type)
    }

    fn part(mut self, part: BodyPart) -> Self {
        self.body.push_back(part);
        self
    }

    /// Answers a request of this method on this clock.
    pub(super) async fn send(
        self,
        clock: &Clock,
        method: &Method,
        limit: Option<ConnectTimeout>,
    ) -> Result<Response<Body>> {
        if !self.after.is_zero() {
            clock.sleep(self.after).await;
        }
        let (status, headers) = match self.head {
            ReplyHead::Response(status, headers) => (status, headers),
            ReplyHead::Fails(error) => return Err(error),
            ReplyHead::Never => return pending().await,
            ReplyHead::Unreachable => {
                let Some(ConnectTimeout(limit)) = limit else { return pending().await };
                clock.sleep(limit.saturating_sub(self.after)).await;
                let message = format!("connecting took longer than {limit:?}");
                return Err(Error::new(ErrorKind::Timeout, message));
            }
        };
        // RFC 9110 section 6.4.1: these responses have no body.
        let is_bare = method == Method::HEAD
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let body = if is_bare { VecDeque::new() } else { self.body };
        let body = match body.iter().next() {
            None => Body::empty(),
            Some(BodyPart::Bytes(bytes)) if body.len() == 1 => Body::from(bytes.clone()),
            Some(_) => {
                Body::streaming(FaultyBody { parts: body, clock: clock.clone(), pause: None })
            }
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

impl From<StatusCode> for Reply {
    fn from(status: StatusCode) -> Self {
        Self::new(status)
    }
}

impl From<&str> for Reply {
    /// 200 with a plain text.
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl From<String> for Reply {
    /// 200 with a plain text.
    fn from(text: String) -> Self {
        Self::typed("text/plain; charset=utf-8").body(text)
    }
}

impl<B: Into<Bytes>> From<Response<B>> for Reply {
    fn from(response: Response<B>) -> Self {
        let (parts, body) = response.into_parts();
        Self::of(ReplyHead::Response(parts.status, parts.headers)).body(body)
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.head {
            ReplyHead::Response(status, _) => {
                write!(f, "Reply({status}, {} chunks)", self.body.len())
            }
            ReplyHead::Fails(error) => write!(f, "Reply(fails: {error})"),
            ReplyHead::Never => f.write_str("Reply(never)"),
            ReplyHead::Unreachable => f.write_str("Reply(unreachable)"),
        }
    }
}

/// A body with faults.
struct FaultyBody {
    parts: VecDeque<BodyPart>,
    clock: Clock,
    pause: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl http_body::Body for FaultyBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>>>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match self.parts.pop_front() {
                None => return Poll::Ready(None),
                Some(BodyPart::Bytes(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Some(BodyPart::Fails(error)) => {
                    self.parts.clear();
                    return Poll::Ready(Some(Err(error)));
                }
                Some(BodyPart::Pause(pause)) => {
                    self.pause = Some(Box::pin(self.clock.sleep(pause)))
                }
                Some(BodyPart::Stall) => self.pause = Some(Box::pin(pending())),
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        let mut length = 0;
        for part in &self.parts {
            match part {
                BodyPart::Bytes(bytes) => length += bytes.len() as u64,
                BodyPart::Pause(_) => {}
                BodyPart::Stall | BodyPart::Fails(_) => return SizeHint::default(),
            }
        }
        SizeHint::with_exact(length)
    }
}
