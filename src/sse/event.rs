//! One event.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

/// An event that a server sent.
///
/// `Debug` prints the length of the data, not the data.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerSentEvent {
    /// Its type; `message` if the server gave none.
    pub event: Cow<'static, str>,
    /// Its data: the lines that the server sent, joined by line feeds. Bytes that are not UTF-8 are replaced, as the
    /// standard demands.
    pub data: String,
    /// The last id of the stream: this event's, or that of an earlier event.
    pub id: Option<Arc<str>>,
    /// The reconnection delay that the server set with this event or since the previous one.
    pub retry: Option<Duration>,
}

impl fmt::Debug for ServerSentEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSentEvent")
            .field("event", &self.event)
            .field("data", &format_args!("{} bytes", self.data.len()))
            .field("id", &self.id)
            .field("retry", &self.retry)
            .finish()
    }
}
