//! Limits that hold whatever was set.

/// The largest frame that is received, whatever the limit. fastwebsockets reserves the announced length
/// in one piece. That is address space only, but an allocator that refuses aborts the process, and a
/// peer must not be able to ask for that.
pub(crate) const LARGEST_FRAME: usize = 1 << 30;

/// RFC 6455 section 5.5.
pub(super) const LARGEST_CONTROL: usize = 125;
