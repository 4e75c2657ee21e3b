//! async-tungstenite as its examples use it, on async-std and on smol.

use std::{future::Future, net::SocketAddr};

use async_tungstenite::{WebSocketStream, client_async, tungstenite::Message};
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::{SinkExt, StreamExt as _};

use super::executor::Executor;
use crate::{Result, contender::Library, wire::Wire, work::Socket};

#[cfg(feature = "async-std")]
pub(crate) struct OnAsyncStd;

#[cfg(feature = "smol")]
pub(crate) struct OnSmol;

#[cfg(feature = "async-std")]
impl Library for OnAsyncStd {
    type Socket = WebSocketStream<async_std::net::TcpStream>;
    type InMemory = WebSocketStream<Wire>;

    fn name(&self) -> &str {
        "async-tungstenite on async-std"
    }

    fn engine(&self) -> &'static str {
        "async-std"
    }

    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        Executor::AsyncStd.block_on(future)
    }

    fn block_on_in_memory<T>(&self, future: impl Future<Output = T>) -> T {
        Executor::AsyncStd.block_on_without_io(future)
    }

    async fn connect(&self, server: SocketAddr, path: &str) -> Result<Self::Socket> {
        let stream = async_std::net::TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        open(stream, path).await
    }

    async fn connect_over(&self, wire: Wire, path: &str) -> Result<Self::InMemory> {
        open(wire, path).await
    }
}

#[cfg(feature = "smol")]
impl Library for OnSmol {
    type Socket = WebSocketStream<smol::net::TcpStream>;
    type InMemory = WebSocketStream<Wire>;

    fn name(&self) -> &str {
        "async-tungstenite on smol"
    }

    fn engine(&self) -> &'static str {
        "smol"
    }

    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        Executor::Smol.block_on(future)
    }

    fn block_on_in_memory<T>(&self, future: impl Future<Output = T>) -> T {
        Executor::Smol.block_on_without_io(future)
    }

    async fn connect(&self, server: SocketAddr, path: &str) -> Result<Self::Socket> {
        let stream = smol::net::TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        open(stream, path).await
    }

    async fn connect_over(&self, wire: Wire, path: &str) -> Result<Self::InMemory> {
        open(wire, path).await
    }
}

async fn open<S>(stream: S, path: &str) -> Result<WebSocketStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    Ok(client_async(format!("ws://localhost{path}"), stream).await?.0)
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
