//! Input: from the transport's frames to messages and fragments.

pub(crate) mod batch;
pub(crate) mod read_ahead;
pub(crate) mod reassembly;
pub(crate) mod validation;

use drivetrain_engine::{Duties, RawFrame, Result};

use crate::{
    budget::Budget,
    config::SessionConfig,
    inbound::{read_ahead::ReadAhead, reassembly::Reassembly, validation::Validator},
    stats::Counter,
};

/// The receiving part of a session's state.
pub(crate) struct Inbound {
    pub(crate) validator: Validator,
    /// Read by the session task for an application that does not receive.
    pub(crate) read_ahead: ReadAhead,
    /// What `receive` has of a message in fragments. `read_ahead` comes after it.
    pub(crate) reassembly: Reassembly,
    /// A frame behind a batch that is no whole message: it is handled when the application comes for more.
    pub(crate) deferred_frame: Option<Result<RawFrame>>,
    /// A [`MessageReader`](crate::MessageReader) is in the middle of a message.
    pub(crate) has_reader: bool,
    /// The rest of the message that is coming in is dropped.
    pub(crate) skips: bool,
    /// The receiving half is gone: everything that comes in is dropped.
    pub(crate) discards: bool,
    /// How many messages were dropped.
    pub(crate) discarded: u64,
    /// The latest frame came from the socket, and not from the buffer of an earlier read.
    pub(crate) from_socket: bool,
    /// The buffer of the transport is empty: the latest read was pending.
    pub(crate) would_block: bool,
    /// The wake count at the latest read that was pending; `None` if it was ready.
    pub(crate) pending_after: Option<u64>,
    /// The session task reads, and not the application.
    pub(crate) task_reads: bool,
    /// Counts the application's polls, so that the session task sees whether it comes.
    pub(crate) app_polls: u64,
    pub(crate) budget: Budget,
    pub(crate) counted: Counter,
}

impl Inbound {
    pub(crate) fn new(config: &SessionConfig, duties: Duties) -> Self {
        Self {
            validator: Validator::new(config.limits(), duties),
            read_ahead: ReadAhead::new(config.incoming_capacity),
            reassembly: Reassembly::default(),
            deferred_frame: None,
            has_reader: false,
            skips: false,
            discards: false,
            discarded: 0,
            from_socket: false,
            would_block: false,
            pending_after: None,
            task_reads: false,
            app_polls: 0,
            budget: Budget::default(),
            counted: Counter::default(),
        }
    }
}
