//! Peers that break the protocol, byte by byte: the wire, and the result on every engine.
//!
//! They are one table. The cases are made from it, and so is `docs/reference/hostile-peers.md`.

mod bytes;
mod close;
mod frames;
mod handshake;
mod page;
mod table;
mod transport;
mod utf_8;

use table::Row;

#[cfg(feature = "server")]
pub(crate) use bytes::{Bytes, Then};
pub use page::page;
#[cfg(feature = "server")]
pub(crate) use table::{End, Peer};

use crate::case::Case;

pub(super) fn cases() -> Vec<Case> {
    parts().into_iter().flat_map(|(_, rows)| rows).map(Row::into_case).collect()
}

/// The table, in parts with their titles.
pub(crate) fn parts() -> [(&'static str, Vec<Row>); 5] {
    [
        ("Handshakes", handshake::rows()),
        ("Frames", frames::rows()),
        ("Text", utf_8::rows()),
        ("Closing", close::rows()),
        ("Connections", transport::rows()),
    ]
}
