//! Other crates, each as its README uses it, on tokio.

use std::net::SocketAddr;

use reqwest_websocket::Upgrade as _;
use tokio::net::TcpStream;
use tokio_websockets::{ClientBuilder, MaybeTlsStream, WebSocketStream};

use super::{
    executor::Executor,
    streaming::{Message, Received, Streaming},
};
use crate::{Result, subject::Library, wire::Wire};

/// A crate that nothing of ours is built on.
pub(crate) struct Peer<L> {
    name: &'static str,
    executor: Executor,
    client: L,
}

/// How a peer connects.
pub(crate) trait Connects {
    type Socket: crate::socket::Socket;

    async fn connect(&self, server: SocketAddr, path: &str) -> Result<Self::Socket>;
}

impl<L> Peer<L> {
    fn new(name: &'static str, client: L) -> Result<Self> {
        Ok(Self { name, executor: Executor::tokio()?, client })
    }
}

impl<L: Connects> Library for Peer<L> {
    type Socket = L::Socket;
    type InMemory = L::Socket;

    fn name(&self) -> &str {
        self.name
    }

    fn engine(&self) -> &'static str {
        "peers"
    }

    fn executor(&self) -> &Executor {
        &self.executor
    }

    async fn connect(&self, server: SocketAddr, path: &str) -> Result<Self::Socket> {
        self.client.connect(server, path).await
    }

    fn counts(&self) -> bool {
        false
    }

    async fn connect_over(&self, _: Wire, _: &str) -> Result<Self::InMemory> {
        Err("peers are not counted".into())
    }
}

pub(crate) struct TokioWebsockets;

pub(crate) fn tokio_websockets() -> Result<Peer<TokioWebsockets>> {
    Peer::new("tokio-websockets", TokioWebsockets)
}

impl Connects for TokioWebsockets {
    type Socket = Streaming<WebSocketStream<MaybeTlsStream<TcpStream>>, tokio_websockets::Message>;

    async fn connect(&self, server: SocketAddr, path: &str) -> Result<Self::Socket> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let client = ClientBuilder::new().uri(&format!("ws://{server}{path}"))?;
        Ok(Streaming::new(client.connect_on(MaybeTlsStream::Plain(stream)).await?.0))
    }
}

impl Message for tokio_websockets::Message {
    fn of(text: &str) -> Self {
        Self::text(text.to_owned())
    }

    fn size(&self) -> usize {
        self.as_payload().len()
    }
}

pub(crate) struct Yawc;

pub(crate) fn yawc() -> Result<Peer<Yawc>> {
    Peer::new("yawc", Yawc)
}

impl Connects for Yawc {
    type Socket = Streaming<yawc::WebSocket<yawc::MaybeTlsStream<TcpStream>>, yawc::Frame>;

    async fn connect(&self, server: SocketAddr, path: &str) -> Result<Self::Socket> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        // Its default is just below a message of 1 MiB with its head.
        let options = yawc::Options::default().with_max_payload_read(2 << 20);
        let url = format!("ws://{server}{path}").parse()?;
        let stream = yawc::MaybeTlsStream::Plain(stream);
        Ok(Streaming::new(yawc::WebSocket::handshake(url, stream, options).await?))
    }
}

impl Message for yawc::Frame {
    fn of(text: &str) -> Self {
        Self::text(text.to_owned())
    }

    fn size(&self) -> usize {
        self.payload().len()
    }
}

impl Received for yawc::Frame {
    fn size(self) -> Result<usize> {
        Ok(Message::size(&self))
    }
}

pub(crate) struct ReqwestWebsocket(reqwest::Client);

pub(crate) fn reqwest_websocket() -> Result<Peer<ReqwestWebsocket>> {
    Peer::new("reqwest-websocket", ReqwestWebsocket(reqwest::Client::builder().no_proxy().build()?))
}

impl Connects for ReqwestWebsocket {
    type Socket = Streaming<reqwest_websocket::WebSocket, reqwest_websocket::Message>;

    async fn connect(&self, server: SocketAddr, path: &str) -> Result<Self::Socket> {
        let response = self.0.get(format!("ws://{server}{path}")).upgrade().send().await?;
        Ok(Streaming::new(response.into_websocket().await?))
    }
}

impl Message for reqwest_websocket::Message {
    fn of(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
            _ => 0,
        }
    }
}
