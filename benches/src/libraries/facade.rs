//! Our engines, through the facade with its defaults.

use std::{future::Future, net::SocketAddr};

use drivetrain::{HttpClient, Session, engine};

use super::executor::{Executor, Held};
use crate::{Result, contender::Library, wire::Wire, work::Socket};

/// An engine of ours.
pub(crate) struct Facade {
    engine: &'static str,
    executor: Executor,
    client: HttpClient,
    over: fn(Wire) -> HttpClient,
}

#[cfg(feature = "native")]
pub(crate) fn native() -> Result<Facade> {
    Ok(Facade {
        engine: "native",
        executor: Executor::tokio()?,
        client: HttpClient::new(engine::Native::new()),
        over: |wire| HttpClient::new(engine::Native::over(wire)),
    })
}

#[cfg(feature = "tungstenite")]
pub(crate) fn tungstenite() -> Result<Facade> {
    Ok(Facade {
        engine: "tungstenite",
        executor: Executor::tokio()?,
        client: HttpClient::new(engine::Tungstenite::new()),
        over: |wire| HttpClient::new(engine::Tungstenite::over(wire)),
    })
}

#[cfg(feature = "fastwebsockets")]
pub(crate) fn fastwebsockets() -> Result<Facade> {
    Ok(Facade {
        engine: "fastwebsockets",
        executor: Executor::tokio()?,
        client: HttpClient::new(engine::FastWebSockets::new()),
        over: |wire| HttpClient::new(engine::FastWebSockets::over(wire)),
    })
}

#[cfg(feature = "async-std")]
pub(crate) fn async_std() -> Facade {
    Facade {
        engine: "async-std",
        executor: Executor::AsyncStd,
        client: HttpClient::new(engine::AsyncStd::new()),
        over: |wire| HttpClient::new(engine::AsyncStd::over(wire)),
    }
}

#[cfg(feature = "smol")]
pub(crate) fn smol() -> Facade {
    Facade {
        engine: "smol",
        executor: Executor::Smol,
        client: HttpClient::new(engine::Smol::new()),
        over: |wire| HttpClient::new(engine::Smol::over(wire)),
    }
}

#[cfg(feature = "native-async-std")]
pub(crate) fn native_async_std() -> Facade {
    Facade {
        engine: "native-async-std",
        executor: Executor::AsyncStd,
        client: HttpClient::new(engine::NativeAsyncStd::new()),
        over: |wire| HttpClient::new(engine::NativeAsyncStd::over(wire)),
    }
}

#[cfg(feature = "native-smol")]
pub(crate) fn native_smol() -> Facade {
    Facade {
        engine: "native-smol",
        executor: Executor::Smol,
        client: HttpClient::new(engine::NativeSmol::new()),
        over: |wire| HttpClient::new(engine::NativeSmol::over(wire)),
    }
}

impl Library for Facade {
    type Socket = Session;
    type InMemory = Session;

    fn name(&self) -> &str {
        self.engine
    }

    fn engine(&self) -> &'static str {
        self.engine
    }

    fn is_ours(&self) -> bool {
        true
    }

    fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.executor.block_on(future)
    }

    fn block_on_in_memory<T>(&self, future: impl Future<Output = T>) -> T {
        self.executor.block_on_without_io(future)
    }

    fn hold(&self) -> Option<Held> {
        self.executor.hold()
    }

    async fn connect(&self, server: SocketAddr, path: &str) -> Result<Session> {
        Ok(self.client.web_socket(format!("ws://{server}{path}")).connect().await?)
    }

    async fn connect_over(&self, wire: Wire, path: &str) -> Result<Session> {
        let client = (self.over)(wire);
        Ok(client.web_socket(format!("ws://localhost{path}")).connect().await?)
    }
}

impl Socket for Session {
    async fn send(&mut self, text: &str) -> Result<()> {
        Ok(Session::send(self, text).await?)
    }

    async fn feed(&mut self, text: &str) -> Result<()> {
        Ok(Session::feed(self, text).await?)
    }

    async fn flush(&mut self) -> Result<()> {
        Ok(Session::flush(self).await?)
    }

    async fn receive(&mut self) -> Result<usize> {
        let frame = Session::receive(self).await?.ok_or("the session was closed")?;
        Ok(frame.read_bytes().len())
    }
}
