//! The server: one thread and the system's readiness queue, in its own process.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};
use serde::{Deserialize, Serialize};

use crate::{
    Result, clock,
    service::Service,
    worker_process::{self, WorkerProcess},
};

const LISTENER: Token = Token(0);

/// What the server tells.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    port: u16,
    cpu: Duration,
    /// When pings came since this was asked last, in milliseconds of the monotonic clock.
    pings: Vec<u64>,
}

/// Serves until standard input ends. Says its state for each line.
pub(crate) fn serve() -> Result<()> {
    let files = clock::allow_most_files()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let port = listener.local_addr()?.port();
    let pings = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&pings);
    thread::spawn(move || {
        if let Err(error) = Loop::new(listener, noted).and_then(Loop::run) {
            eprintln!("the server has stopped, with {files} files allowed: {error}");
        }
    });
    worker_process::answer(|line| {
        let pings = match line {
            "pings" => std::mem::take(&mut *pings.lock().unwrap_or_else(PoisonError::into_inner)),
            _ => Vec::new(),
        };
        Ok(State { port, cpu: clock::cpu_time(), pings })
    })
}

struct Loop {
    poll: Poll,
    listener: TcpListener,
    connections: HashMap<Token, Connection>,
    next: usize,
    buffer: Vec<u8>,
    pings: Arc<Mutex<Vec<u64>>>,
}

struct Connection {
    stream: TcpStream,
    service: Service,
}

impl Loop {
    fn new(mut listener: TcpListener, pings: Arc<Mutex<Vec<u64>>>) -> std::io::Result<Self> {
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let buffer = vec![0; 256 << 10];
        Ok(Self { poll, listener, connections: HashMap::new(), next: 1, buffer, pings })
    }

    fn run(mut self) -> std::io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                if event.token() == LISTENER {
                    self.accept()?;
                } else {
                    self.advance(event.token());
                }
            }
        }
    }

    fn accept(&mut self) -> std::io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // It was gone before it was accepted.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let token = Token(self.next);
            self.next += 1;
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, token, interest)?;
            self.connections.insert(token, Connection { stream, service: Service::new() });
        }
    }

    fn advance(&mut self, token: Token) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        // An end of any kind is the client's business.
        let is_open = connection.advance(&mut self.buffer).unwrap_or(false);
        let pings = connection.service.take_pings();
        if pings > 0 {
            let now = std::iter::repeat_n(clock::monotonic(), pings);
            self.pings.lock().unwrap_or_else(PoisonError::into_inner).extend(now);
        }
        if !is_open {
            self.connections.remove(&token);
        }
    }
}

impl Connection {
    /// Reads and writes as much as can be; what is pending is written before more is read. Returns whether
    /// the connection is open.
    fn advance(&mut self, buffer: &mut [u8]) -> std::io::Result<bool> {
        let mut is_drained = false;
        loop {
            while !self.service.pending().is_empty() {
                match self.stream.write(self.service.pending()) {
                    Ok(count) => self.service.consume(count),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                    Err(error) => return Err(error),
                }
            }
            if is_drained {
                return Ok(true);
            }
            match self.stream.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.service.receive(&buffer[..count]);
                    // Less than the buffer: the next data causes a new event.
                    is_drained = count < buffer.len();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }
}

/// A server in its own process, which ends with this value.
#[derive(Debug)]
pub(crate) struct Server(WorkerProcess);

/// A moment in the life of the server.
#[derive(Debug)]
pub(crate) struct Busy {
    at: Instant,
    cpu: Duration,
}

impl Server {
    pub(crate) fn start() -> Result<Self> {
        WorkerProcess::start(&["serve"]).map(Self)
    }

    /// The process id.
    pub(crate) fn process(&self) -> u32 {
        self.0.process()
    }

    pub(crate) fn port(&mut self) -> Result<u16> {
        Ok(self.ask("")?.port)
    }

    pub(crate) fn busy(&mut self) -> Result<Busy> {
        let cpu = self.ask("")?.cpu;
        Ok(Busy { at: Instant::now(), cpu })
    }

    /// How much of the time since then the server worked.
    pub(crate) fn busy_since(&mut self, then: &Busy) -> Result<f64> {
        let now = self.busy()?;
        Ok((now.cpu - then.cpu).as_secs_f64() / (now.at - then.at).as_secs_f64())
    }

    /// When pings came since this was asked, in milliseconds of the monotonic clock.
    pub(crate) fn pings(&mut self) -> Result<Vec<u64>> {
        Ok(self.ask("pings")?.pings)
    }

    fn ask(&mut self, line: &str) -> Result<State> {
        self.0.ask(line)
    }
}

/// A server's address.
pub(crate) fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
