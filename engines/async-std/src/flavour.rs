//! What the engine is called on each runtime.

#[cfg(feature = "async-std")]
use drivetrain_hyper::OnAsyncStd;
#[cfg(feature = "smol")]
use drivetrain_hyper::OnSmol;

/// A runtime over futures-io: what differs between `AsyncStd` and `Smol`.
///
/// Only drivetrain's own implement it: [`drivetrain_hyper::Flavour`] is sealed.
pub trait Flavour: drivetrain_hyper::Flavour {
    /// The name of the engine.
    const ENGINE: &'static str;
    /// The name of the engine's type.
    const TYPE: &'static str;
}

#[cfg(feature = "async-std")]
impl Flavour for OnAsyncStd {
    const ENGINE: &'static str = "async-std";
    const TYPE: &'static str = "AsyncStd";
}

#[cfg(feature = "smol")]
impl Flavour for OnSmol {
    const ENGINE: &'static str = "smol";
    const TYPE: &'static str = "Smol";
}
