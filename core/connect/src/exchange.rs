//! HTTP/1.1 on one stream, with no task: the caller that waits drives the connection.

use std::{
    future::{Future, poll_fn},
    mem,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use drivetrain_engine::{Body, Error, HeadLimits, Runtime, UPLOAD_GRACE};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::{
    body::Incoming,
    client::conn::http1::{Connection, Parts, SendRequest},
};

use crate::{
    adapter::{ForHyper, Seen},
    dial::Destination,
    http_connector::Shared,
    http1::{self, During},
    map,
    stream::ConnectedStream,
};

/// One connection and the work that is to be done on it.
pub(crate) struct Http1Connection {
    sender: SendRequest<Body>,
    wire: Wire,
    seen: Arc<Seen>,
}

/// The connection's own work, until it is over.
enum Wire {
    Running(Box<Connection<ForHyper, Body>>),
    /// What is left of it, for a WebSocket.
    Over {
        rest: Option<(ConnectedStream, Bytes)>,
        failure: Option<hyper::Error>,
    },
}

impl Wire {
    fn drive(&mut self, cx: &mut Context<'_>) {
        let Self::Running(connection) = self else { return };
        // Not its `poll`, which would end the writing direction of a stream that is to be a WebSocket.
        let Poll::Ready(result) = connection.poll_without_shutdown(cx) else { return };
        let over = Self::Over { rest: None, failure: result.err() };
        if let (Self::Running(connection), Self::Over { rest, .. }) =
            (mem::replace(self, over), self)
        {
            // Taken apart it answers what it has left unanswered. What was answered and not fetched yet is not
            // lost: a channel that is pending says nothing of what is in it.
            let Parts { io, read_buf, .. } = connection.into_parts();
            *rest = Some((io.into_inner(), read_buf));
        }
    }

    fn is_over(&self) -> bool {
        matches!(self, Self::Over { .. })
    }

    fn take_failure(&mut self) -> Option<hyper::Error> {
        match self {
            Self::Running(_) => None,
            Self::Over { failure, .. } => failure.take(),
        }
    }
}

/// A request that was not answered.
pub(crate) struct Unanswered {
    pub(crate) error: hyper::Error,
    /// The request, if not a byte of it was sent.
    pub(crate) unsent: Option<Request<Body>>,
    /// The connection ended before a byte of the answer had come.
    pub(crate) is_silent: bool,
}

impl Http1Connection {
    pub(crate) async fn new(
        stream: ConnectedStream,
        limits: HeadLimits,
    ) -> Result<Self, hyper::Error> {
        let stream = ForHyper::new(stream);
        let seen = stream.seen();
        let (sender, connection) = http1::builder(limits).handshake(stream).await?;
        Ok(Self { sender, wire: Wire::Running(Box::new(connection)), seen })
    }

    /// Sends a request and waits for the head of its answer; the request's body is sent on while the
    /// answer's is read.
    pub(crate) async fn send(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let Self { sender, wire, seen } = self;
        seen.forget();
        let mut answer = pin!(sender.try_send_request(request));
        let answer = poll_fn(|cx| {
            wire.drive(cx);
            answer.as_mut().poll(cx)
        })
        .await;
        answer.map_err(|mut error| {
            let unsent = error.take_message();
            // If the stream failed first, this error only says that the request was not sent.
            let error = wire.take_failure().unwrap_or(error.into_error());
            let is_silent = !seen.has_received() && !error.is_user() && !error.is_parse();
            Unanswered { error, unsent, is_silent }
        })
    }

    /// Ready when the exchange is over in both directions: `true` if another one may follow.
    pub(crate) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.wire.drive(cx);
        if self.wire.is_over() || self.seen.cannot_write() {
            return Poll::Ready(false);
        }
        self.sender.poll_ready(cx).map(|ready| ready.is_ok())
    }

    /// Takes the stream back after a 101, with what was read behind it; `None` if it failed.
    pub(crate) async fn into_stream(
        mut self,
    ) -> Result<Option<(ConnectedStream, Bytes)>, hyper::Error> {
        poll_fn(|cx| {
            self.wire.drive(cx);
            if self.wire.is_over() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        match self.wire {
            Wire::Over { failure: Some(failure), .. } => Err(failure),
            Wire::Over { rest, .. } => Ok(rest),
            Wire::Running(_) => Ok(None),
        }
    }
}

/// Where a connection goes when its exchange is over.
pub(crate) struct PoolReturn {
    pub(crate) destination: Destination,
    pub(crate) shared: Arc<Shared>,
    pub(crate) runtime: Arc<dyn Runtime>,
}

impl PoolReturn {
    /// Takes a connection whose answer was read to its end. An upload that still runs has a grace, and ends the
    /// connection after it.
    fn take(self, mut connection: Http1Connection) {
        let Self { destination, shared, runtime } = self;
        match connection.poll_idle(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(true) => shared.pool.put(destination, connection, runtime.now()),
            Poll::Ready(false) => {}
            Poll::Pending => Arc::clone(&runtime).spawn(Box::pin(async move {
                let mut grace = runtime.timer(runtime.now() + UPLOAD_GRACE);
                let is_idle = poll_fn(|cx| match connection.poll_idle(cx) {
                    Poll::Pending => grace.poll(cx).map(|()| false),
                    idle => idle,
                });
                if is_idle.await {
                    shared.pool.put(destination, connection, runtime.now());
                }
            })),
        }
    }
}

/// What of an answer that was dropped is read to its end: less than another connection costs.
const DRAINED: usize = 64 << 10;

/// The body of an answer: it drives the connection it comes from. Dropped before its end it closes the
/// socket, unless the rest is short.
struct Answered {
    engine: &'static str,
    limits: HeadLimits,
    /// Until it is left to a task.
    incoming: Option<Incoming>,
    connection: Option<Http1Connection>,
    pool_return: Option<PoolReturn>,
    /// What is left of it is only read for the connection's sake.
    is_dropped: bool,
}

/// The answer with its body still streaming. Without a `PoolReturn` the connection ends with it.
pub(crate) fn answered(
    engine: &'static str,
    limits: HeadLimits,
    answer: Response<Incoming>,
    connection: Http1Connection,
    pool_return: Option<PoolReturn>,
) -> Result<Response<Body>, Error> {
    limits.allow(answer.headers())?;
    Ok(answer.map(|incoming| {
        let (incoming, connection) = (Some(incoming), Some(connection));
        let body =
            Answered { engine, limits, incoming, connection, pool_return, is_dropped: false };
        match http_body::Body::is_end_stream(&body) {
            true => Body::empty(),
            false => Body::streaming(body),
        }
    }))
}

impl http_body::Body for Answered {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if let Some(connection) = &mut this.connection {
            // What it has read is taken out below, also if it ended, well or not.
            connection.wire.drive(cx);
        }
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        Poll::Ready(match ready!(Pin::new(incoming).poll_frame(cx)) {
            Some(Ok(frame)) => Some(Ok(frame)),
            Some(Err(error)) => {
                // The connection knows better, such as that the request's body failed.
                let failure = this
                    .connection
                    .take()
                    .and_then(|mut connection| connection.wire.take_failure());
                let error = map::exchange(During::Body, this.limits, failure.unwrap_or(error));
                Some(Err(error.with_engine(this.engine)))
            }
            None => {
                this.release();
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map(http_body::Body::size_hint).unwrap_or_default()
    }
}

impl Answered {
    /// Reads the rest, as far as it has come and is short; `true` at the end, or at what ends it.
    fn poll_drain(&mut self, cx: &mut Context<'_>, left: &mut usize) -> Poll<()> {
        loop {
            let Some(Ok(frame)) = ready!(http_body::Body::poll_frame(Pin::new(self), cx)) else {
                return Poll::Ready(());
            };
            let length = frame.data_ref().map_or(0, Bytes::len);
            let Some(less) = left.checked_sub(length) else {
                self.connection = None;
                return Poll::Ready(());
            };
            *left = less;
        }
    }

    /// Reads the rest of a short answer, so that its connection can be used again.
    fn drain(&mut self) {
        let mut left = DRAINED;
        let is_over = self.poll_drain(&mut Context::from_waker(Waker::noop()), &mut left);
        let is_short =
            http_body::Body::size_hint(self).upper().is_some_and(|upper| upper <= left as u64);
        let (true, true, Some(pool_return)) =
            (is_short, is_over.is_pending(), self.pool_return.take())
        else {
            return;
        };
        let runtime = Arc::clone(&pool_return.runtime);
        let mut rest = Self {
            engine: self.engine,
            limits: self.limits,
            incoming: self.incoming.take(),
            connection: self.connection.take(),
            pool_return: Some(pool_return),
            is_dropped: true,
        };
        Arc::clone(&runtime).spawn(Box::pin(async move {
            let mut grace = runtime.timer(runtime.now() + UPLOAD_GRACE);
            poll_fn(|cx| match rest.poll_drain(cx, &mut left) {
                Poll::Pending => grace.poll(cx),
                over => over,
            })
            .await;
        }));
    }

    fn release(&mut self) {
        if let (Some(connection), Some(pool_return)) =
            (self.connection.take(), self.pool_return.take())
        {
            pool_return.take(connection);
        }
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        // A reader that knows the length does not poll for the end.
        if http_body::Body::is_end_stream(self) {
            self.release();
        } else if !self.is_dropped && self.pool_return.is_some() {
            self.drain();
        }
    }
}
