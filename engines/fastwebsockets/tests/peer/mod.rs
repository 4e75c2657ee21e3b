//! A server on a plain thread that answers a handshake and hands over the socket.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::{
    io::{Read, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread::JoinHandle,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use drivetrain_engine::{Answer, Connection, Engine as _, Handshake, Result};
use drivetrain_fastwebsockets::FastWebSockets;
use sha1::{Digest as _, Sha1};

/// Accepts one connection, upgrades it, sends `first` in the same segment, and continues with `serve`.
pub(crate) fn peer<T: Send + 'static>(
    first: Vec<u8>,
    serve: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let thread = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a client");
        socket.set_nodelay(true).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).expect("a request");
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).expect("ASCII");
        let key = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"))
            .expect("a key")
            .1;
        let digest = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
             sec-websocket-accept: {}\r\n\r\n",
            BASE64_STANDARD.encode(digest)
        );
        socket.write_all(&[answer.as_bytes(), &first].concat()).expect("open");
        serve(socket)
    });
    (address, thread)
}

/// A handshake for this address.
pub(crate) fn handshake(address: SocketAddr) -> Handshake {
    Handshake::new(format!("ws://{address}/").parse().expect("a URI")).expect("valid")
}

/// Opens a WebSocket.
pub(crate) async fn open(engine: &FastWebSockets, address: SocketAddr) -> Result<Connection> {
    match engine.connect(handshake(address)).await? {
        Answer::Open(connection) => Ok(connection),
        Answer::Refused(response) => panic!("refused with {}", response.status()),
    }
}

/// Runs a test on tokio.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(test)
}

/// A server's frame: the first byte with FIN and opcode, and the payload.
pub(crate) fn encode(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..=125 => bytes.push(length as u8),
        length @ 126..=65_535 => {
            bytes.push(126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(payload);
    bytes
}

/// A client's frame, unmasked; `None` at the end.
pub(crate) fn read_frame(socket: &mut impl Read) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    socket.read_exact(&mut head).ok()?;
    assert_eq!(head[1] & 0x80, 0x80, "a client's frame is masked");
    let mut length = [0; 8];
    let length = match head[1] & 0x7f {
        126 => {
            socket.read_exact(&mut length[6..]).ok()?;
            u64::from_be_bytes(length)
        }
        127 => {
            socket.read_exact(&mut length).ok()?;
            u64::from_be_bytes(length)
        }
        short => u64::from(short),
    };
    let mut mask = [0; 4];
    socket.read_exact(&mut mask).ok()?;
    let mut payload = vec![0; usize::try_from(length).ok()?];
    socket.read_exact(&mut payload).ok()?;
    payload.iter_mut().enumerate().for_each(|(at, byte)| *byte ^= mask[at & 3]);
    Some((head[0], payload))
}
