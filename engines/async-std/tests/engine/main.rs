//! The engines over loopback, against servers on plain threads.
#![cfg(feature = "async-std")]

mod http;
mod options;
mod server;
#[cfg(any(feature = "rustls", feature = "native-tls"))]
mod tls;
mod web_socket;
