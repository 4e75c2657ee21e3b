//! Dialling on tokio.

use std::{future::Future, io, net::SocketAddr, sync::Arc};

#[cfg(feature = "http2")]
use drivetrain_engine::{Handshake, UpgradeResult};
use drivetrain_engine::{Result, Runtime};
use socket2::Socket;
use tokio::net::{TcpSocket, lookup_host};

#[cfg(feature = "http2")]
use crate::{connector_state::ConnectorState, over_http2};
use crate::{
    executor::{Executor, sealed},
    stream::ConnectedStream,
    tokio_io::FromTokio,
    tokio_runtime::{Tokio, Within},
};

/// tokio, as the parameter of [`HttpConnector`](crate::HttpConnector).
#[derive(Debug)]
#[non_exhaustive]
pub struct TokioExecutor;

impl Executor for TokioExecutor {}

impl sealed::Operations for TokioExecutor {
    const NAME: &'static str = "tokio";
    const KEEPS_CONNECTIONS: bool = false;

    fn runtime(engine: &'static str) -> Result<Arc<dyn Runtime>> {
        Tokio::current(engine)
    }

    async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(lookup_host((host, port)).await?.collect())
    }

    async fn connect(socket: Socket, address: SocketAddr) -> io::Result<ConnectedStream> {
        let stream = TcpSocket::from_std_stream(socket.into()).connect(address).await?;
        let ends = (stream.local_addr()?, stream.peer_addr()?);
        Ok(ConnectedStream::socket(FromTokio(stream), Some(ends)))
    }

    #[cfg(unix)]
    async fn connect_unix(path: &std::path::Path) -> io::Result<ConnectedStream> {
        let stream = tokio::net::UnixStream::connect(path).await?;
        Ok(ConnectedStream::socket(FromTokio(stream), None))
    }

    async fn within<T: Send>(
        engine: &'static str,
        future: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        Within::new(engine, Tokio::handle(engine)?, future).await
    }

    #[cfg(feature = "http2")]
    async fn upgrade_over_http2(
        engine: &'static str,
        shared: &ConnectorState,
        handshake: &Handshake,
    ) -> Result<Option<UpgradeResult>> {
        over_http2::upgrade::<Self>(engine, shared, handshake).await
    }
}
