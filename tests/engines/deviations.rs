//! The deviations that this repository's engines declare; `docs/reference/limitations.md` lists them.

use drivetrain_conformance::Deviation;

/// Those of the engine of this name.
pub(crate) fn of(engine: &str) -> &'static [Deviation] {
    match engine {
        "fastwebsockets" | "fastwebsockets-smol" => &[Deviation::LargestFrame],
        _ => &[],
    }
}
