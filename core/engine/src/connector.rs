//! Dialling and HTTP on one runtime.

use std::{fmt, future::Future, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};

use crate::{
    body::Body,
    byte_stream::BoxStream,
    capability::{Capability, Support},
    connection::Protocol,
    error::Result,
    handshake::{Accepted, Handshake},
    runtime::Runtime,
    settings::NativeSetting,
};

/// Dials, speaks HTTP and sends handshakes on one runtime: one half of an engine. The other half is a
/// [`Framing`](crate::Framing).
///
/// The value is its configuration. The rules of [`Engine`](crate::Engine) about one exchange, laziness and
/// dropped futures apply. [`Combined`](crate::Combined) adds the engine's name to each error.
pub trait Connector: Clone + fmt::Debug + Send + Sync + 'static {
    /// Whether the connector offers a capability that [belongs to connectors](Capability::is_of_connectors).
    fn support(&self, capability: Capability) -> Support;

    /// The set options, for users to read; never a key.
    fn settings(&self) -> Vec<NativeSetting>;

    /// Refuses an impossible configuration. No I/O.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput); the message names the option and a valid value.
    fn check(&self) -> Result<()>;

    /// The runtime of the sessions.
    ///
    /// # Errors
    /// [`Other`](crate::ErrorKind::Other) if the connector must be called inside a runtime and is not.
    fn runtime(&self) -> Result<Arc<dyn Runtime>>;

    /// Sends one HTTP request: [`Engine::execute`](crate::Engine::execute).
    ///
    /// # Errors
    /// Those of [`Engine::execute`](crate::Engine::execute).
    fn execute(
        &self,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Body>>> + Send;

    /// Sends one handshake over a new connection and verifies the answer.
    ///
    /// # Errors
    /// Those of [`Engine::connect`](crate::Engine::connect).
    fn upgrade(&self, handshake: &Handshake) -> impl Future<Output = Result<UpgradeResult>> + Send;
}

/// How a server answered a handshake.
pub enum UpgradeResult {
    /// The server accepted, and the answer is verified.
    Upgraded {
        /// The stream after the answer.
        stream: BoxStream,
        /// Bytes read past the end of the answer. They precede the stream's bytes.
        read_ahead: Bytes,
        /// The protocol below the stream.
        protocol: Protocol,
        /// The head of the answer.
        response: Response<()>,
        /// The negotiated parameters.
        accepted: Accepted,
    },
    /// The server answered otherwise; the body is still streaming.
    Refused(Response<Body>),
}

impl fmt::Debug for UpgradeResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upgraded { response, accepted, protocol, .. } => f
                .debug_struct("Upgraded")
                .field("status", &response.status())
                .field("protocol", protocol)
                .field("accepted", accepted)
                .finish_non_exhaustive(),
            Self::Refused(response) => f.debug_tuple("Refused").field(&response.status()).finish(),
        }
    }
}
