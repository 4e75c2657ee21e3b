//! Output: the queue, write coalescing, and the send log.

pub(crate) mod coalescing;
pub(crate) mod pending_flush;
pub(crate) mod queue;
pub(crate) mod send_log;

use drivetrain_engine::Duties;

use crate::{
    budget::Budget,
    config::SessionConfig,
    outbound::{coalescing::WriteCoalescing, queue::SendQueue, send_log::SendLog},
    stats::Counter,
};

/// The sending part of a session's state.
pub(crate) struct Outbound {
    pub(crate) queue: SendQueue,
    /// The send log, only on request.
    pub(crate) send_log: Option<Box<SendLog>>,
    pub(crate) coalescing: WriteCoalescing,
    /// The transport has taken something that is not written yet.
    pub(crate) dirty: bool,
    /// The session task was asked to flush. [`PendingFlush`](pending_flush::PendingFlush) says so without the lock.
    pub(crate) flush_requested: bool,
    pub(crate) budget: Budget,
    pub(crate) counted: Counter,
}

impl Outbound {
    pub(crate) fn new(config: &SessionConfig, duties: Duties) -> Self {
        Self {
            queue: SendQueue::new(
                config.fragment_size(duties.unit),
                config.max_message_size,
                config.outgoing_capacity,
            ),
            send_log: None,
            coalescing: WriteCoalescing::new(),
            dirty: false,
            flush_requested: false,
            budget: Budget::default(),
            counted: Counter::default(),
        }
    }
}
