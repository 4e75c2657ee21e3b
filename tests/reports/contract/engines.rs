//! Engines that are the native one but for one thing.

use std::{
    future::Future,
    net::ToSocketAddrs as _,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use drivetrain::{
    Body, Capability, Error, ErrorKind, OpCode, RawFrame, Result, Support,
    engine::{Answer, Connection, Engine, Handshake, Native, Runtime, Transport, async_trait},
    http,
};
use drivetrain_conformance::{CountedStream, Deviation, Subject};
use tokio_util::compat::FuturesAsyncReadCompatExt as _;

use super::bytes::Bytes;

/// What is broken.
#[derive(Clone, Copy, Debug)]
pub(super) enum How {
    Nothing,
    /// The masking key of a connection's n-th frame.
    Keys(fn(u32) -> [u8; 4]),
    BusyReceive,
    BusySend,
    /// All memory that a header announces is taken and written to.
    TouchesMemory,
    FirstReceiveWaker,
    FirstSendWaker,
    /// Both directions register the receiver's waker, or else the sender's.
    OneWaker(bool),
    ControlUnderLimit,
    LaxControl,
    ResetIsEnd,
    AnyEndIsEnd,
    FreesLate,
    DropsBehindHead,
    /// Frames above 1 GiB are refused whatever the limit, and whether that is declared.
    UpToOneGib(bool),
    /// That is declared, and not so.
    OnlyDeclares,
}

#[derive(Debug)]
pub(super) struct Broken {
    how: How,
    inner: Native,
    stream: Option<Mutex<Option<CountedStream>>>,
}

impl Broken {
    fn new(how: How, stream: Option<CountedStream>) -> Self {
        Self { how, inner: Native::new(), stream: stream.map(|stream| Mutex::new(Some(stream))) }
    }

    pub(super) fn subject(how: How) -> impl Subject {
        OnTokio(how)
    }

    fn stream(&self, handshake: &Handshake) -> Result<CountedStream> {
        if let Some(stream) = &self.stream {
            let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
            return stream.ok_or_else(|| Error::new(ErrorKind::Connect, "the stream is used"));
        }
        let uri = handshake.uri();
        let target = (uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(80));
        let addr = target.to_socket_addrs()?.next();
        let addr = addr.ok_or_else(|| Error::new(ErrorKind::Connect, "the name has no address"))?;
        Ok(CountedStream::connect(addr)?)
    }
}

#[async_trait]
impl Engine for Broken {
    fn name(&self) -> &str {
        "broken"
    }

    fn support(&self, capability: Capability) -> Support {
        self.inner.support(capability)
    }

    fn runtime(&self) -> Result<Arc<dyn Runtime>> {
        self.inner.runtime()
    }

    async fn execute(&self, request: http::Request<Body>) -> Result<http::Response<Body>> {
        self.inner.execute(request).await
    }

    async fn connect(&self, handshake: Handshake) -> Result<Answer> {
        let stream = Bytes::new(self.stream(&handshake)?, self.how).compat();
        Ok(match Native::over(stream).connect(handshake).await? {
            Answer::Open(connection) => Answer::Open(wrapped(connection, |inner| Faulty {
                how: self.how,
                inner: Some(inner),
                receiver: None,
                sender: None,
            })),
            refused => refused,
        })
    }
}

/// The same connection with another transport.
pub(super) fn wrapped<T: Transport + 'static>(
    connection: Connection,
    wrap: impl FnOnce(Box<dyn Transport>) -> T,
) -> Connection {
    let subprotocol = connection.subprotocol().map(str::to_owned);
    let extensions = connection.extensions().to_vec();
    let (protocol, duties) = (connection.protocol(), connection.duties());
    let response = connection.response().map(|response| {
        let mut copy = http::Response::new(());
        *copy.status_mut() = response.status();
        *copy.headers_mut() = response.headers().clone();
        copy
    });
    let mut made = Connection::new(wrap(connection.into_transport()))
        .with_protocol(protocol)
        .with_duties(duties)
        .with_subprotocol(subprotocol)
        .with_extensions(extensions);
    if let Some(response) = response {
        made = made.with_response(response);
    }
    made
}

