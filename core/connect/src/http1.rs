//! How a head of HTTP/1.1 is written and read, what went wrong with an exchange, and the way through a proxy: what
//! every engine over hyper shares, whatever its runtime.
//!
//! | | |
//! |---|---|
//! | [`builder`] | hyper's connection with the limits and the tolerance that all engines have |
//! | [`spelled`] | a request whose header names go out in their usual spelling |
//! | [`ReadFirst`] | a socket on which an early answer is read though the server has reset the connection |
//! | [`failed`] | an exchange that failed, in one text for all engines |
//! | [`connect`], [`socks`] | a tunnel through a proxy |
//! | [`bound_unsent`] | a socket that holds little back of what was written |

mod builder;
mod chunk;
mod failure;
mod read_first;
mod socket;
mod spelling;
mod tunnel;

pub use builder::builder;
pub(crate) use chunk::Chunk;
pub use failure::{During, chain, failed, is_abandoned};
pub use read_first::ReadFirst;
pub(crate) use read_first::Writing;
pub use socket::bound_unsent;
pub use spelling::spelled;
pub use tunnel::{connect, socks};
