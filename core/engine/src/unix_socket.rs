//! The Unix socket of one request.

use std::{fmt, path::Path, sync::Arc};

use crate::error::{Error, ErrorKind, Result};

/// A Unix socket, in the extensions of a request and of a [`Handshake`](crate::Handshake): the engine connects to it
/// instead of the URL's host, and asks no DNS. Everything else is as over TCP: the `Host` is the URL's, and `https` and
/// `wss` use TLS with the URL's host.
///
/// There is no proxy beside it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UnixSocket(Arc<Path>);

impl UnixSocket {
    /// The socket with this path in the file system.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self(path.as_ref().into())
    }

    /// Refuses a path that no socket can have. No I/O.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a path that is empty, has a zero byte, or is longer than the system allows.
    pub fn check(&self) -> Result<()> {
        #[cfg(unix)]
        let is_possible = std::os::unix::net::SocketAddr::from_pathname(&self.0).is_ok();
        #[cfg(not(unix))]
        let is_possible = true;
        if is_possible && !self.0.as_os_str().is_empty() {
            return Ok(());
        }
        let message =
            format!("{self} cannot exist: its path is empty, too long or has a zero byte");
        Err(Error::new(ErrorKind::InvalidInput, message))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// As errors show it.
impl fmt::Display for UnixSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the Unix socket {}", self.0.display())
    }
}

impl fmt::Debug for UnixSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_no_socket_can_have_is_refused() {
        assert!(UnixSocket::new("/run/service.sock").check().is_ok());
        for path in ["", "a\0b", &"a".repeat(500)] {
            let refused = UnixSocket::new(path).check().err().map(|error| error.kind());
            assert_eq!(refused, Some(ErrorKind::InvalidInput), "{path:?}");
        }
    }
}
