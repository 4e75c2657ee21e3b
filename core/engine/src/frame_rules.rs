//! Rules for the head of a received frame, once for all decoders: the codec's, and those around a library that overlooks
//! a violation. Each failure is the text of the error.

use crate::connection::Role;

/// Refuses a mask from a server and none from a client, for the end with this role (RFC 6455 section 5.1).
///
/// # Errors
/// The text of the violation.
#[inline]
pub const fn check_mask(role: Role, is_masked: bool) -> Result<(), &'static str> {
    match (role, is_masked) {
        (Role::Client, true) => Err("the server masked a frame"),
        (Role::Server, false) => Err("the client did not mask a frame"),
        _ => Ok(()),
    }
}

/// Refuses the top bit of a length, and a length in more bytes than it needs (RFC 6455 section 5.2); `code` is the length in
/// the second byte of the head.
///
/// # Errors
/// The text of the violation.
#[inline]
pub const fn check_length(length: u64, code: u8) -> Result<(), &'static str> {
    if length > i64::MAX as u64 {
        return Err("the peer announced a payload with the top bit of its length set");
    }
    if (code == 126 && length < 126) || (code == 127 && length < 1 << 16) {
        return Err("the peer did not use the shortest encoding of a payload's length");
    }
    Ok(())
}
