//! Options set on an engine value.

use std::{borrow::Cow, time::Duration};

/// Options of an engine for other layers to apply and for users to read: the result of
/// [`Engine::settings`](crate::Engine::settings).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineSettings {
    /// The engine-level ping interval; the session sends the pings on the engine's behalf. It wins over
    /// the plugin's. Default: not set.
    pub ping_interval: Option<Duration>,
    /// The limit for incoming frames that was set on the engine or on its preconfigured object.
    /// Default: not set.
    pub max_frame_size: Option<usize>,
    /// The limit for incoming messages that was set on the engine or on its preconfigured object.
    /// Default: not set.
    pub max_message_size: Option<usize>,
    /// The engine's own settings, for the table that `settings()` prints.
    pub native: Vec<NativeSetting>,
}

/// A setting that the engine applies itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NativeSetting {
    /// The name of the method.
    pub name: Cow<'static, str>,
    /// The value, for people.
    pub value: Cow<'static, str>,
    /// Whether the value is the engine's default.
    pub is_default: bool,
    /// A note for readers, for example an exception.
    pub note: Option<Cow<'static, str>>,
}

impl NativeSetting {
    /// A value that was set on the engine.
    pub fn new(name: impl Into<Cow<'static, str>>, value: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), value: value.into(), is_default: false, note: None }
    }

    /// A default value.
    #[must_use]
    pub fn as_default(mut self) -> Self {
        self.is_default = true;
        self
    }

    /// Adds a note.
    #[must_use]
    pub fn with_note(mut self, note: impl Into<Cow<'static, str>>) -> Self {
        self.note = Some(note.into());
        self
    }
}
