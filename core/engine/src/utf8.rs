//! Incremental UTF-8 validation.

use crate::{
    close::CloseCode,
    error::{Error, ErrorKind},
};

/// Validates a text in chunks, each byte once. A character may begin in one chunk and end in another
/// (RFC 6455 section 8.1).
///
/// ```
/// use drivetrain_engine::Utf8Check;
///
/// let mut check = Utf8Check::new();
/// assert_eq!(check.push(b"gr\xc3"), Ok(()));
/// assert!(!check.is_complete());
/// assert_eq!(check.push(b"\xbc\xc3\x9fe"), Ok(()));
/// assert!(check.is_complete());
/// assert_eq!(check.push(b"gr\xc3("), Err(2));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Utf8Check {
    /// The bytes of an incomplete character.
    begun: [u8; 4],
    length: usize,
}

impl Utf8Check {
    /// A check of an empty text.
    pub const fn new() -> Self {
        Self { begun: [0; 4], length: 0 }
    }

    /// Validates the next chunk.
    ///
    /// # Errors
    /// The number of valid bytes; only these are consumed.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), usize> {
        let mut at = 0;
        while let (1.., Some(&byte)) = (self.length, piece.get(at)) {
            // An incomplete character has at most three bytes.
            self.begun[self.length] = byte;
            match simdutf8::compat::from_utf8(&self.begun[..=self.length]) {
                Ok(_) => self.length = 0,
                Err(error) if error.error_len().is_none() => self.length += 1,
                Err(_) => return Err(at),
            }
            at += 1;
        }
        let rest = &piece[at..];
        let Err(error) = simdutf8::compat::from_utf8(rest) else { return Ok(()) };
        let valid = error.valid_up_to();
        if error.error_len().is_some() {
            return Err(at + valid);
        }
        let cut = &rest[valid..];
        self.begun[..cut.len()].copy_from_slice(cut);
        self.length = cut.len();
        Ok(())
    }

    /// Whether no character is incomplete.
    pub const fn is_complete(&self) -> bool {
        self.length == 0
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

    /// The index of the refused byte; the length if the text ends too early.
    fn refused_at(text: &[u8]) -> Option<usize> {
        let mut check = Utf8Check::new();
        let at = text.iter().position(|byte| check.push(&[*byte]).is_err());
        at.or_else(|| (!check.is_complete()).then_some(text.len()))
    }

    #[test]
    fn a_text_may_be_cut_anywhere() {
        let text = "grüße, 🦀 ひ\u{10ffff}\u{0}\u{7f}\u{80}\u{7ff}\u{800}".repeat(9);
        let bytes = text.as_bytes();
        for cut in 0..=bytes.len() {
            for second in cut..=bytes.len().min(cut + 5) {
                let mut check = Utf8Check::new();
                for piece in [&bytes[..cut], &bytes[cut..second], &bytes[second..]] {
                    assert_eq!(check.push(piece), Ok(()), "cut at {cut} and {second}");
                }
                assert!(check.is_complete());
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
        }
    }

    #[test]
    fn what_is_refused_is_not_taken() {
        let mut check = Utf8Check::new();
        assert_eq!(check.push(b"ab\xff"), Err(2));
        assert!(check.is_complete(), "the text is ab");
        assert_eq!(check.push(b"\xe2\x82"), Ok(()));
        assert_eq!(check.push(b"\xff"), Err(0));
        assert_eq!(check.push(b"\xac, and on"), Ok(()));
        assert_eq!(check.push(b"\xe2"), Ok(()));
        assert_eq!(check.push(b"\x82\xff"), Err(1), "one byte of it was taken");
        assert_eq!(check.push(b"\xac"), Ok(()));
        assert!(check.is_complete());
    }

    /// Compares every sequence of two bytes, and of four significant bytes, with std.
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
