//! The peer of a WebSocket, controlled by the test.

use std::{fmt, future::poll_fn, io};

use bytes::{Bytes, BytesMut};
use drivetrain_engine::{
    CloseReason, Error, ErrorKind, Frame, OpCode, RawFrame, Result, Utf8Bytes,
};

use super::MockRequest;
use crate::testing::PipePeer;

/// The server's end of a WebSocket that a [`MockEngine`](super::MockEngine) has opened.
///
/// By default it behaves as a correct server: it answers Pings, and answers a Close
/// with the same Close and the end of the stream, also without a receiver.
/// [`set_automatic`](Self::set_automatic) switches this off. Sending does not wait. Dropping the peer ends the
/// stream without a Close.
///
/// ```
/// use drivetrain::{Frame, HttpClient, testing::MockEngine};
///
/// let mock = MockEngine::new();
/// mock.web_socket("/chat").open();
/// let client = HttpClient::new(mock.clone());
/// mock.clock().block_on(async {
///     let mut session = client.web_socket("ws://example.com/chat").connect().await?;
///     let mut peer = mock.accept().await?;
///     peer.send("welcome");
///     assert_eq!(session.receive().await?, Some(Frame::from("welcome")));
///     session.send("thanks").await?;
///     assert_eq!(peer.receive().await?, Some(Frame::from("thanks")));
///     peer.reset();
///     assert!(session.receive().await.is_err());
///     Ok::<_, drivetrain::Error>(())
/// })?;
/// # Ok::<(), drivetrain::Error>(())
/// ```
pub struct MockPeer {
    pipe: PipePeer,
    request: MockRequest,
    automatic: bool,
    /// Dropping it ends the stream.
    is_owned: bool,
    /// The incomplete message.
    partial: Option<(OpCode, BytesMut)>,
}

impl MockPeer {
    pub(super) fn new(mut pipe: PipePeer, request: MockRequest, automatic: bool) -> Self {
        pipe.set_automatic(automatic);
        pipe.read_ahead();
        Self { pipe, request, automatic, is_owned: true, partial: None }
    }

    /// The handshake that opened it.
    pub fn request(&self) -> &MockRequest {
        &self.request
    }

    /// Sends a message or a control frame.
    pub fn send(&mut self, frame: impl Into<Frame>) {
        let frame = frame.into();
        let opcode = match &frame {
            Frame::Text(_) => OpCode::Text,
            Frame::Binary(_) => OpCode::Binary,
            Frame::Ping(_) => OpCode::Ping,
            Frame::Pong(_) => OpCode::Pong,
            Frame::Close(_) => OpCode::Close,
        };
        self.send_frame(RawFrame::new(opcode, frame.into_bytes()));
    }

    /// Sends a frame unchanged: a fragment, a frame with reserved bits, or an invalid frame.
    pub fn send_frame(&mut self, frame: RawFrame) {
        self.pipe.send(frame);
    }

    /// Sends bytes unchanged: parts of a frame, or invalid bytes. A small reader of this crate
    /// refuses violations of RFC 6455 section 5.2 (reserved opcodes, masked frames, oversized control frames,
    /// non-minimal lengths). The session refuses other violations, as on every engine.
    pub fn send_raw(&mut self, bytes: impl Into<Bytes>) {
        self.pipe.send_bytes(bytes);
    }

