//! All that is smol's; `async_std.rs` is its twin.

use std::{future::Future, io, net::SocketAddr, sync::Arc};

use drivetrain_engine::{Result, Runtime};
use socket2::Socket;

use crate::{
    async_io::{self, Spawn, Tasks},
    executor::{Executor, sealed},
    stream::ConnectedStream,
};

/// smol, as the parameter of [`HttpConnector`](crate::HttpConnector).
#[derive(Debug)]
#[non_exhaustive]
pub struct SmolExecutor;

impl Executor for SmolExecutor {}

impl sealed::Operations for SmolExecutor {
    const NAME: &'static str = "smol";

    async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        smol::net::resolve((host, port)).await
    }

    async fn connect(socket: Socket, address: SocketAddr) -> io::Result<ConnectedStream> {
        async_io::connect(socket, address).await
    }

    #[cfg(unix)]
    async fn connect_unix(path: &std::path::Path) -> io::Result<ConnectedStream> {
        async_io::connect_unix(path).await
    }

    fn runtime(_: &'static str) -> Result<Arc<dyn Runtime>> {
        Ok(Arc::new(Tasks::<Self>::new()))
    }
}

impl Spawn for SmolExecutor {
    fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        // A dropped task is cancelled, where async-std's handle detaches.
        smol::spawn(task).detach();
    }
}
