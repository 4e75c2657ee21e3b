//! fastwebsockets' frames, on any runtime and for both roles.

use std::{fmt, sync::Arc};

use drivetrain_engine::{
    Accepted, BoxStream, Bytes, Capability, Duties, EngineSettings, Error, ErrorKind, Framing,
    NativeSetting, Result, Role, Support, Transport,
};

use crate::{
    framer::{Framer, Gate, LARGEST_FRAME, Options},
    map,
};

/// Frames by [fastwebsockets](https://docs.rs/fastwebsockets), on any runtime and for both roles.
///
/// ```
/// use drivetrain_fastwebsockets::FastWebSocketsFraming;
///
/// let framing = FastWebSocketsFraming::new().max_frame_size(1 << 20);
/// ```
#[derive(Clone, Default)]
pub struct FastWebSocketsFraming {
    options: Options,
}

impl FastWebSocketsFraming {
    /// The framing with the defaults of each option.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the most payload bytes of an incoming data frame; the smallest limit set anywhere wins. Default: not set,
    /// but never above 1 GiB. Zero is refused when the client is built.
    ///
    /// fastwebsockets has this option under the name `max_message_size`, and counts frames all the same: a message of
    /// several frames is limited by `max_message_size` of the `WebSockets` plugin only.
    #[must_use]
    pub fn max_frame_size(mut self, bytes: usize) -> Self {
        self.options.max_frame_size = Some(bytes);
        self
    }

    /// Changes the library's socket that a WebSocket is read with; of several hooks each is called, in order. Default:
    /// nothing. [`FastWebSockets::preconfigured`](crate::FastWebSockets::preconfigured) says which setters have an
    /// effect.
    #[must_use]
    pub fn preconfigured(
        mut self,
        hook: impl Fn(&mut fastwebsockets::WebSocket<Gate>) + Send + Sync + 'static,
    ) -> Self {
        self.options.hooks.push(Arc::new(hook));
        self
    }
}

impl Framing for FastWebSocketsFraming {
    fn support(&self, capability: Capability) -> Support {
        match capability {
            Capability::RsvBits | Capability::Extensions => Support::missing(map::NO_RSV),
            _ => Support::of_frames(capability),
        }
    }

    fn settings(&self) -> EngineSettings {
        let mut settings = EngineSettings::default();
        settings.max_frame_size = self.options.max_frame_size.map(|most| most.min(LARGEST_FRAME));
        if !self.options.hooks.is_empty() {
            settings.native.push(
                NativeSetting::new("preconfigured", "a hook on fastwebsockets::WebSocket").with_note(
                    "reading only; its max_message_size limits frames, auto_close and auto_pong are off",
                ),
            );
        }
        settings
    }

    fn check(&self) -> Result<()> {
        if self.options.max_frame_size == Some(0) {
            return Err(Error::new(ErrorKind::InvalidInput, "max_frame_size must not be zero"));
        }
        Ok(())
    }

    fn duties(&self) -> Duties {
        Duties::frames().validating_utf8()
    }

    fn transport(
        &self,
        stream: BoxStream,
        read_ahead: Bytes,
        role: Role,
        _: &Accepted,
    ) -> Result<Box<dyn Transport>> {
        Ok(Box::new(Framer::new(stream, read_ahead, role, self.options.clone())))
    }
}

impl fmt::Debug for FastWebSocketsFraming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FastWebSocketsFraming")
            .field("max_frame_size", &self.options.max_frame_size)
            .field("preconfigured", &format_args!("{} hooks", self.options.hooks.len()))
            .finish()
    }
}
