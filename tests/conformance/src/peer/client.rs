//! The client's side of a connection, without a WebSocket library: a handshake as text, and frames that are masked by hand,
//! legal or not.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::http::accept_key;
use super::wire::{WireFrame, invalid, opcode};

/// The key of RFC 6455 section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// The mask of RFC 6455 section 5.7.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// How long a read or a write may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request that opens a WebSocket, or nearly does.
#[derive(Clone, Debug)]
pub struct Opening {
    method: String,
    target: String,
    version: String,
    /// `None` as a value: the address of the server.
    headers: Vec<(String, Option<String>)>,
    tail: Vec<u8>,
}

impl Opening {
    /// A valid handshake.
    pub fn new(target: &str) -> Self {
        let opening = Self {
            method: "GET".into(),
            target: target.into(),
            version: "HTTP/1.1".into(),
            headers: vec![("Host".into(), None)],
            tail: Vec::new(),
        };
        opening
            .with("Connection", "Upgrade")
            .with("Upgrade", "websocket")
            .with("Sec-WebSocket-Version", "13")
            .with("Sec-WebSocket-Key", KEY)
    }

    /// With this method.
    pub fn method(mut self, method: &str) -> Self {
        self.method = method.into();
        self
    }

    /// With this version of HTTP.
    pub fn version(mut self, version: &str) -> Self {
        self.version = version.into();
        self
    }

    /// With one more header line.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// Without the lines of this header.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self
    }

    /// With this line instead of those of this header.
    pub fn instead(self, name: &str, value: &str) -> Self {
        self.without(name).with(name, value)
    }

    /// With these bytes behind the head: a body, or early frames.
    pub fn followed_by(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.tail = bytes.into();
        self
    }

    /// The bytes of the request, to a server at this address.
    pub fn bytes(&self, server: SocketAddr) -> Vec<u8> {
        let mut head = format!("{} {} {}\r\n", self.method, self.target, self.version);
        for (name, value) in &self.headers {
            let value = value.clone().unwrap_or_else(|| server.to_string());
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        [head.into_bytes(), self.tail.clone()].concat()
    }
}

/// The head of a server's answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    headers: Vec<(String, String)>,
}

impl Answer {
    /// The value of the first line of this header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let line = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        line.map(|(_, value)| value.as_str())
    }

    /// The number of lines of this header.
    pub fn count(&self, name: &str) -> usize {
        self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).count()
    }

    fn parse(head: &str) -> io::Result<Self> {
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let status = status.ok_or_else(|| invalid(format!("the answer has no status: {head}")))?;
        let headers = lines.filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_owned(), value.trim().to_owned()))
        });
        Ok(Self { status, headers: headers.collect() })
    }
}

/// A client of a server under test. Blocking; each read and write fails after 20 s.
pub struct Client {
    stream: TcpStream,
    server: SocketAddr,
    input: Vec<u8>,
}

