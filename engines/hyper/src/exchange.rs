//! HTTP/1.1 on one stream, with no task: whoever waits drives the connection.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use drivetrain_engine::{Body, Error};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, Connection, SendRequest},
};

use crate::{
    adapter::ForHyper,
    dial::Place,
    map::{self, During},
    pool::Pool,
    stream::Stream,
};

/// One connection and the work that is to be done on it.
pub(crate) struct Link {
    sender: SendRequest<Body>,
    connection: Option<Box<Connection<ForHyper, Body>>>,
    /// The connection is not to be polled again.
    is_over: bool,
    failure: Option<hyper::Error>,
}

/// A request that was not answered.
pub(crate) struct Unanswered {
    pub(crate) error: hyper::Error,
    /// The request, if not a byte of it was sent.
    pub(crate) unsent: Option<Request<Body>>,
}

impl Link {
    pub(crate) async fn new(stream: Stream) -> Result<Self, hyper::Error> {
        let (sender, connection) = http1::handshake(ForHyper::new(stream)).await?;
        let connection = Some(Box::new(connection));
        Ok(Self { sender, connection, is_over: false, failure: None })
    }

    /// Sends a request and waits for the head of its answer; the request's body goes on while the
    /// answer's is read.
    pub(crate) async fn send(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let mut answer = pin!(self.sender.try_send_request(request));
        let Self { connection, is_over, failure, .. } = self;
        let answer = poll_fn(|cx| {
            drive(connection, is_over, failure, cx);
            match answer.as_mut().poll(cx) {
                // What a connection leaves unanswered when it ends it answers when it is dropped.
                Poll::Pending if *is_over => {
                    *connection = None;
                    answer.as_mut().poll(cx)
                }
                answer => answer,
            }
        })
        .await;
        answer.map_err(|mut error| {
            let unsent = error.take_message();
            // If the stream failed first, this error only says that the request was not sent.
            Unanswered { error: failure.take().unwrap_or(error.into_error()), unsent }
        })
    }

    /// Ready when the exchange is over in both directions: `true` if another one may follow.
    pub(crate) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.drive(cx);
        if self.is_over {
            return Poll::Ready(false);
        }
        self.sender.poll_ready(cx).map(|ready| ready.is_ok())
    }

    /// Takes the stream back after a 101, with what was read behind it; `None` if it failed.
    pub(crate) async fn into_stream(mut self) -> Result<Option<(Stream, Bytes)>, hyper::Error> {
        poll_fn(|cx| {
            self.drive(cx);
            if self.is_over { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        Ok(self.connection.map(|connection| {
            let http1::Parts { io, read_buf, .. } = connection.into_parts();
            (io.into_inner(), read_buf)
        }))
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        drive(&mut self.connection, &mut self.is_over, &mut self.failure, cx);
    }
}

fn drive(
    connection: &mut Option<Box<Connection<ForHyper, Body>>>,
    is_over: &mut bool,
    failure: &mut Option<hyper::Error>,
    cx: &mut Context<'_>,
) {
    let Some(connection) = connection.as_mut().filter(|_| !*is_over) else { return };
    // Not its `poll`, which would end the writing direction of a stream that is to be a WebSocket.
    if let Poll::Ready(result) = connection.poll_without_shutdown(cx) {
        *is_over = true;
        *failure = result.err();
    }
}

/// Where a connection goes when its exchange is over.
pub(crate) struct Home {
    pub(crate) place: Place,
    pub(crate) pool: Arc<Pool>,
    pub(crate) spawn: fn(Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl Home {
    /// Takes a connection whose answer was read to its end. An upload that still runs is not cut off: a
    /// task sees it through.
    fn take(self, mut link: Link) {
        let Self { place, pool, spawn } = self;
        match link.poll_idle(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(true) => pool.put(place, link),
            Poll::Ready(false) => {}
            Poll::Pending => spawn(Box::pin(async move {
                if poll_fn(|cx| link.poll_idle(cx)).await {
                    pool.put(place, link);
                }
            })),
        }
    }
}

/// The body of an answer: it drives the connection it comes from. Dropped before its end it closes the
/// socket.
struct Answered {
    engine: &'static str,
    incoming: Incoming,
    link: Option<Link>,
    home: Option<Home>,
}

/// The answer with its body still streaming. Without a `home` the connection ends with it.
pub(crate) fn answered(
    engine: &'static str,
    answer: Response<Incoming>,
    link: Link,
    home: Option<Home>,
) -> Response<Body> {
    answer.map(|incoming| {
        let body = Answered { engine, incoming, link: Some(link), home };
        match http_body::Body::is_end_stream(&body) {
            true => Body::empty(),
            false => Body::streaming(body),
        }
    })
}

impl http_body::Body for Answered {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if let Some(link) = &mut this.link {
            // What it has read is taken out below, also if it ended, well or not.
            link.drive(cx);
        }
        Poll::Ready(match ready!(Pin::new(&mut this.incoming).poll_frame(cx)) {
            Some(Ok(frame)) => Some(Ok(frame)),
            Some(Err(error)) => {
                // The connection knows better, such as that the request's body failed.
                let failure = this.link.take().and_then(|link| link.failure);
                Some(Err(map::exchange(this.engine, During::Body, failure.unwrap_or(error))))
            }
            None => {
                this.release();
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Answered {
    fn release(&mut self) {
        if let (Some(link), Some(home)) = (self.link.take(), self.home.take()) {
            home.take(link);
        }
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        // Whoever knows the length does not poll for the end.
        if http_body::Body::is_end_stream(self) {
            self.release();
        }
    }
}
