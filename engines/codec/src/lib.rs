//! The frames of RFC 6455 without I/O, for both ends: bytes in, frames out ([`Decoder`]), and frames in,
//! bytes out ([`Encoder`]).
//!
//! There is no runtime and no socket in here. Whoever has one reads into [`Decoder::room`] and writes what
//! [`Encoder::waiting`] shows. [`MessageDecoder`] puts messages together, for those who have no session
//! above.
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

mod decoder;
mod encoder;
mod head;
pub mod mask;
mod message;
mod read_buffer;
#[cfg(test)]
mod testing;
mod write_buffer;

pub use decoder::Decoder;
pub use encoder::Encoder;
pub use message::MessageDecoder;
pub use read_buffer::ReadBuffer;
