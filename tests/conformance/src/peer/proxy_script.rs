//! The script of a proxy, for each protocol, and the recorded requests.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use super::conn::Conn;

/// The script of a proxy and its recorded requests; served by
/// [`http_proxy`](super::http_proxy) or [`socks5_proxy`](super::socks5_proxy). A clone is the same.
///
/// It reaches 127.0.0.1, `localhost`, and configured names, which no resolver knows.
#[derive(Clone, Debug, Default)]
pub struct ProxyScript {
    credentials: Option<(String, String)>,
    names: HashMap<String, SocketAddr>,
    refusal: Option<Refusal>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// How a proxy fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// With this status; a SOCKS5 proxy with the reply "not allowed".
    Status(u16),
    /// With bytes of another protocol.
    Garbage,
    /// It says nothing, until the client leaves.
    Silence,
    /// It ends the connection.
    End,
}

/// What a client asked a proxy for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The request's method; `SOCKS5` for a proxy that speaks that.
    pub method: String,
    /// What to connect to, `host:port`; the target of a request that is no `CONNECT`.
    pub target: String,
    /// `user:password`, if the client gave them.
    pub credentials: Option<String>,
}

impl ProxyScript {
    /// One that lets everybody through.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requires these credentials.
    #[must_use]
    pub fn with_credentials(mut self, user: &str, password: &str) -> Self {
        self.credentials = Some((user.into(), password.into()));
        self
    }

    /// The same, knowing what address this name has.
    #[must_use]
    pub fn knowing(mut self, name: &str, address: SocketAddr) -> Self {
        self.names.insert(name.into(), address);
        self
    }

    /// One that fails like this.
    #[must_use]
    pub fn failing(mut self, refusal: Refusal) -> Self {
        self.refusal = Some(refusal);
        self
    }

    /// What it was asked for so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }

    pub(super) fn wants_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    pub(super) fn accepts(&self, given: Option<&str>) -> bool {
        match &self.credentials {
            None => true,
            Some((user, password)) => given == Some(&format!("{user}:{password}")),
        }
    }

    pub(super) fn note(&self, method: &str, target: &str, credentials: Option<String>) {
        let asked = Asked { method: method.into(), target: target.into(), credentials };
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
    }

    /// A connection to `host:port`, if it is one of those that it reaches.
    pub(super) fn dial(&self, target: &str) -> io::Result<TcpStream> {
        let (host, port) = target.rsplit_once(':').ok_or(io::ErrorKind::InvalidInput)?;
        let port: u16 = port.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
        let address = match self.names.get(host) {
            Some(address) => *address,
            None if ["localhost", "127.0.0.1"].contains(&host) => {
                (Ipv4Addr::LOCALHOST, port).into()
            }
            None => return Err(io::ErrorKind::HostUnreachable.into()),
        };
        TcpStream::connect(address)
    }
}

/// Fails in a way that is the same whatever is spoken; `false` if it is not one of those.
pub(super) fn fail(conn: &mut Conn, refusal: Refusal) -> io::Result<bool> {
    match refusal {
        Refusal::Status(_) => return Ok(false),
        Refusal::Garbage => conn.write_all(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")?,
        Refusal::Silence => conn.drain()?,
        Refusal::End => {}
    }
    Ok(true)
}
