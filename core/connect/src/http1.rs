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

mod chunk;
mod failure;
mod read_first;
mod socket;
mod spelling;
mod tunnel;

use drivetrain_engine::HeadLimits;
use hyper::client::conn::http1::Builder;

pub(crate) use chunk::Chunk;
pub use failure::{During, chain, failed, is_abandoned};
pub use read_first::ReadFirst;
pub(crate) use read_first::Writing;
pub use socket::bound_unsent;
pub use spelling::spelled;
pub use tunnel::{connect, socks};

/// hyper's own limit for what it reads of a head, which is that of its buffer.
const BUFFER: usize = 400 << 10;

/// A connection of hyper's that writes header names in title case, keeps these limits, joins folded
/// lines (RFC 9112 section 5.2), and leaves out a header that is none, such as one with a control byte.
pub fn builder(limits: HeadLimits) -> Builder {
    // The limits are for names and values; the head has a line, and four bytes a field, beside them.
    let beside = limits.max_headers.saturating_mul(4).saturating_add(1024);
    let head = limits.max_header_size.saturating_add(beside);
    let mut builder = Builder::new();
    builder
        .title_case_headers(true)
        .max_headers(limits.max_headers)
        .max_header_size(head)
        .allow_obsolete_multiline_headers_in_responses(true)
        .ignore_invalid_headers_in_responses(true);
    if head > BUFFER {
        builder.max_buf_size(head);
    }
    builder
}
