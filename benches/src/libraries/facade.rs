//! Our engines, through the facade with its defaults and with keepalive on.

use std::{any::Any, net::SocketAddr, time::Duration};

use drivetrain::{
    Frame, HttpClient, Incoming, OpCode, Outgoing, RawFrame, Session, WebSockets,
    engine::{self, Engine},
};

use super::executor::Executor;
use crate::{
    Result,
    socket::{Receiving, Sending, Socket},
    subject::Library,
    wire::Wire,
};

/// Keepalive is on, and its pings are rare: between its runs a subject's runtime stands still, and then
/// nobody reads the pongs.
pub(super) const PING: Duration = Duration::from_secs(86_400);

/// An engine of ours.
pub(crate) struct Facade {
    name: &'static str,
    executor: Executor,
    client: HttpClient,
    over: Box<dyn Fn(Wire) -> Result<HttpClient>>,
}

fn facade<E: Engine>(
    name: &'static str,
    executor: Executor,
    engine: E,
    over: impl Fn(Wire) -> E + 'static,
) -> Result<Facade> {
    Ok(Facade {
        name,
        executor,
        client: client(engine)?,
        over: Box::new(move |wire| client(over(wire))),
    })
}

fn client(engine: impl Engine) -> Result<HttpClient> {
    Ok(HttpClient::builder(engine).install(WebSockets::new().ping_interval(PING)).build()?)
}

#[cfg(feature = "native")]
pub(crate) fn native() -> Result<Facade> {
    facade("native", Executor::tokio()?, engine::Native::new(), engine::Native::over)
}

#[cfg(feature = "tungstenite")]
pub(crate) fn tungstenite() -> Result<Facade> {
    facade("tungstenite", Executor::tokio()?, engine::Tungstenite::new(), engine::Tungstenite::over)
}

/// On a runtime with threads.
#[cfg(feature = "tungstenite")]
pub(crate) fn tungstenite_on_threads() -> Result<Facade> {
    let executor = Executor::tokio_threads()?;
    Ok(Facade { name: "tungstenite, threads", executor, ..tungstenite()? })
}

#[cfg(feature = "fastwebsockets")]
pub(crate) fn fastwebsockets() -> Result<Facade> {
    facade(
        "fastwebsockets",
        Executor::tokio()?,
        engine::FastWebSockets::new(),
        engine::FastWebSockets::over,
    )
}

#[cfg(feature = "async-std")]
pub(crate) fn async_std() -> Result<Facade> {
    facade("async-std", Executor::AsyncStd, engine::AsyncStd::new(), engine::AsyncStd::over)
}

#[cfg(feature = "smol")]
pub(crate) fn smol() -> Result<Facade> {
    facade("smol", Executor::Smol, engine::Smol::new(), engine::Smol::over)
}

#[cfg(feature = "native-async-std")]
pub(crate) fn native_async_std() -> Result<Facade> {
    facade(
        "native-async-std",
        Executor::AsyncStd,
        engine::NativeAsyncStd::new(),
        engine::NativeAsyncStd::over,
    )
}

#[cfg(feature = "native-smol")]
pub(crate) fn native_smol() -> Result<Facade> {
    facade("native-smol", Executor::Smol, engine::NativeSmol::new(), engine::NativeSmol::over)
}

impl Library for Facade {
    type Socket = Session;
    type InMemory = Session;

    fn name(&self) -> &str {
        self.name
    }

    fn engine(&self) -> &'static str {
        self.name
    }

    fn is_ours(&self) -> bool {
        true
    }

    fn executor(&self) -> &Executor {
        &self.executor
    }

    async fn connect(&self, server: SocketAddr, path: &str) -> Result<Session> {
        Ok(self.client.web_socket(format!("ws://{server}{path}")).connect().await?)
    }

    async fn connect_pinging(&self, server: SocketAddr, interval: Duration) -> Result<Session> {
        let socket = self.client.web_socket(format!("ws://{server}/echo"));
        Ok(socket.ping_interval(interval).connect().await?)
    }

    async fn connect_bare(&self, server: SocketAddr) -> Result<Option<Box<dyn Any + Send>>> {
        bare(&self.client, server).await
    }

    async fn connect_over(&self, wire: Wire, path: &str) -> Result<Session> {
        let client = (self.over)(wire)?;
        Ok(client.web_socket(format!("ws://localhost{path}")).connect().await?)
    }
}

