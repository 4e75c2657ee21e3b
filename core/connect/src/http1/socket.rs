//! How much of what was written a socket may hold back.

use std::io;

use socket2::SockRef;

/// The most that lies unsent in the system's buffer of a WebSocket's socket. A ping waits behind it, and what has
/// not been sent when an upload ends keeps the peer from being judged.
#[cfg(any(target_os = "android", target_os = "linux"))]
const UNSENT: u32 = 128 << 10;

/// Has the system take no more than 128 KiB that it cannot send yet (`TCP_NOTSENT_LOWAT`), where it knows that: a slow
/// peer then slows its writer down at once, and is not found dead while megabytes are still on their way to it.
///
/// # Errors
/// The system's, for what is no TCP socket.
pub fn bound_unsent<'a>(socket: impl Into<SockRef<'a>>) -> io::Result<()> {
    let socket = socket.into();
    #[cfg(any(target_os = "android", target_os = "linux"))]
    socket.set_tcp_notsent_lowat(UNSENT)?;
    let _ = socket;
    Ok(())
}
