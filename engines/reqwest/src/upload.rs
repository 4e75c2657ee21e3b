//! The body of a request as reqwest's.

use std::{
    error::Error as StdError,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use drivetrain_engine::{Body, Error};
use http_body::{Frame, SizeHint};
use tokio::{task::yield_now, time::sleep};

/// How long the second chunk waits: a server that refuses by the head alone says so before the bulk is on its way.
const FIRST_PAUSE: std::time::Duration = std::time::Duration::from_millis(2);

/// The body for a client of reqwest's that is not the engine's alone, which may send again what is in memory.
pub(crate) fn plain(body: Body) -> reqwest::Body {
    match body.as_bytes() {
        Some(bytes) => reqwest::Body::from(bytes.clone()),
        None => paused(body).0,
    }
}

/// The body for reqwest, and what tells how far it is.
pub(crate) fn paused(body: Body) -> (reqwest::Body, Underway) {
    let streams = body.as_bytes().is_none();
    let (chunks, sending) = Chunks::new(body);
    let body = match streams {
        true => reqwest::Body::wrap(Paused { chunks, has_begun: false, pause: None }),
        false => reqwest::Body::wrap(chunks),
    };
    (body, sending)
}

/// The same for a connection of the engine's own, on which answers are read before writing fails.
pub(crate) fn watched(body: Body) -> (reqwest::Body, Underway) {
    let (chunks, sending) = Chunks::new(body);
    (reqwest::Body::wrap(chunks), sending)
}

/// Tells how far a body is.
pub(crate) struct Underway(Weak<AtomicBool>);

impl Underway {
    /// The library has asked for the first chunk, or wants none: a connection has the request.
    pub(crate) fn has_begun(&self) -> bool {
        self.0.upgrade().is_none_or(|has_begun| has_begun.load(Ordering::Relaxed))
    }

    /// The library has taken all of the body, or wants no more.
    pub(crate) fn is_over(&self) -> bool {
        self.0.strong_count() == 0
    }
}

/// The error of the caller's own body, in what a library made of it.
pub(crate) struct BodyFailed {
    pub(crate) error: Error,
    /// What the peer is told over HTTP/2.
    reason: h2::Error,
}

impl fmt::Debug for BodyFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl fmt::Display for BodyFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl StdError for BodyFailed {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.reason)
    }
}

/// A body, in memory or streaming: what is in memory keeps its length.
struct Chunks {
    body: Body,
    has_begun: Arc<AtomicBool>,
}

impl Chunks {
    fn new(body: Body) -> (Self, Underway) {
        let has_begun = Arc::new(AtomicBool::new(false));
        let sending = Underway(Arc::downgrade(&has_begun));
        (Self { body, has_begun }, sending)
    }
}

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = BodyFailed;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFailed>>> {
        self.has_begun.store(true, Ordering::Relaxed);
        Pin::new(&mut self.body).poll_frame(cx).map_err(|error| {
            let reason = h2::Error::from(h2::Reason::CANCEL);
            BodyFailed { error, reason }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body that lets tokio look at reqwest's sockets between two chunks: hyper reads what has come before it writes, and
/// an early answer has to be seen before the reset behind it fails the next write.
struct Paused {
    chunks: Chunks,
    has_begun: bool,
    pause: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl http_body::Body for Paused {
    type Data = Bytes;
    type Error = BodyFailed;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFailed>>> {
        let this = &mut *self;
        if let Some(pause) = &mut this.pause {
            ready!(pause.as_mut().poll(cx));
            this.pause = None;
        }
        let frame = ready!(Pin::new(&mut this.chunks).poll_frame(cx));
        this.pause = Some(match std::mem::replace(&mut this.has_begun, true) {
            false => Box::pin(sleep(FIRST_PAUSE)),
            true => Box::pin(yield_now()),
        });
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.chunks.size_hint()
    }
}
