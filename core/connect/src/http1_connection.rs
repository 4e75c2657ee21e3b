//! A connection that speaks HTTP/1.1, with no task: the caller that waits drives it.

use std::{
    future::{Future, poll_fn},
    mem,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use drivetrain_engine::{Body, HeadLimits};
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http1::{Connection, Parts, SendRequest},
};

use crate::{
    adapter::{ForHyper, Seen},
    http1,
    stream::ConnectedStream,
};

/// One connection and the work that is to be done on it.
pub(crate) struct Http1Connection {
    sender: SendRequest<Body>,
    wire: ConnectionWork,
    seen: Arc<Seen>,
}

/// The connection's own work, until it is over.
enum ConnectionWork {
    Running(Box<Connection<ForHyper, Body>>),
    /// What is left of it, for a WebSocket.
    Over {
        rest: Option<(ConnectedStream, Bytes)>,
        failure: Option<hyper::Error>,
    },
}

impl ConnectionWork {
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
        Ok(Self { sender, wire: ConnectionWork::Running(Box::new(connection)), seen })
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
            ConnectionWork::Over { failure: Some(failure), .. } => Err(failure),
            ConnectionWork::Over { rest, .. } => Ok(rest),
            ConnectionWork::Running(_) => Ok(None),
        }
    }

    /// Does the connection's own work, as far as it can now.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        self.wire.drive(cx);
    }

    /// Why the connection ended, if it failed; once.
    pub(crate) fn take_failure(&mut self) -> Option<hyper::Error> {
        self.wire.take_failure()
    }
}
