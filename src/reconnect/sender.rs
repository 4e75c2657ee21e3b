//! The sending half of a reconnecting session.

use std::{fmt, future::Future, sync::Arc};

use drivetrain_engine::{CloseReason, Frame, Outcome, Result};
use serde::Serialize;

use super::{State, States, link::Link};
use drivetrain_session::Outgoing;

/// The sending half of a [`ReconnectingSession`](super::ReconnectingSession). Each sending task has a cheap clone. A
/// sender does not keep the session alive; the receiver owns the session.
///
/// # Example
/// ```no_run
/// # async fn example(session: drivetrain::reconnect::ReconnectingSession) -> drivetrain::Result<()> {
/// let sender = session.sender();
/// while let Err(error) = sender.send("reading: 21.5").await {
///     if !error.is_transient() {
///         return Err(error);
///     }
///     sender.connected().await?; // another task receives
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Sender {
    link: Arc<Link>,
    waits: bool,
}

#[derive(Clone, Copy)]
enum How {
    Send,
    Feed,
}

impl Sender {
    pub(super) fn new(link: Arc<Link>, waits: bool) -> Self {
        Self { link, waits }
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Sends one message on the current connection: see [`Outgoing::send`](crate::Outgoing::send) and
    /// [the contract](super#the-contract-for-messages-in-flight). A Close ends the session, as
    /// [`close`](Self::close) does.
    ///
    /// # Errors
    /// [`ErrorKind::Connect`](crate::ErrorKind::Connect) while there is no connection, unless
    /// [`wait_while_disconnected`](super::ReconnectRequest::wait_while_disconnected) is set; the error that
    /// ended the connection; [`ErrorKind::Closed`](crate::ErrorKind::Closed) after the end of the session;
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) and
    /// [`ErrorKind::TooBig`](crate::ErrorKind::TooBig) for a frame that must not be sent. After any error no
    /// part of the message was sent.
    ///
    /// # Cancel safety
    /// Dropped while pending, nothing was sent. The poll that accepts the message completes.
    pub fn send(&self, frame: impl Into<Frame>) -> impl Future<Output = Result<()>> + Send + '_ {
        self.put(frame.into(), How::Send)
    }

    /// Sends one message together with later ones: see [`Outgoing::feed`](crate::Outgoing::feed).
    ///
    /// # Errors
    /// As for [`send`](Self::send).
    ///
    /// # Cancel safety
    /// As for [`send`](Self::send).
    pub fn feed(&self, frame: impl Into<Frame>) -> impl Future<Output = Result<()>> + Send + '_ {
        self.put(frame.into(), How::Feed)
    }

    /// Sends a value as the client's converter writes it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if no converter is installed,
    /// [`ErrorKind::Convert`](crate::ErrorKind::Convert) if it refuses the value, and those of
    /// [`send`](Self::send).
    ///
    /// # Cancel safety
    /// As for [`send`](Self::send).
    pub async fn send_serialized<T: Serialize + ?Sized>(&self, value: &T) -> Result<()> {
        let (outgoing, _) = self.outgoing(None).await?;
        self.send(outgoing.serialize(value)?).await
    }

    /// Waits until the socket has taken every accepted message. The peer may not have received them yet.
    ///
    /// # Errors
    /// The write error, or that of [`send`](Self::send) without a connection.
    ///
    /// # Cancel safety
    /// Safe; writing continues without the future.
    pub async fn flush(&self) -> Result<()> {
        self.link.outgoing()?.0.flush().await
    }

    /// Waits for a connection that accepts messages. Another task must receive meanwhile.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) once the session has ended for good.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn connected(&self) -> Result<()> {
        let mut lost = None;
        loop {
            let (outgoing, change) = self.link.wait_for_outgoing(lost).await?;
            // The receiver may not have seen its end yet.
            if outgoing.is_open() {
                return Ok(());
            }
            lost = Some(change);
        }
    }

    /// Ends the session: closes the connection as [`Outgoing::close`](crate::Outgoing::close) does, or cancels the
    /// current attempt. Returns the outcome of the latest connection.
    ///
    /// The receiver then gets the remaining messages, the last [`Event::Disconnected`](super::Event::Disconnected)
    /// with the unacknowledged messages, and the end.
    ///
    /// # Errors
    /// As for [`Outgoing::close`](crate::Outgoing::close).
    ///
    /// # Cancel safety
    /// Once polled, closing continues without the future.
    pub async fn close(&self, reason: CloseReason) -> Result<Outcome> {
        match self.link.close(reason)? {
            Some(outgoing) => outgoing.closed().await,
            None => Ok(self.link.outcome()),
        }
    }

    /// The current state.
    pub fn state(&self) -> State {
        self.link.state()
    }

    /// A stream of the states from now on.
    pub fn states(&self) -> States {
        States::new(Arc::clone(&self.link))
    }

    async fn put(&self, frame: Frame, how: How) -> Result<()> {
        if let Frame::Close(reason) = frame {
            return self.link.close(reason.unwrap_or_else(CloseReason::normal)).map(drop);
        }
        let mut lost = None;
        loop {
            let (outgoing, change) = self.outgoing(lost).await?;
            // A frame is a handle: its bytes are not copied.
            let result = match how {
                How::Send => outgoing.send(frame.clone()).await,
                How::Feed => outgoing.feed(frame.clone()).await,
            };
            match result {
                // The connection has ended, and the receiver may not have seen it yet.
                Err(error)
                    if self.waits && error.outcome().is_some() && !self.link.is_closing() =>
                {
                    lost = Some(change);
                }
                result => return result,
            }
        }
    }

    async fn outgoing(&self, lost: Option<u64>) -> Result<(Outgoing, u64)> {
        if self.waits {
            return self.link.wait_for_outgoing(lost).await;
        }
        self.link.outgoing()
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("state", &self.state()).finish_non_exhaustive()
    }
}
