//! The engine over loopback, against servers on plain threads.

mod handshake;
mod host;
mod http;
mod options;
mod runtime;
mod server;
#[cfg(any(feature = "rustls", feature = "native-tls"))]
mod tls;
mod waiting;
