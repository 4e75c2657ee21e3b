//! What was set on an engine value.

use std::{borrow::Cow, time::Duration};

/// What was set on an engine for others to apply or to read: the answer of
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

/// One of an engine's own settings, which the engine applies itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeSetting {
    /// Its name, as the method is called.
    pub name: Cow<'static, str>,
    /// Its value, to be read by people.
    pub value: Cow<'static, str>,
    /// Whether nobody set it: the value is the engine's default.
    pub is_default: bool,
    /// What the reader should know, such as what it does not apply to.
    pub note: Option<Cow<'static, str>>,
}

impl NativeSetting {
    /// A setting that was made on the engine.
    pub fn new(name: impl Into<Cow<'static, str>>, value: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), value: value.into(), is_default: false, note: None }
    }

    /// The same, as a default that nobody set.
    #[must_use]
    pub fn as_default(mut self) -> Self {
        self.is_default = true;
        self
    }

    /// The same with a note.
    #[must_use]
    pub fn with_note(mut self, note: impl Into<Cow<'static, str>>) -> Self {
        self.note = Some(note.into());
        self
    }
}
