//! The other side of the wire, without I/O: bytes in, bytes out, with as little work as it can. It is a server, or, for
//! a server that is measured, a client that does the same.
//!
//! | path | does |
//! |---|---|
//! | `/echo` | sends each message back |
//! | `/source/SIZE` | a text `N` asks for N messages of SIZE bytes |
//! | `/sink` | a text `N` announces N messages; when they are here, it answers with one |

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha1::{Digest as _, Sha1};

/// What one write of a source offers.
const BATCH: usize = 256 << 10;

/// One connection.
#[derive(Debug)]
pub(crate) struct Service {
    role: Role,
    /// An incomplete head of a request or of a frame.
    carry: Vec<u8>,
    /// The payload that is coming.
    left: usize,
    /// Of what comes.
    mask: [u8; 4],
    /// Of what goes out, if this is a client: the same for each frame.
    own_mask: Option<[u8; 4]>,
    /// A number as text that is coming.
    request: Option<String>,
    /// What is to be written, from `written` on.
    out: Vec<u8>,
    written: usize,
    closed: bool,
    pings: usize,
}

#[derive(Debug)]
enum Role {
    Handshake,
    Echo,
    /// `batch` holds whole frames; `left` bytes are still to be sent, from `at` on.
    Source {
        batch: Vec<u8>,
        frame: usize,
        at: usize,
        left: usize,
    },
    /// How many messages are still to come.
    Sink(usize),
}

impl Service {
    pub(crate) fn new() -> Self {
        Self {
            role: Role::Handshake,
            carry: Vec::new(),
            left: 0,
            mask: [0; 4],
            own_mask: None,
            request: None,
            out: Vec::new(),
            written: 0,
            closed: false,
            pings: 0,
        }
    }

    /// A client whose handshake for this path is over.
    pub(crate) fn client(path: &str) -> Self {
        let mut service = Self { own_mask: Some([0x5a, 0xc3, 0x17, 0x88]), ..Self::new() };
        service.open(path);
        service
    }

    /// The peer has sent a Close; nothing follows what is pending.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// How many pings have come since this was asked.
    pub(crate) fn take_pings(&mut self) -> usize {
        std::mem::take(&mut self.pings)
    }

    /// Whether it answers each message by itself.
    pub(crate) fn is_echo(&self) -> bool {
        matches!(self.role, Role::Echo)
    }

    /// What is to be written next.
    pub(crate) fn pending(&self) -> &[u8] {
        match &self.role {
            _ if self.written < self.out.len() => &self.out[self.written..],
            Role::Source { batch, at, left, .. } => &batch[*at..batch.len().min(at + left)],
            _ => &[],
        }
    }

    /// Notes that so much of it was written.
    pub(crate) fn consume(&mut self, count: usize) {
        if self.written < self.out.len() {
            self.written += count;
            if self.written == self.out.len() {
                self.written = 0;
                self.out.clear();
            }
        } else if let Role::Source { batch, at, left, .. } = &mut self.role {
            *at = (*at + count) % batch.len();
            *left -= count;
        }
    }

    /// Takes what was read.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        if self.carry.is_empty() {
            let taken = self.take(bytes);
            self.carry.extend_from_slice(&bytes[taken..]);
        } else {
            let mut carry = std::mem::take(&mut self.carry);
            carry.extend_from_slice(bytes);
            let taken = self.take(&carry);
            carry.drain(..taken);
            self.carry = carry;
        }
    }

    /// Returns how much it took: all but an incomplete head.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        if matches!(self.role, Role::Handshake) {
            let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") else { return 0 };
            self.accept(&String::from_utf8_lossy(&bytes[..end]));
            at = end + 4;
        }
        while !self.closed {
            if self.left > 0 {
                if at == bytes.len() {
                    break;
                }
                let part = self.left.min(bytes.len() - at);
                self.payload(&bytes[at..at + part]);
                at += part;
            } else {
                let Some((head, opcode)) = self.head(&bytes[at..]) else { break };
                at += head;
                self.begin(opcode);
            }
            if self.left == 0 {
                self.end();
            }
        }
        at
    }

    /// Reads a frame's head: its length, and the opcode.
    fn head(&mut self, bytes: &[u8]) -> Option<(usize, u8)> {
        let (&[first, second], _) = bytes.split_first_chunk::<2>()?;
        let (length, size) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
            127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?), 10),
            short => (u64::from(short), 2),
        };
        let masked = if second & 0x80 == 0 { 0 } else { 4 };
        self.mask = match bytes.get(size..size + masked)? {
            [] => [0; 4],
            mask => mask.try_into().ok()?,
        };
        self.left = usize::try_from(length).ok()?;
        Some((size + masked, first & 0x0f))
    }

    fn begin(&mut self, opcode: u8) {
        self.closed = opcode == 8;
        self.pings += usize::from(opcode == 9);
        match &self.role {
            _ if self.closed => {}
            Role::Echo => {
                push_head(&mut self.out, opcode, self.left, self.own_mask);
                // An echo is unmasked and masked at once.
                for (mask, own) in self.mask.iter_mut().zip(self.own_mask.unwrap_or_default()) {
                    *mask ^= own;
                }
            }
            Role::Source { .. } | Role::Sink(0) => self.request = Some(String::new()),
            _ => {}
        }
    }

    fn payload(&mut self, bytes: &[u8]) {
        self.left -= bytes.len();
        if !matches!(self.role, Role::Echo) && self.request.is_none() {
            return;
        }
        let mask = self.mask;
        if let Some(request) = &mut self.request {
            request.extend(bytes.iter().zip(mask.iter().cycle()).map(|(b, m)| char::from(b ^ m)));
        } else {
            let from = self.out.len();
            self.out.extend_from_slice(bytes);
            unmask(&mut self.out[from..], mask);
        }
        // The next part of this payload continues in the middle of the mask.
        self.mask.rotate_left(bytes.len() % 4);
    }

    fn end(&mut self) {
        // What is no number asks for nothing.
        let number = self.request.take().map(|request| request.parse().unwrap_or(0));
        match (&mut self.role, number) {
            (Role::Source { frame, left, .. }, Some(number)) => *left += *frame * number,
            (Role::Sink(left), Some(number)) => *left = number,
            (Role::Sink(left), None) => {
                *left -= 1;
                if *left == 0 {
                    push_message(&mut self.out, b"done", self.own_mask);
                }
            }
            _ => {}
        }
    }

    fn open(&mut self, path: &str) {
        self.role = match path.strip_prefix("/source/").map(str::parse::<usize>) {
            Some(Ok(size)) => {
                let mut batch = Vec::with_capacity(BATCH + size + 10);
                push_message(&mut batch, &vec![b'x'; size], self.own_mask);
                let frame = batch.len();
                for _ in 1..BATCH / frame {
                    batch.extend_from_within(..frame);
                }
                Role::Source { batch, frame, at: 0, left: 0 }
            }
            _ if path == "/sink" => Role::Sink(0),
            _ => Role::Echo,
        };
    }

    fn accept(&mut self, head: &str) {
        self.open(head.split(' ').nth(1).unwrap_or_default());
        let mut headers = head.lines().filter_map(|line| line.split_once(':'));
        let key = headers.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
        let mut hash = Sha1::new();
        hash.update(key.map_or("", |(_, key)| key.trim()));
        hash.update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
        let accept = STANDARD.encode(hash.finalize());
        self.out.extend_from_slice(
            format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n\r\n"
            )
            .as_bytes(),
        );
    }
}