/// Our own frames on a TCP stream that the caller has dialled, as an engine that knows nothing of it.
#[cfg(feature = "native")]
pub(crate) struct OverTcp(Executor);

#[cfg(feature = "native")]
impl OverTcp {
    pub(crate) fn new() -> Result<Self> {
        Executor::tokio().map(Self)
    }

    async fn client(server: SocketAddr) -> Result<HttpClient> {
        let stream = tokio::net::TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        client(engine::Native::over(stream))
    }
}

#[cfg(feature = "native")]
impl Library for OverTcp {
    type Socket = Session;
    type InMemory = Session;

    fn name(&self) -> &str {
        "native, over TCP"
    }

    fn engine(&self) -> &'static str {
        "native, over TCP"
    }

    fn is_ours(&self) -> bool {
        true
    }

    fn counts(&self) -> bool {
        false
    }

    fn executor(&self) -> &Executor {
        &self.0
    }

    async fn connect(&self, server: SocketAddr, path: &str) -> Result<Session> {
        let client = Self::client(server).await?;
        Ok(client.web_socket(format!("ws://{server}{path}")).connect().await?)
    }

    async fn connect_pinging(&self, server: SocketAddr, interval: Duration) -> Result<Session> {
        let client = Self::client(server).await?;
        let socket = client.web_socket(format!("ws://{server}/echo"));
        Ok(socket.ping_interval(interval).connect().await?)
    }

    async fn connect_bare(&self, server: SocketAddr) -> Result<Option<Box<dyn Any + Send>>> {
        bare(&Self::client(server).await?, server).await
    }

    async fn connect_over(&self, wire: Wire, path: &str) -> Result<Session> {
        native()?.connect_over(wire, path).await
    }
}

/// A connection without a session, after a message each way.
async fn bare(client: &HttpClient, server: SocketAddr) -> Result<Option<Box<dyn Any + Send>>> {
    let socket = client.web_socket(format!("ws://{server}/echo"));
    let mut connection = socket.connect_raw().await?;
    connection.send(RawFrame::new(OpCode::Text, vec![b'x'; 32])).await?;
    connection.receive().await?;
    Ok(Some(Box::new(connection)))
}

impl Sending for Session {
    async fn send(&mut self, text: &str) -> Result<()> {
        Ok(Self::send(self, text).await?)
    }

    async fn feed(&mut self, text: &str) -> Result<()> {
        Ok(Self::feed(self, text).await?)
    }

    async fn flush(&mut self) -> Result<()> {
        Ok(Self::flush(self).await?)
    }
}

impl Receiving for Session {
    async fn receive(&mut self) -> Result<usize> {
        size(Self::receive(self).await?)
    }
}

impl Socket for Session {
    type Sender = Outgoing;
    type Receiver = Incoming;

    fn split(self) -> (Outgoing, Incoming) {
        Self::split(self)
    }
}

impl Sending for Outgoing {
    async fn send(&mut self, text: &str) -> Result<()> {
        Ok(Self::send(self, text).await?)
    }

    async fn feed(&mut self, text: &str) -> Result<()> {
        Ok(Self::feed(self, text).await?)
    }

    async fn flush(&mut self) -> Result<()> {
        Ok(Self::flush(self).await?)
    }
}

impl Receiving for Incoming {
    async fn receive(&mut self) -> Result<usize> {
        size(Self::receive(self).await?)
    }
}

#[inline(always)]
fn size(frame: Option<Frame>) -> Result<usize> {
    match frame {
        Some(frame) => Ok(frame.payload().len()),
        None => Err("the session was closed".into()),
    }
}
