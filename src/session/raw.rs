//! A session without any automatism: frames as they are.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use drivetrain_engine::{
    CloseReason, Connection, Error, ErrorKind, Extension, OpCode, Outcome, Protocol, RawFrame,
    Result, Runtime, Transport,
};
use futures_core::Stream;
use futures_sink::Sink;

use super::{config::SessionConfig, raw_closing::RawClosing};

/// An open WebSocket whose frames are yours: fragments, reserved bits and control frames are visible,
/// nothing is answered, checked for UTF-8 or put together, and no Close is sent for you. (Of UTF-8 one
/// engine is stricter, which `docs/limitations.md` says.)
///
/// Frames that break the wire format (reserved opcodes, wrong masking, a control frame that is too long)
/// and frames above the limit are still errors, in both directions. The order of fragments is yours: a
/// continuation without a beginning goes out. Made by
/// [`connect_raw`](crate::WebSocketRequest::connect_raw).
///
/// It is a [`Stream`] and a [`Sink`], too, and so `futures_util`'s `split` makes halves of it.
///
/// # Example
/// ```no_run
/// # async fn example(client: drivetrain::HttpClient) -> drivetrain::Result<()> {
/// use drivetrain::{CloseReason, OpCode, RawFrame};
///
/// let mut raw = client.web_socket("ws://127.0.0.1:8080/echo").connect_raw().await?;
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
    transport: Box<dyn Transport>,
    runtime: Arc<dyn Runtime>,
    /// Not needed by most.
    closing: Box<RawClosing>,
    max_frame_size: usize,
    protocol: Protocol,
    subprotocol: Option<String>,
    extensions: Vec<Extension>,
    response: Option<http::Response<()>>,
}

impl RawSession {
    pub(crate) fn new(
        connection: Connection,
        runtime: Arc<dyn Runtime>,
        config: &SessionConfig,
    ) -> Self {
        Self {
            runtime,
            closing: Box::new(RawClosing::new(config.close_timeout)),
            max_frame_size: config.limits.max_frame_size,
            protocol: connection.protocol(),
            subprotocol: connection.subprotocol().map(str::to_owned),
            extensions: connection.extensions().to_vec(),
            response: connection.response().cloned(),
            transport: connection.into_transport(),
        }
    }

    /// The next frame; `None` when the connection has ended between two frames.
    ///
    /// # Errors
    /// [`Protocol`](crate::ErrorKind::Protocol), [`TooBig`](crate::ErrorKind::TooBig) or
    /// [`Io`](crate::ErrorKind::Io).
    ///
    /// # Cancel safety
    /// Safe: a dropped future loses nothing.
    pub async fn receive(&mut self) -> Result<Option<RawFrame>> {
        poll_fn(|cx| self.poll_receive(cx)).await
    }

    /// Sends one frame and waits until it is written.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a control frame that is fragmented or has more than
    /// 125 bytes (RFC 6455 section 5.5), [`Unsupported`](crate::ErrorKind::Unsupported) for reserved bits on an
    /// engine without: nothing was sent. [`Io`](crate::ErrorKind::Io) if writing failed.
    ///
    /// # Cancel safety
    /// A frame is sent whole or not at all; dropped while pending, it may be either. What is not
    /// written yet is written by the next [`send`](Self::send) or [`flush`](Self::flush).
    pub async fn send(&mut self, frame: RawFrame) -> Result<()> {
        self.feed(frame).await?;
        self.flush().await
    }

    /// Takes one frame to be written with those after it, by the next [`send`](Self::send) or
    /// [`flush`](Self::flush), or when about 32 KiB have come together.
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    ///
    /// # Cancel safety
    /// Dropped while pending, the frame was not taken.
    pub async fn feed(&mut self, frame: RawFrame) -> Result<()> {
        check(&frame)?;
        let mut frame = Some(frame);
        poll_fn(|cx| {
            ready!(self.transport.poll_ready(cx))?;
            Poll::Ready(frame.take().map_or(Ok(()), |frame| self.take(frame)))
        })
        .await
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) if writing failed.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn flush(&mut self) -> Result<()> {
        poll_fn(|cx| self.transport.poll_flush(cx)).await
    }

