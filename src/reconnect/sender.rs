//! The sending half of a reconnecting session.

use std::{fmt, future::Future, sync::Arc};

use drivetrain_engine::{CloseReason, Frame, Outcome, Result};
use serde::Serialize;

use super::{State, States, link::Link};
use crate::Outgoing;

/// The sending half of a [`ReconnectingSession`](super::ReconnectingSession): a cheap clone for each task
/// that sends. It does not keep the session alive: whoever receives owns it.
///
/// # Example
/// ```no_run
/// # async fn example(session: drivetrain::reconnect::ReconnectingSession) -> drivetrain::Result<()> {
/// let sender = session.sender();
/// while let Err(error) = sender.send("reading: 21.5").await {
///     if !error.is_transient() {
///         return Err(error);
///     }
///     sender.connected().await?; // some other task receives
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

    /// Sends one message on the connection of the moment: see [`Outgoing::send`](crate::Outgoing::send), and
    /// [the contract](super#the-contract-for-messages-in-flight) for what becomes of it. A Close ends the
    /// session for good, as [`close`](Self::close) does.
    ///
    /// # Errors
    /// [`ErrorKind::Connect`](crate::ErrorKind::Connect) while there is no connection, unless
    /// [`wait_while_disconnected`](super::ReconnectRequest::wait_while_disconnected) is set; the error that
    /// ended the connection; [`ErrorKind::Closed`](crate::ErrorKind::Closed) after the end of the session;
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) and
    /// [`ErrorKind::TooBig`](crate::ErrorKind::TooBig) for a frame that must not be sent. Whichever it is,
    /// nothing of the message was sent.
    ///
    /// # Cancel safety
    /// Dropped while pending, nothing was sent. The poll that accepts the message completes.
    pub fn send(&self, frame: impl Into<Frame>) -> impl Future<Output = Result<()>> + Send + '_ {
        self.put(frame.into(), How::Send)
    }

    /// Sends one message with those after it: see [`Outgoing::feed`](crate::Outgoing::feed).
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

    /// Waits until everything that this connection has accepted is written to its socket. Written is not
    /// arrived.
    ///
    /// # Errors
    /// The error that kept it from being written, or that of [`send`](Self::send) if there is no connection.
    ///
    /// # Cancel safety
    /// Safe; writing goes on without it.
    pub async fn flush(&self) -> Result<()> {
        self.link.outgoing()?.0.flush().await
    }

    /// Waits until there is a connection that accepts messages. Some other task has to receive meanwhile.
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
            // Whoever receives may not have seen its end yet.
            if outgoing.is_open() {
                return Ok(());
            }
            lost = Some(change);
        }
    }

    /// Ends the session for good: closes the connection as [`Outgoing::close`](crate::Outgoing::close) does,
    /// or gives up the try of the moment. Returns how the latest connection ended.
    ///
    /// Whoever receives then gets what has come, the last [`Event::Disconnected`](super::Event::Disconnected)
    /// with what is not known to have arrived, and the end.
    ///
    /// # Errors
    /// As for [`Outgoing::close`](crate::Outgoing::close).
    ///
    /// # Cancel safety
    /// Once polled, closing goes on without the future.
    pub async fn close(&self, reason: CloseReason) -> Result<Outcome> {
        match self.link.close(reason)? {
            Some(outgoing) => outgoing.closed().await,
            None => Ok(self.link.outcome()),
        }
    }

    /// The state of the moment.
    pub fn state(&self) -> State {
        self.link.state()
    }

    /// The states from now on, one after the other.
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
                // The connection has ended, which whoever receives may not have seen yet.
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
