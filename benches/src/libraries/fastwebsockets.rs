//! fastwebsockets as its documentation uses it: frames over hyper's upgraded connection.

use std::{future::Future, net::SocketAddr};

use fastwebsockets::{Frame, Payload, WebSocket, handshake};
use http_body_util::Empty;
use hyper::{Request, body::Bytes, header, rt, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::executor::Executor;
use crate::{Result, contender::Library, wire::Wire, work::Socket};

pub(crate) struct Raw(Executor);

impl Raw {
    pub(crate) fn new() -> Result<Self> {
        Executor::tokio().map(Self)
    }
}

impl Library for Raw {
    type Socket = WebSocket<TokioIo<Upgraded>>;
    type InMemory = Self::Socket;

    fn name(&self) -> &str {
        "raw fastwebsockets"
    }

    fn engine(&self) -> &'static str {
        "fastwebsockets"
    }

    /// It writes each frame by itself.
    fn feeds(&self) -> bool {
        false
    }

    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.0.block_on(future)
    }

    async fn connect(&self, server: SocketAddr, path: &str) -> Result<Self::Socket> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        open(stream, path).await
    }

    async fn connect_over(&self, wire: Wire, path: &str) -> Result<Self::InMemory> {
        open(wire, path).await
    }
}

async fn open<S>(stream: S, path: &str) -> Result<WebSocket<TokioIo<Upgraded>>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let request = Request::get(path)
        .header(header::HOST, "localhost")
        .header(header::UPGRADE, "websocket")
        .header(header::CONNECTION, "upgrade")
        .header(header::SEC_WEBSOCKET_KEY, handshake::generate_key())
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .body(Empty::<Bytes>::new())?;
    Ok(handshake::client(&Spawn, request, stream).await?.0)
}

struct Spawn;

impl<F: Future<Output: Send + 'static> + Send + 'static> rt::Executor<F> for Spawn {
    fn execute(&self, future: F) {
        tokio::spawn(future);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket for WebSocket<S> {
    async fn send(&mut self, text: &str) -> Result<()> {
        Ok(self.write_frame(Frame::text(Payload::Borrowed(text.as_bytes()))).await?)
    }

    async fn feed(&mut self, text: &str) -> Result<()> {
        self.send(text).await
    }

    async fn flush(&mut self) -> Result<()> {
        Ok(WebSocket::flush(self).await?)
    }

    async fn receive(&mut self) -> Result<usize> {
        Ok(self.read_frame().await?.payload.len())
    }
}
