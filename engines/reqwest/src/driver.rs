//! An HTTP/1.1 connection without a task of its own.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// The connection's own work, which is done by whoever waits for something of it: there is no task
/// that could outlive its owner.
pub(crate) enum Driver {
    // hyper's type has no name outside of hyper.
    Running(Pin<Box<dyn Future<Output = Result<(), hyper::Error>> + Send>>),
    Ended(Option<hyper::Error>),
}

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>) {
        if let Self::Running(connection) = self {
            if let Poll::Ready(result) = connection.as_mut().poll(cx) {
                *self = Self::Ended(result.err());
            }
        }
    }

    pub(crate) async fn until<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| {
            self.poll(cx);
            future.as_mut().poll(cx)
        })
        .await
    }

    pub(crate) fn take_error(&mut self) -> Option<hyper::Error> {
        match self {
            Self::Running(_) => None,
            Self::Ended(error) => error.take(),
        }
    }
}

/// A body together with the connection that it comes from.
pub(crate) struct Driven {
    pub(crate) driver: Driver,
    pub(crate) body: hyper::body::Incoming,
}

impl http_body::Body for Driven {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        this.driver.poll(cx);
        Pin::new(&mut this.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
