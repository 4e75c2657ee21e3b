//! JSON messages.

use drivetrain_engine::{BoxError, Frame};

use super::converter::{ConvertError, Converter, erased_serde};

/// Values as JSON in Text messages; reads Text and Binary, with a byte order mark before it or without.
///
/// # Example
/// ```
/// use drivetrain::{Json, WebSockets};
///
/// let plugin = WebSockets::new().converter(Json);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

/// JSON without the byte order mark that a parser may ignore (RFC 8259 section 8.1).
#[doc(hidden)]
pub fn without_byte_order_mark(json: &[u8]) -> &[u8] {
    json.strip_prefix("\u{feff}".as_bytes()).unwrap_or(json)
}

impl Converter for Json {
    fn serialize(&self, value: &dyn erased_serde::Serialize) -> Result<Frame, BoxError> {
        Ok(serde_json::to_string(value)?.into())
    }

    fn is_applicable(&self, frame: &Frame) -> bool {
        matches!(frame, Frame::Text(_) | Frame::Binary(_))
    }

    fn is_null(&self, frame: &Frame) -> bool {
        without_byte_order_mark(frame.payload()).trim_ascii() == b"null"
    }

    fn deserialize(
        &self,
        frame: &Frame,
        read: &mut dyn FnMut(
            &mut dyn erased_serde::Deserializer<'_>,
        ) -> Result<(), erased_serde::Error>,
    ) -> Result<(), ConvertError> {
        let bytes = without_byte_order_mark(frame.payload());
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let result = read(&mut <dyn erased_serde::Deserializer<'_>>::erase(&mut json));
        let malformed = |error: serde_json::Error| ConvertError::Malformed(error.into());
        match result {
            Ok(()) => json.end().map_err(malformed),
            // The erased error does not tell bad JSON from a wrong type: the text itself does.
            Err(error) => match serde_json::from_slice::<serde::de::IgnoredAny>(bytes) {
                Ok(_) => Err(ConvertError::WrongType(error.into())),
                Err(error) => Err(malformed(error)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use drivetrain_engine::Bytes;

    use super::*;

    #[test]
    fn json_is_in_messages_and_null_is_no_value() {
        for (frame, is_applicable, is_null) in [
            (Frame::from("null"), true, true),
            (Frame::from("\u{feff}\tnull\n"), true, true),
            (Frame::from(b"null".to_vec()), true, true),
            (Frame::from("0"), true, false),
            (Frame::Ping(Bytes::new()), false, false),
            (Frame::Close(None), false, false),
        ] {
            assert_eq!(Json.is_applicable(&frame), is_applicable, "{frame:?}");
            assert_eq!(Json.is_null(&frame), is_null, "{frame:?}");
        }
    }
}
