//! async-tungstenite as its examples use it, on async-std and on smol.

use std::net::SocketAddr;

use async_tungstenite::{WebSocketStream, client_async, tungstenite::Message};
use futures_io::{AsyncRead, AsyncWrite};

use super::{executor::Executor, streaming::Streaming};
use crate::{Result, subject::Library, wire::Wire};

#[cfg(feature = "async-std")]
pub(crate) struct AsyncStdClient;

#[cfg(feature = "smol")]
pub(crate) struct SmolClient;

#[cfg(feature = "async-std")]
impl Library for AsyncStdClient {
    type Socket = Streaming<WebSocketStream<async_std::net::TcpStream>, Message>;
    type InMemory = Streaming<WebSocketStream<Wire>, Message>;

    fn name(&self) -> &str {
        "async-tungstenite on async-std"
    }

    fn engine(&self) -> &'static str {
        "async-std"
    }

    fn executor(&self) -> &Executor {
        &Executor::AsyncStd
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
impl Library for SmolClient {
    type Socket = Streaming<WebSocketStream<smol::net::TcpStream>, Message>;
    type InMemory = Streaming<WebSocketStream<Wire>, Message>;

    fn name(&self) -> &str {
        "async-tungstenite on smol"
    }

    fn engine(&self) -> &'static str {
        "smol"
    }

    fn executor(&self) -> &Executor {
        &Executor::Smol
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

async fn open<S>(stream: S, path: &str) -> Result<Streaming<WebSocketStream<S>, Message>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    Ok(Streaming::new(client_async(format!("ws://localhost{path}"), stream).await?.0))
}
