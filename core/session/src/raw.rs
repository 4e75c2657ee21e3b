//! A raw session: frames without a session layer.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use drivetrain_engine::{
    CloseReason, Connection, Error, ErrorKind, NegotiatedExtension, OpCode, Outcome, Protocol,
    RawFrame, Result, Runtime,
};
use futures_core::Stream;
use futures_sink::Sink;

mod closing;
pub(crate) mod remote;
mod wire;

use self::{
    closing::RawClosing,
    remote::{Direction, RawFarewell, RawRemote},
    wire::RawWire,
};
use super::{config::SessionConfig, handle::SessionHandle};

/// An open WebSocket without a session layer: fragments, reserved bits and control frames are visible;
/// it answers nothing, validates no UTF-8, joins no fragments, and sends no Close. (One
/// engine validates UTF-8: `docs/reference/limitations.md`.)
///
/// Frames that break the wire format (reserved opcodes, wrong masking, an oversized control frame)
/// and frames above the limit are errors in both directions. You are responsible for the order of fragments: a
/// continuation without a first fragment is sent. Made by
/// `connect_raw`.
///
/// A raw session is a [`Stream`] and a [`Sink`], so `futures_util`'s `split` makes halves of it.
///
/// # Example
/// ```no_run
/// # use drivetrain_engine::Result;
/// use drivetrain_engine::{CloseReason, OpCode, RawFrame};
/// use drivetrain_session::RawSession;
///
/// # async fn example(mut raw: RawSession) -> Result<()> {
/// raw.send(RawFrame::new(OpCode::Text, "hel").not_final()).await?;
/// raw.send(RawFrame::new(OpCode::Continuation, "lo")).await?;
/// if let Some(frame) = raw.receive().await? {
///     println!("{frame:?}");
/// }
/// let outcome = raw.close(CloseReason::normal()).await?;
/// assert!(outcome.clean);
/// # Ok(()) }
/// ```
pub struct RawSession {
    /// `None` after the drop.
    wire: Option<Box<RawWire>>,
    /// Exists if somebody else may close the session.
    remote: OnceLock<Arc<RawRemote>>,
    protocol: Protocol,
    subprotocol: Option<String>,
    extensions: Vec<NegotiatedExtension>,
    response: Option<http::Response<()>>,
    request: Option<Box<http::Request<()>>>,
}

impl RawSession {
    /// A raw session on a connection. Of the options, `max_frame_size` and `close_timeout`
    /// apply.
    pub fn new(connection: Connection, runtime: Arc<dyn Runtime>, config: &SessionConfig) -> Self {
        Self {
            remote: OnceLock::new(),
            protocol: connection.protocol(),
            subprotocol: connection.subprotocol().map(str::to_owned),
            extensions: connection.extensions().to_vec(),
            response: connection.response().cloned(),
            request: connection.request().cloned().map(Box::new),
            wire: Some(Box::new(RawWire {
                runtime,
                closing: RawClosing::new(config.close_timeout),
                max_frame_size: config.max_frame_size,
                transport: connection.into_transport(),
            })),
        }
    }

    /// The session for those who do not own it, such as a registry. [`SessionHandle::close`] sends a Close in the next
    /// poll of the session: a pending call is woken for it. From then on the session accepts no frame, a Close is
    /// ignored, and other frames fail with [`ErrorKind::Closed`]; it still receives up to the peer's Close.
    pub fn handle(&self) -> SessionHandle {
        SessionHandle::of_raw(Arc::clone(self.remote()))
    }

    /// Sends the Close that a [`handle`](Self::handle) has asked for if the session is dropped before it could.
    pub fn farewell(&self) -> RawFarewell {
        RawFarewell::new(self.remote())
    }

    /// The next frame; `None` after an end of the connection between two frames, or after any end behind the peer's
    /// Close.
    ///
    /// # Errors
    /// [`Protocol`](drivetrain_engine::ErrorKind::Protocol), [`TooBig`](drivetrain_engine::ErrorKind::TooBig) or
    /// [`Io`](drivetrain_engine::ErrorKind::Io).
    ///
    /// # Cancel safety
    /// Safe: a dropped future loses nothing.
    pub async fn receive(&mut self) -> Result<Option<RawFrame>> {
        poll_fn(|cx| self.poll_receive(cx)).await
    }

