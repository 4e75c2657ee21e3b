//! The body of a request or a response.

use std::{
    fmt,
    pin::Pin,
    sync::Mutex,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::{BoxError, Error, ErrorKind, Result};

/// The body of a request or of a response: bytes in memory, or a stream of them.
///
/// It is an [`http_body::Body`], so that anything made for that takes it.
///
/// ```
/// use drivetrain_engine::Body;
///
/// assert_eq!(Body::from("hello").as_bytes().map(|bytes| bytes.len()), Some(5));
/// ```
#[derive(Default)]
pub struct Body(Inner);

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
    /// A body of nothing.
    pub const fn empty() -> Self {
        Self(Inner::Empty)
    }

    /// A body that streams from another one; its errors become
    /// [`ErrorKind::Io`] unless they are an [`Error`] already.
    pub fn streaming<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self(Inner::Stream(Mutex::new(Box::pin(Mapped(Box::pin(body))))))
    }

    /// The bytes, if they are in memory as a whole.
    pub fn as_bytes(&self) -> Option<&Bytes> {
        static EMPTY: Bytes = Bytes::new();
        match &self.0 {
            Inner::Empty => Some(&EMPTY),
            Inner::Full(bytes) => Some(bytes),
            Inner::Stream(_) => None,
        }
    }

    /// The same body again, for repeating a request; `None` for a stream, which cannot be repeated.
    pub fn try_clone(&self) -> Option<Self> {
        self.as_bytes().map(|bytes| Self::from(bytes.clone()))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>>>> {
        match &mut self.0 {
            Inner::Empty => Poll::Ready(None),
            Inner::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Inner::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Inner::Stream(body) => match body.get_mut() {
                Ok(body) => body.as_mut().poll_frame(cx),
                Err(_) => Poll::Ready(Some(Err(Error::new(ErrorKind::Io, "the body panicked")))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.0, Inner::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Empty => SizeHint::with_exact(0),
            Inner::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Stream(body) => body.try_lock().map(|body| body.size_hint()).unwrap_or_default(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_bytes() {
            Some(bytes) => write!(f, "Body({} bytes)", bytes.len()),
            None => f.write_str("Body(stream)"),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::empty() } else { Self(Inner::Full(bytes)) }
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

struct Mapped<B>(Pin<Box<B>>);

impl<B> http_body::Body for Mapped<B>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>>>> {
        self.0.as_mut().poll_frame(cx).map_err(|error| {
            let error: BoxError = error.into();
            match error.downcast::<Error>() {
                Ok(error) => *error,
                Err(error) => Error::new(ErrorKind::Io, "the body failed").with_source(error),
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
