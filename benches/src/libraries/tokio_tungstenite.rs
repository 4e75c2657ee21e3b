//! tokio-tungstenite as its README uses it: a stream and a sink of messages.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

use super::{executor::Executor, streaming::Streaming};
use crate::{Result, subject::Library, wire::Wire};

pub(crate) struct TokioTungstenite {
    name: &'static str,
    engine: &'static str,
    executor: Executor,
    config: WebSocketConfig,
}

impl TokioTungstenite {
    /// As it is shipped: it reads into 128 KiB.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            name: "tokio-tungstenite",
            engine: "tungstenite",
            executor: Executor::tokio()?,
            config: WebSocketConfig::default(),
        })
    }

    /// Reads into a buffer of our engines' size.
    pub(crate) fn with_small_buffer() -> Result<Self> {
        let config = WebSocketConfig::default().read_buffer_size(16 << 10);
        Ok(Self { name: "tokio-tungstenite, 16 KiB", config, ..Self::new()? })
    }

    /// The same on a runtime that has a timer set, as keepalive sets one.
    pub(crate) fn with_timer() -> Result<Self> {
        Ok(Self {
            name: "tokio-tungstenite, 16 KiB, a timer",
            executor: Executor::tokio_with_timer()?,
            ..Self::with_small_buffer()?
        })
    }

    /// On a runtime with threads.
    pub(crate) fn threads() -> Result<Self> {
        Ok(Self {
            name: "tokio-tungstenite, threads",
            engine: "tungstenite, threads",
            executor: Executor::tokio_threads()?,
            ..Self::with_small_buffer()?
        })
    }

    async fn open<S>(
        &self,
        stream: S,
        url: String,
    ) -> Result<Streaming<WebSocketStream<S>, Message>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        Ok(Streaming::new(client_async_with_config(url, stream, Some(self.config)).await?.0))
    }
}

impl Library for TokioTungstenite {
    type Socket = Streaming<WebSocketStream<TcpStream>, Message>;
    type InMemory = Streaming<WebSocketStream<Wire>, Message>;

    fn name(&self) -> &str {
        self.name
    }

    fn engine(&self) -> &'static str {
        self.engine
    }

    fn executor(&self) -> &Executor {
        &self.executor
    }

    async fn connect(&self, server: SocketAddr, path: &str) -> Result<Self::Socket> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        self.open(stream, format!("ws://{server}{path}")).await
    }

    async fn connect_over(&self, wire: Wire, path: &str) -> Result<Self::InMemory> {
        self.open(wire, format!("ws://localhost{path}")).await
    }
}
