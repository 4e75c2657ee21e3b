//! The clients of a measured server: many plain sockets on one thread and the system's readiness queue, no WebSocket library.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream as StdTcpStream},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};

use crate::Result;

/// The longest wait for a server that should be answering.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

const PING: u8 = 9;
const PONG: u8 = 10;
const CLOSE: u8 = 8;

/// Clients, and what came in for all of them.
pub(crate) struct Crowd {
    poll: Poll,
    clients: Vec<Client>,
    buffer: Vec<u8>,
    /// How many messages came in.
    messages: usize,
    /// When they came, from the moment that is set here on.
    arrivals: Option<(Instant, Vec<u32>)>,
}

/// One client.
struct Client {
    stream: TcpStream,
    incoming: Incoming,
    /// What is to be written, from `written` on.
    out: Vec<u8>,
    written: usize,
    habit: Habit,
    end: End,
}

/// What a client does beside answering pings and Closes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Nothing.
    Listens,
    /// It sends these bytes again for each message that comes in.
    Repeats(Vec<u8>),
    /// It answers no Close.
    KeepsOpen,
}

/// What a client saw last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct End {
    /// The status of the response to its handshake.
    pub(crate) status: u16,
    /// The code of the Close.
    pub(crate) code: Option<u16>,
    /// The connection has ended.
    pub(crate) is_over: bool,
}

/// What has come in of the head of a response, and then of a frame.
#[derive(Default)]
struct Incoming {
    is_open: bool,
    head: Vec<u8>,
    /// The payload that is still to come.
    left: usize,
    /// The payload of a control frame so far.
    control: Vec<u8>,
}

/// What a piece of input was.
enum Item {
    Status(u16),
    Message,
    Control(u8, Vec<u8>),
}

impl Crowd {
    /// Nobody.
    pub(crate) fn new() -> Result<Self> {
        let (poll, buffer) = (Poll::new()?, vec![0; 256 << 10]);
        Ok(Self { poll, clients: Vec::new(), buffer, messages: 0, arrivals: None })
    }

    /// This many clients whose handshake for the path is over.
    pub(crate) fn open(server: SocketAddr, path: &str, clients: usize) -> Result<Self> {
        let mut crowd = Self::new()?;
        crowd.join(server, path, clients, &Habit::Listens)?;
        Ok(crowd)
    }

    /// Adds clients, and waits for their handshakes.
    pub(crate) fn join(
        &mut self,
        server: SocketAddr,
        path: &str,
        clients: usize,
        habit: &Habit,
    ) -> Result<()> {
        for _ in 0..clients {
            self.begin(server, path, habit)?;
            // One at a time: the queue of the listener is short.
            self.until(|crowd| {
                crowd
                    .clients
                    .last()
                    .is_none_or(|client| client.incoming.is_open || client.end.is_over)
            })?;
        }
        match self.ends().iter().find(|end| end.status != 101) {
            Some(end) => Err(format!("a handshake for {path} got status {}", end.status).into()),
            None => Ok(()),
        }
    }

    /// Connects and sends a handshake.
    pub(crate) fn begin(&mut self, server: SocketAddr, path: &str, habit: &Habit) -> Result<()> {
        let mut stream = connect(server, path)?;
        let token = Token(self.clients.len());
        self.poll.registry().register(
            &mut stream,
            token,
            Interest::READABLE | Interest::WRITABLE,
        )?;
        self.clients.push(Client {
            stream,
            incoming: Incoming::default(),
            out: Vec::new(),
            written: 0,
            habit: habit.clone(),
            end: End::default(),
        });
        Ok(())
    }

