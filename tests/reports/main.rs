//! Tests of reported faults that need no engine of the suite, or one that is broken on purpose: by area, as in the
//! suite's own group `reports`.

#[cfg(all(feature = "native", feature = "rustls"))]
#[path = "../support/altered.rs"]
mod altered;
mod contract;
mod cookies;
mod credentials;
mod docs;
mod handshake;
mod http;
mod reuse;
mod session;
mod sharing;
