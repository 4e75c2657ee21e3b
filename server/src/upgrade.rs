//! From an accepted handshake to the end of its handler.

use std::{
    fmt,
    future::{Future, poll_fn},
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use bytes::Bytes;
use drivetrain_engine::{
    CloseCode, CloseReason, Connection, Error, ErrorKind, NegotiatedExtension, Result, Role,
    Runtime, Upgrade,
};
use drivetrain_session::{Outgoing, RawSession, Session, SessionConfig};
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use hyper::upgrade::OnUpgrade;
use tracing::{Instrument as _, Span, field};

use crate::{frames::Frames, sessions::Slot, stream};

/// A handshake that may be accepted: the request was checked and holds a place in the registry. Nothing was answered yet.
///
/// [`run`](Self::run) gives the response and runs a handler on the session; dropped instead, nothing happens.
#[must_use = "the handshake is not accepted until `run`, `run_raw` or `accept` is called"]
pub struct WebSocketUpgrade {
    request: Option<Request<()>>,
    upgrade: Upgrade,
    on_upgrade: OnUpgrade,
    slot: Slot,
    frames: Arc<dyn Frames>,
    config: Arc<SessionConfig>,
    runtime: Arc<dyn Runtime>,
    span: Span,
}

/// A session that is open once its response is written: see [`WebSocketUpgrade::accept`].
pub struct PendingSession(WebSocketUpgrade);

impl WebSocketUpgrade {
    #[expect(clippy::too_many_arguments, reason = "all that a session needs, from one place")]
    pub(crate) fn new(
        request: Option<Request<()>>,
        upgrade: Upgrade,
        on_upgrade: OnUpgrade,
        slot: Slot,
        frames: Arc<dyn Frames>,
        config: Arc<SessionConfig>,
        runtime: Arc<dyn Runtime>,
        path: &str,
        peer: Option<SocketAddr>,
    ) -> Self {
        let span = tracing::info_span!(
            target: "drivetrain::server",
            "websocket.session",
            "otel.kind" = "server",
            "url.path" = path,
            "client.address" = peer.map(|peer| field::display(peer.ip())),
            "client.port" = peer.map(|peer| peer.port()),
        );
        Self { request, upgrade, on_upgrade, slot, frames, config, runtime, span }
    }

    /// The subprotocol that is agreed on.
    pub fn subprotocol(&self) -> Option<&str> {
        self.upgrade.accepted.subprotocol.as_deref()
    }

    /// The extensions that are agreed on.
    pub fn extensions(&self) -> &[NegotiatedExtension] {
        &self.upgrade.accepted.extensions
    }

    /// The headers of the answer, to add to, such as a cookie.
    pub fn response_headers(&mut self) -> &mut HeaderMap {
        self.upgrade.response.headers_mut()
    }

    /// Names the session in the registry, such as by its user: see [`SessionInfo::label`](crate::SessionInfo::label). The
    /// first name stays.
    pub fn label(self, label: impl Into<String>) -> Self {
        self.slot.set_label(label.into().into());
        self
    }

    /// Accepts the handshake: returns its response, and runs `handler` in a task of its own once the connection is
    /// upgraded.
    ///
    /// When it returns `Ok`, the session is closed with 1000; after an `Err` with the error's
    /// [`close_code`](Error::close_code), or 1011, and the error is logged unless it is the session's own end; after a
    /// panic with 1011.
    pub fn run<F, Fut>(self, handler: F) -> Response<Full<Bytes>>
    where
        F: FnOnce(Session) -> Fut + Send + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        let (response, PendingSession(upgrade)) = self.accept();
        let (runtime, span) = (Arc::clone(&upgrade.runtime), upgrade.span.clone());
        runtime.spawn(Box::pin(serve(Box::pin(upgrade.open()), handler).instrument(span)));
        response
    }

    /// The same for a raw session: its handler gets every frame, answers pings and Closes by itself, and ends the
    /// session when it returns. No extension is agreed on. When the registry closes the session, such as in a shutdown, a
    /// Close goes out, the handler can receive what comes before the peer's, and cannot send any more.
    pub fn run_raw<F, Fut>(mut self, handler: F) -> Response<Full<Bytes>>
    where
        F: FnOnce(RawSession) -> Fut + Send + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        self.upgrade.accepted.extensions.clear();
        self.upgrade.response.headers_mut().remove(http::header::SEC_WEBSOCKET_EXTENSIONS);
        let (response, PendingSession(upgrade)) = self.accept();
        let (runtime, span) = (Arc::clone(&upgrade.runtime), upgrade.span.clone());
        runtime.spawn(Box::pin(serve_raw(Box::pin(upgrade.open_raw()), handler).instrument(span)));
        response
    }

    /// Accepts the handshake by hand: the response to send, and the session that is open once it is written.
    pub fn accept(self) -> (Response<Full<Bytes>>, PendingSession) {
        let head = &self.upgrade.response;
        let mut response = Response::new(Full::new(Bytes::new()));
        *response.status_mut() = head.status();
        *response.headers_mut() = head.headers().clone();
        (response, PendingSession(self))
    }

    /// The upgraded connection.
    async fn connection(&mut self) -> Result<Connection> {
        let deadline = self.runtime.now() + self.config.handshake_timeout;
        let mut timer = self.runtime.timer(deadline);
        let Self { on_upgrade, runtime, slot, .. } = self;
        let upgraded = poll_fn(|cx| {
            if let Poll::Ready(upgraded) = Pin::new(&mut *on_upgrade).poll(cx) {
                return Poll::Ready(upgraded.map_err(|error| {
                    Error::new(ErrorKind::Io, "the connection ended before its upgrade")
                        .with_source(error)
                }));
            }
            if slot.poll_ended(cx).is_ready() {
                return Poll::Ready(Err(Error::new(ErrorKind::Closed, "the server has shut down")));
            }
            while timer.poll(cx).is_ready() {
                if runtime.now() >= deadline {
                    let message = "the connection was not upgraded within handshake_timeout";
                    return Poll::Ready(Err(Error::new(ErrorKind::Timeout, message)));
                }
                timer.reset(deadline); // it was early
            }
            Poll::Pending
        })
        .await?;
        let (stream, read_ahead) = stream::of(upgraded);
        let accepted = &self.upgrade.accepted;
        let transport = self.frames.transport(stream, read_ahead, accepted)?;
        let connection = Connection::boxed(transport)
            .with_role(Role::Server)
            .with_protocol(self.upgrade.protocol)
            .with_subprotocol(accepted.subprotocol.clone())
            .with_extensions(accepted.extensions.clone())
            .with_duties(self.frames.duties());
        Ok(match self.request.take() {
            Some(request) => connection.with_request(request),
            None => connection,
        })
    }

    async fn session(&mut self) -> Result<Session> {
        let connection = self.connection().await?;
        let transforms = self.config.extensions.negotiated(&connection)?;
        let (runtime, config) = (Arc::clone(&self.runtime), Arc::clone(&self.config));
        let session = Session::builder(connection, runtime, config)
            .extensions(transforms)
            .span(self.span.clone())
            .open();
        self.slot.open(session.handle());
        Ok(session)
    }

    /// The session and its place in the registry. Nothing else of the handshake is left.
    async fn open(mut self) -> Result<(Session, Slot)> {
        let session = self.session().await?;
        Ok((session, self.slot))
    }

    async fn open_raw(mut self) -> Result<(RawSession, Slot)> {
        let connection = self.connection().await?;
        let session = RawSession::new(connection, self.runtime, &self.config);
        Ok((session, self.slot))
    }
}

