//! A connection in memory: the session at one end, the test at the other.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use drivetrain_engine::{
    Answer, Body, Capability, Connection, Engine, Error, ErrorKind, Handshake, Protocol, RawFrame,
    Result, Runtime, Support, Transport, async_trait,
};

use super::TestRuntime;

/// An open connection in memory and its other end.
///
/// The connection has the default duties: it hands over frames and does nothing by itself.
pub fn pipe() -> (Connection, Peer) {
    let pipe = Arc::new(Mutex::new(Pipe { writable: true, ..Pipe::default() }));
    let connection =
        Connection::new(PipeTransport(Arc::clone(&pipe))).with_protocol(Protocol::Direct);
    (connection, Peer(pipe))
}

#[derive(Default)]
struct Pipe {
    to_session: VecDeque<Result<Option<RawFrame>>>,
    receive_waker: Option<Waker>,
    /// Taken by `start_send`, not written yet.
    encoded: VecDeque<RawFrame>,
    encoded_bytes: usize,
    to_peer: VecDeque<RawFrame>,
    writable: bool,
    write_error: Option<Error>,
    send_waker: Option<Waker>,
    writes: usize,
    shut_down: bool,
    dropped: bool,
}

/// The test's end of a [`pipe`].
pub struct Peer(Arc<Mutex<Pipe>>);

impl Peer {
    /// Sends a frame to the session.
    pub fn send(&mut self, frame: RawFrame) {
        self.push(Ok(Some(frame)));
    }

    /// Ends the stream: the session reads its end after what was sent.
    pub fn end(&mut self) {
        self.push(Ok(None));
    }

    /// Makes the session's reading fail after what was sent.
    pub fn fail(&mut self, error: Error) {
        self.push(Err(error));
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

    /// Whether the session has ended its direction of the stream.
    pub fn is_shut_down(&self) -> bool {
        lock(&self.0).shut_down
    }

    /// Whether the session has dropped the connection.
    pub fn is_dropped(&self) -> bool {
        lock(&self.0).dropped
    }

    fn push(&mut self, item: Result<Option<RawFrame>>) {
        let mut pipe = lock(&self.0);
        pipe.to_session.push_back(item);
        wake(pipe.receive_waker.take());
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
        self.to_peer.append(&mut self.encoded);
        self.encoded_bytes = 0;
        self.writes += 1;
        Poll::Ready(Ok(()))
    }
}

impl Transport for PipeTransport {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        max_payload: usize,
    ) -> Poll<Result<Option<RawFrame>>> {
        let mut pipe = lock(&self.0);
        match pipe.to_session.front() {
            None => {
                pipe.receive_waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(Ok(None)) => Poll::Ready(Ok(None)),
            Some(Ok(Some(frame)))
                if !frame.opcode.is_control() && frame.payload.len() > max_payload =>
            {
                let size = frame.payload.len();
                pipe.to_session.pop_front();
                Poll::Ready(Err(Error::new(
                    ErrorKind::TooBig,
                    format!("a frame of {size} bytes is above the limit of {max_payload}"),
                )))
            }
            Some(_) => Poll::Ready(pipe.to_session.pop_front().unwrap_or(Ok(None))),
        }
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
        written
    }
}

impl Drop for PipeTransport {
    fn drop(&mut self) {
        lock(&self.0).dropped = true;
    }
}

/// What the options of a session on a pipe are worked out against: everything is offered.
#[derive(Debug)]
pub(super) struct PipeEngine(pub(super) TestRuntime);

#[async_trait]
impl Engine for PipeEngine {
    fn name(&self) -> &str {
        "pipe"
    }

    fn support(&self, _: Capability) -> Support {
        Support::Offered
    }

    fn runtime(&self) -> Result<Arc<dyn Runtime>> {
        Ok(Arc::new(self.0.clone()))
    }

    async fn execute(&self, _: http::Request<Body>) -> Result<http::Response<Body>> {
        Err(Error::new(ErrorKind::Connect, "a pipe has no HTTP"))
    }

    async fn connect(&self, _: Handshake) -> Result<Answer> {
        Err(Error::new(ErrorKind::Connect, "a pipe is open already"))
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// A test that has panicked may still look at the pipe.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
