//! All that is async-std's; `smol.rs` is its twin.

use std::{future::Future, io, net::SocketAddr, sync::Arc};

use async_std::net::ToSocketAddrs;

use drivetrain_engine::{Result, Runtime};
use socket2::Socket;

use crate::{
    async_io::{self, Spawn, Tasks},
    executor::{Executor, sealed},
    stream::ConnectedStream,
};

/// async-std, as the parameter of [`HttpConnector`](crate::HttpConnector).
#[derive(Debug)]
#[non_exhaustive]
pub struct AsyncStdExecutor;

impl Executor for AsyncStdExecutor {}

impl sealed::Operations for AsyncStdExecutor {
    const NAME: &'static str = "async-std";

    async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok((host, port).to_socket_addrs().await?.collect())
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

impl Spawn for AsyncStdExecutor {
    fn spawn(task: impl Future<Output = ()> + Send + 'static) {
        // A dropped handle detaches.
        drop(async_std::task::spawn(task));
    }
}
