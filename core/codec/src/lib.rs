//! The frames of RFC 6455 for both ends: bytes in, frames out ([`Decoder`]), and frames in, bytes out
//! ([`Encoder`]).
//!
//! There is no runtime and no socket in here. [`Framer`] joins both to a byte stream of futures-io and is the
//! [`Transport`](drivetrain_engine::Transport) of a session. A program with other I/O reads into [`Decoder::room`]
//! and writes [`Encoder::waiting`]. [`MessageDecoder`] assembles messages without a session.
//!
//! ```
//! use drivetrain_codec::{Decoder, Encoder};
//! use drivetrain_engine::{OpCode, RawFrame, Role};
//!
//! let mut client = Encoder::new(Role::Client);
//! client.encode(&RawFrame::new(OpCode::Text, "hello"))?;
//!
//! let mut server = Decoder::new(Role::Server);
//! server.feed(client.waiting());
//! let frame = server.decode(1 << 20)?.expect("all of it was fed");
//! assert_eq!(frame.payload, "hello");
//! # Ok::<(), drivetrain_engine::Error>(())
//! ```

mod buffers;
mod decoder;
mod encoder;
mod framer;
mod head;
pub mod mask;
mod message;
mod read_buffer;
#[cfg(test)]
mod testing;
#[cfg(feature = "tokio")]
mod tokio_stream;
#[cfg(feature = "tungstenite")]
mod tungstenite;
mod write_buffer;

pub use buffers::Buffers;
pub use decoder::Decoder;
pub use encoder::Encoder;
pub use framer::Framer;
pub use head::{Head, HeadCodec};
pub use message::MessageDecoder;
#[cfg(feature = "tokio")]
pub use tokio_stream::{StreamMonitor, TokioStream};
#[cfg(feature = "tungstenite")]
pub use tungstenite::{TungsteniteFraming, WebSocketConfig};
