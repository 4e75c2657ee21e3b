//! The body of a response, with its limits of size and time.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use drivetrain_engine::{Body, Error, ErrorKind, Result, Runtime, Timer};
use futures_core::Stream;

/// How long a body may pause.
pub(crate) type Pause = (Duration, Arc<dyn Runtime>);

/// The chunks of a body, up to the first error.
pub(crate) struct ResponseBody {
    body: Body,
    pause: Option<Pause>,
    /// How many bytes may still come.
    room: Option<Room>,
    timer: Option<Box<dyn Timer>>,
    /// The timer runs for the chunk that is awaited.
    waiting: bool,
}

struct Room {
    limit: u64,
    left: u64,
}

impl ResponseBody {
    pub(crate) fn new(body: Body, pause: Option<Pause>, limit: Option<u64>) -> Self {
        let room = limit.map(|limit| Room { limit, left: limit });
        Self { body, pause, room, timer: None, waiting: false }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        self.check_announced()?;
        loop {
            let Poll::Ready(frame) = http_body::Body::poll_frame(Pin::new(&mut self.body), cx)
            else {
                return self.poll_pause(cx).map(|error| Some(Err(error)));
            };
            self.waiting = false;
            match frame.transpose()?.map(http_body::Frame::into_data) {
                None => return Poll::Ready(None),
                Some(Ok(chunk)) => return Poll::Ready(Some(self.fits(chunk))),
                Some(Err(_trailers)) => {}
            }
        }
    }

    /// Refuses a body whose announced length is too long.
    fn check_announced(&self) -> Result<()> {
        let Some(Room { limit, left }) = &self.room else { return Ok(()) };
        if http_body::Body::size_hint(&self.body).lower() <= *left {
            return Ok(());
        }
        Err(too_big(*limit))
    }

    fn fits(&mut self, chunk: Bytes) -> Result<Bytes> {
        if let Some(Room { limit, left }) = &mut self.room {
            *left = left.checked_sub(chunk.len() as u64).ok_or_else(|| too_big(*limit))?;
        }
        Ok(chunk)
    }

    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let Some((limit, runtime)) = &self.pause else { return Poll::Pending };
        let deadline = runtime.now() + *limit;
        let timer = self.timer.get_or_insert_with(|| runtime.timer(deadline));
        if !std::mem::replace(&mut self.waiting, true) {
            timer.reset(deadline);
        }
        timer.poll(cx).map(|()| {
            Error::new(ErrorKind::Timeout, format!("the body paused for longer than {limit:?}"))
        })
    }
}

impl Stream for ResponseBody {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let chunk = ready!(self.poll_chunk(cx));
        if !matches!(chunk, Some(Ok(_))) {
            // Frees the connection and ends the stream.
            self.body = Body::empty();
        }
        Poll::Ready(chunk)
    }
}

fn too_big(limit: u64) -> Error {
    let message = format!("the body is larger than max_response_size, which is {limit} bytes");
    Error::new(ErrorKind::TooBig, message)
}
