//! The subjects: an engine through the facade, or a raw library.

use std::{any::Any, net::SocketAddr, time::Duration};

use crate::{
    Result, clock,
    libraries::Executor,
    many::{self, Delay, Idle},
    sample::Sample,
    socket::{Halves, Socket, duplex},
    wire::Wire,
    work::{Shape, Work},
};

/// A library in its natural use.
pub(crate) trait Library {
    type Socket: Socket;
    /// The same over an in-memory connection.
    type InMemory: Socket;

    /// The name in tables.
    fn name(&self) -> &str;

    /// The engine for comparison.
    fn engine(&self) -> &'static str;

    /// Whether it is one of our engines.
    fn is_ours(&self) -> bool {
        false
    }

    /// Whether it can send without writing at once.
    fn feeds(&self) -> bool {
        true
    }

    /// Whether its instructions can be counted.
    fn counts(&self) -> bool {
        true
    }

    /// Where it runs.
    fn executor(&self) -> &Executor;

    async fn connect(&self, server: SocketAddr, path: &str) -> Result<Self::Socket>;

    async fn connect_over(&self, wire: Wire, path: &str) -> Result<Self::InMemory>;

    /// An engine of ours: opens a session that pings this often.
    async fn connect_pinging(&self, _: SocketAddr, _: Duration) -> Result<Self::Socket> {
        Err("it does not ping by itself".into())
    }

    /// An engine of ours: opens a connection without a session, and sends a message each way.
    async fn connect_bare(&self, _: SocketAddr) -> Result<Option<Box<dyn Any + Send>>> {
        Ok(None)
    }
}

/// A library, whatever its types are.
pub(crate) trait Subject {
    fn name(&self) -> &str;
    fn engine(&self) -> &'static str;
    fn is_ours(&self) -> bool;
    fn counts(&self) -> bool;
    fn can(&self, work: Work) -> bool;

    /// Whether it takes part where there are many sessions.
    fn opens_many(&self) -> bool;

    /// Does the work over a connection to the server, which is kept for the next time.
    fn measure(&mut self, server: SocketAddr, work: Work, messages: usize) -> Result<Sample>;

    /// Does the work over an in-memory connection: once for warming up, then with each number of
    /// messages; `mark` is called before and after each of these.
    fn count(&self, work: Work, numbers: [usize; 2], mark: fn()) -> Result<()>;

    /// Does this many ping-pongs in all, over this many concurrent sessions.
    fn spread(&self, server: SocketAddr, sessions: usize, messages: usize) -> Result<Sample>;

    /// Does a flood in one task; returns for how long another task that is always ready had to wait at
    /// worst.
    fn delay(&self, server: SocketAddr, work: Work, messages: usize) -> Result<Delay>;

    /// Opens sessions. Returns the resident bytes that each costs: open, and after one message each way.
    fn memory(&self, server: SocketAddr, sessions: usize) -> Result<[usize; 2]>;

    /// Opens connections without a session, if there is such a thing. Returns the resident bytes of one
    /// after a message each way.
    fn bare_memory(&self, server: SocketAddr, connections: usize) -> Result<Option<usize>>;

    /// Opens sessions that ping this often; see [`many::idle`].
    fn idle(&self, server: SocketAddr, idle: Idle) -> Result<many::Rest>;
}

/// Makes a subject of a library.
pub(crate) fn subject<L: Library + 'static>(library: L) -> Box<dyn Subject> {
    only(library, |_| true)
}

/// The same for a part of the work.
pub(crate) fn only<L: Library + 'static>(library: L, does: fn(Work) -> bool) -> Box<dyn Subject> {
    keeping(library, does, true)
}

/// The same for the ping-pong of one session.
pub(crate) fn alone<L: Library + 'static>(library: L) -> Box<dyn Subject> {
    keeping(library, |work| work == Work::PING_PONG, false)
}

fn keeping<L: Library + 'static>(
    library: L,
    does: fn(Work) -> bool,
    opens_many: bool,
) -> Box<dyn Subject> {
    Box::new(Keeping { library, does, opens_many, sockets: Vec::new(), halves: None })
}

struct Keeping<L: Library> {
    library: L,
    does: fn(Work) -> bool,
    opens_many: bool,
    sockets: Vec<(String, L::Socket)>,
    /// Those of [`Shape::Duplex`].
    halves: Option<HalvesOf<L::Socket>>,
}

type HalvesOf<S> = Halves<<S as Socket>::Sender, <S as Socket>::Receiver>;

impl<L: Library> Keeping<L> {
    fn handshakes(&self, server: SocketAddr, number: usize) -> Result<Sample> {
        self.library.executor().block_on(async {
            let mut trips = Vec::with_capacity(number);
            let start = clock::Start::now();
            for _ in 0..number {
                let from = std::time::Instant::now();
                drop(self.library.connect(server, "/echo").await?);
                trips.push(from.elapsed().as_nanos() as u32);
            }
            Ok(start.sample(number, &mut trips))
        })
    }

