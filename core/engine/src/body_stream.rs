//! The parts of a streaming body.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_core::Stream;
use http_body::{Frame, SizeHint};

use crate::error::{BoxError, Error, ErrorKind, Result};

/// A stream as a body.
pub(crate) struct StreamBody<S>(pub(crate) Pin<Box<S>>);

impl<S, B, E> http_body::Body for StreamBody<S>
where
    S: Stream<Item = Result<B, E>>,
    B: Into<Bytes>,
{
    type Data = Bytes;
    type Error = E;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, E>>> {
        let chunk = ready!(self.0.as_mut().poll_next(cx));
        Poll::Ready(chunk.map(|chunk| chunk.map(|bytes| Frame::data(bytes.into()))))
    }
}

/// A body with a declared length: it has this length, or fails.
pub(crate) struct Exactly<B> {
    body: B,
    length: u64,
    left: u64,
    /// Retains the last chunk until the body has ended: a reader with the declared length does not ask
    /// for more.
    held: Option<Frame<Bytes>>,
}

impl<B> Exactly<B> {
    pub(crate) fn new(body: B, length: u64) -> Self {
        Self { body, length, left: length, held: None }
    }

    fn wrong(&self, than: &str) -> Error {
        let message = format!("the body is {than} than the {} bytes that were said", self.length);
        Error::new(ErrorKind::InvalidInput, message)
    }
}

impl<B> http_body::Body for Exactly<B>
where
    B: http_body::Body<Data = Bytes, Error = Error> + Unpin,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>>>> {
        loop {
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)?) else {
                let missing = std::mem::take(&mut self.left) > 0;
                let last = self.held.take().map(Ok);
                return Poll::Ready(if missing { Some(Err(self.wrong("shorter"))) } else { last });
            };
            let chunk = frame.data_ref().map(|chunk| chunk.len() as u64);
            let Some(left) = self.left.checked_sub(chunk.unwrap_or(0)) else {
                return Poll::Ready(Some(Err(self.wrong("longer"))));
            };
            self.left = left;
            match chunk {
                Some(0) => {}
                Some(_) if left > 0 => return Poll::Ready(Some(Ok(frame))),
                // The last chunk, or trailers.
                _ => {
                    if let Some(before) = self.held.replace(frame) {
                        return Poll::Ready(Some(Ok(before)));
                    }
                }
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        let held =
            self.held.as_ref().and_then(Frame::data_ref).map_or(0, |chunk| chunk.len() as u64);
        SizeHint::with_exact(self.left + held)
    }
}

/// A body with drivetrain's errors.
pub(crate) struct Mapped<B>(pub(crate) Pin<Box<B>>);

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
        self.0.as_mut().poll_frame(cx).map_err(|error| match error.into().downcast::<Error>() {
            Ok(error) => *error,
            Err(error) => Error::new(ErrorKind::Io, "the body failed").with_source(error),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{Arc, Mutex},
        task::Waker,
    };

    use http_body::Body as _;

    use super::*;
    use crate::body::Body;

    struct Items(std::slice::Iter<'static, &'static str>);

    impl Stream for Items {
        type Item = Result<&'static str, Infallible>;

        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            Poll::Ready(self.0.next().copied().map(Ok))
        }
    }

    fn body(chunks: &'static [&'static str]) -> Body {
        Body::from_stream(Items(chunks.iter()))
    }

    /// The chunks up to the end or the error.
    fn read(mut body: Body) -> (Vec<Bytes>, Option<Error>) {
        let mut chunks = Vec::new();
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            match Pin::new(&mut body).poll_frame(&mut cx) {
                Poll::Ready(Some(Ok(frame))) => chunks.extend(frame.into_data().ok()),
                Poll::Ready(Some(Err(error))) => return (chunks, Some(error)),
                Poll::Ready(None) => return (chunks, None),
                Poll::Pending => panic!("nothing to wait for"),
            }
        }
    }

    #[test]
    fn a_stream_is_a_body_of_unknown_length() {
        let body = body(&["one", "", "two"]);
        assert_eq!(body.size_hint().exact(), None);
        assert!(body.as_bytes().is_none() && body.try_clone().is_none());
        assert_eq!(read(body).0, ["one", "", "two"]);
    }

    #[test]
    fn a_length_that_was_said_has_to_be_right() {
        for (chunks, says) in [
            (&["one", "two"][..], None),
            (&["one", "two", ""], None),
            (&["one", "tw"], Some("shorter")),
            (&["one", "two", "!"], Some("longer")),
            (&["one", "two!"], Some("longer")),
            (&[], Some("shorter")),
        ] {
            let body = body(chunks).with_length(6);
            assert_eq!(body.size_hint().exact(), Some(6));
            let (read, error) = read(body);
            match says {
                None => assert!(error.is_none() && read == ["one", "two"], "{read:?} {error:?}"),
                Some(says) => {
                    let error = error.unwrap_or_else(|| panic!("{chunks:?} were accepted"));
                    assert_eq!(error.kind(), ErrorKind::InvalidInput);
                    assert!(error.to_string().contains(says), "{error}");
                    assert!(
                        read.concat().len() < 6,
                        "what is wrong is not sent as if it were whole"
                    );
                }
            }
        }
    }

    #[test]
    fn the_observer_sees_each_chunk_and_each_clone() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let note = |seen: &Arc<Mutex<Vec<_>>>| {
            let seen = Arc::clone(seen);
            move |taken, total| seen.lock().expect("not poisoned").push((taken, total))
        };
        let taken = || std::mem::take(&mut *seen.lock().expect("not poisoned"));
        let whole = Body::from(vec![7; 100 << 10]).observed(note(&seen));
        assert!(whole.as_bytes().is_none(), "a reader of the bytes would not be seen");
        let total = Some(100 << 10);
        for body in [whole.try_clone().expect("in memory"), whole] {
            assert_eq!(taken(), []);
            assert_eq!(body.size_hint().exact(), total);
            assert_eq!(read(body).0.concat().len(), 100 << 10);
            assert_eq!(taken(), [(64 << 10, total), (100 << 10, total)]);
        }
        read(body(&["one", "", "two"]).observed(note(&seen)));
        assert_eq!(taken(), [(3, None), (6, None)]);
        read(body(&["one", "two"]).with_length(6).observed(note(&seen)));
        assert_eq!(taken(), [(3, Some(6)), (6, Some(6))]);
        read(Body::empty().observed(note(&seen)));
        assert_eq!(taken(), []);
    }
}