    /// Sends one frame and waits until it is written.
    ///
    /// # Errors
    /// [`InvalidInput`](drivetrain_engine::ErrorKind::InvalidInput) for a control frame that is fragmented or has more than
    /// 125 bytes (RFC 6455 section 5.5), [`Unsupported`](drivetrain_engine::ErrorKind::Unsupported) for reserved bits on an
    /// engine without: nothing was sent. [`Io`](drivetrain_engine::ErrorKind::Io) if writing failed;
    /// [`Closed`](drivetrain_engine::ErrorKind::Closed) with the code if the peer's Close was received before.
    ///
    /// # Cancel safety
    /// A frame is sent completely or not at all; after a drop while pending, either is possible. Unwritten data
    /// is written by the next [`send`](Self::send) or [`flush`](Self::flush).
    pub async fn send(&mut self, frame: RawFrame) -> Result<()> {
        self.feed(frame).await?;
        self.flush().await
    }

    /// Accepts one frame, to write together with later ones at the next [`send`](Self::send) or
    /// [`flush`](Self::flush), or when about 32 KiB are pending.
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    ///
    /// # Cancel safety
    /// Dropped while pending, the frame was not accepted.
    pub async fn feed(&mut self, frame: RawFrame) -> Result<()> {
        check(&frame)?;
        let mut frame = Some(frame);
        poll_fn(|cx| {
            ready!(self.poll_ready(cx))?;
            Poll::Ready(frame.take().map_or(Ok(()), |frame| self.take(frame)))
        })
        .await
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    /// [`Io`](drivetrain_engine::ErrorKind::Io) if writing failed.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn flush(&mut self) -> Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Writes pending data and ends the sending direction of the stream. Sends no Close frame.
    ///
    /// # Errors
    /// [`Io`](drivetrain_engine::ErrorKind::Io) if writing failed.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn shutdown(&mut self) -> Result<()> {
        poll_fn(|cx| self.poll_close(cx)).await
    }

