//! The framing of an upgrader, whatever its type.

use std::fmt;

use drivetrain_engine::{
    Accepted, BoxStream, Bytes, Capability, Duties, EngineSettings, Framing, Result, Role, Support,
    Transport,
};

/// [`Framing`] without the type.
pub(crate) trait Frames: fmt::Debug + Send + Sync {
    fn support(&self, capability: Capability) -> Support;
    fn settings(&self) -> EngineSettings;
    fn check(&self) -> Result<()>;
    fn duties(&self) -> Duties;
    fn transport(
        &self,
        stream: BoxStream,
        read_ahead: Bytes,
        accepted: &Accepted,
    ) -> Result<Box<dyn Transport>>;
}

impl<F: Framing> Frames for F {
    fn support(&self, capability: Capability) -> Support {
        Framing::support(self, capability)
    }

    fn settings(&self) -> EngineSettings {
        Framing::settings(self)
    }

    fn check(&self) -> Result<()> {
        Framing::check(self)
    }

    fn duties(&self) -> Duties {
        Framing::duties(self)
    }

    fn transport(
        &self,
        stream: BoxStream,
        read_ahead: Bytes,
        accepted: &Accepted,
    ) -> Result<Box<dyn Transport>> {
        Framing::transport(self, stream, read_ahead, Role::Server, accepted)
    }
}
