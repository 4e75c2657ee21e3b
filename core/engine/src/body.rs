//! The body of a request or a response.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_core::Stream;
use http_body::{Frame, SizeHint};

use crate::{
    body_stream::{Exactly, Mapped, StreamBody},
    error::{BoxError, Error, ErrorKind, Result},
};

/// Chunk size of an observed body in memory.
const OBSERVED_PIECE: usize = 64 << 10;

/// The body of a request or of a response: bytes in memory, or a stream of them.
///
/// It is an [`http_body::Body`], so that anything made for that takes it. An error is its end.
///
/// ```
/// use drivetrain_engine::Body;
///
/// assert_eq!(Body::from("hello").as_bytes().map(|bytes| bytes.len()), Some(5));
/// ```
#[derive(Default)]
pub struct Body {
    inner: Inner,
    progress: Option<ObservedProgress>,
}

#[derive(Default)]
enum Inner {
    #[default]
    Empty,
    Full(Bytes),
    // The mutex is never locked: `get_mut` needs no lock, and the type becomes `Sync` for libraries
    // that want a `Sync` body.
    Stream(Mutex<Pin<Box<dyn http_body::Body<Data = Bytes, Error = Error> + Send>>>),
}

impl Body {
    /// An empty body.
    pub const fn empty() -> Self {
        Self::of(Inner::Empty)
    }

    /// A body that streams from another one; its errors become
    /// [`ErrorKind::Io`] unless they are an [`Error`] already.
    pub fn streaming<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self::of(Inner::Stream(Mutex::new(Box::pin(Mapped(Box::pin(body))))))
    }

    /// A body that streams chunks of bytes; errors are as in [`streaming`](Self::streaming).
    ///
    /// Its length is unknown, and HTTP/1.1 sends it in chunks, unless
    /// [`with_length`](Self::with_length) sets the length.
    ///
    /// ```
    /// use std::{convert::Infallible, pin::Pin, task::{Context, Poll}};
    /// use drivetrain_engine::Body;
    ///
    /// struct Countdown(u8);
    ///
    /// impl futures_core::Stream for Countdown {
    ///     type Item = Result<String, Infallible>;
    ///
    ///     fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
    ///         self.0 = self.0.saturating_sub(1);
    ///         Poll::Ready((self.0 > 0).then(|| Ok(format!("{}\n", self.0))))
    ///     }
    /// }
    ///
    /// let body = Body::from_stream(Countdown(4)).with_length(6);
    /// # let _ = body;
    /// ```
    pub fn from_stream<S, B, E>(stream: S) -> Self
    where
        S: Stream<Item = Result<B, E>> + Send + 'static,
        B: Into<Bytes> + 'static,
        E: Into<BoxError> + 'static,
    {
        Self::streaming(StreamBody(Box::pin(stream)))
    }

    /// Sets the length of a stream, in bytes, to send `Content-Length`. A body that turns out
    /// shorter or longer fails with [`ErrorKind::InvalidInput`], and so does the request. A body of length zero
    /// may never be polled.
    #[must_use]
    pub fn with_length(self, length: u64) -> Self {
        if http_body::Body::size_hint(&self).exact() == Some(length) {
            return self;
        }
        Self::streaming(Exactly::new(self, length))
    }

    /// Calls `observer` for each chunk taken from the body: the bytes taken so far, this chunk
    /// included, and the total length if known. It is not called for an empty body, and
    /// restarts for a [clone](Self::try_clone).
    ///
    /// A body in memory is delivered in chunks of 64 KiB from then on.
    #[must_use]
    pub fn observed(mut self, observer: impl Fn(u64, Option<u64>) + Send + Sync + 'static) -> Self {
        let total = http_body::Body::size_hint(&self).exact();
        let observer: Arc<Observer> = match self.progress.take() {
            None => Arc::new(observer),
            Some(ObservedProgress { observer: before, .. }) => Arc::new(move |taken, total| {
                before(taken, total);
                observer(taken, total);
            }),
        };
        Self { inner: self.inner, progress: Some(ObservedProgress { taken: 0, total, observer }) }
    }

    /// The bytes, if they are completely in memory and not [observed](Self::observed).
    pub fn as_bytes(&self) -> Option<&Bytes> {
        if self.progress.is_some() { None } else { self.in_memory() }
    }

    /// A copy of the body, to repeat a request; `None` for a stream.
    pub fn try_clone(&self) -> Option<Self> {
        let bytes = self.in_memory()?.clone();
        let total = Some(bytes.len() as u64);
        let progress = self.progress.as_ref().map(|ObservedProgress { observer, .. }| {
            ObservedProgress { taken: 0, total, observer: Arc::clone(observer) }
        });
        Some(Self { progress, ..Self::from(bytes) })
    }

    const fn of(inner: Inner) -> Self {
        Self { inner, progress: None }
    }

    fn in_memory(&self) -> Option<&Bytes> {
        static EMPTY: Bytes = Bytes::new();
        match &self.inner {
            Inner::Empty => Some(&EMPTY),
            Inner::Full(bytes) => Some(bytes),
            Inner::Stream(_) => None,
        }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        match &mut self.inner {
            Inner::Empty => Poll::Ready(None),
            Inner::Full(bytes) => {
                let chunk = match &self.progress {
                    Some(_) if bytes.len() > OBSERVED_PIECE => bytes.split_to(OBSERVED_PIECE),
                    _ => std::mem::take(bytes),
                };
                if bytes.is_empty() {
                    self.inner = Inner::Empty;
                }
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            Inner::Stream(body) => match body.get_mut() {
                Ok(body) => body.as_mut().poll_frame(cx),
                Err(_) => Poll::Ready(Some(Err(Error::new(ErrorKind::Io, "the body panicked")))),
            },
        }
    }
}

type Observer = dyn Fn(u64, Option<u64>) + Send + Sync;

/// The progress of a body, and its observer.
struct ObservedProgress {
    taken: u64,
    total: Option<u64>,
    observer: Arc<Observer>,
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>>>> {
        let frame = ready!(self.poll_chunk(cx));
        if matches!(frame, Some(Err(_))) {
            self.inner = Inner::Empty; // an error is the end
        }
        if let (Some(progress), Some(Ok(frame))) = (&mut self.progress, &frame) {
            if let Some(chunk) = frame.data_ref().filter(|chunk| !chunk.is_empty()) {
                progress.taken += chunk.len() as u64;
                (progress.observer)(progress.taken, progress.total);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.inner, Inner::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Empty => SizeHint::with_exact(0),
            Inner::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Stream(body) => body.try_lock().map(|body| body.size_hint()).unwrap_or_default(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.in_memory() {
            Some(bytes) => write!(f, "Body({} bytes)", bytes.len()),
            None => f.write_str("Body(stream)"),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::empty() } else { Self::of(Inner::Full(bytes)) }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Bytes::from_static(bytes).into()
    }
}

impl From<()> for Body {
    fn from((): ()) -> Self {
        Self::empty()
    }
}