    /// Closes: writes pending data, sends a Close unless one was sent, and reads up to the peer's Close,
    /// unless that was received, to the end of the stream, or until the
    /// `close_timeout`. Then it ends the sending direction of the stream, on a client too. To wait for the
    /// server's end first (RFC 6455 section 7.1.1), send a Close and receive up to the end.
    ///
    /// Frames before the peer's Close are discarded, and their messages counted in the
    /// outcome. To read them, send a Close and receive.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a code that must not be sent. An unclean end is an
    /// [`Outcome`], not an error.
    ///
    /// # Cancel safety
    /// Another call continues, within the same timeout; there is one Close.
    pub async fn close(&mut self, reason: CloseReason) -> Result<Outcome> {
        if !reason.code().may_travel() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("close code {} must not be sent", reason.code()),
            ));
        }
        let reason = self.asked().unwrap_or(reason);
        self.closes();
        Ok(self.wire().close(&reason).await)
    }

    /// The protocol below the frames.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The negotiated subprotocol.
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// The negotiated extensions.
    pub fn extensions(&self) -> &[NegotiatedExtension] {
        &self.extensions
    }

    /// The response that accepted the handshake, if the engine has it.
    pub fn response(&self) -> Option<&http::Response<()>> {
        self.response.as_ref()
    }

    /// The handshake request, on a server.
    pub fn request(&self) -> Option<&http::Request<()>> {
        self.request.as_deref()
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<RawFrame>>> {
        let asked = self.asked();
        // The session reads whether the Close is written or not.
        if self.poll_asked(cx, asked.as_ref()).is_ready() && asked.is_some() {
            if let Some(remote) = self.remote.get() {
                remote.wake_writer();
            }
        }
        let received = self.wire().poll_receive(cx);
        match &received {
            Poll::Pending => self.wait(Direction::In, cx, asked.is_some()),
            Poll::Ready(Ok(Some(frame))) if frame.opcode != OpCode::Close => {}
            Poll::Ready(_) => self.closes(),
        }
        received
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.asked().is_some() {
            return Poll::Ready(Ok(())); // `take` refuses the frame
        }
        let ready = self.wire().poll_ready(cx);
        if ready.is_pending() {
            self.wait(Direction::Out, cx, false);
        }
        ready
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let asked = self.asked();
        let _ = self.poll_asked(cx, asked.as_ref());
        let flushed = self.wire().poll_flush(cx);
        if flushed.is_pending() {
            self.wait(Direction::Out, cx, asked.is_some());
        }
        flushed
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let asked = self.asked();
        ready!(self.poll_asked(cx, asked.as_ref()));
        let closed = self.wire().poll_close(cx);
        if closed.is_pending() {
            self.wait(Direction::Out, cx, asked.is_some());
        }
        closed
    }

    fn take(&mut self, frame: RawFrame) -> Result<()> {
        let is_close = frame.opcode == OpCode::Close;
        if let Some(reason) = self.asked() {
            return match is_close {
                true => Ok(()), // that one is sent instead
                false => Err(closed_from_outside(reason)),
            };
        }
        self.wire().take(frame)?;
        if is_close {
            self.closes();
        }
        Ok(())
    }

    /// The reason of the Close that a handle has asked for.
    fn asked(&self) -> Option<CloseReason> {
        self.remote.get()?.asked()
    }

    /// Sends the Close that was asked for. Ready when it is written, or there is none, or writing failed.
    fn poll_asked(&mut self, cx: &mut Context<'_>, asked: Option<&CloseReason>) -> Poll<()> {
        asked.map_or(Poll::Ready(()), |reason| self.wire().poll_write_close(cx, reason))
    }

    /// A handle wakes the task that waits in this direction.
    fn wait(&self, direction: Direction, cx: &mut Context<'_>, knows: bool) {
        let Some(remote) = self.remote.get().filter(|_| !knows) else { return };
        if remote.wait(direction, cx.waker()) {
            cx.waker().wake_by_ref(); // it was asked for meanwhile
        }
    }

    fn closes(&self) {
        if let Some(remote) = self.remote.get() {
            remote.closes();
        }
    }

    fn remote(&self) -> &Arc<RawRemote> {
        self.remote.get_or_init(Arc::default)
    }

    fn wire(&mut self) -> &mut RawWire {
        self.wire.as_mut().expect("only the drop takes it")
    }
}

impl Drop for RawSession {
    fn drop(&mut self) {
        if let Some(remote) = self.remote.take() {
            remote.ended(self.wire.take());
        }
    }
}

fn closed_from_outside(reason: CloseReason) -> Error {
    let message = format!("the session was closed from outside with {}", reason.code());
    let mut outcome = Outcome::default();
    outcome.sent = Some(reason);
    Error::new(ErrorKind::Closed, message).with_outcome(outcome)
}

/// Repeats [`receive`](RawSession::receive). Ends at `None` and after an error.
impl Stream for RawSession {
    type Item = Result<RawFrame>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.wire().closing.is_told {
            return Poll::Ready(None);
        }
        let received = ready!(self.poll_receive(cx));
        self.wire().closing.is_told = received.is_err();
        Poll::Ready(received.transpose())
    }
}

/// Closing it is [`shutdown`](RawSession::shutdown): no Close frame is sent.
impl Sink<RawFrame> for RawSession {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.get_mut().poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: RawFrame) -> Result<()> {
        check(&frame)?;
        self.take(frame)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.get_mut().poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.get_mut().poll_close(cx)
    }
}

impl fmt::Debug for RawSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawSession").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

/// Refuses an invalid frame, in the same way on every engine, before any byte is sent.
fn check(frame: &RawFrame) -> Result<()> {
    if frame.opcode.is_control() && (!frame.fin || frame.payload.len() > 125) {
        let message = "a control frame has at most 125 bytes and is never fragmented";
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    Ok(())
}
