//! The body of a request on its way to the engine, which the client can take back or end.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use drivetrain_engine::{Body, Error, ErrorKind, Result, Runtime, UPLOAD_GRACE};
use http::Response;
use http_body::{Body as _, Frame, SizeHint};

/// The longest chunk that an engine gets. An upload can be ended between two chunks.
pub(super) const CHUNK: usize = 64 << 10;

/// The client's side of an upload. Dropping it ends the upload.
pub(super) struct Upload(Arc<Mutex<UploadState>>);

#[derive(Default)]
struct UploadState {
    /// Away while the engine polls it. It is here between two chunks, so that the client can let go of it though the
    /// engine asks for nothing more.
    rest: Option<Unsent>,
    has_begun: bool,
    is_ended: bool,
    /// The engine has taken all of the body, or wants no more.
    is_over: bool,
    waker: Option<Waker>,
}

impl Upload {
    /// Splits a body into the client's side and the one for the engine.
    pub(super) fn new(body: Body) -> (Self, Body) {
        let hint = body.size_hint();
        let rest = Some(Unsent { body, chunk: Bytes::new() });
        let state = Arc::new(Mutex::new(UploadState { rest, ..UploadState::default() }));
        let chunks = UploadBody { state: Arc::clone(&state), hint, is_last: false, in_a_row: 0 };
        (Self(state), Body::streaming(chunks))
    }

    /// The body, if the engine has not asked for any of it.
    pub(super) fn take_back(&self) -> Option<Body> {
        let mut state = lock(&self.0);
        if state.has_begun { None } else { state.rest.take().map(|rest| rest.body) }
    }

    /// Ends the upload when the answer ends: at once if the answer's body is dropped early, else after a grace period.
    pub(super) fn until_answered(
        self,
        response: Response<Body>,
        runtime: Arc<dyn Runtime>,
    ) -> Response<Body> {
        if lock(&self.0).is_over {
            return response;
        }
        if response.body().is_end_stream() {
            self.end_after_grace(&*runtime);
            return response;
        }
        response.map(|body| Body::streaming(EarlyAnswer { body, upload: Some((self, runtime)) }))
    }

    fn end_after_grace(self, runtime: &dyn Runtime) {
        if lock(&self.0).is_over {
            return;
        }
        let mut timer = runtime.timer(runtime.now() + UPLOAD_GRACE);
        runtime.spawn(Box::pin(async move {
            std::future::poll_fn(|cx| timer.poll(cx)).await;
            drop(self);
        }));
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let (rest, waker) = {
            let mut state = lock(&self.0);
            state.is_ended = true;
            (state.rest.take(), state.waker.take())
        };
        drop(rest);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

fn lock(state: &Mutex<UploadState>) -> MutexGuard<'_, UploadState> {
    // No user code runs under the lock.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is left of a body.
struct Unsent {
    body: Body,
    /// Of a frame that was longer than a chunk.
    chunk: Bytes,
}

impl Unsent {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        let frame = if self.chunk.is_empty() {
            ready!(Pin::new(&mut self.body).poll_frame(cx)?)
        } else {
            Some(Frame::data(std::mem::take(&mut self.chunk)))
        };
        Poll::Ready(frame.map(|frame| {
            Ok(frame.map_data(|mut data| {
                if data.len() > CHUNK {
                    self.chunk = data.split_off(CHUNK);
                }
                data
            }))
        }))
    }

    fn is_last(&self) -> bool {
        self.chunk.is_empty() && self.body.is_end_stream()
    }
}

/// The engine's side of an upload.
struct UploadBody {
    state: Arc<Mutex<UploadState>>,
    /// The size of the rest.
    hint: SizeHint,
    /// Nothing follows the chunk before.
    is_last: bool,
    /// Chunks that were taken without a pause.
    in_a_row: u32,
}

/// Chunks taken in a row before yielding, since not every runtime has a cooperative budget.
const IN_A_ROW: u32 = 32;

impl UploadBody {
    /// What is left; an error once the upload was ended.
    fn take(&self) -> Result<Unsent> {
        let mut state = lock(&self.state);
        state.has_begun = true;
        state.rest.take().ok_or_else(ended)
    }

    /// Gives back what is left, and leaves a waker for the upload's end; `false` if it was ended meanwhile.
    fn give_back(&self, rest: Unsent, cx: &Context<'_>) -> bool {
        let waker = cx.waker().clone();
        let mut state = lock(&self.state);
        if state.is_ended {
            drop(state);
            drop(rest);
            return false;
        }
        state.rest = Some(rest);
        let before = state.waker.replace(waker);
        drop(state);
        drop(before);
        true
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        let mut rest = self.take()?;
        let polled = rest.poll_chunk(cx);
        self.is_last = rest.is_last();
        if !self.give_back(rest, cx) && polled.is_pending() {
            return Poll::Ready(Some(Err(ended())));
        }
        polled
    }

    fn over(&self) {
        lock(&self.state).is_over = true;
    }
}

impl http_body::Body for UploadBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>>>> {
        let this = &mut *self;
        if this.in_a_row >= IN_A_ROW {
            this.in_a_row = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Some(frame) = ready!(this.poll_chunk(cx)?) else {
            this.over();
            return Poll::Ready(None);
        };
        if let Some(data) = frame.data_ref() {
            this.hint = less(&this.hint, data.len() as u64);
        }
        this.in_a_row += 1;
        if this.is_last {
            this.over();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.is_last
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

impl Drop for UploadBody {
    fn drop(&mut self) {
        self.over();
    }
}

fn ended() -> Error {
    Error::new(ErrorKind::Io, "the answer ended before the request's body")
}

fn less(hint: &SizeHint, taken: u64) -> SizeHint {
    let mut left = SizeHint::new();
    if let Some(upper) = hint.upper() {
        left.set_upper(upper.saturating_sub(taken));
    }
    left.set_lower(hint.lower().saturating_sub(taken));
    left
}

/// The body of an answer that came before the end of its upload.
struct EarlyAnswer {
    body: Body,
    /// Until the answer is complete.
    upload: Option<(Upload, Arc<dyn Runtime>)>,
}

impl EarlyAnswer {
    fn complete(&mut self) {
        if let Some((upload, runtime)) = self.upload.take() {
            upload.end_after_grace(&*runtime);
        }
    }
}

impl http_body::Body for EarlyAnswer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => self.complete(),
            Poll::Ready(Some(Err(_))) => self.upload = None,
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for EarlyAnswer {
    fn drop(&mut self) {
        // A caller who knows the length does not poll for the end.
        if self.body.is_end_stream() {
            self.complete();
        }
    }
}
