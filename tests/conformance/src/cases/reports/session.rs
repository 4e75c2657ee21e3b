//! The life and death of a session.

mod ends;
mod life;

use crate::case::Case;

pub(super) fn cases() -> Vec<Case> {
    [life::cases(), ends::cases()].into_iter().flatten().collect()
}
