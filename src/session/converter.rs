//! Values to messages and back.

use std::fmt;

use drivetrain_engine::{BoxError, Error, ErrorKind, Frame, Result};
use serde::{Serialize, de::DeserializeOwned};

pub use erased_serde;

/// Turns values into messages and messages into values, for `send_serialized` and
/// `receive_deserialized`.
///
/// Implement it for a format of your own; `Json` is one (feature `json`). It is used behind `dyn`, so
/// values come as [`erased_serde`]'s.
pub trait Converter: Send + Sync + fmt::Debug + 'static {
    /// Writes a value as one message.
    ///
    /// # Errors
    /// Any error: it becomes the source of a [`ConvertError::Refused`].
    fn serialize(&self, value: &dyn erased_serde::Serialize) -> Result<Frame, BoxError>;

    /// Whether this kind of frame can be read; others are [`ConvertError::WrongFrame`].
    fn is_applicable(&self, frame: &Frame) -> bool;

    /// Whether the frame holds nothing but this format's "no value". Default: it does not.
    fn is_null(&self, frame: &Frame) -> bool {
        let _ = frame;
        false
    }

    /// Reads a frame: makes a deserializer over it and hands it to `read`, whose error says that the
    /// value is of another type.
    ///
    /// # Errors
    /// [`ConvertError::Malformed`] if the frame is not of this format,
    /// [`ConvertError::WrongType`] if it is, but the value does not fit.
    fn deserialize(
        &self,
        frame: &Frame,
        read: &mut dyn FnMut(
            &mut dyn erased_serde::Deserializer<'_>,
        ) -> Result<(), erased_serde::Error>,
    ) -> Result<(), ConvertError>;
}

/// Why a message is not the value that was asked for; the [`source`](std::error::Error::source) of an
/// [`ErrorKind::Convert`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// No converter is installed.
    #[error("no converter is installed: call .converter(Json) on the WebSockets plugin")]
    NoConverter,
    /// The converter does not read frames of this kind; the frame is attached.
    #[error("the converter does not read frames of this kind: {0:?}")]
    WrongFrame(Frame),
    /// The frame holds no value, and the type has to have one.
    #[error("the frame holds no value (null)")]
    Null,
    /// The frame holds a value of another type.
    #[error("the value is of another type")]
    WrongType(#[source] BoxError),
    /// The frame does not hold what the converter reads.
    #[error("the frame is malformed")]
    Malformed(#[source] BoxError),
    /// The converter refused to write the value.
    #[error("the value cannot be written")]
    Refused(#[source] BoxError),
}

pub(super) fn installed(converter: Option<&dyn Converter>) -> Result<&dyn Converter> {
    converter.ok_or_else(|| {
        let missing = ConvertError::NoConverter;
        Error::new(ErrorKind::InvalidInput, missing.to_string()).with_source(missing)
    })
}

pub(super) fn serialize<T: Serialize>(
    converter: Option<&dyn Converter>,
    value: &T,
) -> Result<Frame> {
    installed(converter)?.serialize(value).map_err(|error| failed(ConvertError::Refused(error)))
}

pub(super) fn deserialize<T: DeserializeOwned>(
    converter: &dyn Converter,
    frame: Frame,
) -> Result<T> {
    if !converter.is_applicable(&frame) {
        return Err(failed(ConvertError::WrongFrame(frame)));
    }
    let mut value = None;
    let result = converter.deserialize(&frame, &mut |deserializer| {
        value = Some(erased_serde::deserialize(deserializer)?);
        Ok(())
    });
    match (result, value) {
        (Ok(()), Some(value)) => Ok(value),
        (Err(_), _) if converter.is_null(&frame) => Err(failed(ConvertError::Null)),
        (Err(error), _) => Err(failed(error)),
        (Ok(()), None) => {
            Err(failed(ConvertError::Malformed("the converter read no value".into())))
        }
    }
}

fn failed(error: ConvertError) -> Error {
    Error::new(ErrorKind::Convert, error.to_string()).with_source(error)
}
