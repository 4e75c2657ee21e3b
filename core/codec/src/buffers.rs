//! The options of a framer.

use drivetrain_engine::{Error, ErrorKind, NativeSetting, Result};

/// The default of [`Buffers::read_buffer_size`].
const READ_SIZE: usize = 64 << 10;
/// The default of [`Buffers::write_buffer_size`].
const WRITE_MARK: usize = 32 << 10;

/// The sizes of a [`Framer`](crate::Framer)'s buffers, for a [`Framing`](drivetrain_engine::Framing) to hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buffers {
    read_buffer_size: Option<usize>,
    write_buffer_size: Option<usize>,
}

impl Buffers {
    /// Sets the most bytes that one read takes. A connection starts with 2 KiB, grows to this size when reads fill
    /// the buffer, and gives the memory back when a read has to wait. Default: 64 KiB.
    #[must_use]
    pub fn read_buffer_size(mut self, bytes: usize) -> Self {
        self.read_buffer_size = Some(bytes);
        self
    }

    /// Sets how many encoded bytes may wait before sending another frame writes them first. Default: 32 KiB.
    #[must_use]
    pub fn write_buffer_size(mut self, bytes: usize) -> Self {
        self.write_buffer_size = Some(bytes);
        self
    }

    /// Both options with their effective values, for [`EngineSettings::native`](drivetrain_engine::EngineSettings).
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

    /// Refuses a size of zero, for [`Framing::check`](drivetrain_engine::Framing::check).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] naming the option.
    pub fn check(&self) -> Result<()> {
        let message = match self {
            Self { read_buffer_size: Some(0), .. } => "read_buffer_size must not be zero",
            Self { write_buffer_size: Some(0), .. } => {
                "write_buffer_size must not be zero: with 1 each frame is written before the next is taken"
            }
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::InvalidInput, message))
    }

    pub(crate) fn read_size(&self) -> usize {
        self.read_buffer_size.unwrap_or(READ_SIZE).max(1)
    }

    pub(crate) fn write_mark(&self) -> usize {
        self.write_buffer_size.unwrap_or(WRITE_MARK).max(1)
    }
}

/// Adds the options of [`Buffers`](crate::Buffers) to a framing or an engine, as methods of its type. `$map` is the
/// name of a method of the type, which takes a function on a value with the same options:
/// `fn $map(self, with: impl FnOnce(Buffers) -> Buffers) -> Self`.
#[macro_export]
macro_rules! buffer_options {
    ($Type:ty, $map:ident) => {
        impl $Type {
            /// Sets the most bytes that one read of a WebSocket takes. A connection starts with 2 KiB, grows to this
            /// size when reads fill the buffer, and gives the memory back when a read has to wait. Default: 64 KiB.
            /// Zero is refused when the client is built.
            #[must_use]
            pub fn read_buffer_size(self, bytes: usize) -> Self {
                self.$map(|it| it.read_buffer_size(bytes))
            }

            /// Sets how many encoded bytes may wait before sending another frame writes them first. Default: 32 KiB.
            /// Zero is refused when the client is built.
            #[must_use]
            pub fn write_buffer_size(self, bytes: usize) -> Self {
                self.$map(|it| it.write_buffer_size(bytes))
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_of_zero_is_refused_by_name() {
        let buffers = Buffers::default();
        assert!(buffers.check().is_ok());
        for (buffers, name) in [
            (buffers.read_buffer_size(0), "read_buffer_size"),
            (buffers.write_buffer_size(0), "write_buffer_size"),
        ] {
            let error = buffers.check().expect_err("must be refused");
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn settings_say_which_value_is_effective_and_which_is_a_default() {
        let rows = Buffers::default().read_buffer_size(8192).settings();
        assert_eq!(rows[0], NativeSetting::new("read_buffer_size", "8192 bytes"));
        assert_eq!(rows[1].value, "32768 bytes");
        assert!(rows[1].is_default && !rows[0].is_default);
    }
}