    /// Sends these bytes from each client.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        for client in &mut self.clients {
            client.out.extend_from_slice(bytes);
            client.write();
        }
    }

    /// Waits until this many more messages have come in, for all clients together.
    pub(crate) fn receive(&mut self, messages: usize) -> Result<()> {
        let until = self.messages + messages;
        self.until(|crowd| crowd.messages >= until)
    }

    /// Counts how long after this moment messages come in, in nanoseconds.
    pub(crate) fn time_from(&mut self, moment: Instant) {
        self.arrivals = Some((moment, Vec::new()));
    }

    /// How long they took.
    pub(crate) fn take_times(&mut self) -> Vec<u32> {
        self.arrivals.take().map_or_else(Vec::new, |(_, times)| times)
    }

    /// Answers the clients that answered no Close, and from now on.
    pub(crate) fn answer_closes(&mut self) {
        for client in self.clients.iter_mut().filter(|client| client.habit == Habit::KeepsOpen) {
            client.habit = Habit::Listens;
            if let Some(code) = client.end.code {
                client.send_control(CLOSE, &code.to_be_bytes());
            }
        }
    }

    /// Answers pings for so long.
    pub(crate) fn rest(&mut self, duration: Duration) -> Result<()> {
        let until = Instant::now() + duration;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            self.turn(left)?;
        }
        Ok(())
    }

    /// Waits for the end of each connection.
    pub(crate) fn wait_for_the_end(&mut self) -> Result<()> {
        self.until(|crowd| crowd.clients.iter().all(|client| client.end.is_over))
    }

    /// What each client saw last, in the order in which they came.
    pub(crate) fn ends(&self) -> Vec<End> {
        self.clients.iter().map(|client| client.end).collect()
    }

    fn until(&mut self, is_done: impl Fn(&Self) -> bool) -> Result<()> {
        let until = Instant::now() + LONGEST_WAIT;
        while !is_done(self) {
            let left = until.checked_duration_since(Instant::now());
            self.turn(left.ok_or("the server has not answered for two minutes")?)?;
        }
        Ok(())
    }

    /// One wait of the readiness queue at most, and everything that it brings.
    fn turn(&mut self, longest: Duration) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        match self.poll.poll(&mut events, Some(longest)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for event in &events {
            let client = &mut self.clients[event.token().0];
            client.write();
            let messages = client.read(&mut self.buffer, event.is_read_closed());
            self.messages += messages;
            if let Some((moment, times)) = &mut self.arrivals {
                let nanos = u32::try_from(moment.elapsed().as_nanos()).unwrap_or(u32::MAX);
                times.extend(std::iter::repeat_n(nanos, messages));
            }
        }
        Ok(())
    }
}

/// A connection, with the handshake's request written.
pub(crate) fn connect(server: SocketAddr, path: &str) -> Result<TcpStream> {
    let mut stream = StdTcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    stream.set_nonblocking(true)?;
    Ok(TcpStream::from_std(stream))
}

/// A masked text of `size` bytes.
pub(crate) fn text(size: usize) -> Vec<u8> {
    frame(1, &vec![b'x'; size])
}

/// A frame with a mask of zeros.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        size @ ..=125 => frame.push(0x80 | size as u8),
        size => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(size).expect("small").to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

impl Client {
    /// Reads all that is there, and the end if there is one. Returns how many messages it was.
    fn read(&mut self, buffer: &mut [u8], has_end: bool) -> usize {
        let mut messages = 0;
        while !self.end.is_over {
            let count = match self.stream.read(buffer) {
                Ok(0) => {
                    self.end.is_over = true;
                    break;
                }
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.end.is_over = true;
                    break;
                }
            };
            let mut bytes = &buffer[..count];
            while let Some(item) = self.incoming.next(&mut bytes) {
                match item {
                    Item::Status(status) => self.end.status = status,
                    Item::Message => {
                        messages += 1;
                        if let Habit::Repeats(bytes) = &self.habit {
                            self.out.extend_from_slice(bytes);
                        }
                    }
                    Item::Control(opcode, payload) => self.answer(opcode, &payload),
                }
            }
            self.write();
            if count < buffer.len() && !has_end {
                break; // the next data causes a new event
            }
        }
        messages
    }

    fn answer(&mut self, opcode: u8, payload: &[u8]) {
        match opcode {
            PING => self.send_control(PONG, payload),
            CLOSE => {
                let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                self.end.code = Some(code.unwrap_or(1005));
                match self.habit {
                    Habit::KeepsOpen => {}
                    // Nothing follows its Close.
                    _ => {
                        self.habit = Habit::Listens;
                        self.send_control(CLOSE, payload.get(..2).unwrap_or_default());
                    }
                }
            }
            _ => {}
        }
    }

    fn send_control(&mut self, opcode: u8, payload: &[u8]) {
        self.out.extend(frame(opcode, payload));
        self.write();
    }

    /// Writes as much as can be.
    fn write(&mut self) {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(count) => self.written += count,
                // The end shows when reading.
                Err(_) => return,
            }
        }
        self.out.clear();
        self.written = 0;
    }
}

