//! The other side of the wire: an HTTP/1.1 and WebSocket server for tests, examples and benches.
//!
//! It runs on plain threads and blocking sockets, without an async runtime and without a WebSocket
//! library, so that nothing under test is also the judge. It listens on a free port of 127.0.0.1 and
//! counts what arrives. [`EchoServer`] is ready-made; [`Server`] runs a handler of your own, which can
//! write anything, legal or not:
//!
//! ```
//! use drivetrain_conformance::peer::{Message, Server, WireFrame};
//!
//! let server = Server::start(|conn| {
//!     conn.accept_web_socket()?;
//!     conn.feed(&WireFrame { fin: false, ..WireFrame::text("in two ") });
//!     conn.send(&WireFrame::continuation("fragments", true))?;
//!     while let Some(message) = conn.receive_message()? {
//!         if let Message::Close { code, .. } = message {
//!             return conn.send_close(code, "");
//!         }
//!     }
//!     Ok(())
//! });
//! let url = server.ws_url("/");
//! ```

mod conn;
mod deflate;
mod echo;
mod hpack;
mod http;
mod http2;
mod http2_nacks;
mod http2_targets;
mod http2_windows;
mod http_proxy;
mod message;
mod proxy;
mod proxy_script;
mod resources;
mod server;
mod socks;
mod stream;
#[cfg(test)]
mod tests;
mod tls;
#[cfg(unix)]
mod unix_relay;
mod wire;

pub use conn::Conn;
pub use deflate::{DeflatePeer, join};
pub use echo::EchoServer;
pub use http::{Request, accept_key};
pub use http_proxy::http_proxy;
pub use http2::{Http2Failure, Http2Sockets, serve_http2};
pub use http2_nacks::{Http2Nack, serve_http2_nacks};
pub use http2_targets::serve_http2_targets;
pub use http2_windows::Http2Windows;
pub use message::Message;
pub use proxy::{Fault, FaultProxy, SplitMix64};
pub use proxy_script::{Asked, ProxyScript, Refusal};
pub use server::Server;
pub use socks::socks5_proxy;
pub use tls::{TestCa, TlsSession};
#[cfg(unix)]
pub use unix_relay::UnixRelay;
pub use wire::{LengthEncoding, WireFrame, frame_header, opcode};