struct Faulty {
    how: How,
    /// Taken when it is dropped.
    inner: Option<Box<dyn Transport>>,
    receiver: Option<Waker>,
    sender: Option<Waker>,
}

impl Faulty {
    fn inner(&mut self) -> &mut dyn Transport {
        &mut **self.inner.as_mut().expect("it is taken by drop alone")
    }

    /// The waker that is registered for a read.
    fn reads_with(&mut self, own: &Waker) -> Waker {
        match self.how {
            How::FirstReceiveWaker => self.receiver.get_or_insert_with(|| own.clone()).clone(),
            How::OneWaker(false) => self.sender.clone().unwrap_or_else(|| own.clone()),
            _ => {
                self.receiver = Some(own.clone());
                own.clone()
            }
        }
    }

    /// The waker that is registered for a write.
    fn writes_with(&mut self, own: &Waker) -> Waker {
        match self.how {
            How::FirstSendWaker => self.sender.get_or_insert_with(|| own.clone()).clone(),
            How::OneWaker(true) => self.receiver.clone().unwrap_or_else(|| own.clone()),
            _ => {
                self.sender = Some(own.clone());
                own.clone()
            }
        }
    }
}

impl Transport for Faulty {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        max_payload: usize,
    ) -> Poll<Result<Option<RawFrame>>> {
        let waker = self.reads_with(cx.waker());
        let largest = if matches!(self.how, How::UpToOneGib(_)) { 1 << 30 } else { usize::MAX };
        let max_payload = max_payload.min(largest);
        let polled = self.inner().poll_receive(&mut Context::from_waker(&waker), max_payload);
        match (self.how, polled) {
            (How::BusyReceive, Poll::Pending) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            (How::ControlUnderLimit, Poll::Ready(Ok(Some(frame))))
                if frame.payload.len() > max_payload =>
            {
                Poll::Ready(Err(Error::new(ErrorKind::TooBig, "the frame is above the limit")))
            }
            (How::ResetIsEnd, Poll::Ready(Err(error))) if is_reset(&error) => Poll::Ready(Ok(None)),
            (How::AnyEndIsEnd, Poll::Ready(Err(error))) if error.kind() == ErrorKind::Io => {
                Poll::Ready(Ok(None))
            }
            (_, polled) => polled,
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let waker = self.writes_with(cx.waker());
        let polled = self.inner().poll_ready(&mut Context::from_waker(&waker));
        if matches!(self.how, How::BusySend) && polled.is_pending() {
            cx.waker().wake_by_ref();
        }
        polled
    }

    fn start_send(&mut self, frame: RawFrame) -> Result<()> {
        self.inner().start_send(frame)
    }

    fn try_send(&mut self, opcode: OpCode, payload: &[u8]) -> bool {
        self.inner().try_send(opcode, payload)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        let waker = self.writes_with(cx.waker());
        self.inner().poll_flush(&mut Context::from_waker(&waker))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner().poll_close(cx)
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        if matches!(self.how, How::FreesLate) {
            let inner = self.inner.take();
            thread::spawn(move || {
                thread::sleep(Duration::from_secs(15));
                drop(inner);
            });
        }
    }
}

fn is_reset(error: &Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset) {
            return true;
        }
        cause = error.source();
    }
    false
}

struct OnTokio(How);

impl Subject for OnTokio {
    fn name(&self) -> &str {
        "broken"
    }

    fn engine(&self) -> Box<dyn Engine> {
        Box::new(Broken::new(self.0, None))
    }

    fn over(&self, stream: CountedStream) -> Option<Box<dyn Engine>> {
        Some(Box::new(Broken::new(self.0, Some(stream))))
    }

    fn deviations(&self) -> &[Deviation] {
        match self.0 {
            How::UpToOneGib(true) | How::OnlyDeclares => &[Deviation::LargestFrame],
            _ => &[],
        }
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        on_tokio(future);
    }
}

pub(super) fn on_tokio(future: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(future);
}
