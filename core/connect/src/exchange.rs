//! The answer of an exchange: its body drives the connection, and gives it to the pool at its end.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use drivetrain_engine::{Body, Error, HeadLimits, Runtime, UPLOAD_GRACE};
use http::Response;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use crate::{
    connector_state::ConnectorState, destination::Destination, http1::During,
    http1_connection::Http1Connection, map,
};

/// Where a connection goes when its exchange is over.
pub(crate) struct PoolReturn {
    pub(crate) destination: Destination,
    pub(crate) shared: Arc<ConnectorState>,
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
struct PooledBody {
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
            PooledBody { engine, limits, incoming, connection, pool_return, is_dropped: false };
        match http_body::Body::is_end_stream(&body) {
            true => Body::empty(),
            false => Body::streaming(body),
        }
    }))
}

impl http_body::Body for PooledBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if let Some(connection) = &mut this.connection {
            // What it has read is taken out below, also if it ended, well or not.
            connection.drive(cx);
        }
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        Poll::Ready(match ready!(Pin::new(incoming).poll_frame(cx)) {
            Some(Ok(frame)) => Some(Ok(frame)),
            Some(Err(error)) => {
                // The connection knows better, such as that the request's body failed.
                let failure =
                    this.connection.take().and_then(|mut connection| connection.take_failure());
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

impl PooledBody {
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

impl Drop for PooledBody {
    fn drop(&mut self) {
        // A reader that knows the length does not poll for the end.
        if http_body::Body::is_end_stream(self) {
            self.release();
        } else if !self.is_dropped && self.pool_return.is_some() {
            self.drain();
        }
    }
}
