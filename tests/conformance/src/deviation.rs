//! Permitted deviations of an engine.

use std::fmt;

/// A deviation of an engine from the suite's rules that its library causes.
///
/// The engine's author [declares](crate::Subject::deviations) the deviation, and documents the reason. The suite checks
/// declared deviations: an engine without the deviation must not declare it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Deviation {
    /// A frame above 1 GiB is [`TooBig`](drivetrain_engine::ErrorKind::TooBig) whatever the limit.
    LargestFrame,
    /// A length with the top bit set is [`TooBig`](drivetrain_engine::ErrorKind::TooBig) under a limit.
    TopBit,
}

impl Deviation {
    /// Every deviation that the suite knows.
    pub const ALL: &'static [Self] = &[Self::LargestFrame, Self::TopBit];
}

/// The behaviour, as a clause.
impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LargestFrame => "a frame above 1 GiB is `TooBig` whatever the limit",
            Self::TopBit => "a length with the top bit set is `TooBig` under a limit",
        })
    }
}
