//! Receiving: the library's socket, polled so that nothing is lost.

use std::{
    mem,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Bytes, BytesMut};
use drivetrain_engine::{Error, RawFrame, Role, Rsv, Utf8Bytes};
use fastwebsockets::{Frame, OpCode, Payload, WebSocket, WebSocketError};
use futures_io::AsyncRead as _;
use tokio_util::sync::ReusableBoxFuture;

use super::{
    LARGEST_FRAME, Options, Stream,
    gate::{Gate, KEEP_READ_BUFFER, Progress},
};
use crate::map::{self, Stop};

/// What one poll discards at most after an error, so that a peer that keeps sending does not keep the
/// task to itself.
const DRAIN_AT_MOST: usize = 256 << 10;

/// Payloads up to this size are copied out where several came together, others are slices of the library's buffer.
/// While a slice of it is alive the library begins another one, of 8 KiB, and reads no more at a time.
const COPIED: usize = 1 << 10;

/// Shorter ones are less than a quarter of that buffer, all of which a slice would keep.
const SMALL: usize = 2 << 10;

/// Copies share a block of at most this many bytes, or this many times their own length.
const BLOCK: usize = 1 << 10;
const BLOCK_OF: usize = 8;

type Library = WebSocket<Gate>;

/// What a kept read gives back: the socket, for the next read, and its result.
type Read = (Box<Library>, Result<Frame<'static>, WebSocketError>);

pub(super) struct Reader {
    state: State,
    /// The box of every kept read, the running one or a finished one.
    kept: Option<ReusableBoxFuture<'static, Read>>,
    progress: Arc<Progress>,
    /// A frame that was taken to be borrowed, and may not be.
    parked: Option<Result<RawFrame, Error>>,
    /// The text that is borrowed.
    borrowed: BytesMut,
    copies: Copies,
    /// Frames that the library has handed out, wrapping.
    delivered: usize,
    /// A large frame has grown the library's buffer. It is replaced when there is nothing to read, or
    /// when it is empty and the frames have become small again.
    grown: bool,
    role: Role,
    options: Options,
}

enum State {
    /// Before the first read, which makes the library's socket, and its buffer of 8 KiB.
    New(Gate),
    /// Between frames.
    Idle(Box<Library>),
    /// `kept` has the socket.
    Reading,
    /// An error was told, a Close may follow from this end: input is discarded until the peer has ended,
    /// because a socket that is closed with unread input resets the connection.
    Draining(Stream),
    /// For good: at the end of the stream, or because it failed.
    Ended(Option<Error>),
}

impl Reader {
    pub(super) fn new(stream: Stream, early: Bytes, role: Role, options: Options) -> Self {
        let progress = Arc::new(Progress::default());
        let gate = Gate::new(stream, early, role, progress.clone());
        // Not later than now where there are hooks: reads are under the session's lock.
        let state = match options.hooks.is_empty() {
            true => State::New(gate),
            false => State::Idle(Box::new(library(gate, role, &options))),
        };
        Self {
            state,
            kept: None,
            progress,
            parked: None,
            borrowed: BytesMut::new(),
            copies: Copies::default(),
            delivered: 0,
            grown: false,
            role,
            options,
        }
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        max_payload: usize,
    ) -> Poll<Result<Option<RawFrame>, Error>> {
        if let Some(result) = self.buffered_frame(max_payload) {
            return Poll::Ready(result.map(Some));
        }
        let limit = self.options.limit(max_payload);
        self.progress.set_limit(limit);
        loop {
            match mem::replace(&mut self.state, State::Reading) {
                State::New(gate) => {
                    self.state = State::Idle(Box::new(library(gate, self.role, &self.options)));
                    continue;
                }
                State::Idle(library) => {
                    let announced = self.progress.announced();
                    if announced > limit as u64 {
                        self.state = State::Idle(library);
                        self.drain();
                        return Poll::Ready(Err(map::too_big(announced, limit)));
                    }
                    self.keep(library);
                }
                State::Reading => {}
                State::Draining(stream) => return self.poll_drain(cx, stream),
                State::Ended(end) => {
                    self.state = State::Ended(end.clone());
                    return Poll::Ready(end.map_or(Ok(None), Err));
                }
            }
            let Some(kept) = &mut self.kept else {
                return Poll::Ready(self.end(Err(map::lost()))); // `Reading` implies `kept`
            };
            let (library, result) = ready!(kept.poll(cx));
            self.state = State::Idle(library);
            match result {
                Ok(frame) => return Poll::Ready(self.accept(frame, limit, false).map(Some)),
                Err(error) => match Stop::of(&error) {
                    Some(Stop::Idle) => self.renew(),
                    _ => return Poll::Ready(self.refuse(error, limit)),
                },
            }
        }
    }

    pub(super) fn total(&self) -> usize {
        self.progress.total()
    }

    /// The next frame if all of it is in the library's buffer: then a read takes one poll and does not
    /// touch the stream.
    pub(super) fn buffered_frame(&mut self, max_payload: usize) -> Option<Result<RawFrame, Error>> {
        if let Some(parked) = self.parked.take() {
            return Some(parked);
        }
        let limit = self.options.limit(max_payload);
        let frame = self.read_buffered(limit)?;
        Some(frame.and_then(|frame| self.accept(frame, limit, true)))
    }

    /// The payload of that frame, where it lies, if it is a whole Text that is not longer than this; any other waits
    /// for [`buffered_frame`](Self::buffered_frame).
    pub(super) fn buffered_text(&mut self, max_payload: usize) -> Option<&[u8]> {
        if self.parked.is_some() {
            return None;
        }
        let limit = self.options.limit(max_payload);
        let frame = match self.read_buffered(limit)? {
            Ok(frame) => frame,
            Err(error) => {
                self.parked = Some(Err(error));
                return None;
            }
        };
        match frame {
            Frame { fin: true, opcode: OpCode::Text, payload: Payload::Bytes(text), .. }
                if text.len() <= limit.min(Utf8Bytes::IN_PLACE) && !self.grown =>
            {
                self.delivered = self.delivered.wrapping_add(1);
                self.borrowed = text;
                Some(&self.borrowed)
            }
            frame => {
                self.parked = Some(self.accept(frame, limit, true));
                None
            }
        }
    }

    /// Has the library read a frame of which all is in its buffer. Part of its callers, because the frame would be
    /// copied on its way back.
    #[inline(always)]
    fn read_buffered(&mut self, limit: usize) -> Option<Result<Frame<'static>, Error>> {
        self.borrowed = BytesMut::new();
        if self.progress.whole() == self.delivered {
            return None;
        }
        // No whole frame is there while one is read, and none is counted after the end.
        let State::Idle(library) = &mut self.state else { return None };
        let mut cx = Context::from_waker(Waker::noop());
        let polled = pin!(library.read_frame()).poll(&mut cx);
        Some(match polled {
            Poll::Ready(Ok(frame)) => Ok(frame),
            Poll::Ready(Err(error)) => self.refuse(error, limit).and_then(|_| Err(map::lost())),
            // The library waits with a whole frame in its buffer. Its header went with the future.
            Poll::Pending => self.end(Err(map::lost())).and_then(|_| Err(map::lost())),
        })
    }

    /// Starts a read that outlives its caller.
    fn keep(&mut self, mut library: Box<Library>) {
        self.copies = Copies::default(); // what waits may wait long
        let read = async move {
            let result = library.read_frame().await;
            (library, result)
        };
        match &mut self.kept {
            Some(kept) => kept.set(read),
            none => *none = Some(ReusableBoxFuture::new(read)),
        }
    }

    /// Takes the frame of a finished read; a short one as a copy if it came with others, `behind` one or before.
    #[inline]
    fn accept(
        &mut self,
        frame: Frame<'static>,
        limit: usize,
        behind: bool,
    ) -> Result<RawFrame, Error> {
        self.delivered = self.delivered.wrapping_add(1);
        let opcode = map::opcode_from_library(frame.opcode);
        let length = frame.payload.len();
        if length > limit && !opcode.is_control() {
            self.drain();
            return Err(map::too_big(length as u64, limit));
        }
        if length > KEEP_READ_BUFFER {
            self.grown = true;
            self.progress.set_give_back(true);
        } else if self.grown {
            self.renew();
        }
        let payload = match frame.payload {
            payload if length <= COPIED && (behind || !self.is_empty()) => self.copy(&payload),
            payload if length > COPIED && length < SMALL => Bytes::copy_from_slice(&payload),
            Payload::Bytes(bytes) => bytes.freeze(),
            other => Bytes::from(Vec::from(other)),
        };
        Ok(RawFrame { fin: frame.fin, rsv: Rsv::NONE, opcode, payload })
    }

    /// Copies a payload; those behind which are others share a block.
    fn copy(&mut self, payload: &[u8]) -> Bytes {
        if self.progress.whole() == self.delivered {
            self.copies = Copies::default();
            return Bytes::copy_from_slice(payload);
        }
        self.copies.of(payload)
    }

    /// Whether the library's buffer holds nothing that it has not handed out.
    fn is_empty(&self) -> bool {
        self.progress.whole() == self.delivered && !self.progress.inside()
    }

    /// Replaces a grown read buffer; only when it holds nothing, as `into_inner` drops its content.
    fn renew(&mut self) {
        if !self.is_empty() {
            return;
        }
        if let State::Idle(socket) = mem::replace(&mut self.state, State::Reading) {
            self.grown = false;
            self.progress.set_give_back(false);
            self.state =
                State::Idle(Box::new(library(socket.into_inner(), self.role, &self.options)));
        }
    }

    /// Ends with the error of a finished read.
    #[cold]
    fn refuse(&mut self, error: WebSocketError, limit: usize) -> Result<Option<RawFrame>, Error> {
        if matches!(error, WebSocketError::UnexpectedEOF) {
            return self.end(Ok(())); // inside a frame the gate has made it an I/O error
        }
        let error = map::received(error, limit, self.progress.inside());
        if error.close_code().is_none() {
            return self.end(Err(error));
        }
        self.drain();
        Err(error)
    }

    /// Between frames: gives up on them and frees the library's buffers.
    fn drain(&mut self) {
        self.kept = None;
        self.copies = Copies::default();
        self.delivered = self.progress.whole();
        match mem::replace(&mut self.state, State::Reading) {
            State::New(gate) => self.state = State::Draining(gate.into_stream()),
            State::Idle(library) => {
                self.state = State::Draining(library.into_inner().into_stream());
            }
            State::Reading | State::Draining(_) | State::Ended(_) => {}
        }
    }

    fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        stream: Stream,
    ) -> Poll<Result<Option<RawFrame>, Error>> {
        let mut scratch = [0; 8 << 10];
        let mut discarded = 0;
        while discarded < DRAIN_AT_MOST {
            match stream.with(|stream| stream.poll_read(cx, &mut scratch)) {
                Poll::Ready(Ok(0)) => return Poll::Ready(self.end(Ok(()))),
                Poll::Ready(Ok(count)) => discarded += count,
                Poll::Ready(Err(error)) => return Poll::Ready(self.end(Err(map::io(error)))),
                Poll::Pending => {
                    self.state = State::Draining(stream);
                    return Poll::Pending;
                }
            }
        }
        self.state = State::Draining(stream);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ends reading for good and frees the library's buffers.
    fn end(&mut self, end: Result<(), Error>) -> Result<Option<RawFrame>, Error> {
        self.kept = None;
        self.copies = Copies::default();
        self.delivered = self.progress.whole();
        self.state = State::Ended(end.clone().err());
        end.map(|()| None)
    }
}

