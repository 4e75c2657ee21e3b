//! The frames of a WebSocket over a stream of bytes.

use std::fmt;

use bytes::Bytes;

use crate::{
    byte_stream::BoxStream,
    capability::{Capability, Support},
    connection::{Duties, Role},
    error::Result,
    handshake::Accepted,
    settings::EngineSettings,
    transport::Transport,
};

/// Makes the [`Transport`] of a byte stream, with one library's frames: one half of an engine, and all that a
/// server needs of it. The other half is a [`Connector`](crate::Connector).
///
/// The value is its configuration.
pub trait Framing: Clone + fmt::Debug + Send + Sync + 'static {
    /// Whether the framing offers a capability that belongs to frames. Default: all of them, [`Support::of_frames`].
    fn support(&self, capability: Capability) -> Support {
        Support::of_frames(capability)
    }

    /// Options for the session to apply and for users to read. Default: none.
    fn settings(&self) -> EngineSettings {
        EngineSettings::default()
    }

    /// Refuses an impossible configuration. Default: accepts everything.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput); the message names the option and a valid value.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// The duties of its transports. Default: [`Duties::frames`].
    fn duties(&self) -> Duties {
        Duties::frames()
    }

    /// The transport of an upgraded stream. `read_ahead` was read past the end of the handshake and precedes the
    /// stream's bytes. `accepted` has the negotiated parameters.
    ///
    /// # Errors
    /// Any kind that fits; the stream is then dropped.
    fn transport(
        &self,
        stream: BoxStream,
        read_ahead: Bytes,
        role: Role,
        accepted: &Accepted,
    ) -> Result<Box<dyn Transport>>;
}

/// A value that has a [`Framing`]: a framing itself, or an engine that is a [`Combined`](crate::Combined). A server
/// takes either.
pub trait IntoFraming {
    /// Its framing.
    type Framing: Framing;

    /// The framing with its options; the other half of an engine is dropped.
    fn into_framing(self) -> Self::Framing;
}

impl<F: Framing> IntoFraming for F {
    type Framing = F;

    fn into_framing(self) -> F {
        self
    }
}
