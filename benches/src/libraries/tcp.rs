//! The limit: the same bytes over a socket of tokio's, without a WebSocket library. Frames are copied out
//! with a mask of zeros; incoming frames are only counted by length.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::executor::Executor;
use crate::{
    Result,
    socket::{Halves, Receiving, Sending},
    subject::Library,
    wire::Wire,
};

pub(crate) struct Tcp {
    name: &'static str,
    executor: Executor,
}

pub(crate) const NAME: &str = "raw TCP";

impl Tcp {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { name: NAME, executor: Executor::tokio()? })
    }

    /// On a runtime that has a timer set, as keepalive sets one.
    pub(crate) fn with_timer() -> Result<Self> {
        Ok(Self { name: "raw TCP, a timer", executor: Executor::tokio_with_timer()? })
    }
}

pub(crate) struct Sender {
    stream: OwnedWriteHalf,
    out: Vec<u8>,
}

pub(crate) struct Receiver {
    stream: OwnedReadHalf,
    buffer: Box<[u8]>,
    /// What is read and not yet looked at.
    at: usize,
    end: usize,
}

impl Library for Tcp {
    type Socket = Halves<Sender, Receiver>;
    type InMemory = Self::Socket;

    fn name(&self) -> &str {
        self.name
    }

    fn engine(&self) -> &'static str {
        "limit"
    }

    fn executor(&self) -> &Executor {
        &self.executor
    }

    fn counts(&self) -> bool {
        false
    }

    async fn connect(&self, server: SocketAddr, path: &str) -> Result<Self::Socket> {
        let mut stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let request = format!("GET {path} HTTP/1.1\r\nSec-WebSocket-Key: {key}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut buffer = vec![0; 256 << 10].into_boxed_slice();
        let mut end = 0;
        while !buffer[..end].ends_with(b"\r\n\r\n") {
            match stream.read(&mut buffer[end..]).await? {
                0 => return Err("the server has closed".into()),
                count => end += count,
            }
        }
        let (read, write) = stream.into_split();
        let receiver = Receiver { stream: read, buffer, at: 0, end: 0 };
        Ok(Halves(Sender { stream: write, out: Vec::new() }, receiver))
    }

    async fn connect_over(&self, _: Wire, _: &str) -> Result<Self::InMemory> {
        Err("the limit is not counted".into())
    }
}

impl Sending for Sender {
    async fn send(&mut self, text: &str) -> Result<()> {
        self.push(text);
        self.flush().await
    }

    async fn feed(&mut self, text: &str) -> Result<()> {
        self.push(text);
        if self.out.len() < 64 << 10 {
            return Ok(());
        }
        self.flush().await
    }

    async fn flush(&mut self) -> Result<()> {
        self.stream.write_all(&self.out).await?;
        self.out.clear();
        Ok(())
    }
}

impl Sender {
    fn push(&mut self, text: &str) {
        let length = text.len();
        self.out.push(0x81);
        if length < 126 {
            self.out.push(0x80 | length as u8);
        } else if let Ok(length) = u16::try_from(length) {
            self.out.push(0x80 | 126);
            self.out.extend_from_slice(&length.to_be_bytes());
        } else {
            self.out.push(0x80 | 127);
            self.out.extend_from_slice(&(length as u64).to_be_bytes());
        }
        self.out.extend_from_slice(&[0; 4]);
        self.out.extend_from_slice(text.as_bytes());
    }
}

impl Receiving for Receiver {
    async fn receive(&mut self) -> Result<usize> {
        let (head, length) = loop {
            match head(&self.buffer[self.at..self.end]) {
                Some(head) => break head,
                None => self.read().await?,
            }
        };
        let mut left = head + length;
        while self.end - self.at < left {
            left -= self.end - self.at;
            self.at = self.end;
            self.read().await?;
        }
        self.at += left;
        Ok(length)
    }
}

impl Receiver {
    async fn read(&mut self) -> Result<()> {
        self.buffer.copy_within(self.at..self.end, 0);
        (self.at, self.end) = (0, self.end - self.at);
        match self.stream.read(&mut self.buffer[self.end..]).await? {
            0 => Err("the server has closed".into()),
            count => {
                self.end += count;
                Ok(())
            }
        }
    }
}

/// The length of a frame's head and that of its payload.
fn head(bytes: &[u8]) -> Option<(usize, usize)> {
    Some(match bytes.get(1)? {
        126 => (4, u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?).into()),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?).try_into().ok()?),
        &length => (2, length.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_how_long_both_are() {
        assert_eq!(head(&[0x81]), None);
        assert_eq!(head(&[0x81, 32]), Some((2, 32)));
        assert_eq!(head(&[0x81, 126, 4, 0]), Some((4, 1024)));
        assert_eq!(head(&[0x81, 127, 0, 0, 0, 0, 0, 16, 0]), None);
        assert_eq!(head(&[0x81, 127, 0, 0, 0, 0, 0, 16, 0, 0]), Some((10, 1 << 20)));
    }
}
