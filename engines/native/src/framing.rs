//! The settings of the frames, the same on every runtime.

use std::time::Duration;

use drivetrain_engine::{EngineSettings, Error, ErrorKind, NativeSetting};

const READ_SIZE: usize = 64 << 10;
const WRITE_MARK: usize = 32 << 10;

/// The settings of the frames, the same on every runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Framing {
    read_buffer_size: Option<usize>,
    write_buffer_size: Option<usize>,
    ping_interval: Option<Duration>,
}

impl Framing {
    /// The most bytes that one read takes. Default: 64 KiB.
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

    /// The engine-level ping interval. Default: not set.
    #[must_use]
    pub fn ping_interval(mut self, interval: Duration) -> Self {
        self.ping_interval = Some(interval);
        self
    }

    /// What is in force, for [`Engine::settings`](drivetrain_engine::Engine::settings).
    pub fn settings(&self) -> EngineSettings {
        let row = |name, set: Option<usize>, effective: usize| {
            let row = NativeSetting::new(name, format!("{effective} bytes"));
            if set.is_none() { row.as_default() } else { row }
        };
        let mut settings = EngineSettings::default();
        settings.ping_interval = self.ping_interval;
        settings.native = vec![
            row("read_buffer_size", self.read_buffer_size, self.read_size()),
            row("write_buffer_size", self.write_buffer_size, self.write_mark()),
        ];
        settings
    }

    /// Refuses what cannot be honoured; for [`Engine::check`](drivetrain_engine::Engine::check).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] naming the setting.
    pub fn check(&self, engine: &str) -> Result<(), Error> {
        let message = match self {
            Self { ping_interval: Some(Duration::ZERO), .. } => {
                "a ping_interval of zero is not possible: leave it out for no pings"
            }
            Self { read_buffer_size: Some(0), .. } => "read_buffer_size must not be zero",
            Self { write_buffer_size: Some(0), .. } => {
                "write_buffer_size must not be zero: with 1 each frame is written before the next is taken"
            }
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::InvalidInput, message).with_engine(engine.to_owned()))
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

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        let framing = Framing::default();
        assert!(framing.check("native").is_ok());
        for (framing, name) in [
            (framing.clone().read_buffer_size(0), "read_buffer_size"),
            (framing.clone().write_buffer_size(0), "write_buffer_size"),
            (framing.ping_interval(Duration::ZERO), "ping_interval"),
        ] {
            let error = framing.check("native").expect_err("must be refused");
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn settings_say_what_is_effective_and_what_is_a_default() {
        let rows = Framing::default().read_buffer_size(8192).settings().native;
        assert_eq!(rows[0], NativeSetting::new("read_buffer_size", "8192 bytes"));
        assert_eq!(rows[1].value, "32768 bytes");
        assert!(rows[1].is_default && !rows[0].is_default);
    }
}
