//! A library through its own halves all the time, as a program that sends and receives at once has it.

use std::net::SocketAddr;

use super::executor::Executor;
use crate::{
    Result,
    socket::{Halves, Socket},
    subject::Library,
    wire::Wire,
};

/// The library whose sockets are split as soon as they are open.
pub(crate) struct Split<L> {
    pub(crate) name: &'static str,
    pub(crate) library: L,
}

type HalvesOf<S> = Halves<<S as Socket>::Sender, <S as Socket>::Receiver>;

impl<L: Library> Library for Split<L> {
    type Socket = HalvesOf<L::Socket>;
    type InMemory = HalvesOf<L::InMemory>;

    fn name(&self) -> &str {
        self.name
    }

    fn engine(&self) -> &'static str {
        self.library.engine()
    }

    fn executor(&self) -> &Executor {
        self.library.executor()
    }

    async fn connect(&self, server: SocketAddr, path: &str) -> Result<Self::Socket> {
        let (sender, receiver) = self.library.connect(server, path).await?.split();
        Ok(Halves(sender, receiver))
    }

    async fn connect_over(&self, wire: Wire, path: &str) -> Result<Self::InMemory> {
        let (sender, receiver) = self.library.connect_over(wire, path).await?.split();
        Ok(Halves(sender, receiver))
    }
}