impl Client {
    /// A connection, before any request.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn dial(server: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&server, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, server, input: Vec::new() })
    }

    /// An open WebSocket. The answer to the handshake is checked.
    ///
    /// # Errors
    /// `InvalidData` if the server does not accept it, or answers wrongly.
    pub fn open(server: SocketAddr, target: &str) -> io::Result<Self> {
        let (client, answer) = Self::ask(server, &Opening::new(target))?;
        accepted(&answer)?;
        Ok(client)
    }

    /// The answer to a handshake on a connection of its own.
    ///
    /// # Errors
    /// Those of the socket, and `InvalidData` for an answer that is not HTTP.
    pub fn ask(server: SocketAddr, opening: &Opening) -> io::Result<(Self, Answer)> {
        let mut client = Self::dial(server)?;
        client.write(&opening.bytes(server))?;
        let answer = client.answer()?;
        Ok((client, answer))
    }

    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// The address of the server.
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a masked frame.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn send(&mut self, frame: &WireFrame) -> io::Result<()> {
        self.write(&masked(frame))
    }

    /// Sends a Close with this code.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn close(&mut self, code: u16) -> io::Result<()> {
        self.send(&WireFrame::close(code, ""))
    }

    /// Ends the sending direction.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn shutdown_write(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Resets the connection.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn reset(self) -> io::Result<()> {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))
    }

    /// Reads the head of an answer.
    ///
    /// # Errors
    /// `UnexpectedEof` if the connection ends before, `InvalidData` if it is not HTTP.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let end = loop {
            if let Some(at) = self.input.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            self.more_or_eof()?;
        };
        let head: Vec<u8> = self.input.drain(..end + 4).collect();
        Answer::parse(&String::from_utf8_lossy(&head))
    }

    /// Reads a body of the length that an answer announces.
    ///
    /// # Errors
    /// `UnexpectedEof` if the connection ends before.
    pub fn body(&mut self, answer: &Answer) -> io::Result<String> {
        let length = answer.header("content-length").and_then(|length| length.parse().ok());
        let length: usize = length.ok_or_else(|| invalid("the answer has no content-length"))?;
        while self.input.len() < length {
            self.more_or_eof()?;
        }
        let body: Vec<u8> = self.input.drain(..length).collect();
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// The next frame; `None` if the connection ends before its first byte.
    ///
    /// # Errors
    /// `InvalidData` for a masked frame or a length no frame may have, `UnexpectedEof` for an end within a frame, and those
    /// of the socket.
    pub fn receive(&mut self) -> io::Result<Option<WireFrame>> {
        loop {
            if let Some((frame, length)) = WireFrame::decode(&self.input)? {
                self.input.drain(..length);
                return match frame.masked {
                    true => Err(invalid("a server does not mask (RFC 6455 section 5.1)")),
                    false => Ok(Some(frame)),
                };
            }
            if self.input.is_empty() {
                if !self.more()? {
                    return Ok(None);
                }
            } else {
                self.more_or_eof()?;
            }
        }
    }

    /// The next frame that is no Ping; an end is `UnexpectedEof`.
    ///
    /// # Errors
    /// As [`receive`](Self::receive).
    pub fn receive_frame(&mut self) -> io::Result<WireFrame> {
        loop {
            match self.receive()? {
                Some(frame) if frame.opcode == opcode::PING => {}
                Some(frame) => return Ok(frame),
                None => return Err(eof("a frame was expected, and the connection has ended")),
            }
        }
    }

    /// The next message: its opcode and its payload, whose fragments are joined. Pings and Pongs are skipped.
    ///
    /// # Errors
    /// As [`receive`](Self::receive), and `InvalidData` for a Close or a wrong fragment.
    pub fn message(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut message: Option<(u8, Vec<u8>)> = None;
        loop {
            let frame = self.receive_frame()?;
            match (frame.opcode, &mut message) {
                (opcode::PONG, _) => continue,
                (opcode::TEXT | opcode::BINARY, None) => {
                    message = Some((frame.opcode, frame.payload));
                }
                (opcode::CONTINUATION, Some((_, whole))) => whole.extend(frame.payload),
                _ => return Err(invalid(format!("a message was expected: {frame:?}"))),
            }
            if let Some(message) = message.take_if(|_| frame.fin) {
                return Ok(message);
            }
        }
    }

    /// The next message, which must be text.
    ///
    /// # Errors
    /// As [`message`](Self::message).
    pub fn text(&mut self) -> io::Result<String> {
        match self.message()? {
            (opcode::TEXT, text) => {
                String::from_utf8(text).map_err(|error| invalid(error.to_string()))
            }
            (other, _) => Err(invalid(format!("text was expected, and not opcode {other}"))),
        }
    }

    /// The code and the reason of the next frame, which must be a Close; 1005 without a code. Pings are skipped.
    ///
    /// # Errors
    /// As [`receive`](Self::receive), and `InvalidData` for another frame.
    pub fn closed(&mut self) -> io::Result<(u16, String)> {
        let frame = self.receive_frame()?;
        if frame.opcode != opcode::CLOSE {
            return Err(invalid(format!("a Close was expected: {frame:?}")));
        }
        let reason = frame.payload.get(2..).unwrap_or_default();
        let reason = String::from_utf8_lossy(reason).into_owned();
        Ok((frame.close_code().unwrap_or(1005), reason))
    }

    /// Waits for the server's FIN, before which nothing may be sent.
    ///
    /// # Errors
    /// `InvalidData` if something is sent, and those of the socket: `ConnectionReset` for a reset.
    pub fn ended(&mut self) -> io::Result<()> {
        match self.rest()? {
            rest if rest.is_empty() => Ok(()),
            rest => Err(invalid(format!("{} bytes more were sent", rest.len()))),
        }
    }

    /// What the server sends until it ends the connection.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.more()? {}
        Ok(std::mem::take(&mut self.input))
    }

    /// Waits for the end of the connection, by a FIN or a reset, whatever is sent before.
    ///
    /// # Errors
    /// Those of the socket but a reset.
    pub fn gone(&mut self) -> io::Result<()> {
        match self.rest() {
            Err(error) if !is_end(&error) => Err(error),
            _ => Ok(()),
        }
    }

    fn more_or_eof(&mut self) -> io::Result<()> {
        match self.more()? {
            true => Ok(()),
            false => Err(eof("the server ended the connection within an answer or a frame")),
        }
    }

    /// Reads once; `false` at the end of the stream.
    fn more(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 16 << 10];
        let read = loop {
            match self.stream.read(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        self.input.extend_from_slice(&bytes[..read]);
        Ok(read > 0)
    }
}

/// A frame as clients send it.
pub fn masked(frame: &WireFrame) -> Vec<u8> {
    frame.encode(Some(MASK))
}

