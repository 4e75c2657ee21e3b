//! The HTTP/2 connections that the sockets of a host share.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use drivetrain_engine::HandshakePhases;
use h2::{RecvStream, SendStream, client::SendRequest, ext};
use http::{Request, Response, Uri, header, uri::Authority};
use tokio::{runtime::Id, sync::OnceCell};

use crate::destination::Destination;

/// What one socket may have on its way to the application.
pub(super) const STREAM_WINDOW: u32 = 256 << 10;
/// And all of a connection's together: the most that HTTP/2 has, so that streams that nobody reads hold up no other.
pub(super) const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// More sockets than this would share the connection's window after all.
const SOCKETS: usize = (CONNECTION_WINDOW / STREAM_WINDOW) as usize;
/// More hosts than this are not remembered.
const KEPT: usize = 256;

/// The connections of one engine value.
#[derive(Default)]
pub(crate) struct Http2Connections(Mutex<Cells>);

/// The sockets of a destination share a connection, in the runtime that drives it.
type Cells = HashMap<(Id, Destination), Arc<OnceCell<Found>>>;

/// What was found out about a host.
#[derive(Clone)]
pub(super) enum Found {
    /// It allows WebSockets over HTTP/2. The connection is its sockets'.
    Allowed(Weak<Http2Connection>),
    /// It speaks HTTP/1.1, or HTTP/2 without that.
    NotAllowed,
}

/// A connection; it ends when nobody holds it.
pub(super) struct Http2Connection {
    pub(super) sender: SendRequest<Bytes>,
    /// It takes no more sockets.
    pub(super) is_leaving: Arc<AtomicBool>,
    /// How long opening it took.
    pub(super) phases: HandshakePhases,
}

impl Http2Connection {
    /// Whether it can carry one more socket. Its sockets hold it, and so does who asks.
    pub(super) fn has_room(self: &Arc<Self>) -> bool {
        let most = self.sender.current_max_send_streams().min(SOCKETS);
        !self.is_leaving.load(Ordering::Relaxed) && Arc::strong_count(self) <= most
    }

    /// Asks for a socket.
    pub(super) async fn ask(
        &self,
        mut request: Request<()>,
    ) -> std::result::Result<(Response<RecvStream>, SendStream<Bytes>), h2::Error> {
        request.extensions_mut().insert(ext::Protocol::from_static("websocket"));
        let mut sender = self.sender.clone().ready().await?;
        let (response, send) = sender.send_request(request, false)?;
        drop(sender);
        Ok((response.await?, send))
    }
}

impl Http2Connections {
    pub(super) fn cell(&self, key: &(Id, Destination)) -> Arc<OnceCell<Found>> {
        let mut cells = self.lock();
        if let Some(cell) = cells.get(key) {
            return Arc::clone(cell);
        }
        if cells.len() >= KEPT {
            // Connections are their sockets': what is lost is what was found out.
            cells.clear();
        }
        Arc::clone(cells.entry(key.clone()).or_default())
    }

    pub(super) fn forget(&self, key: &(Id, Destination), cell: &Arc<OnceCell<Found>>) {
        let mut cells = self.lock();
        if cells.get(key).is_some_and(|now| Arc::ptr_eq(now, cell)) {
            cells.remove(key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Cells> {
        // No code of anyone else's runs under it, so that it is whole even if it were poisoned.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A `Host` of the caller's is the `:authority` (RFC 9113 section 8.3.1); `None` if it is none, which only HTTP/1.1 has a
/// place for.
pub(super) fn named<B>(mut request: Request<B>) -> Option<Request<B>> {
    let is_alone = request.headers().get_all(header::HOST).iter().count() == 1;
    let Some(host) = request.headers_mut().remove(header::HOST) else { return Some(request) };
    let authority = Authority::try_from(host.as_bytes()).ok()?;
    if !is_alone || authority.host().is_empty() || authority.as_str().contains('@') {
        return None;
    }
    let mut parts = request.uri().clone().into_parts();
    parts.authority = Some(authority);
    *request.uri_mut() = Uri::from_parts(parts).ok()?;
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_of_the_callers_is_the_authority() {
        for (host, authority) in [(None, "a:1"), (Some("b.example"), "b.example")] {
            let mut request = Request::new(());
            *request.uri_mut() = Uri::from_static("https://a:1/path");
            if let Some(host) = host {
                request.headers_mut().insert(header::HOST, host.parse().expect("a value"));
            }
            let request = named(request).expect("it is an authority");
            assert_eq!(request.uri().to_string(), format!("https://{authority}/path"));
            assert!(request.headers().is_empty());
        }
    }

    #[test]
    fn a_host_that_is_no_authority_is_not_for_http_2() {
        for hosts in [&[""][..], &[":1"], &["a b"], &["u@b.test"], &["b.test", "c.test"]] {
            let mut request = Request::new(());
            *request.uri_mut() = Uri::from_static("https://a:1/path");
            for host in hosts {
                request.headers_mut().append(header::HOST, host.parse().expect("a value"));
            }
            assert!(named(request).is_none(), "{hosts:?}");
        }
    }
}
