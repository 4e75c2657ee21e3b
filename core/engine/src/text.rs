//! Shared text, and short text stored inline.

use std::{
    fmt,
    hash::{Hash, Hasher},
    ops, str,
};

use arrayvec::ArrayString;
use bytes::Bytes;
use bytestring::ByteString;
use once_cell::race::OnceBox;

use crate::error::{Error, ErrorKind};

/// Maximum size of an inline text, in bytes.
const SHORT: usize = 32;

/// UTF-8 bytes: a text message without a copy. Dereferences to `str`.
///
/// Clones share the text. A text of at most 32 bytes may be stored inline instead, which needs
/// no allocation.
#[derive(Clone)]
pub struct Utf8Bytes(Text);

enum Text {
    Shared(ByteString),
    Short {
        text: ArrayString<SHORT>,
        /// Shared bytes, made on request.
        shared: OnceBox<Bytes>,
    },
}

impl Utf8Bytes {
    /// Maximum size of an inline text, in bytes.
    pub const IN_PLACE: usize = SHORT;

    /// The text.
    #[inline]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Shared(text) => text,
            Text::Short { text, .. } => text,
        }
    }

    /// The text as shared bytes. An inline text is copied, once.
    pub(crate) fn as_shared(&self) -> &Bytes {
        match &self.0 {
            Text::Shared(text) => text.as_bytes(),
            Text::Short { text, shared } => {
                shared.get_or_init(|| Box::new(Bytes::copy_from_slice(text.as_bytes())))
            }
        }
    }
}

impl TryFrom<&[u8]> for Utf8Bytes {
    type Error = Error;

    /// Copies the bytes.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the bytes are not UTF-8.
    #[inline]
    fn try_from(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > SHORT {
            return str::from_utf8(bytes).map(Self::from).map_err(not_utf8);
        }
        let mut padded = Padded([0; SHORT]);
        padded.copy_from(bytes);
        // The padding is valid UTF-8 and completes no character.
        let mut text = ArrayString::from_byte_string(&padded.0).map_err(not_utf8)?;
        text.truncate(bytes.len());
        Ok(Self(Text::Short { text, shared: OnceBox::new() }))
    }
}

/// A short text padded with zeros. Validation takes less than half the time when aligned.
#[repr(align(16))]
struct Padded([u8; SHORT]);

impl Padded {
    /// Copies up to its size with overlapping words: a copy of a run-time length is
    /// a call.
    #[inline]
    fn copy_from(&mut self, bytes: &[u8]) {
        let length = bytes.len().min(SHORT);
        let (bytes, to) = (&bytes[..length], &mut self.0[..length]);
        macro_rules! ends {
            ($number:ty) => {
                if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
                    let (first, last) =
                        (<$number>::from_ne_bytes(*first), <$number>::from_ne_bytes(*last));
                    if let Some(to) = to.first_chunk_mut() {
                        *to = first.to_ne_bytes();
                    }
                    if let Some(to) = to.last_chunk_mut() {
                        *to = last.to_ne_bytes();
                    }
                    return;
                }
            };
        }
        ends!(u128);
        ends!(u64);
        ends!(u32);
        for (to, from) in to.iter_mut().zip(bytes) {
            *to = *from;
        }
    }
}

impl TryFrom<Bytes> for Utf8Bytes {
    type Error = Error;

    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the bytes are not UTF-8.
    #[inline]
    fn try_from(bytes: Bytes) -> Result<Self, Error> {
        ByteString::try_from(bytes).map(|text| Self(Text::Shared(text))).map_err(not_utf8)
    }
}

#[cold]
fn not_utf8(error: str::Utf8Error) -> Error {
    Error::new(ErrorKind::InvalidInput, "text is not UTF-8").with_source(error)
}

impl From<&str> for Utf8Bytes {
    #[inline]
    fn from(text: &str) -> Self {
        let mut short = ArrayString::new();
        match short.try_push_str(text) {
            Ok(()) => Self(Text::Short { text: short, shared: OnceBox::new() }),
            Err(_) => Self(Text::Shared(text.into())),
        }
    }
}

impl From<String> for Utf8Bytes {
    fn from(text: String) -> Self {
        Self(Text::Shared(text.into()))
    }
}

impl From<Utf8Bytes> for Bytes {
    fn from(text: Utf8Bytes) -> Self {
        match text.0 {
            Text::Shared(text) => text.into_bytes(),
            Text::Short { text, shared } => match shared.get() {
                Some(shared) => shared.clone(),
                None => Self::copy_from_slice(text.as_bytes()),
            },
        }
    }
}

impl ops::Deref for Utf8Bytes {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl Clone for Text {
    fn clone(&self) -> Self {
        match self {
            Self::Shared(text) => Self::Shared(text.clone()),
            Self::Short { text, .. } => Self::Short { text: *text, shared: OnceBox::new() },
        }
    }
}

impl Default for Utf8Bytes {
    fn default() -> Self {
        Self(Text::Shared(ByteString::new()))
    }
}

impl PartialEq for Utf8Bytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Utf8Bytes {}

impl Hash for Utf8Bytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl PartialEq<str> for Utf8Bytes {
    fn eq(&self, other: &str) -> bool {
        **self == *other
    }
}

impl PartialEq<&str> for Utf8Bytes {
    fn eq(&self, other: &&str) -> bool {
        **self == **other
    }
}

impl fmt::Display for Utf8Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

impl fmt::Debug for Utf8Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Utf8Bytes({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Frame;

    #[test]
    fn a_frame_is_no_larger_than_what_short_texts_take() {
        assert_eq!(size_of::<Frame>(), 48);
    }

    #[test]
    fn texts_are_the_same_whatever_their_length_and_origin() {
        for length in (0..=SHORT + 1).chain([1000]) {
            let text = "ü".repeat(length / 2) + &"x".repeat(length % 2);
            let made = [
                Utf8Bytes::from(&*text),
                Utf8Bytes::from(text.clone()),
                Utf8Bytes::try_from(text.as_bytes()).expect("UTF-8"),
                Utf8Bytes::try_from(Bytes::from(text.clone())).expect("UTF-8"),
            ];
            for one in &made {
                assert_eq!(*one, *text);
                assert!(made.iter().all(|other| one == other));
                assert_eq!(one.as_shared(), text.as_bytes());
                assert_eq!(one.as_shared().as_ptr(), one.as_shared().as_ptr(), "made once");
                assert_eq!(Bytes::from(one.clone()), text.as_bytes());
                assert_eq!(one.clone(), *text);
            }
            let [one, ..] = made;
            assert_eq!(Bytes::from(one), text.as_bytes(), "after its bytes were asked for");
        }
    }

    #[test]
    fn what_is_not_utf8_is_refused_at_every_length() {
        for length in (1..=SHORT + 1).chain([1000]) {
            // The last byte begins an incomplete character.
            for (at, bad) in [(0, 0xff), (length - 1, 0xff), (length - 1, 0xc3)] {
                let mut bytes = vec![b'x'; length];
                bytes[at] = bad;
                assert!(Utf8Bytes::try_from(&*bytes).is_err());
                assert!(Utf8Bytes::try_from(Bytes::from(bytes)).is_err());
            }
        }
    }
}