    /// The client's next message, Close or Pong; `None` after the end of the stream.
    /// Pings are answered and skipped, unless this is [switched off](Self::set_automatic).
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] for frames of a raw session that are no messages, such as invalid UTF-8
    /// and reserved bits: see [`receive_frame`](Self::receive_frame).
    ///
    /// # Cancel safety
    /// Safe: a dropped future loses nothing.
    pub async fn receive(&mut self) -> Result<Option<Frame>> {
        loop {
            match self.next().await? {
                Some(Frame::Ping(_)) if self.automatic => {}
                frame => return Ok(frame),
            }
        }
    }

    /// The client's next frame unchanged, including fragments and Pings; `None` after the end of the
    /// stream.
    ///
    /// # Cancel safety
    /// Safe: a dropped future loses nothing.
    pub async fn receive_frame(&mut self) -> Option<RawFrame> {
        poll_fn(|cx| self.pipe.poll_frame(cx)).await
    }

    /// Sends a Close with this reason. The stream ends after the client's Close, unless this is
    /// [switched off](Self::set_automatic).
    pub fn close(&mut self, reason: CloseReason) {
        self.send(reason);
    }

    /// Ends the stream without sending a Close; inside a frame if only a part was sent.
    pub fn eof(&mut self) {
        self.pipe.end();
    }

    /// Resets the connection: the client's reads fail after the sent data, its writes at once.
    pub fn reset(&mut self) {
        self.fail(io::Error::from(io::ErrorKind::ConnectionReset).into());
    }

    /// Fails the client's reads after the sent data, and its writes at once, with this error.
    pub fn fail(&mut self, error: Error) {
        self.pipe.fail(error.clone());
        self.pipe.fail_writes(error);
    }

    /// Stops reading: Pings stay unanswered, and the client can write 32 KiB before it waits. Data from this
    /// end sends still arrives.
    pub fn stall(&mut self) {
        self.pipe.set_writable(false);
    }

    /// Ends a [`stall`](Self::stall).
    pub fn resume(&mut self) {
        self.pipe.set_writable(true);
    }

    /// Whether Pings are answered, and a Close with a Close and the end of the stream. Default: yes.
    pub fn set_automatic(&mut self, automatic: bool) {
        self.automatic = automatic;
        self.pipe.set_automatic(automatic);
    }

    /// Number of the client's writes: one per burst.
    pub fn writes(&self) -> usize {
        self.pipe.writes()
    }

    /// Whether the client has dropped the connection.
    pub fn is_dropped(&self) -> bool {
        self.pipe.is_dropped()
    }

    /// Waits until the client has dropped the connection.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn dropped(&mut self) {
        poll_fn(|cx| self.pipe.poll_dropped(cx)).await;
    }

    /// The connection, for code that ends it instead of this value.
    pub(super) fn disown(&mut self) -> PipePeer {
        self.is_owned = false;
        self.pipe.again()
    }

    /// The next message or control frame.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>> {
        loop {
            let Some(frame) = self.receive_frame().await else { return Ok(None) };
            if let Some(frame) = self.take(frame)? {
                return Ok(Some(frame));
            }
        }
    }

    fn take(&mut self, frame: RawFrame) -> Result<Option<Frame>> {
        let RawFrame { fin, rsv, opcode, payload } = frame;
        if !rsv.is_none() {
            return Err(violation("the client sent a frame with reserved bits: use receive_frame"));
        }
        match opcode {
            OpCode::Ping => return Ok(Some(Frame::Ping(payload))),
            OpCode::Pong => return Ok(Some(Frame::Pong(payload))),
            OpCode::Close => {
                return CloseReason::from_payload(&payload)
                    .map(|reason| Some(Frame::Close(reason)));
            }
            OpCode::Text | OpCode::Binary if self.partial.is_none() => {
                self.partial = Some((opcode, BytesMut::from(payload)));
            }
            OpCode::Continuation => match &mut self.partial {
                Some((_, message)) => message.extend_from_slice(&payload),
                None => {
                    return Err(violation("the client continued a message that it had not begun"));
                }
            },
            _ => return Err(violation("the client began a message inside another")),
        }
        let Some((opcode, message)) = self.partial.take_if(|_| fin) else { return Ok(None) };
        let message = message.freeze();
        if opcode == OpCode::Binary {
            return Ok(Some(Frame::Binary(message)));
        }
        match Utf8Bytes::try_from(message) {
            Ok(text) => Ok(Some(Frame::Text(text))),
            Err(_) => Err(violation("the client sent a text that is not UTF-8")),
        }
    }
}

impl Drop for MockPeer {
    fn drop(&mut self) {
        if self.is_owned {
            self.pipe.end();
        }
    }
}

impl fmt::Debug for MockPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockPeer").field("request", &self.request).finish_non_exhaustive()
    }
}

fn violation(message: &'static str) -> Error {
    Error::new(ErrorKind::Protocol, message)
}
