//! What a client is for: requests of one purpose share their connections.

use std::time::Duration;

use drivetrain_engine::{Proxy, UnixSocket};
use tokio::runtime::Id;

use crate::host::Host;

/// What a client is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Purpose {
    /// For `https`.
    pub(crate) secure: bool,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) unix_socket: Option<UnixSocket>,
    pub(crate) host: Host,
    /// Nothing reused, for a request that failed on a connection that was.
    pub(crate) is_new: bool,
    /// The runtime that drives the connections.
    pub(crate) runtime: Id,
}
