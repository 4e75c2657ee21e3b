//! A connection in memory: the session at one end, the test at the other.

use std::{
    collections::VecDeque,
    fmt, io, mem,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use drivetrain_engine::{
    Connection, Error, ErrorKind, OpCode, Progress, Protocol, RawFrame, Result, Role, Transport,
};
use drivetrain_session::wake_all;

use super::{wire::FrameReader, worker::lock};

/// An open connection in memory and its other end: the session is the client.
///
/// The connection has the default duties: it delivers frames and does nothing by itself.
pub fn pipe() -> (Connection, PipePeer) {
    pipe_of(Role::Client)
}

/// The same for a session with this role; the peer has the other one.
pub fn pipe_of(role: Role) -> (Connection, PipePeer) {
    let (transport, peer) = ends(role);
    (Connection::new(transport).with_role(role).with_protocol(Protocol::Direct), peer)
}

/// State of both ends, for a session with this role.
pub(super) fn ends(role: Role) -> (impl Transport + 'static, PipePeer) {
    let pipe = Arc::new(Mutex::new(Pipe::new(role)));
    (PipeTransport(Arc::clone(&pipe)), PipePeer(pipe))
}

struct Pipe {
    to_session: VecDeque<Item>,
    wire: FrameReader,
    receive_waker: Option<Waker>,
    /// The peer answers Pings and Closes automatically.
    automatic: bool,
    /// The peer has sent a Close.
    has_closed: bool,
    /// The peer sends nothing more.
    has_ended: bool,
    /// A read takes all available items, as from a socket; otherwise one item.
    reads_ahead: bool,
    /// Number of items of `to_session` in the latest read.
    ahead: usize,
    /// The reason for refusing reserved bits.
    no_rsv: Option<Error>,
    peer_waker: Option<Waker>,
    /// Accepted by `start_send`, not yet written.
    encoded: VecDeque<RawFrame>,
    encoded_bytes: usize,
    to_peer: VecDeque<RawFrame>,
    writable: bool,
    write_error: Option<Error>,
    send_waker: Option<Waker>,
    writes: usize,
    reads: usize,
    /// Bytes so far, without frame heads.
    progress: Progress,
    shut_down: bool,
    dropped: bool,
    /// Wakers to wake and drop after the lock is released: a waker is user code.
    woken: Vec<Waker>,
    forgotten: Vec<Waker>,
}

enum Item {
    Frame(RawFrame),
    Bytes(Bytes),
    End,
    Error(Error),
}

/// The test's end of a [`pipe`], or of a [`pipe_of`].
pub struct PipePeer(Arc<Mutex<Pipe>>);

impl PipePeer {
    /// Sends a frame to the session.
    pub fn send(&mut self, frame: RawFrame) {
        self.push(Item::Frame(frame));
    }

    /// Sends bytes to the session as the peer writes them (a server unmasked, a client masked): frames, parts of frames,
    /// or invalid bytes. The codec decodes them, and refuses violations of RFC 6455 section 5.
    pub fn send_bytes(&mut self, bytes: impl Into<Bytes>) {
        self.push(Item::Bytes(bytes.into()));
    }

    /// Ends the stream after the sent data.
    pub fn end(&mut self) {
        self.push(Item::End);
    }

    /// Fails the session's reads after the sent data.
    pub fn fail(&mut self, error: Error) {
        self.push(Item::Error(error));
    }

    /// Fails the session's writes from now on.
    pub fn fail_writes(&mut self, error: Error) {
        with(&self.0, |pipe| {
            pipe.write_error = Some(error);
            pipe.woken.extend(pipe.send_waker.take());
        });
    }

    /// Whether the session can write. A stalled peer reads nothing: the session encodes 32 KiB and then
    /// waits. Default: it can.
    pub fn set_writable(&mut self, writable: bool) {
        with(&self.0, |pipe| {
            pipe.writable = writable;
            pipe.woken.extend(pipe.send_waker.take());
        });
    }

    /// The next frame that the session has written, if any.
    pub fn receive(&mut self) -> Option<RawFrame> {
        lock(&self.0).to_peer.pop_front()
    }

    /// Number of the session's writes: one per burst.
    pub fn writes(&self) -> usize {
        lock(&self.0).writes
    }

    /// Number of the session's reads, with or without data.
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

    /// Makes each read take all available items. Default: no.
    pub(super) fn read_ahead(&mut self) {
        lock(&self.0).reads_ahead = true;
    }

    /// Refuses frames with reserved bits.
    pub(super) fn refuse_rsv(&mut self, error: Error) {
        lock(&self.0).no_rsv = Some(error);
    }

    /// The next frame that the session has written; `None` after the last one.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<RawFrame>> {
        with(&self.0, |pipe| {
            if let Some(frame) = pipe.to_peer.pop_front() {
                return Poll::Ready(Some(frame));
            }
            if pipe.dropped || pipe.shut_down {
                return Poll::Ready(None);
            }
            pipe.forgotten.extend(pipe.peer_waker.replace(cx.waker().clone()));
            Poll::Pending
        })
    }

    /// Ready when the session has dropped the connection.
    pub(super) fn poll_dropped(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        with(&self.0, |pipe| {
            if pipe.dropped {
                return Poll::Ready(());
            }
            pipe.forgotten.extend(pipe.peer_waker.replace(cx.waker().clone()));
            Poll::Pending
        })
    }

    /// A second handle of this end.
    pub(super) fn again(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    fn push(&mut self, item: Item) {
        with(&self.0, |pipe| {
            pipe.push(item);
            pipe.woken.extend(pipe.receive_waker.take());
        });
    }
}

impl fmt::Debug for PipePeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pipe = lock(&self.0);
        f.debug_struct("PipePeer")
            .field("to_session", &pipe.to_session.len())
            .field("to_peer", &pipe.to_peer.len())
            .finish_non_exhaustive()
    }
}

