//! hyper's connection with the limits and the tolerance that all engines have.

use drivetrain_engine::HeadLimits;
use hyper::client::conn::http1::Builder;

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
