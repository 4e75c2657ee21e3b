//! A session without any automatism: frames as they are.

use std::{fmt, future::poll_fn};

use drivetrain_engine::{Connection, NegotiatedExtension, Protocol, RawFrame, Result, Transport};

/// An open WebSocket whose frames are yours: fragments, reserved bits and control frames are visible,
/// nothing is answered, checked for UTF-8 or put together, and no Close is sent for you. (Of UTF-8 one
/// engine is stricter, which `docs/limitations.md` says.)
///
/// Frames that break the wire format (reserved opcodes, wrong masking, a control frame that is too long)
/// and frames above the limit are still errors. Made by
/// [`connect_raw`](crate::WebSocketRequest::connect_raw).
///
/// # Example
/// ```no_run
/// # async fn example(client: drivetrain::HttpClient) -> drivetrain::Result<()> {
/// use drivetrain::{OpCode, RawFrame};
///
/// let mut raw = client.web_socket("ws://127.0.0.1:8080/echo").connect_raw().await?;
/// raw.send(RawFrame::new(OpCode::Text, "hel").not_final()).await?;
/// raw.send(RawFrame::new(OpCode::Continuation, "lo")).await?;
/// while let Some(frame) = raw.receive().await? {
///     println!("{frame:?}");
/// }
/// # Ok(()) }
/// ```
pub struct RawSession {
    transport: Box<dyn Transport>,
    max_frame_size: usize,
    protocol: Protocol,
    subprotocol: Option<String>,
    extensions: Vec<NegotiatedExtension>,
    response: Option<http::Response<()>>,
}

impl RawSession {
    pub(crate) fn new(connection: Connection, max_frame_size: usize) -> Self {
        Self {
            max_frame_size,
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
        poll_fn(|cx| self.transport.poll_receive(cx, self.max_frame_size)).await
    }

    /// Sends one frame and waits until it is written.
    ///
    /// # Errors
    /// [`Io`](crate::ErrorKind::Io) if writing failed.
    ///
    /// # Cancel safety
    /// A frame is sent whole or not at all; dropped while pending, it may be either. What is not
    /// written yet is written by the next [`send`](Self::send) or [`flush`](Self::flush).
    pub async fn send(&mut self, frame: RawFrame) -> Result<()> {
        let mut frame = Some(frame);
        poll_fn(|cx| {
            if frame.is_some() {
                std::task::ready!(self.transport.poll_ready(cx))?;
            }
            if let Some(frame) = frame.take() {
                self.transport.start_send(frame)?;
            }
            self.transport.poll_flush(cx)
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

    /// What carries the frames.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The subprotocol that was agreed on.
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// The extensions that were agreed on.
    pub fn extensions(&self) -> &[NegotiatedExtension] {
        &self.extensions
    }

    /// The response that accepted the handshake, where the engine shows it.
    pub fn response(&self) -> Option<&http::Response<()>> {
        self.response.as_ref()
    }
}

impl fmt::Debug for RawSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawSession").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}
