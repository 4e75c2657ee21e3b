//! fastwebsockets as its documentation uses it: frames over hyper's upgraded connection.

use std::net::SocketAddr;

use fastwebsockets::{
    Frame, Payload, WebSocket, WebSocketError, WebSocketRead, WebSocketWrite, handshake,
};
use http_body_util::Empty;
use hyper::{Request, body::Bytes, header, rt, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf},
    net::TcpStream,
};

use super::executor::Executor;
use crate::{
    Result,
    socket::{Receiving, Sending, Socket},
    subject::Library,
    wire::Wire,
};

type Io = TokioIo<Upgraded>;

pub(crate) struct Raw(Executor);

impl Raw {
    pub(crate) fn new() -> Result<Self> {
        Executor::tokio().map(Self)
    }
}

impl Library for Raw {
    type Socket = WebSocket<Io>;
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

    fn executor(&self) -> &Executor {
        &self.0
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

async fn open<S>(stream: S, path: &str) -> Result<WebSocket<Io>>
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

fn frame(text: &str) -> Frame<'_> {
    Frame::text(Payload::Borrowed(text.as_bytes()))
}

impl Sending for WebSocket<Io> {
    async fn send(&mut self, text: &str) -> Result<()> {
        Ok(self.write_frame(frame(text)).await?)
    }

    async fn feed(&mut self, text: &str) -> Result<()> {
        self.send(text).await
    }

    async fn flush(&mut self) -> Result<()> {
        Ok(Self::flush(self).await?)
    }
}

impl Receiving for WebSocket<Io> {
    async fn receive(&mut self) -> Result<usize> {
        Ok(self.read_frame().await?.payload.len())
    }
}

impl Socket for WebSocket<Io> {
    type Sender = WebSocketWrite<WriteHalf<Io>>;
    type Receiver = WebSocketRead<ReadHalf<Io>>;

    fn split(self) -> (Self::Sender, Self::Receiver) {
        let (receiver, sender) = Self::split(self, tokio::io::split);
        (sender, receiver)
    }
}

impl Sending for WebSocketWrite<WriteHalf<Io>> {
    async fn send(&mut self, text: &str) -> Result<()> {
        Ok(self.write_frame(frame(text)).await?)
    }

    async fn feed(&mut self, text: &str) -> Result<()> {
        self.send(text).await
    }

    async fn flush(&mut self) -> Result<()> {
        Ok(Self::flush(self).await?)
    }
}

impl Receiving for WebSocketRead<ReadHalf<Io>> {
    async fn receive(&mut self) -> Result<usize> {
        // The server sends nothing that obliges to answer.
        let mut answer = async |_: Frame<'_>| Ok::<_, WebSocketError>(());
        Ok(self.read_frame(&mut answer).await?.payload.len())
    }
}