/// Copies of short payloads, several to a block.
#[derive(Default)]
struct Copies {
    /// What is left of the block.
    room: BytesMut,
    /// What the block took when it was begun.
    block: usize,
}

impl Copies {
    fn of(&mut self, payload: &[u8]) -> Bytes {
        let block = BLOCK.max(BLOCK_OF * payload.len());
        if payload.is_empty() || (self.block > block && self.room.capacity() >= payload.len()) {
            return Bytes::copy_from_slice(payload); // it would keep too much
        }
        if self.room.capacity() < payload.len() {
            self.room = BytesMut::with_capacity(block);
            self.block = block;
        }
        self.room.extend_from_slice(payload);
        self.room.split().freeze()
    }
}

fn library(gate: Gate, role: Role, options: &Options) -> Library {
    let role = match role {
        Role::Client => fastwebsockets::Role::Client,
        _ => fastwebsockets::Role::Server,
    };
    let mut library = WebSocket::after_handshake(gate, role);
    // The limits are the gate's; the library's refuses `length >= limit`, hence the one more.
    library.set_max_message_size(LARGEST_FRAME + 1);
    for hook in &options.hooks {
        hook(&mut library);
    }
    // These would write; the session answers.
    library.set_auto_close(false);
    library.set_auto_pong(false);
    library.set_auto_apply_mask(true);
    library
}
