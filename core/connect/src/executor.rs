//! What this crate needs of a runtime.

use std::{future::Future, io, net::SocketAddr, sync::Arc};

use drivetrain_engine::{Handshake, Result, Runtime, UpgradeResult};
use socket2::Socket;

use crate::{connector_state::ConnectorState, stream::ConnectedStream};

/// A runtime to dial on: `TokioExecutor`, `AsyncStdExecutor` or `SmolExecutor`.
///
/// It is this crate's to implement, in one small file per runtime.
pub trait Executor: sealed::Operations {}

pub(crate) mod sealed {
    use super::{
        Arc, ConnectedStream, ConnectorState, Future, Handshake, Result, Runtime, Socket,
        SocketAddr, UpgradeResult, io,
    };

    pub trait Operations: Sized + Send + Sync + 'static {
        /// The name of the runtime.
        const NAME: &'static str;

        /// Whether a connection for HTTP is kept for the next request. A socket of tokio's dies with its runtime,
        /// and the next request may come from another one.
        const KEEPS_CONNECTIONS: bool = true;

        /// Tasks and time. The engine's name is for the error.
        fn runtime(engine: &'static str) -> Result<Arc<dyn Runtime>>;

        /// The addresses of a host, in the resolver's order (RFC 6724).
        fn resolve(
            host: &str,
            port: u16,
        ) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;

        /// Connects a socket, which does not block, to this address.
        fn connect(
            socket: Socket,
            address: SocketAddr,
        ) -> impl Future<Output = io::Result<ConnectedStream>> + Send;

        /// Connects to the Unix socket with this path.
        #[cfg(unix)]
        fn connect_unix(
            path: &std::path::Path,
        ) -> impl Future<Output = io::Result<ConnectedStream>> + Send;

        /// Polls a future where the runtime's sockets and timers work.
        fn within<T: Send>(
            engine: &'static str,
            future: impl Future<Output = Result<T>> + Send,
        ) -> impl Future<Output = Result<T>> + Send {
            let _ = engine;
            future
        }

        /// Opens a WebSocket over HTTP/2, if that is wanted and the server allows it.
        fn upgrade_over_http2(
            engine: &'static str,
            shared: &ConnectorState,
            handshake: &Handshake,
        ) -> impl Future<Output = Result<Option<UpgradeResult>>> + Send {
            let _ = (engine, shared, handshake);
            std::future::ready(Ok(None))
        }
    }
}