struct PipeTransport(Arc<Mutex<Pipe>>);

const HIGH_WATER: usize = 32 << 10;

impl Pipe {
    fn new(role: Role) -> Self {
        Self {
            to_session: VecDeque::new(),
            wire: FrameReader::new(role),
            receive_waker: None,
            automatic: false,
            has_closed: false,
            has_ended: false,
            reads_ahead: false,
            ahead: 0,
            no_rsv: None,
            peer_waker: None,
            encoded: VecDeque::new(),
            encoded_bytes: 0,
            to_peer: VecDeque::new(),
            writable: true,
            write_error: None,
            send_waker: None,
            writes: 0,
            reads: 0,
            progress: Progress::default(),
            shut_down: false,
            dropped: false,
            woken: Vec::new(),
            forgotten: Vec::new(),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if let Some(error) = &self.write_error {
            return Poll::Ready(Err(error.clone()));
        }
        if self.encoded.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if !self.writable {
            self.forgotten.extend(self.send_waker.replace(cx.waker().clone()));
            return Poll::Pending;
        }
        self.encoded_bytes = 0;
        self.writes += 1;
        while let Some(frame) = self.encoded.pop_front() {
            self.progress.written += 1 + frame.payload.len();
            if self.automatic {
                self.answer(&frame);
            }
            self.to_peer.push_back(frame);
        }
        self.woken.extend(self.peer_waker.take());
        Poll::Ready(Ok(()))
    }

    /// The automatic answers of a peer.
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
        self.woken.extend(self.receive_waker.take());
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
        // One read takes all available items.
        self.ahead = if self.reads_ahead { self.to_session.len() } else { 0 };
        loop {
            if let Some(frame) = self.wire.next(max_payload) {
                return Poll::Ready(frame.map(Some));
            }
            self.ahead = self.ahead.saturating_sub(1);
            match self.to_session.pop_front() {
                None => {
                    self.forgotten.extend(self.receive_waker.replace(cx.waker().clone()));
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
                    return Poll::Ready(Err(Error::inside_frame(error)));
                }
                Some(Item::Bytes(bytes)) => self.take_bytes(&bytes),
                Some(Item::Frame(frame)) => {
                    if let Some(frame) = self.arrives(frame, max_payload) {
                        return Poll::Ready(frame.map(Some));
                    }
                }
            }
        }
    }

    /// The next frame from the latest read.
    fn read_buffered(&mut self, max_payload: usize) -> Option<Result<RawFrame>> {
        while self.reads_ahead {
            if let Some(frame) = self.wire.next(max_payload) {
                return Some(frame);
            }
            self.ahead = self.ahead.checked_sub(1)?;
            match self.to_session.pop_front()? {
                Item::Bytes(bytes) => self.take_bytes(&bytes),
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

    fn take_bytes(&mut self, bytes: &[u8]) {
        self.progress.received += bytes.len();
        self.wire.push(bytes);
    }

    fn arrives(&mut self, frame: RawFrame, max_payload: usize) -> Option<Result<RawFrame>> {
        if self.wire.is_inside() {
            // The rest of a frame that started as bytes.
            return self.wire.push_frame(&frame).err().map(Err);
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
        with(&self.0, |pipe| {
            pipe.reads += 1;
            pipe.poll_read(cx, max_payload)
        })
    }

    fn try_receive_buffered(&mut self, max_payload: usize) -> Option<Result<RawFrame>> {
        lock(&self.0).read_buffered(max_payload)
    }

    fn progress(&self) -> Option<Progress> {
        Some(lock(&self.0).progress)
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        with(&self.0, |pipe| {
            if pipe.encoded_bytes < HIGH_WATER && pipe.write_error.is_none() {
                return Poll::Ready(Ok(()));
            }
            pipe.poll_write(cx)
        })
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
        with(&self.0, |pipe| pipe.poll_write(cx))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        with(&self.0, |pipe| {
            let written = pipe.poll_write(cx);
            pipe.shut_down |= matches!(written, Poll::Ready(Ok(())));
            if pipe.shut_down {
                pipe.woken.extend(pipe.peer_waker.take());
            }
            written
        })
    }
}

impl Drop for PipeTransport {
    fn drop(&mut self) {
        with(&self.0, |pipe| {
            pipe.dropped = true;
            pipe.woken.extend(pipe.peer_waker.take());
        });
    }
}

/// Changes the pipe under its lock, and wakes the affected tasks after the lock is released.
fn with<R>(pipe: &Mutex<Pipe>, change: impl FnOnce(&mut Pipe) -> R) -> R {
    let mut pipe = lock(pipe);
    let result = change(&mut pipe);
    if pipe.woken.is_empty() && pipe.forgotten.is_empty() {
        return result;
    }
    let (woken, forgotten) = (mem::take(&mut pipe.woken), mem::take(&mut pipe.forgotten));
    drop(pipe);
    drop(forgotten);
    wake_all(woken);
    result
}