    /// Writes what is pending and ends the sending direction of the stream; no Close frame is sent.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) if writing failed.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn shutdown(&mut self) -> Result<()> {
        poll_fn(|cx| self.transport.poll_close(cx)).await
    }

    /// Closes: writes what is pending, sends a Close unless one was sent, and reads up to the peer's Close,
    /// unless that was received, to the end of the stream, or until the
    /// [`close_timeout`](crate::WebSockets::close_timeout). Then it ends the sending direction of the stream.
    ///
    /// Frames that come before the peer's Close are thrown away; messages among them are counted in the
    /// outcome. Whoever wants them sends a Close and receives.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a code that must not be sent. How it ended, an unclean end too, is the
    /// [`Outcome`].
    ///
    /// # Cancel safety
    /// Calling it again goes on, within the same timeout; there is one Close.
    pub async fn close(&mut self, reason: CloseReason) -> Result<Outcome> {
        if !reason.code().may_travel() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("close code {} must not be sent", reason.code()),
            ));
        }
        let deadline = self.closing.begin(self.runtime.now());
        let mut timer = self.runtime.timer(deadline);
        poll_fn(|cx| {
            let Self { closing, transport, runtime, max_frame_size, .. } = self;
            let mut over = closing.poll(cx, &mut **transport, *max_frame_size, &reason);
            while over.is_pending() && timer.poll(cx).is_ready() {
                let now = runtime.now();
                if now >= deadline {
                    over = Poll::Ready(closing.timed_out());
                } else {
                    // A timer may be a little early on a coarse clock; it is asked again.
                    cx.waker().wake_by_ref();
                    break;
                }
            }
            let outcome = ready!(over);
            // Ends the stream in good order if that needs no waiting; dropping the session ends it anyway.
            let _ = transport.poll_close(cx);
            Poll::Ready(Ok(outcome))
        })
        .await
    }

    /// What carries the frames.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The subprotocol that was agreed on.
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// The extensions that were agreed on.
    pub fn extensions(&self) -> &[Extension] {
        &self.extensions
    }

    /// The response that accepted the handshake, where the engine shows it.
    pub fn response(&self) -> Option<&http::Response<()>> {
        self.response.as_ref()
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<RawFrame>>> {
        let frame = ready!(self.transport.poll_receive(cx, self.max_frame_size))?;
        if let Some(frame) = frame.as_ref().filter(|frame| frame.opcode == OpCode::Close) {
            self.closing.received(&frame.payload);
        }
        Poll::Ready(Ok(frame))
    }

    fn take(&mut self, frame: RawFrame) -> Result<()> {
        let close = (frame.opcode == OpCode::Close).then(|| frame.payload.clone());
        self.transport.start_send(frame)?;
        if let Some(payload) = close {
            self.closing.sent(&payload);
        }
        Ok(())
    }
}

/// [`receive`](RawSession::receive) again and again; it ends where that is `None`.
impl Stream for RawSession {
    type Item = Result<RawFrame>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_receive(cx).map(Result::transpose)
    }
}

/// Closing it is [`shutdown`](RawSession::shutdown): no Close frame is sent.
impl Sink<RawFrame> for RawSession {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.transport.poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: RawFrame) -> Result<()> {
        check(&frame)?;
        self.take(frame)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.transport.poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.transport.poll_close(cx)
    }
}

impl fmt::Debug for RawSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawSession").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

/// Refuses what is no frame, on every engine alike, before anything of it is sent.
fn check(frame: &RawFrame) -> Result<()> {
    if frame.opcode.is_control() && (!frame.fin || frame.payload.len() > 125) {
        let message = "a control frame has at most 125 bytes and is never fragmented";
        return Err(Error::new(ErrorKind::InvalidInput, message));
    }
    Ok(())
}