impl Incoming {
    /// Takes the next item from the bytes; `None` when more bytes are needed.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<Item> {
        if !self.is_open {
            return self.response(bytes);
        }
        loop {
            if self.left == 0 {
                // The head of a frame without a mask.
                while !self.has_head() {
                    let (first, rest) = bytes.split_first()?;
                    self.head.push(*first);
                    *bytes = rest;
                }
                self.left = match self.head[1] {
                    126 => usize::from(u16::from_be_bytes([self.head[2], self.head[3]])),
                    127 => {
                        let size = self.head[2..10]
                            .iter()
                            .fold(0, |size, byte| size << 8 | u64::from(*byte));
                        usize::try_from(size).unwrap_or(usize::MAX)
                    }
                    size => usize::from(size),
                };
            }
            let opcode = self.head[0] & 15;
            let taken = self.left.min(bytes.len());
            let (payload, rest) = bytes.split_at(taken);
            *bytes = rest;
            self.left -= taken;
            if opcode >= CLOSE {
                self.control.extend_from_slice(payload);
            }
            if self.left > 0 {
                return None;
            }
            let is_last = self.head[0] & 0x80 != 0;
            self.head.clear();
            if opcode >= CLOSE {
                return Some(Item::Control(opcode, std::mem::take(&mut self.control)));
            }
            if is_last {
                return Some(Item::Message);
            }
        }
    }

    fn has_head(&self) -> bool {
        self.head.len() >= 2
            && self.head.len()
                >= match self.head[1] {
                    126 => 4,
                    127 => 10,
                    _ => 2,
                }
    }

    fn response(&mut self, bytes: &mut &[u8]) -> Option<Item> {
        while !self.head.ends_with(b"\r\n\r\n") {
            let (first, rest) = bytes.split_first()?;
            self.head.push(*first);
            *bytes = rest;
        }
        let head = String::from_utf8_lossy(&self.head);
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        self.head.clear();
        self.is_open = status == 101;
        if !self.is_open {
            *bytes = &[]; // its body is of no interest
        }
        Some(Item::Status(status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_told_apart_however_it_is_cut() {
        let mut bytes = b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec();
        bytes.extend([0x81, 3, b'a', b'b', b'c', 0x89, 1, b'p', 0x01, 0, 0x80, 126, 0, 1, b'z']);
        bytes.extend([0x88, 2, 3, 0xe9]);
        for size in 1..=bytes.len() {
            let (mut incoming, mut items) = (Incoming::default(), Vec::new());
            for mut part in bytes.chunks(size) {
                while let Some(item) = incoming.next(&mut part) {
                    items.push(match item {
                        Item::Status(status) => format!("status {status}"),
                        Item::Message => "message".to_owned(),
                        Item::Control(opcode, payload) => format!("control {opcode} {payload:?}"),
                    });
                }
            }
            let expected =
                ["status 101", "message", "control 9 [112]", "message", "control 8 [3, 233]"];
            assert_eq!(items, expected, "{size}");
        }
    }

    #[test]
    fn a_frame_has_a_mask_of_zeros() {
        assert_eq!(frame(9, b"p"), [0x89, 0x81, 0, 0, 0, 0, b'p']);
        assert_eq!(text(300)[..8], [0x81, 0xfe, 1, 44, 0, 0, 0, 0]);
    }
}
