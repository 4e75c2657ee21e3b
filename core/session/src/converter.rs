//! Conversion between values and messages.

use std::fmt;

use drivetrain_engine::{BoxError, Error, ErrorKind, Frame, Result};
use serde::{Serialize, de::DeserializeOwned};

pub use erased_serde;

/// Converts between values and messages, for `send_serialized` and
/// `receive_deserialized`.
///
/// Implement it for your format; `Json` is built in (feature `json`). The session uses it behind `dyn`, so
/// values are [`erased_serde`]'s.
pub trait Converter: Send + Sync + fmt::Debug + 'static {
    /// Writes a value as one message.
    ///
    /// # Errors
    /// Any error: it becomes the source of a [`ConvertError::Refused`].
    fn serialize(&self, value: &dyn erased_serde::Serialize) -> Result<Frame, BoxError>;

    /// Whether the converter reads this kind of frame; others are [`ConvertError::WrongFrame`].
    fn is_applicable(&self, frame: &Frame) -> bool;

    /// Whether the frame holds only this format's "no value". Default: no.
    fn is_null(&self, frame: &Frame) -> bool {
        let _ = frame;
        false
    }

    /// Reads a frame: makes a deserializer over it and passes it to `read`, whose error means that the
    /// value has another type.
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

/// The reason why a message is not the requested value; the [`source`](std::error::Error::source) of an
/// [`ErrorKind::Convert`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// No converter is installed.
    #[error(
        "no converter is installed: call .converter(Json) on the WebSockets of this client, request or server"
    )]
    NoConverter,
    /// The converter does not read frames of this kind; the frame is attached.
    #[error("the converter does not read frames of this kind: {0:?}")]
    WrongFrame(Frame),
    /// The frame holds no value, and the type requires one.
    #[error("the frame holds no value (null)")]
    Null,
    /// The frame holds a value of another type.
    #[error("the value is of another type")]
    WrongType(#[source] BoxError),
    /// The frame is not in the converter's format.
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
