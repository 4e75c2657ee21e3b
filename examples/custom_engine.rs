//! Your own engine: complete in this file, without a network, used like any other.
//!
//! `cargo run --example custom_engine --features full`
//!
//! The engine `parrot` answers each HTTP request with its own body and echoes each message. For an engine over
//! sockets, and for the duties of an engine, see `docs/how-to/writing-an-engine.md`.
#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use drivetrain::{
    Body, Capability, CloseReason, Error, ErrorKind, Frame, HttpClient, OpCode, Protocol, RawFrame,
    Result, Support, WebSockets,
    engine::{
        Answer, Connection, Engine, Handshake, Instant, Runtime, Timer, Transport, async_trait,
    },
    http::{Request, Response, StatusCode},
};

#[tokio::main]
async fn main() -> Result<()> {
    let client = HttpClient::builder(Parrot)
        .install(
            WebSockets::new()
                .ping_interval(Duration::from_millis(20))
                .ping_timeout(Duration::from_secs(20)),
        )
        .build()?;

    let response = client.post("http://anywhere/").body("hello over HTTP").send().await?;
    println!("HTTP       {}: {}", response.status(), response.text().await?);

    let mut session = client.web_socket("ws://anywhere/").subprotocol("squawk").connect().await?;
    session.send("hello over a WebSocket").await?;
    let frame = session.receive().await?;
    println!("message    {:?}", frame.as_ref().and_then(Frame::read_text));
    println!("protocol   {:?}", session.subprotocol());
    println!("round trip {:?}", session.ping().await?);
    println!("closed     {}", session.close(CloseReason::normal()).await?);

    let refused = client.web_socket("ws://anywhere/nowhere").connect().await;
    println!("refused    {}", refused.expect_err("there is nothing at /nowhere"));
    let refused = client.get("https://anywhere/").send().await;
    println!("refused    {}", refused.expect_err("a parrot has no TLS"));
    Ok(())
}

/// The value is the configuration; a parrot has none.
#[derive(Debug)]
struct Parrot;

#[async_trait]
impl Engine for Parrot {
    fn name(&self) -> &str {
        "parrot"
    }

    fn support(&self, capability: Capability) -> Support {
        match capability {
            Capability::Http1
            | Capability::WebSockets
            | Capability::Subprotocols
            | Capability::HandshakeHeaders
            | Capability::MaxFrameSize
            | Capability::MaxMessageSize
            | Capability::PluginPing
            | Capability::SendPing
            | Capability::SendFragments
            | Capability::RawSessions
            | Capability::RsvBits
            | Capability::Extensions => Support::Offered,
            // The table grows: unknown capabilities are missing.
            _ => Support::missing("a parrot has no network"),
        }
    }

    fn runtime(&self) -> Result<Arc<dyn Runtime>> {
        let handle = tokio::runtime::Handle::try_current().map_err(|error| {
            Error::new(ErrorKind::Other, "engine `parrot` needs a tokio runtime").with_source(error)
        })?;
        Ok(Arc::new(Tokio { handle, origin: tokio::time::Instant::now() }))
    }

    async fn execute(&self, request: Request<Body>) -> Result<Response<Body>> {
        Ok(Response::new(request.into_body()))
    }

    async fn connect(&self, handshake: Handshake) -> Result<Answer> {
        if handshake.uri().path() == "/nowhere" {
            let mut response = Response::new(Body::from("there is nothing here"));
            *response.status_mut() = StatusCode::NOT_FOUND;
            return Ok(Answer::Refused(response));
        }
        let connection = Connection::new(Echo::default())
            .with_protocol(Protocol::Direct)
            .with_subprotocol(handshake.subprotocols().first().cloned());
        Ok(Answer::Open(connection))
    }
}

/// Returns every sent frame. Each direction has one waker: that of the latest call.
#[derive(Default)]
struct Echo {
    frames: VecDeque<RawFrame>,
    bytes: usize,
    /// The peer, which this file plays, has sent its Close.
    closed: bool,
    receiver: Option<Waker>,
    sender: Option<Waker>,
}

/// Above this, sending has to wait for receiving.
const HIGH_WATER: usize = 32 << 10;

impl Transport for Echo {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        max_payload: usize,
    ) -> Poll<Result<Option<RawFrame>>> {
        let Some(frame) = self.frames.pop_front() else {
            if self.closed {
                return Poll::Ready(Ok(None));
            }
            self.receiver = Some(cx.waker().clone());
            return Poll::Pending;
        };
        self.bytes -= frame.payload.len();
        if let Some(sender) = self.sender.take() {
            sender.wake();
        }
        if !frame.opcode.is_control() && frame.payload.len() > max_payload {
            let size = frame.payload.len();
            let message = format!("a frame of {size} bytes is above the limit of {max_payload}");
            return Poll::Ready(Err(Error::new(ErrorKind::TooBig, message)));
        }
        Poll::Ready(Ok(Some(frame)))
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.bytes >= HIGH_WATER {
            self.sender = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn start_send(&mut self, mut frame: RawFrame) -> Result<()> {
        match frame.opcode {
            OpCode::Ping => frame.opcode = OpCode::Pong,
            OpCode::Pong => return Ok(()),
            OpCode::Close => self.closed = true,
            OpCode::Text | OpCode::Binary | OpCode::Continuation => {}
        }
        self.bytes += frame.payload.len();
        self.frames.push_back(frame);
        if let Some(receiver) = self.receiver.take() {
            receiver.wake();
        }
        Ok(())
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Tasks and time for the sessions.
#[derive(Debug)]
struct Tokio {
    handle: tokio::runtime::Handle,
    origin: tokio::time::Instant,
}

impl Runtime for Tokio {
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.handle.spawn(future);
    }

    fn now(&self) -> Instant {
        Instant::from_origin(self.origin.elapsed())
    }

    fn timer(&self, deadline: Instant) -> Box<dyn Timer> {
        let _entered = self.handle.enter();
        let sleep = tokio::time::sleep_until(self.origin + deadline.since_origin());
        Box::new(Sleep { sleep: Box::pin(sleep), origin: self.origin })
    }
}

struct Sleep {
    sleep: Pin<Box<tokio::time::Sleep>>,
    origin: tokio::time::Instant,
}

impl Timer for Sleep {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sleep.as_mut().poll(cx)
    }

    fn reset(&mut self, deadline: Instant) {
        self.sleep.as_mut().reset(self.origin + deadline.since_origin());
    }
}
