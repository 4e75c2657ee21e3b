//! tokio-tungstenite as its README uses it: a stream and a sink of messages.

use std::{future::Future, net::SocketAddr};

use futures_util::{SinkExt, StreamExt as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

use super::executor::Executor;
use crate::{Result, contender::Library, wire::Wire, work::Socket};

pub(crate) struct TokioTungstenite {
    name: &'static str,
    executor: Executor,
    config: WebSocketConfig,
}

impl TokioTungstenite {
    /// As it is shipped: it reads into 128 KiB.
    pub(crate) fn new() -> Result<Self> {
        let config = WebSocketConfig::default();
        Ok(Self { name: "tokio-tungstenite", executor: Executor::tokio()?, config })
    }

    /// It reads into what our engines read into.
    pub(crate) fn with_small_buffer() -> Result<Self> {
        let config = WebSocketConfig::default().read_buffer_size(16 << 10);
        Ok(Self { name: "tokio-tungstenite, 16 KiB", config, ..Self::new()? })
    }

    async fn open<S>(&self, stream: S, url: String) -> Result<WebSocketStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        Ok(client_async_with_config(url, stream, Some(self.config)).await?.0)
    }
}

impl Library for TokioTungstenite {
    type Socket = WebSocketStream<TcpStream>;
    type InMemory = WebSocketStream<Wire>;

    fn name(&self) -> &str {
        self.name
    }

    fn engine(&self) -> &'static str {
        "tungstenite"
    }

    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.executor.block_on(future)
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

impl<S: AsyncRead + AsyncWrite + Unpin> Socket for WebSocketStream<S> {
    async fn send(&mut self, text: &str) -> Result<()> {
        Ok(SinkExt::send(self, Message::text(text)).await?)
    }

    async fn feed(&mut self, text: &str) -> Result<()> {
        Ok(SinkExt::feed(self, Message::text(text)).await?)
    }

    async fn flush(&mut self) -> Result<()> {
        Ok(SinkExt::flush(self).await?)
    }

    async fn receive(&mut self) -> Result<usize> {
        let message = self.next().await.ok_or("the stream has ended")??;
        Ok(message.len())
    }
}
