//! A body without one of its codings.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use compression_codecs::{
    DecodeV2,
    core::util::{PartialBuffer, WriteBuffer},
};
use drivetrain_engine::{Body, Error, ErrorKind, Result};
use http_body::Frame;

use super::Coding;

/// The most bytes that are decoded at once; the reader asks for more.
const CHUNK: usize = 16 << 10;
/// After this many chunks without output, other tasks get their turn.
const IN_VAIN: usize = 64;

/// Decodes a body. Decoded data is given at once; a body that ends inside a member is an error.
pub(super) struct Decoded {
    body: Body,
    coding: Coding,
    decoder: Box<dyn DecodeV2 + Send>,
    /// Received data that is not decoded yet.
    input: Bytes,
    at: At,
    /// The decoder may hold more output.
    holds: bool,
    /// The error after the data that was given last.
    fault: Option<Error>,
}

#[derive(Clone, Copy, PartialEq)]
enum At {
    /// Before the first byte.
    Start,
    Member,
    /// Behind a member.
    Gap,
    /// Behind all, or an error.
    End,
}

impl Decoded {
    pub(super) fn new(body: Body, coding: Coding) -> Self {
        let decoder = coding.decoder();
        Self {
            body,
            coding,
            decoder,
            input: Bytes::new(),
            at: At::Start,
            holds: false,
            fault: None,
        }
    }

    fn poll_decoded(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        for _ in 0..IN_VAIN {
            if let Some(chunk) = self.decode()? {
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
            let frame = ready!(http_body::Body::poll_frame(Pin::new(&mut self.body), cx));
            match frame.transpose()?.map(Frame::into_data) {
                Some(Ok(data)) => self.input = data,
                Some(Err(trailers)) => {
                    self.check_end()?;
                    return Poll::Ready(Some(Ok(trailers)));
                }
                None => {
                    self.check_end()?;
                    self.at = At::End;
                    return Poll::Ready(None);
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The next chunk, if there is enough for one.
    fn decode(&mut self) -> Result<Option<Bytes>> {
        if let Some(error) = self.fault.take() {
            return Err(error);
        }
        self.skip_padding();
        if self.input.is_empty() && !self.holds {
            return Ok(None);
        }
        let mut chunk = vec![0; CHUNK];
        let mut output = WriteBuffer::new_initialized(&mut chunk);
        while self.has_more() && !output.has_no_spare_space() {
            self.fault = self.step(&mut output).err();
            self.skip_padding();
        }
        self.holds = output.has_no_spare_space() && self.at == At::Member;
        let length = output.written_len();
        chunk.truncate(length);
        if length < CHUNK / 2 {
            // A kept chunk must not keep a large buffer.
            chunk.shrink_to_fit();
        }
        match self.fault.take_if(|_| length == 0) {
            Some(error) => Err(error),
            None => Ok((length > 0).then(|| chunk.into())),
        }
    }

    fn has_more(&self) -> bool {
        self.fault.is_none() && (self.holds || !self.input.is_empty())
    }

    fn step(&mut self, output: &mut WriteBuffer<'_>) -> Result<()> {
        if self.at == At::Gap {
            self.begin_next()?;
        }
        self.at = At::Member;
        self.holds = false;
        let (mut input, before) = (PartialBuffer::new(&*self.input), output.written_len());
        // Without input gzip takes a flush alone, and the others say only here that they have ended.
        let is_end = match self.input.is_empty() && self.coding.is_gzip() {
            true => self.decoder.flush(output).map(|_| false),
            false => self.decoder.decode(&mut input, output),
        };
        let taken = input.written_len();
        let is_stuck = taken == 0 && output.written_len() == before && !self.input.is_empty();
        self.input.advance(taken);
        match is_end.map_err(|error| self.invalid(error))? {
            true => self.at = At::Gap,
            false if is_stuck => return Err(self.broken("the decoder makes no progress")),
            false => {}
        }
        Ok(())
    }

    fn begin_next(&mut self) -> Result<()> {
        if !self.coding.has_members() {
            return Err(self.broken("data follows its end"));
        }
        self.decoder.reinit().map_err(|error| self.invalid(error))
    }

    /// Zeros behind a member, as on a tape: `gzip` skips them, too.
    fn skip_padding(&mut self) {
        if self.at == At::Gap && self.coding.is_gzip() {
            let zeros = self.input.iter().take_while(|byte| **byte == 0).count();
            self.input.advance(zeros);
        }
    }

    fn check_end(&self) -> Result<()> {
        match self.at {
            At::Member => Err(self.broken("it ends in the middle")),
            _ => Ok(()),
        }
    }

    fn invalid(&self, error: io::Error) -> Error {
        self.broken("it is not valid").with_source(error)
    }

    fn broken(&self, why: &str) -> Error {
        let message =
            format!("the body, which is encoded with {}, cannot be read: {why}", self.coding);
        Error::new(ErrorKind::Protocol, message)
    }
}

impl http_body::Body for Decoded {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>>>> {
        if self.at == At::End {
            return Poll::Ready(None);
        }
        let frame = ready!(self.poll_decoded(cx));
        if let Some(Err(_)) = frame {
            self.at = At::End;
            // Frees the connection.
            self.body = Body::empty();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.at == At::End
    }
}
