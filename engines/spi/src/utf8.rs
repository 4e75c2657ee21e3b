//! UTF-8 that comes in parts.

use crate::{CloseCode, Error, ErrorKind};

/// Checks a text that comes in parts, which may be cut inside a character (RFC 6455 section 8.1).
///
/// It keeps at most three bytes and looks at each byte once: what can no longer become UTF-8 is refused with
/// the part that it came in, not at the end.
///
/// ```
/// use drivetrain_engine::Utf8Check;
///
/// let mut check = Utf8Check::new();
/// check.push(b"gr\xc3", false)?;
/// check.push(b"\xbc\xc3\x9fe", true)?;
/// assert!(Utf8Check::new().push(b"gr\xc3(", false).is_err());
/// assert!(Utf8Check::new().push(b"gr\xc3", true).is_err());
/// # Ok::<(), drivetrain_engine::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Utf8Check {
    /// The beginning of a character whose end has not come.
    held: [u8; 4],
    len: usize,
}

impl Utf8Check {
    /// A check of a text of which nothing has come.
    pub const fn new() -> Self {
        Self { held: [0; 4], len: 0 }
    }

    /// Takes the next part; `last` if the text ends with it. After the last part, or an error, it is as new.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] with close code 1007 if no text that begins so is UTF-8.
    pub fn push(&mut self, part: &[u8], last: bool) -> Result<(), Error> {
        if self.take(part).is_none() || (last && self.len > 0) {
            *self = Self::new();
            return Err(Error::not_utf8());
        }
        Ok(())
    }

    fn take(&mut self, mut part: &[u8]) -> Option<()> {
        while self.len > 0 {
            let Some((&byte, rest)) = part.split_first() else { return Some(()) };
            // A beginning that may go on has at most three bytes.
            *self.held.get_mut(self.len)? = byte;
            self.len += 1;
            part = rest;
            match simdutf8::compat::from_utf8(&self.held[..self.len]) {
                Ok(_) => self.len = 0,
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return None,
            }
        }
        let Err(error) = simdutf8::compat::from_utf8(part) else { return Some(()) };
        if error.error_len().is_some() {
            return None;
        }
        let cut = &part[error.valid_up_to()..];
        self.held.get_mut(..cut.len())?.copy_from_slice(cut);
        self.len = cut.len();
        Some(())
    }
}

impl Error {
    /// A text message that is not UTF-8 (close code 1007).
    pub fn not_utf8() -> Self {
        Self::new(ErrorKind::Protocol, "a text message is not UTF-8")
            .with_close_code(CloseCode::INVALID_PAYLOAD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At which byte it is refused; `Some(len)` if only because it ends there.
    fn refused_at(text: &[u8]) -> Option<usize> {
        let mut check = Utf8Check::new();
        let at = text.iter().position(|byte| check.push(&[*byte], false).is_err());
        at.or_else(|| check.push(b"", true).is_err().then_some(text.len()))
    }

    #[test]
    fn a_text_may_be_cut_anywhere() {
        let text = "grüße, 🦀 ひ\u{10ffff}\u{0}\u{7f}\u{80}\u{7ff}\u{800}".repeat(9);
        let bytes = text.as_bytes();
        for cut in 0..=bytes.len() {
            for second in cut..=bytes.len().min(cut + 5) {
                let mut check = Utf8Check::new();
                check.push(&bytes[..cut], false).expect("the beginning");
                check.push(&bytes[cut..second], false).expect("the middle");
                check.push(&bytes[second..], true).expect("the end");
            }
        }
    }

    #[test]
    fn what_cannot_become_utf8_is_refused_with_the_byte_that_shows_it() {
        for (text, at) in [
            (&b"a\x80"[..], 1),
            (b"\xc0\x80", 0),
            (b"\xc3(", 1),
            (b"\xe0\x80\x80", 1),
            (b"\xed\xa0\x80", 1),
            (b"\xf0\x80\x80\x80", 1),
            (b"\xf4\x90\x80\x80", 1),
            (b"\xf5", 0),
            (b"\xff", 0),
            (b"\xe2\x82", 2),
            (b"ok\xf0\x9f\xa6", 5),
        ] {
            assert_eq!(refused_at(text), Some(at), "{text:x?}");
            assert_eq!(
                Utf8Check::new().push(text, true).unwrap_err().close_code(),
                Some(CloseCode::INVALID_PAYLOAD)
            );
        }
    }

    /// Every sequence of two bytes, and of four from among the bytes that matter, is judged as by std.
    #[test]
    fn it_agrees_with_the_standard_library() {
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                let text = [first, second];
                assert_eq!(
                    refused_at(&text).is_none(),
                    std::str::from_utf8(&text).is_ok(),
                    "{text:x?}"
                );
            }
        }
        let edges = [
            0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec,
            0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff,
        ];
        for at in 0..edges.len().pow(4) {
            let text = [0, 1, 2, 3].map(|digit| edges[at / edges.len().pow(digit) % edges.len()]);
            assert_eq!(
                refused_at(&text).is_none(),
                std::str::from_utf8(&text).is_ok(),
                "{text:x?}"
            );
        }
    }
}