fn push_message(out: &mut Vec<u8>, text: &[u8], mask: Option<[u8; 4]>) {
    push_head(out, 1, text.len(), mask);
    let from = out.len();
    out.extend_from_slice(text);
    unmask(&mut out[from..], mask.unwrap_or_default());
}

/// The head of a whole message: a client's with a mask, a server's without. A ping is answered with a pong.
fn push_head(out: &mut Vec<u8>, opcode: u8, length: usize, mask: Option<[u8; 4]>) {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    out.push(0x80 | if opcode == 9 { 10 } else { opcode });
    if length < 126 {
        out.push(masked | length as u8);
    } else if let Ok(length) = u16::try_from(length) {
        out.push(masked | 126);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(masked | 127);
        out.extend_from_slice(&(length as u64).to_be_bytes());
    }
    out.extend(mask.into_iter().flatten());
}

fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let mut words = bytes.chunks_exact_mut(4);
    for word in &mut words {
        for (byte, mask) in word.iter_mut().zip(mask) {
            *byte ^= mask;
        }
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(path: &str) -> Service {
        let mut service = Service::new();
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
        service.receive(format!("GET {path} HTTP/1.1\r\n{key}\r\n\r\n").as_bytes());
        let answer = String::from_utf8_lossy(service.pending()).into_owned();
        assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
        service.consume(answer.len());
        service
    }

    fn masked(text: &str) -> Vec<u8> {
        let mut frame = Vec::new();
        push_message(&mut frame, text.as_bytes(), Some([1, 2, 3, 4]));
        frame
    }

    #[test]
    fn a_client_masks_what_it_echoes_and_what_it_sends() {
        let mut client = Service::client("/echo");
        for text in ["hello", "0123456789abcdef0123"] {
            let mut frame = Vec::new();
            push_message(&mut frame, text.as_bytes(), None);
            client.receive(&frame[..4]);
            client.receive(&frame[4..]);
            let mut expected = Vec::new();
            push_message(&mut expected, text.as_bytes(), client.own_mask);
            assert_eq!(client.pending(), expected);
            client.consume(expected.len());
        }
        let mut source = Service::client("/source/32");
        source.receive(b"\x81\x0210");
        assert_eq!(source.pending().len(), 10 * (2 + 4 + 32));
    }

    #[test]
    fn an_echo_is_whole_however_it_is_cut() {
        let text = "0123456789".repeat(20);
        let frame = masked(&text);
        for cut in 0..frame.len() {
            let mut service = opened("/echo");
            service.receive(&frame[..cut]);
            service.receive(&frame[cut..]);
            assert_eq!(service.pending().len(), 4 + text.len());
            assert!(service.pending().ends_with(text.as_bytes()), "cut at {cut}");
        }
    }

    #[test]
    fn a_source_sends_what_was_asked_for_and_a_sink_tells_the_end() {
        let mut source = opened("/source/1000");
        source.receive(&masked("600"));
        let mut total = 0;
        while !source.pending().is_empty() {
            let part = source.pending().len().min(10_000);
            source.consume(part);
            total += part;
        }
        assert_eq!(total, 600 * 1004);
        let mut sink = opened("/sink");
        for text in ["2", "first", "second"] {
            assert!(sink.pending().is_empty());
            sink.receive(&masked(text));
        }
        assert!(sink.pending().ends_with(b"done"));
    }

    #[test]
    fn pings_are_answered_and_counted() {
        let mut service = opened("/echo");
        let mut ping = masked("");
        ping[0] = 0x89;
        service.receive(&ping);
        service.receive(&ping);
        assert_eq!(service.pending(), [0x8a, 0, 0x8a, 0]);
        assert_eq!(service.take_pings(), 2);
        assert_eq!(service.take_pings(), 0);
    }
}
