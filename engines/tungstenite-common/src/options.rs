//! The settings that both tungstenite engines take.

use drivetrain_engine::{Error, ErrorKind, NativeSetting};
use tungstenite::protocol::WebSocketConfig;

const READ_SIZE: usize = 64 << 10;
const WRITE_MARK: usize = 32 << 10;

/// The settings that both tungstenite engines take. Of two calls that set the same thing the later wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    read_buffer_size: Option<usize>,
    write_buffer_size: Option<usize>,
    max_frame_size: Option<usize>,
    max_message_size: Option<usize>,
    refused: Option<Refused>,
}

/// What a `WebSocketConfig` sets and no framer can honour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    MaxWriteBufferSize,
    AcceptUnmaskedFrames,
}

impl Options {
    /// The most bytes that one read takes; a connection starts with 2 KiB and grows to it when reads
    /// fill what they were offered. Default: 64 KiB.
    #[must_use]
    pub fn read_buffer_size(mut self, bytes: usize) -> Self {
        self.read_buffer_size = Some(bytes);
        self
    }

    /// How many encoded bytes may wait before sending another frame writes them first. Default: 32 KiB.
    #[must_use]
    pub fn write_buffer_size(mut self, bytes: usize) -> Self {
        self.write_buffer_size = Some(bytes);
        self
    }

    /// Takes over what is set in tungstenite's own configuration. A field equal to tungstenite's default
    /// counts as not set; a limit of `None` is the largest there is. [`check`](Self::check) refuses
    /// `max_write_buffer_size` (the session bounds what waits) and `accept_unmasked_frames` (for servers).
    #[must_use]
    pub fn preconfigured(mut self, config: WebSocketConfig) -> Self {
        let default = WebSocketConfig::default();
        if config.read_buffer_size != default.read_buffer_size {
            self.read_buffer_size = Some(config.read_buffer_size);
        }
        if config.write_buffer_size != default.write_buffer_size {
            self.write_buffer_size = Some(config.write_buffer_size);
        }
        if config.max_frame_size != default.max_frame_size {
            self.max_frame_size = Some(config.max_frame_size.unwrap_or(usize::MAX));
        }
        if config.max_message_size != default.max_message_size {
            self.max_message_size = Some(config.max_message_size.unwrap_or(usize::MAX));
        }
        if config.max_write_buffer_size != default.max_write_buffer_size {
            self.refused = Some(Refused::MaxWriteBufferSize);
        }
        if config.accept_unmasked_frames != default.accept_unmasked_frames {
            self.refused = Some(Refused::AcceptUnmaskedFrames);
        }
        self
    }

    /// Refuses what cannot be honoured; for an engine to call before any I/O.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] naming the setting.
    pub fn check(&self) -> Result<(), Error> {
        let message = match self {
            Self { refused: Some(Refused::MaxWriteBufferSize), .. } => {
                "max_write_buffer_size of the preconfigured WebSocketConfig has no effect here: set the \
                 outgoing capacity of the WebSockets plugin instead"
            }
            Self { refused: Some(Refused::AcceptUnmaskedFrames), .. } => {
                "accept_unmasked_frames of the preconfigured WebSocketConfig is for servers: a server's \
                 frames are never masked"
            }
            Self { read_buffer_size: Some(0), .. } => "read_buffer_size must not be zero",
            Self { write_buffer_size: Some(0), .. } => {
                "write_buffer_size must not be zero: with 1 each frame is written before the next is taken"
            }
            Self { max_frame_size: Some(0), .. } => {
                "max_frame_size of the preconfigured WebSocketConfig must not be zero"
            }
            Self { max_message_size: Some(0), .. } => {
                "max_message_size of the preconfigured WebSocketConfig must not be zero"
            }
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::InvalidInput, message))
    }

    /// The limits for incoming frames and messages that a preconfigured object set, for
    /// [`EngineSettings`](drivetrain_engine::EngineSettings).
    pub fn limits(&self) -> (Option<usize>, Option<usize>) {
        (self.max_frame_size, self.max_message_size)
    }

    /// What the engine applies itself, for the table of settings.
    pub fn settings(&self) -> Vec<NativeSetting> {
        let row = |name, set: Option<usize>, effective: usize| {
            let row = NativeSetting::new(name, format!("{effective} bytes"));
            if set.is_none() { row.as_default() } else { row }
        };
        vec![
            row("read_buffer_size", self.read_buffer_size, self.read_size()),
            row("write_buffer_size", self.write_buffer_size, self.write_mark()),
        ]
    }

    /// What [`read_buffer_size`](Self::read_buffer_size) comes to.
    pub(crate) fn read_size(&self) -> usize {
        self.read_buffer_size.unwrap_or(READ_SIZE).max(1)
    }

    /// What [`write_buffer_size`](Self::write_buffer_size) comes to.
    pub(crate) fn write_mark(&self) -> usize {
        self.write_buffer_size.unwrap_or(WRITE_MARK).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn native() -> WebSocketConfig {
        WebSocketConfig::default()
    }

    fn refusal(options: Options) -> String {
        let error = options.check().expect_err("must be refused");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        error.to_string()
    }

    #[test]
    fn a_native_field_equal_to_its_default_is_unset() {
        let options = Options::default().preconfigured(native());
        assert_eq!(options, Options::default());
        assert_eq!((options.read_size(), options.write_mark()), (64 << 10, 32 << 10));
        assert_eq!(options.limits(), (None, None));
    }

    #[test]
    fn native_fields_are_taken_over() {
        let config = native()
            .read_buffer_size(1000)
            .write_buffer_size(2000)
            .max_frame_size(Some(3000))
            .max_message_size(None);
        let options = Options::default().preconfigured(config);
        assert_eq!((options.read_size(), options.write_mark()), (1000, 2000));
        assert_eq!(options.limits(), (Some(3000), Some(usize::MAX)));
        assert!(options.check().is_ok());
    }

    #[test]
    fn the_later_call_wins() {
        let config = native().read_buffer_size(1000);
        assert_eq!(Options::default().read_buffer_size(5).preconfigured(config).read_size(), 1000);
        assert_eq!(Options::default().preconfigured(config).read_buffer_size(5).read_size(), 5);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        let options = Options::default();
        for (config, name) in [
            (native().max_write_buffer_size(1 << 20), "max_write_buffer_size"),
            (native().accept_unmasked_frames(true), "accept_unmasked_frames"),
            (native().read_buffer_size(0), "read_buffer_size"),
            (native().write_buffer_size(0), "write_buffer_size"),
            (native().max_frame_size(Some(0)), "max_frame_size"),
            (native().max_message_size(Some(0)), "max_message_size"),
        ] {
            let message = refusal(options.clone().preconfigured(config));
            assert!(message.contains(name), "{message}");
        }
        assert!(refusal(options.clone().read_buffer_size(0)).contains("read_buffer_size"));
        assert!(refusal(options.write_buffer_size(0)).contains("write_buffer_size"));
    }

    #[test]
    fn settings_say_what_is_effective_and_what_is_a_default() {
        let rows = Options::default().read_buffer_size(8192).settings();
        assert_eq!(rows[0], NativeSetting::new("read_buffer_size", "8192 bytes"));
        assert_eq!(rows[1].value, "32768 bytes");
        assert!(rows[1].is_default && !rows[0].is_default);
    }
}
