//! A measured server in a process of its own, on a runtime of one thread.

use std::{
    future::pending,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Handle};

use super::subject::{Serving, Subject};
use crate::{Result, clock, partner, partner::Partner, server::address};

/// What the server's process tells.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    port: u16,
    /// CPU time so far.
    pub(crate) cpu: Duration,
    /// Anonymous memory, in bytes.
    pub(crate) anonymous: usize,
    /// Open descriptors.
    pub(crate) descriptors: usize,
    /// Sessions in the registry, if the server has one.
    pub(crate) sessions: Option<usize>,
    /// Deliveries that the latest command has dropped, or sessions that the shutdown has aborted.
    pub(crate) dropped: usize,
}

/// The main loop of the child process.
pub(crate) fn serve(subject: &str) -> Result<()> {
    clock::allow_most_files()?;
    let subject = Subject::named(subject)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let on_server = OnServer(runtime.handle().clone());
    thread::spawn(move || runtime.block_on(pending::<()>()));
    let mut serving = on_server.run(move || subject.start(listener))??;
    partner::answer(|line| {
        let mut dropped = 0;
        match *line.split(' ').collect::<Vec<_>>() {
            ["state"] => {}
            ["publish", times, size] => {
                let (hub, times, size) = (serving.hub(), times.parse()?, size.parse()?);
                dropped = on_server.run(move || hub.publish(times, size))?;
            }
            ["stop"] => serving.stop.take().and_then(|stop| stop.send(()).ok()).ok_or("no stop")?,
            ["stopped"] => {
                let report = on_server.0.block_on(serving.stopped.take().ok_or("no end")?)??;
                dropped = report.aborted;
            }
            _ => return Err(format!("a host does not know {line:?}").into()),
        }
        state(port, &serving, dropped)
    })
}

fn state(port: u16, serving: &Serving, dropped: usize) -> Result<State> {
    Ok(State {
        port,
        cpu: clock::cpu_time(),
        anonymous: clock::anonymous()?,
        descriptors: std::fs::read_dir("/proc/self/fd")?.count(),
        sessions: serving.sessions.as_ref().map(drivetrain::server::Sessions::len),
        dropped,
    })
}

/// Runs things on the thread of the server.
struct OnServer(Handle);

impl OnServer {
    fn run<T: Send + 'static>(&self, run: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (give, get) = mpsc::channel();
        self.0.spawn(async move {
            // The other end waits for it.
            let _ = give.send(run());
        });
        Ok(get.recv()?)
    }
}

/// A server's process; it ends with this value.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) subject: Subject,
    partner: Partner,
}

impl Host {
    pub(crate) fn start(subject: Subject) -> Result<Self> {
        Ok(Self { subject, partner: Partner::start(&["host", subject.name()])? })
    }

    /// The process id.
    pub(crate) fn process(&self) -> u32 {
        self.partner.process()
    }

    pub(crate) fn state(&mut self) -> Result<State> {
        self.ask("state")
    }

    /// Where it listens.
    pub(crate) fn address(&mut self) -> Result<SocketAddr> {
        Ok(address(self.state()?.port))
    }

    /// Sends a text this many times to all subscribers.
    pub(crate) fn publish(&mut self, times: usize, size: usize) -> Result<State> {
        self.ask(&format!("publish {times} {size}"))
    }

    /// Begins the shutdown.
    pub(crate) fn stop(&mut self) -> Result<State> {
        self.ask("stop")
    }

    /// Waits for the end of the shutdown.
    pub(crate) fn stopped(&mut self) -> Result<State> {
        self.ask("stopped")
    }

    fn ask(&mut self, line: &str) -> Result<State> {
        let name = self.subject.name();
        self.partner.ask(line).map_err(|error| format!("{name}: {line}: {error}").into())
    }
}
