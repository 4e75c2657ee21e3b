//! Who does the work: an engine through the facade, or a raw library.

use std::{future::Future, net::SocketAddr};

use crate::{
    Result, clock,
    libraries::Held,
    report::Sample,
    wire::Wire,
    work::{Shape, Socket, Work},
};

/// A library in its natural use.
pub(crate) trait Library {
    type Socket: Socket;
    /// The same over an in-memory connection.
    type InMemory: Socket;

    /// What the table calls it.
    fn name(&self) -> &str;

    /// The engine whose row it stands beside.
    fn engine(&self) -> &'static str;

    /// Whether it is an engine of ours.
    fn is_ours(&self) -> bool {
        false
    }

    /// Whether it can send without writing at once.
    fn feeds(&self) -> bool {
        true
    }

    /// Runs a future where the library runs.
    fn block_on<T>(&self, future: impl Future<Output = T>) -> T;

    /// Runs a future that needs no sockets, if possible in the same way each time.
    fn block_on_in_memory<T>(&self, future: impl Future<Output = T>) -> T {
        self.block_on(future)
    }

    /// Keeps other threads from running the library's tasks while the value lives.
    fn hold(&self) -> Option<Held> {
        None
    }

    async fn connect(&self, server: SocketAddr, path: &str) -> Result<Self::Socket>;

    async fn connect_over(&self, wire: Wire, path: &str) -> Result<Self::InMemory>;
}

/// A library, whatever its types are.
pub(crate) trait Contender {
    fn name(&self) -> &str;
    fn engine(&self) -> &'static str;
    fn is_ours(&self) -> bool;
    fn can(&self, work: Work) -> bool;

    /// What it is called in a table.
    fn label(&self) -> String {
        if self.is_ours() {
            format!("drivetrain {}", self.name())
        } else {
            format!("  {}", self.name())
        }
    }

    /// Does the work over a connection to the server, which is kept for the next time.
    fn measure(&mut self, server: SocketAddr, work: Work, messages: usize) -> Result<Sample>;

    /// Does the work over an in-memory connection: once for warming up, then with each number of
    /// messages; `mark` is called before and after each of these.
    fn count(&self, work: Work, numbers: [usize; 2], mark: fn()) -> Result<()>;

    /// Opens sessions. Returns the resident bytes that each costs: open, and after one message each way.
    fn memory(&self, server: SocketAddr, sessions: usize) -> Result<[usize; 2]>;
}

/// Makes a contender of a library.
pub(crate) fn contender<L: Library + 'static>(library: L) -> Box<dyn Contender> {
    Box::new(Keeping { library, sockets: Vec::new(), trips: Vec::new() })
}

struct Keeping<L: Library> {
    library: L,
    sockets: Vec<(String, L::Socket)>,
    trips: Vec<u32>,
}

impl<L: Library> Contender for Keeping<L> {
    fn name(&self) -> &str {
        self.library.name()
    }

    fn engine(&self) -> &'static str {
        self.library.engine()
    }

    fn is_ours(&self) -> bool {
        self.library.is_ours()
    }

    fn can(&self, work: Work) -> bool {
        work.shape != Shape::Feed || self.library.feeds()
    }

    fn measure(&mut self, server: SocketAddr, work: Work, messages: usize) -> Result<Sample> {
        let Self { library, sockets, trips } = self;
        let path = work.path();
        trips.clear();
        trips.reserve(messages);
        library.block_on(async {
            let at = match sockets.iter().position(|(open, _)| *open == path) {
                Some(at) => at,
                None => {
                    let socket = library.connect(server, &path).await?;
                    sockets.push((path, socket));
                    sockets.len() - 1
                }
            };
            work.measure(&mut sockets[at].1, messages, trips).await
        })
    }

    fn count(&self, work: Work, numbers: [usize; 2], mark: fn()) -> Result<()> {
        let wire = Wire::new();
        self.library.block_on_in_memory(wire.clone().drive(async {
            let mut socket = self.library.connect_over(wire, &work.path()).await?;
            let _held = self.library.hold();
            work.run(&mut socket, numbers[0], drop).await?;
            mark();
            for messages in numbers {
                work.run(&mut socket, messages, drop).await?;
                mark();
            }
            Ok(())
        }))
    }

    fn memory(&self, server: SocketAddr, sessions: usize) -> Result<[usize; 2]> {
        self.library.block_on(async {
            // Once for what is made at first use.
            let mut first = self.library.connect(server, "/echo").await?;
            round_trip(&mut first).await?;
            let mut sockets = Vec::with_capacity(sessions);
            let start = clock::resident()?;
            for _ in 0..sessions {
                sockets.push(self.library.connect(server, "/echo").await?);
            }
            let open = clock::resident()?;
            for socket in &mut sockets {
                round_trip(socket).await?;
            }
            let used = clock::resident()?;
            Ok([open, used].map(|now| now.saturating_sub(start) / sessions))
        })
    }
}

async fn round_trip(socket: &mut impl Socket) -> Result<()> {
    Work::new(Shape::PingPong, 32).run(socket, 1, drop).await
}
