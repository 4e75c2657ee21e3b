//! The options of a framer.

use std::sync::Arc;

use fastwebsockets::WebSocket;

use super::{gate::Gate, limits::LARGEST_FRAME};

/// Changes the library's socket once it is made.
pub(crate) type Hook = Arc<dyn Fn(&mut WebSocket<Gate>) + Send + Sync>;

/// What an engine value says about its framers.
#[derive(Clone, Default)]
pub(crate) struct Options {
    /// The limit for incoming frames that was set on the engine.
    pub(crate) max_frame_size: Option<usize>,
    pub(crate) hooks: Vec<Hook>,
}

impl Options {
    /// The limit for a data frame, from the session's and the engine's.
    pub(super) fn limit(&self, max_payload: usize) -> usize {
        max_payload.min(self.max_frame_size.unwrap_or(LARGEST_FRAME)).min(LARGEST_FRAME)
    }
}
