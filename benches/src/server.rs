//! The server: plain threads and blocking sockets, in a process of its own.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use crate::{Result, clock, partner, partner::Partner, service::Service};

/// More connections than this are not asked for at once.
const MOST_FILES: usize = 12_000;

/// Serves until standard input ends. Says its port and its CPU time so far for each line.
pub(crate) fn serve() -> Result<()> {
    // Where the limit is lower, a run with so many sessions fails and says so.
    let _ = clock::allow_files(MOST_FILES);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let session = move || {
                // An end of any kind is the client's business.
                let _ = session(stream);
            };
            thread::Builder::new().stack_size(64 << 10).spawn(session)?;
        }
        std::io::Result::Ok(())
    });
    partner::answer(|_| Ok((port, clock::cpu_time())))
}

fn session(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut service = Service::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        while !service.pending().is_empty() {
            let count = stream.write(service.pending())?;
            service.consume(count);
        }
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        service.receive(&buffer[..count]);
    }
}

/// A server in a process of its own; it ends with this value.
#[derive(Debug)]
pub(crate) struct Server(Partner);

/// A moment in the life of the server.
#[derive(Debug)]
pub(crate) struct Busy {
    at: Instant,
    cpu: Duration,
}

impl Server {
    pub(crate) fn start() -> Result<Self> {
        Partner::start(&["serve"]).map(Self)
    }

    pub(crate) fn port(&mut self) -> Result<u16> {
        Ok(self.ask()?.0)
    }

    pub(crate) fn busy(&mut self) -> Result<Busy> {
        let (_, cpu) = self.ask()?;
        Ok(Busy { at: Instant::now(), cpu })
    }

    /// How much of the time since then the server worked: more than 1 if on several cores.
    pub(crate) fn busy_since(&mut self, then: &Busy) -> Result<f64> {
        let now = self.busy()?;
        Ok((now.cpu - then.cpu).as_secs_f64() / (now.at - then.at).as_secs_f64())
    }

    fn ask(&mut self) -> Result<(u16, Duration)> {
        self.0.ask("")
    }
}

/// A server's address.
pub(crate) fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
