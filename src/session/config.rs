//! What a session is told about how to behave: the effective values, whoever set them.

use std::{borrow::Cow, sync::Arc, time::Duration};

use drivetrain_engine::{Capability, Error, Limits, Result};

use super::{converter::Converter, settings::Settings};

/// The effective options of one session.
#[derive(Clone, Debug)]
pub(crate) struct SessionConfig {
    /// The engine's name, for errors.
    pub(crate) engine: Arc<str>,
    /// Why the engine sends no Ping and Pong, if it does not.
    pub(crate) no_pings: Option<Cow<'static, str>>,
    /// Why the engine sends no fragments, if it does not.
    pub(crate) no_fragments: Option<Cow<'static, str>>,
    pub(crate) limits: Limits,
    /// The largest message that is streamed, in either direction.
    pub(crate) max_stream_size: u64,
    pub(crate) ping_interval: Option<Duration>,
    /// `None` is twice the interval.
    pub(crate) ping_timeout: Option<Duration>,
    pub(crate) close_timeout: Duration,
    /// Bytes of messages that are read while the application does not receive.
    pub(crate) incoming_capacity: usize,
    /// Bytes of messages that are accepted while the socket does not take them.
    pub(crate) outgoing_capacity: usize,
    pub(crate) converter: Option<Arc<dyn Converter>>,
    /// The same, to be read by people.
    pub(crate) settings: Settings,
}

impl SessionConfig {
    /// # Errors
    /// [`Unsupported`](drivetrain_engine::ErrorKind::Unsupported) if the engine sends no Ping and Pong.
    pub(super) fn check_pings(&self) -> Result<()> {
        match &self.no_pings {
            None => Ok(()),
            Some(reason) => {
                Err(Error::unsupported(self.engine.to_string(), Capability::SendPing, reason))
            }
        }
    }

    /// # Errors
    /// [`Unsupported`](drivetrain_engine::ErrorKind::Unsupported) if the engine sends no fragments, or if its
    /// connection takes whole messages only.
    pub(super) fn check_fragments(&self, whole_messages: bool) -> Result<()> {
        let whole =
            || whole_messages.then_some(Cow::Borrowed("its connection takes whole messages"));
        match self.no_fragments.clone().or_else(whole) {
            None => Ok(()),
            Some(reason) => {
                Err(Error::unsupported(self.engine.to_string(), Capability::SendFragments, &reason))
            }
        }
    }
}
