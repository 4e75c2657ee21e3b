//! A connection in memory: the session at one end, the test at the other.

use std::{
    collections::VecDeque,
    fmt, io,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use drivetrain_engine::{
    Connection, Error, ErrorKind, OpCode, Protocol, RawFrame, Result, Transport,
};

use super::{
    wire::{Wire, encode},
    worker::lock,
};

/// An open connection in memory and its other end.
///
/// The connection has the default duties: it hands over frames and does nothing by itself.
pub fn pipe() -> (Connection, Peer) {
    let (transport, peer) = ends();
    (Connection::new(transport).with_protocol(Protocol::Direct), peer)
}

/// The two ends.
pub(super) fn ends() -> (impl Transport + 'static, Peer) {
    let pipe = Arc::new(Mutex::new(Pipe { writable: true, ..Pipe::default() }));
    (PipeTransport(Arc::clone(&pipe)), Peer(pipe))
}

#[derive(Default)]
struct Pipe {
    to_session: VecDeque<Item>,
    wire: Wire,
    receive_waker: Option<Waker>,
    /// The peer answers Pings and Closes by itself.
    automatic: bool,
    /// The peer's Close is on its way.
    has_closed: bool,
    /// Nothing comes from the peer any more.
    has_ended: bool,
    /// A read takes all that is there, as from a socket; else one thing after the other.
    reads_ahead: bool,
    /// How much of `to_session` the latest read has taken.
    ahead: usize,
    /// Reserved bits are refused, for this reason.
    no_rsv: Option<Error>,
    peer_waker: Option<Waker>,
    /// Taken by `start_send`, not written yet.
    encoded: VecDeque<RawFrame>,
    encoded_bytes: usize,
    to_peer: VecDeque<RawFrame>,
    writable: bool,
    write_error: Option<Error>,
    send_waker: Option<Waker>,
    writes: usize,
    reads: usize,
    shut_down: bool,
    dropped: bool,
}

enum Item {
    Frame(RawFrame),
    Bytes(Bytes),
    End,
    Error(Error),
}

/// The test's end of a [`pipe`].
pub struct Peer(Arc<Mutex<Pipe>>);

impl Peer {
    /// Sends a frame to the session.
    pub fn send(&mut self, frame: RawFrame) {
        self.push(Item::Frame(frame));
    }

    /// Sends bytes to the session, as a server writes them (unmasked): whole frames, parts of them, or garbage. A
    /// small reader of this crate's own makes frames of them and refuses what RFC 6455 section 5.2 forbids.
    pub fn send_bytes(&mut self, bytes: impl Into<Bytes>) {
        self.push(Item::Bytes(bytes.into()));
    }

    /// Ends the stream: the session reads its end after what was sent.
    pub fn end(&mut self) {
        self.push(Item::End);
    }

    /// Makes the session's reading fail after what was sent.
    pub fn fail(&mut self, error: Error) {
        self.push(Item::Error(error));
    }

    /// Makes the session's writing fail from now on.
    pub fn fail_writes(&mut self, error: Error) {
        let mut pipe = lock(&self.0);
        pipe.write_error = Some(error);
        wake(pipe.send_waker.take());
    }

    /// Whether the session can write. A stalled peer takes nothing: 32 KiB are encoded, then the session
    /// has to wait. Default: it can.
    pub fn set_writable(&mut self, writable: bool) {
        let mut pipe = lock(&self.0);
        pipe.writable = writable;
        wake(pipe.send_waker.take());
    }

    /// The next frame that the session has written, if there is one.
    pub fn receive(&mut self) -> Option<RawFrame> {
        lock(&self.0).to_peer.pop_front()
    }

    /// How often the session has written: a burst costs one.
    pub fn writes(&self) -> usize {
        lock(&self.0).writes
    }

    /// How often the session has come to read, whether there was anything or not.
    pub fn reads(&self) -> usize {
        lock(&self.0).reads
    }

    /// Whether the session has ended its direction of the stream.
    pub fn is_shut_down(&self) -> bool {
        lock(&self.0).shut_down
    }

    /// Whether the session has dropped the connection.
    pub fn is_dropped(&self) -> bool {
        lock(&self.0).dropped
    }

    /// Whether Pings are answered, and a Close with a Close and the end of the stream. Default: no.
    pub(super) fn set_automatic(&mut self, automatic: bool) {
        lock(&self.0).automatic = automatic;
    }

    /// Has each read take all that is there. Default: no.
    pub(super) fn read_ahead(&mut self) {
        lock(&self.0).reads_ahead = true;
    }

    /// Has frames with reserved bits refused.
    pub(super) fn refuse_rsv(&mut self, error: Error) {
        lock(&self.0).no_rsv = Some(error);
    }

    /// The next frame that the session has written; `None` when none can come any more.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<RawFrame>> {
        let mut pipe = lock(&self.0);
        if let Some(frame) = pipe.to_peer.pop_front() {
            return Poll::Ready(Some(frame));
        }
        if pipe.dropped || pipe.shut_down {
            return Poll::Ready(None);
        }
        pipe.peer_waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Ready when the session has dropped the connection.
    pub(super) fn poll_dropped(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut pipe = lock(&self.0);
        if pipe.dropped {
            return Poll::Ready(());
        }
        pipe.peer_waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The same end once more.
    pub(super) fn again(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    fn push(&mut self, item: Item) {
        let mut pipe = lock(&self.0);
        pipe.push(item);
        let waker = pipe.receive_waker.take();
        drop(pipe);
        wake(waker);
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pipe = lock(&self.0);
        f.debug_struct("Peer")
            .field("to_session", &pipe.to_session.len())
            .field("to_peer", &pipe.to_peer.len())
            .finish_non_exhaustive()
    }
}

struct PipeTransport(Arc<Mutex<Pipe>>);

const HIGH_WATER: usize = 32 << 10;

impl Pipe {
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if let Some(error) = &self.write_error {
            return Poll::Ready(Err(error.clone()));
        }
        if self.encoded.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if !self.writable {
            self.send_waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.encoded_bytes = 0;
        self.writes += 1;
        while let Some(frame) = self.encoded.pop_front() {
            if self.automatic {
                self.answer(&frame);
            }
            self.to_peer.push_back(frame);
        }
        wake(self.peer_waker.take());
        Poll::Ready(Ok(()))
    }

    /// What a peer does by itself.
    fn answer(&mut self, frame: &RawFrame) {
        match frame.opcode {
            OpCode::Ping => {
                self.push(Item::Frame(RawFrame::new(OpCode::Pong, frame.payload.clone())));
            }
            OpCode::Close => {
                if !self.has_closed {
                    self.push(Item::Frame(frame.clone()));
                }
                self.push(Item::End);
            }
            _ => return,
        }
        wake(self.receive_waker.take());
    }

    fn push(&mut self, item: Item) {
        if self.has_ended {
            return;
        }
        match &item {
            Item::Frame(frame) => self.has_closed |= frame.opcode == OpCode::Close,
            Item::End | Item::Error(_) => self.has_ended = true,
            Item::Bytes(_) => {}
        }
        self.to_session.push_back(item);
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        max_payload: usize,
    ) -> Poll<Result<Option<RawFrame>>> {
        // One read takes what is there.
        self.ahead = if self.reads_ahead { self.to_session.len() } else { 0 };
        loop {
            if let Some(frame) = self.wire.next(max_payload) {
                return Poll::Ready(frame.map(Some));
            }
            self.ahead = self.ahead.saturating_sub(1);
            match self.to_session.pop_front() {
                None => {
                    self.receive_waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                Some(Item::Error(error)) => return Poll::Ready(Err(error)),
                Some(Item::End) => {
                    self.to_session.push_front(Item::End);
                    if !self.wire.is_inside() {
                        return Poll::Ready(Ok(None));
                    }
                    self.wire.close();
                    let error = io::Error::from(io::ErrorKind::UnexpectedEof);
                    return Poll::Ready(Err(error.into()));
                }
                Some(Item::Bytes(bytes)) => self.wire.push(&bytes),
                Some(Item::Frame(frame)) => {
                    if let Some(frame) = self.arrives(frame, max_payload) {
                        return Poll::Ready(frame.map(Some));
                    }
                }
            }
        }
    }

    /// The next frame of what the latest read has taken.
    fn read_buffered(&mut self, max_payload: usize) -> Option<Result<RawFrame>> {
        while self.reads_ahead {
            if let Some(frame) = self.wire.next(max_payload) {
                return Some(frame);
            }
            self.ahead = self.ahead.checked_sub(1)?;
            match self.to_session.pop_front()? {
                Item::Bytes(bytes) => self.wire.push(&bytes),
                Item::Frame(frame) => {
                    if let Some(frame) = self.arrives(frame, max_payload) {
                        return Some(frame);
                    }
                }
                end @ (Item::End | Item::Error(_)) => {
                    self.to_session.push_front(end);
                    return None;
                }
            }
        }
        None
    }

    fn arrives(&mut self, frame: RawFrame, max_payload: usize) -> Option<Result<RawFrame>> {
        if self.wire.is_inside() {
            // The rest of a frame that was begun with bytes.
            self.wire.push(&encode(&frame));
            return None;
        }
        (!self.wire.is_closed()).then(|| fitting(frame, max_payload))
    }
}

fn fitting(frame: RawFrame, max_payload: usize) -> Result<RawFrame> {
    let size = frame.payload.len();
    if frame.opcode.is_control() || size <= max_payload {
        return Ok(frame);
    }
    let message = format!("a frame of {size} bytes is above the limit of {max_payload}");
    Err(Error::new(ErrorKind::TooBig, message))
}

impl Transport for PipeTransport {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        max_payload: usize,
    ) -> Poll<Result<Option<RawFrame>>> {
        let mut pipe = lock(&self.0);
        pipe.reads += 1;
        pipe.poll_read(cx, max_payload)
    }

    fn try_receive_buffered(&mut self, max_payload: usize) -> Option<Result<RawFrame>> {
        lock(&self.0).read_buffered(max_payload)
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let mut pipe = lock(&self.0);
        if pipe.encoded_bytes < HIGH_WATER && pipe.write_error.is_none() {
            return Poll::Ready(Ok(()));
        }
        pipe.poll_write(cx)
    }

    fn start_send(&mut self, frame: RawFrame) -> Result<()> {
        let mut pipe = lock(&self.0);
        if let (Some(error), false) = (&pipe.no_rsv, frame.rsv.is_none()) {
            return Err(error.clone());
        }
        pipe.encoded_bytes += frame.payload.len();
        pipe.encoded.push_back(frame);
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        lock(&self.0).poll_write(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let mut pipe = lock(&self.0);
        let written = pipe.poll_write(cx);
        pipe.shut_down |= matches!(written, Poll::Ready(Ok(())));
        if pipe.shut_down {
            wake(pipe.peer_waker.take());
        }
        written
    }
}

impl Drop for PipeTransport {
    fn drop(&mut self) {
        let mut pipe = lock(&self.0);
        pipe.dropped = true;
        let waker = pipe.peer_waker.take();
        drop(pipe);
        wake(waker);
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