/// The future of a session that is being opened. Boxed, so that its memory is freed before the handler runs: `benches server`
/// prints the memory of an idle session.
type Opening<S> = Pin<Box<dyn Future<Output = Result<(S, Slot)>> + Send>>;

/// The future of a handler; `None` if the handler panicked.
type Handled<Fut> = Option<Pin<Box<Fut>>>;

/// Calls the handler. Its future is boxed: a future that holds another one and hands it on has room for it several times.
fn begin<S, F, Fut>(handler: F, session: S) -> Handled<Fut>
where
    F: FnOnce(S) -> Fut,
{
    catch_unwind(AssertUnwindSafe(|| Box::pin(handler(session)))).ok()
}

impl PendingSession {
    /// The session, once the response is written and the connection upgraded. The registry counts it until it has ended.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the connection ended before, [`ErrorKind::Timeout`] if it was not upgraded within
    /// `handshake_timeout`.
    ///
    /// # Cancel safety
    /// Dropped while pending, the connection ends.
    pub async fn session(self) -> Result<Session> {
        let Self(mut upgrade) = self;
        let session = upgrade.session().await?;
        let (outgoing, slot) = (session.handle(), upgrade.slot);
        let ended = outgoing.ended();
        // The slot is free when the session has ended, whichever task owns it.
        upgrade.runtime.spawn(Box::pin(async move {
            let _slot = slot;
            ended.await;
        }));
        Ok(session)
    }
}

