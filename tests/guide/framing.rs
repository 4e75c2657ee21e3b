// src/framing.rs: the messages of tokio-websockets.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use drivetrain_codec::{StreamMonitor, TokioStream};
use drivetrain_engine::*;
use futures_util::{Sink as _, Stream as _};
use tokio::io::AsyncWrite as _;
use tokio_websockets::{self as library, ClientBuilder, Message, ServerBuilder, WebSocketStream};

const WHY: &str = "tokio-websockets sends and receives whole messages: use Native";

/// The value is the configuration: making it does nothing.
#[derive(Clone, Debug, Default)]
pub struct TokioWebSockets;

impl Framing for TokioWebSockets {
    fn support(&self, capability: Capability) -> Support {
        use Capability::*;
        match capability {
            SendFragments | MaxFrameSize | RawSessions => Support::missing(WHY),
            RsvBits | Extensions => Support::missing(WHY),
            _ => Support::of_frames(capability),
        }
    }

    fn duties(&self) -> Duties {
        Duties::messages().answering_ping().echoing_close().sending_close()
    }

    fn transport(
        &self,
        stream: BoxStream,
        read_ahead: Bytes,
        role: Role,
        _: &Accepted,
    ) -> Result<Box<dyn Transport>> {
        let (stream, monitor) = TokioStream::new(stream, read_ahead);
        let config = library::Config::default().frame_size(usize::MAX); // no fragments
        let socket = match role {
            Role::Client => ClientBuilder::new().config(config).take_over(stream),
            _ => ServerBuilder::new().config(config).serve(stream),
        };
        Ok(Box::new(Messages { socket, monitor, failed: false }))
    }
}

/// After a failure the peer's bytes are read and dropped.
struct Messages {
    socket: WebSocketStream<TokioStream>,
    monitor: StreamMonitor,
    failed: bool,
}

type Received = Result<Option<RawFrame>>;

impl Transport for Messages {
    fn poll_receive(&mut self, cx: &mut Context<'_>, max_payload: usize) -> Poll<Received> {
        if self.failed {
            let _ = Pin::new(&mut self.socket).poll_flush(cx); // the library's Close
            return self.socket.get_mut().poll_drain(cx).map_ok(|()| None);
        }
        // Control frames are under the library's limit too, and must arrive under any other.
        self.socket.limits_mut().set_max_payload_len(Some(max_payload.max(125)));
        let next = ready!(Pin::new(&mut self.socket).poll_next(cx)).transpose();
        let frame = next.map_err(received).and_then(|message| match message.map(frame) {
            Some(frame) if frame.payload.len() > max_payload && !frame.opcode.is_control() => {
                Err(Error::new(ErrorKind::TooBig, "a message is above the limit"))
            }
            frame => Ok(frame),
        });
        self.failed = frame.as_ref().is_err_and(|error| error.close_code().is_some());
        if self.failed {
            // The Close 1009, where the library has sent none: it takes no other.
            let _ = self.start_send(RawFrame::new(OpCode::Close, vec![3, 241]));
        }
        Poll::Ready(frame)
    }

    fn progress(&self) -> Option<Progress> {
        Some(self.monitor.progress())
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.socket).poll_ready(cx).map_err(received)
    }

    fn start_send(&mut self, frame: RawFrame) -> Result<()> {
        Pin::new(&mut self.socket).start_send(message(frame)?).map_err(received)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_flush(cx)).map_err(received)?;
        Poll::Ready(self.monitor.check())
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(self.poll_flush(cx))?;
        Pin::new(self.socket.get_mut()).poll_shutdown(cx).map_err(Error::from)
    }
}

fn frame(message: Message) -> RawFrame {
    let opcode = match &message {
        text if text.is_text() => OpCode::Text,
        binary if binary.is_binary() => OpCode::Binary,
        close if close.is_close() => OpCode::Close,
        ping if ping.is_ping() => OpCode::Ping,
        _ => OpCode::Pong,
    };
    RawFrame::new(opcode, Bytes::from(message.into_payload()))
}

/// The library panics at control frames that cannot be sent.
fn message(RawFrame { fin, rsv, opcode, payload }: RawFrame) -> Result<Message> {
    let invalid = || Error::new(ErrorKind::InvalidInput, "a control frame that cannot be sent");
    match (opcode, &payload[..]) {
        _ if !rsv.is_none() => Err(Error::not_offered(Capability::RsvBits, WHY)),
        (OpCode::Text, _) if fin => Ok(Message::text(payload)),
        (OpCode::Binary, _) if fin => Ok(Message::binary(payload)),
        (OpCode::Ping, _) if fin && payload.len() <= 125 => Ok(Message::ping(payload)),
        (OpCode::Pong, _) if fin && payload.len() <= 125 => Ok(Message::pong(payload)),
        (OpCode::Close, []) => Ok(Message::close(None, "")),
        (OpCode::Close, &[high, low, ref reason @ ..]) if fin && reason.len() <= 123 => {
            let code = library::CloseCode::try_from(u16::from_be_bytes([high, low]));
            let code = code.ok().filter(|code| !code.is_reserved()).ok_or_else(invalid)?;
            Ok(Message::close(Some(code), std::str::from_utf8(reason).map_err(|_| invalid())?))
        }
        _ if opcode.is_control() => Err(invalid()),
        _ => Err(Error::not_offered(Capability::SendFragments, WHY)),
    }
}

fn received(error: library::Error) -> Error {
    match error {
        library::Error::Io(error) => error.into(),
        library::Error::PayloadTooLong { .. } => {
            Error::new(ErrorKind::TooBig, "a message is above the limit").with_source(error)
        }
        library::Error::Protocol(rule) if rule.to_string().contains("utf-8") => Error::not_utf8(),
        error => Error::new(ErrorKind::Protocol, "the peer broke a rule").with_source(error),
    }
}
