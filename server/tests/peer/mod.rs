//! A client without any library: a socket, a handshake as text, frames masked by hand. What it may send is not checked.
#![allow(dead_code, reason = "each test program uses a part")]

use std::{future::Future, io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// Long enough for a machine that is busy: what is waited for comes at once on one that is not.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// Fails the test instead of hanging.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    timeout(LONG, future).await.expect("it takes too long")
}

/// Waits until something holds that another task makes true.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waits = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(LONG, waits).await.unwrap_or_else(|_| panic!("{what} does not come true"));
}

pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    /// What was read and not taken yet.
    read: Vec<u8>,
}

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Head {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.text.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .next()
    }
}

/// A handshake for this path with these lines after the usual ones.
pub(crate) fn handshake(path: &str, host: &str, lines: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n"
    )
}

/// A frame as clients send it, masked.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let key = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        long @ 126..0x1_0000 => {
            frame.push(0xfe);
            frame.extend_from_slice(&(long as u16).to_be_bytes());
        }
        long => {
            frame.push(0xff);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&key);
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

impl Peer {
    pub(crate) async fn dial(address: std::net::SocketAddr) -> Self {
        let stream = within(TcpStream::connect(address)).await.expect("connects");
        Self { stream, read: Vec::new() }
    }

    /// An open WebSocket; `None` if the server ends the connection instead of answering.
    pub(crate) async fn try_open(address: std::net::SocketAddr, path: &str) -> Option<Self> {
        let mut peer = Self::dial(address).await;
        peer.stream.write_all(handshake(path, &address.to_string(), "").as_bytes()).await.ok()?;
        while !peer.read.ends_with(b"\r\n\r\n") {
            peer.more().await.ok().filter(|more| *more)?;
        }
        assert_eq!(peer.head().await.status, 101);
        Some(peer)
    }

    /// An open WebSocket.
    pub(crate) async fn open(address: std::net::SocketAddr, path: &str) -> Self {
        let (peer, head) = Self::ask(address, path, "").await;
        assert_eq!(head.status, 101, "{head:?}");
        assert_eq!(head.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        peer
    }

    /// The answer to a handshake with these lines.
    pub(crate) async fn ask(
        address: std::net::SocketAddr,
        path: &str,
        lines: &str,
    ) -> (Self, Head) {
        let mut peer = Self::dial(address).await;
        peer.write(handshake(path, &address.to_string(), lines).as_bytes()).await;
        let head = peer.head().await;
        (peer, head)
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        within(self.stream.write_all(bytes)).await.expect("writes");
    }

    pub(crate) async fn send(&mut self, opcode: u8, payload: &[u8]) {
        self.write(&frame(0x80 | opcode, payload)).await;
    }

    pub(crate) async fn close(&mut self, code: u16) {
        self.send(CLOSE, &code.to_be_bytes()).await;
    }

    pub(crate) async fn head(&mut self) -> Head {
        loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.read.drain(..end + 4).collect();
                let text = String::from_utf8(head).expect("a head is text");
                let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
                return Head { status: status.expect("a status"), text };
            }
            assert!(self.more().await.expect("a head"), "the connection ended within a head");
        }
    }

    /// What the server sends until it ends the connection.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.more().await.expect("reads") {}
        std::mem::take(&mut self.read)
    }

    /// The server ends the connection, with a reset if something came too late.
    pub(crate) async fn ended_somehow(&mut self) {
        while self.more().await.unwrap_or(false) {}
    }

    /// What is there at least, without taking it.
    pub(crate) async fn until(&mut self, what: &[u8]) -> &[u8] {
        while !self.read.windows(what.len()).any(|it| it == what) {
            let seen = String::from_utf8_lossy(&self.read).into_owned();
            assert!(self.more().await.expect("reads"), "the connection ended after {seen}");
        }
        &self.read
    }

    /// The next frame: its first byte and its payload; `None` if the connection ends first.
    pub(crate) async fn receive_raw(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((frame, length)) = parse(&self.read) {
                self.read.drain(..length);
                return Some(frame);
            }
            match self.more().await {
                Ok(true) => {}
                Ok(false) | Err(_) => return None,
            }
        }
    }

    /// The next frame that is no Ping.
    pub(crate) async fn receive(&mut self) -> (u8, Vec<u8>) {
        loop {
            let (first, payload) = self.receive_raw().await.expect("a frame");
            if first & 0x0f != PING {
                return (first & 0x0f, payload);
            }
        }
    }

    /// The next message, which is text.
    pub(crate) async fn text(&mut self) -> String {
        let mut message = Vec::new();
        loop {
            let (first, payload) = self.receive_raw().await.expect("a frame");
            match first & 0x0f {
                PING => continue,
                opcode if message.is_empty() => {
                    assert_eq!(opcode, TEXT, "{:?}", String::from_utf8_lossy(&payload));
                }
                opcode => assert_eq!(opcode, 0, "the message continues"),
            }
            message.extend(payload);
            if first & 0x80 != 0 {
                return String::from_utf8(message).expect("text");
            }
        }
    }

    /// The code and the text of a Close.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        let (opcode, payload) = self.receive().await;
        assert_eq!(opcode, CLOSE, "{:?}", String::from_utf8_lossy(&payload));
        let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
        (code, String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned())
    }

    /// The server ends the connection, with a FIN and not with a reset.
    pub(crate) async fn ended(&mut self) {
        assert_eq!(self.rest().await, b"", "nothing more is sent");
    }

    async fn more(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 16 << 10];
        let read = within(self.stream.read(&mut bytes)).await?;
        self.read.extend_from_slice(&bytes[..read]);
        Ok(read > 0)
    }
}

/// A server's frame: never masked. Returns its length, too.
fn parse(bytes: &[u8]) -> Option<((u8, Vec<u8>), usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    assert_eq!(second & 0x80, 0, "a server does not mask");
    let (length, at) = match second {
        126 => (usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)), 4),
        127 => (u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?) as usize, 10),
        short => (usize::from(short), 2),
    };
    let payload = bytes.get(at..at + length)?;
    Some(((first, payload.to_vec()), at + length))
}
