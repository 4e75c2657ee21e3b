//! What an engine owes below the session: its transport is polled by the cases themselves, as the session polls it.

mod duties;
mod ends;
mod frames;
mod keys;
mod memory;
mod wakers;

use crate::case::Case;

pub(super) fn cases() -> Vec<Case> {
    [
        keys::cases(),
        duties::cases(),
        wakers::cases(),
        frames::cases(),
        memory::cases(),
        ends::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
