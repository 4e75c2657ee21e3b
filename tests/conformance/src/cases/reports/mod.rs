//! Faults that were reported of this crate or of others, each with its kind.

mod contract;
mod cookies;
mod credentials;
mod handshake;
mod http;
mod reuse;
mod session;
mod sharing;

use crate::case::Case;

pub(super) fn cases() -> Vec<Case> {
    [
        contract::cases(),
        session::cases(),
        sharing::cases(),
        handshake::cases(),
        reuse::cases(),
        credentials::cases(),
        cookies::cases(),
        http::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