/// Checks an answer that accepts a handshake (RFC 6455 section 4.2.2).
///
/// # Errors
/// `InvalidData` saying what is wrong.
pub fn accepted(answer: &Answer) -> io::Result<()> {
    let is = |name, value: &str| {
        answer.count(name) == 1
            && answer.header(name).is_some_and(|seen| seen.eq_ignore_ascii_case(value))
    };
    if answer.status != 101 {
        return Err(invalid(format!("the handshake is refused: {answer:?}")));
    }
    if !is("upgrade", "websocket") || !is("connection", "upgrade") {
        return Err(invalid(format!("the answer does not upgrade: {answer:?}")));
    }
    let accept = answer.header("sec-websocket-accept");
    if answer.count("sec-websocket-accept") != 1 || accept != Some(&accept_key(KEY)) {
        return Err(invalid(format!("the answer is for another key: {answer:?}")));
    }
    Ok(())
}

/// Whether the connection has ended: some systems reset what others end.
pub(crate) fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset)
}

fn eof(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, what)
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("server", &self.server)
            .field("unread", &self.input.len())
            .finish_non_exhaustive()
    }
}

/// A server's bytes as a client sends them: each frame gets a mask, or loses the one that it has. Cut where the original
/// is cut.
#[cfg(any(feature = "server", test))]
pub(crate) fn mirrored(segments: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let bytes = segments.concat();
    let mut out = Vec::with_capacity(bytes.len() * 2);
    // Where each byte of the original is in the copy.
    let mut places = Vec::with_capacity(bytes.len() + 1);
    let mut rest = &bytes[..];
    while let [first, second, ..] = *rest {
        let extended = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let key = if second & 0x80 == 0 { 0 } else { 4 };
        let Some(head) = rest.get(..2 + extended + key) else { break };
        let length =
            head[2..2 + extended].iter().fold(0_u64, |all, byte| (all << 8) | u64::from(*byte));
        let length = if extended == 0 { u64::from(second & 0x7f) } else { length };
        let payload = &rest[head.len()..];
        let payload = &payload[..usize::try_from(length).unwrap_or(usize::MAX).min(payload.len())];
        for (i, byte) in head.iter().enumerate() {
            places.push(out.len());
            match i {
                0 => out.push(first),
                1 => out.push(byte ^ 0x80),
                _ if i < 2 + extended => out.push(*byte),
                _ => {}
            }
        }
        let own = head[2 + extended..].first_chunk().copied().unwrap_or(MASK);
        if key == 0 {
            out.extend_from_slice(&MASK);
        }
        for (byte, key) in payload.iter().zip(own.iter().cycle()) {
            places.push(out.len());
            out.push(byte ^ key);
        }
        rest = &rest[head.len() + payload.len()..];
    }
    // Half a header.
    for (i, byte) in rest.iter().enumerate() {
        places.push(out.len());
        out.push(if i == 1 { byte ^ 0x80 } else { *byte });
    }
    places.push(out.len());
    let mut at = 0;
    let mut begin = 0;
    let mut mirrored = Vec::with_capacity(segments.len());
    for segment in segments {
        at += segment.len();
        mirrored.push(out[begin..places[at]].to_vec());
        begin = places[at];
    }
    mirrored
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirrored_frame_is_masked_and_keeps_its_cuts() {
        let frames = [
            WireFrame::text("one"),
            WireFrame { fin: false, rsv: 3, ..WireFrame::binary([7; 300]) },
            WireFrame::ping(""),
            WireFrame::binary(vec![1; 70_000]),
            WireFrame::close(1000, "bye"),
        ];
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.encode(None)).collect();
        let masked: Vec<u8> = frames.iter().flat_map(masked).collect();
        for at in [0, 1, 2, 3, 5, 6, 8, 9, 100, bytes.len()] {
            let (one, two) = bytes.split_at(at);
            let cut = mirrored(&[one.to_vec(), two.to_vec()]);
            assert_eq!(cut.concat(), masked, "{at}");
            assert_eq!(mirrored(&cut).concat(), bytes, "twice is none");
        }
        let bytewise: Vec<_> = bytes.iter().map(|byte| vec![*byte]).collect();
        assert_eq!(mirrored(&bytewise).len(), bytes.len());
    }

    #[test]
    fn what_is_cut_short_is_mirrored_as_far_as_it_is() {
        assert_eq!(mirrored(&[vec![0x81]]), [[0x81]]);
        assert_eq!(mirrored(&[vec![0x82, 127, 0, 0]]), [[0x82, 0xff, 0, 0]]);
        assert_eq!(mirrored(&[vec![0x89, 4, 1]]), [[0x89, 0x84, 0x37, 0xfa, 0x21, 0x3d, 0x36]]);
        assert_eq!(mirrored(&[vec![0x82, 126, 4, 0]]).concat().len(), 8);
    }

    #[test]
    fn an_opening_is_as_it_is_told() {
        let server: SocketAddr = "127.0.0.1:80".parse().expect("an address");
        let opening = Opening::new("/a").without("upgrade").instead("HOST", "b").with("x", "y");
        let bytes = opening.method("POST").followed_by("tail").bytes(server);
        let text = String::from_utf8(bytes).expect("text");
        assert!(text.starts_with("POST /a HTTP/1.1\r\nConnection: Upgrade\r\nSec-"), "{text}");
        assert!(text.ends_with("\r\nHOST: b\r\nx: y\r\n\r\ntail"), "{text}");
    }
}