    fn duplex(&mut self, server: SocketAddr, work: Work, messages: usize) -> Result<Sample> {
        let executor = self.library.executor();
        let halves = match self.halves.take() {
            Some(halves) => halves,
            None => {
                let socket = executor.block_on(self.library.connect(server, &work.path()))?;
                let (sender, receiver) = socket.split();
                Halves(sender, receiver)
            }
        };
        let spawner = executor.spawner();
        let (halves, sample) = executor.run(async move {
            let start = clock::Start::now();
            let halves = duplex(halves, spawner, work, messages).await?;
            Ok((halves, start.sample(messages, &mut [])))
        })?;
        self.halves = Some(halves);
        Ok(sample)
    }
}

impl<L: Library> Subject for Keeping<L> {
    fn name(&self) -> &str {
        self.library.name()
    }

    fn engine(&self) -> &'static str {
        self.library.engine()
    }

    fn is_ours(&self) -> bool {
        self.library.is_ours()
    }

    fn counts(&self) -> bool {
        self.library.counts()
    }

    fn opens_many(&self) -> bool {
        self.opens_many && self.can(Work::PING_PONG)
    }

    fn can(&self, work: Work) -> bool {
        (self.does)(work) && (self.library.feeds() || !work.feeds())
    }

    fn measure(&mut self, server: SocketAddr, work: Work, messages: usize) -> Result<Sample> {
        match work.shape {
            Shape::Handshake => return self.handshakes(server, messages),
            Shape::Duplex => return self.duplex(server, work, messages),
            _ => {}
        }
        let executor = self.library.executor();
        let path = work.path();
        let mut socket = match self.sockets.iter().position(|(open, _)| *open == path) {
            Some(at) => self.sockets.swap_remove(at).1,
            None => executor.block_on(self.library.connect(server, &path))?,
        };
        let (socket, sample) = executor.run(async move {
            let trips = if work.has_latency() { messages } else { 0 };
            let mut trips = Vec::with_capacity(trips);
            let start = clock::Start::now();
            work.run(&mut socket, messages, |trip| trips.push(trip)).await?;
            let sample = start.sample(messages, &mut trips);
            Ok((socket, sample))
        })?;
        self.sockets.push((path, socket));
        Ok(sample)
    }

    fn count(&self, work: Work, numbers: [usize; 2], mark: fn()) -> Result<()> {
        let wire = Wire::new();
        let executor = self.library.executor();
        executor.block_on_without_io(wire.clone().drive(async {
            let mut socket = self.library.connect_over(wire, &work.path()).await?;
            let _held = executor.hold();
            work.run(&mut socket, numbers[0], drop).await?;
            mark();
            for messages in numbers {
                work.run(&mut socket, messages, drop).await?;
                mark();
            }
            Ok(())
        }))
    }

    fn spread(&self, server: SocketAddr, sessions: usize, messages: usize) -> Result<Sample> {
        let executor = self.library.executor();
        let sockets = executor.block_on(self.open(server, sessions))?;
        let spawner = executor.spawner();
        executor.run(many::spread(sockets, spawner, messages))
    }

    fn delay(&self, server: SocketAddr, work: Work, messages: usize) -> Result<Delay> {
        let executor = self.library.executor();
        let socket = executor.block_on(self.library.connect(server, &work.path()))?;
        let spawner = executor.spawner();
        executor.block_on(many::delay(socket, spawner, work, messages))
    }

    fn memory(&self, server: SocketAddr, sessions: usize) -> Result<[usize; 2]> {
        self.library.executor().block_on(async {
            // Once, for lazily created parts.
            let mut first = self.library.connect(server, "/echo").await?;
            many::round_trip(&mut first).await?;
            let start = clock::resident()?;
            let mut sockets = self.open(server, sessions).await?;
            let open = clock::resident()?;
            for socket in &mut sockets {
                many::round_trip(socket).await?;
            }
            let used = clock::resident()?;
            Ok([open, used].map(|now| now.saturating_sub(start) / sessions))
        })
    }

    fn bare_memory(&self, server: SocketAddr, connections: usize) -> Result<Option<usize>> {
        self.library.executor().block_on(async {
            // As above.
            let mut first = self.library.connect(server, "/echo").await?;
            many::round_trip(&mut first).await?;
            let mut open = Vec::with_capacity(connections);
            let start = clock::resident()?;
            for _ in 0..connections {
                match self.library.connect_bare(server).await? {
                    Some(connection) => open.push(connection),
                    None => return Ok(None),
                }
            }
            Ok(Some(clock::resident()?.saturating_sub(start) / connections))
        })
    }

    fn idle(&self, server: SocketAddr, idle: Idle) -> Result<many::Rest> {
        let executor = self.library.executor();
        executor.block_on(async {
            let first = self.library.connect_pinging(server, idle.interval).await?;
            let start = clock::resident()?;
            let mut sockets = Vec::with_capacity(idle.sessions);
            for _ in 0..idle.sessions {
                sockets.push(self.library.connect_pinging(server, idle.interval).await?);
            }
            let rest = many::idle(executor.spawner(), idle, start).await?;
            drop((first, sockets));
            Ok(rest)
        })
    }
}

impl<L: Library> Keeping<L> {
    async fn open(&self, server: SocketAddr, sessions: usize) -> Result<Vec<L::Socket>> {
        let mut sockets = Vec::with_capacity(sessions);
        for _ in 0..sessions {
            sockets.push(self.library.connect(server, "/echo").await?);
        }
        Ok(sockets)
    }
}
