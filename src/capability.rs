//! Requiring capabilities of an engine.

use drivetrain_engine::{Capability, Engine, Error, Result, Support};

/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) with the engine's reason.
pub(crate) fn require(engine: &dyn Engine, capability: Capability) -> Result<()> {
    match engine.support(capability) {
        Support::Offered => Ok(()),
        Support::Missing(reason) => {
            Err(Error::unsupported(engine.name().to_owned(), capability, &reason))
        }
    }
}
