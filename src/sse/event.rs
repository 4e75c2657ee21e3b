//! One event.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

/// An event that a server sent.
///
/// `Debug` prints the length of the data, not the data.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// Its type; `message` if the server gave none.
    pub event: Cow<'static, str>,
    /// Its data: the lines that the server sent, joined by a line feed. What is not UTF-8 is replaced, as the
    /// standard has it.
    pub data: String,
    /// The id of the stream so far: this event's, or else that of the last one that had one.
    pub id: Option<Arc<str>>,
    /// The delay for reconnecting that the server set with this event, or since the one before.
    pub retry: Option<Duration>,
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("event", &self.event)
            .field("data", &format_args!("{} bytes", self.data.len()))
            .field("id", &self.id)
            .field("retry", &self.retry)
            .finish()
    }
}
