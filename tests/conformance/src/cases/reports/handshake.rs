//! Handshakes and refusals.

mod heads;
mod lengths;
mod refusals;
mod spelling;
mod transient;

use crate::case::Case;

pub(super) fn cases() -> Vec<Case> {
    [refusals::cases(), spelling::cases(), heads::cases(), transient::cases(), lengths::cases()]
        .into_iter()
        .flatten()
        .collect()
}