/// A handler from the upgrade to the end of its session. The slot is dropped last.
async fn serve<F, Fut>(opening: Opening<Session>, handler: F)
where
    F: FnOnce(Session) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let (slot, outgoing, handled) = match opening.await {
        Ok((session, slot)) => (slot, session.outgoing(), begin(handler, session)),
        Err(error) => return tell_failed(&error),
    };
    let reason = match ended(&slot, handled).await {
        Some(reason) => reason,
        None => return drop(outgoing), // cut off
    };
    close(&slot, &outgoing, reason).await;
}

/// Closes the session unless it is closed already, within the close timeout.
async fn close(slot: &Slot, outgoing: &Outgoing, reason: CloseReason) {
    // How the closing went is an event of the session's.
    let _ = slot.unless_ended(outgoing.close(reason)).await;
}

async fn serve_raw<F, Fut>(opening: Opening<RawSession>, handler: F)
where
    F: FnOnce(RawSession) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let (slot, farewell, handled) = match opening.await {
        Ok((session, slot)) => {
            let farewell = session.farewell();
            slot.open(session.handle());
            (slot, farewell, begin(handler, session))
        }
        Err(error) => return tell_failed(&error),
    };
    ended(&slot, handled).await;
    // A Close that was asked for and not sent. Polled once even if the server does not wait any more.
    let mut farewell = pin!(farewell.finish());
    poll_fn(|cx| match farewell.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(()),
        Poll::Pending => slot.poll_ended(cx),
    })
    .await;
}

/// Runs a handler to its end: how its session is to be closed, or `None` if it was cut off by a shutdown.
async fn ended<Fut>(slot: &Slot, handled: Handled<Fut>) -> Option<CloseReason>
where
    Fut: Future<Output = Result<()>>,
{
    let internal = || CloseReason::truncated(CloseCode::INTERNAL_ERROR, "");
    let panicked = || {
        // The panic's own message went to the panic hook.
        tracing::error!(target: "drivetrain::server", "a session's handler panicked");
        Some(internal())
    };
    let Some(mut future) = handled else { return panicked() };
    let guarded = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(result)) => Poll::Ready(Some(result)),
        Err(_) => Poll::Ready(None),
    });
    match slot.unless_ended(guarded).await? {
        Some(Ok(())) => Some(CloseReason::normal()),
        Some(Err(error)) => {
            tell_error(&error);
            let code = error.close_code().filter(|code| code.may_travel());
            Some(
                code.map_or_else(internal, |code| CloseReason::truncated(code, &error.to_string())),
            )
        }
        None => panicked(),
    }
}

/// The end of a session is no fault of its handler's.
fn tell_error(error: &Error) {
    if error.outcome().is_some() {
        tracing::debug!(target: "drivetrain::server", %error, "a session's handler ended with its session");
    } else {
        tracing::error!(target: "drivetrain::server", error = format!("{error:#}"), "a session's handler failed");
    }
}

fn tell_failed(error: &Error) {
    tracing::warn!(target: "drivetrain::server", %error, "no session was opened for an accepted handshake");
}

impl fmt::Debug for WebSocketUpgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketUpgrade")
            .field("protocol", &self.upgrade.protocol)
            .field("extensions", &self.upgrade.accepted.extensions)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PendingSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PendingSession").field(&self.0).finish()
    }
}
