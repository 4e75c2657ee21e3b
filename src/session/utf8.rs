//! Whether bytes that come in pieces are UTF-8: pure.

/// Checks pieces of a text, each byte once. A character may begin in one piece and end in another.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Utf8 {
    /// The beginning of a character.
    begun: [u8; 4],
    length: usize,
}

impl Utf8 {
    /// Takes the next piece.
    ///
    /// # Errors
    /// How many of its bytes may still become a text; only these are taken.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(), usize> {
        let mut at = 0;
        while self.length > 0 && at < piece.len() {
            self.begun[self.length] = piece[at];
            match std::str::from_utf8(&self.begun[..=self.length]) {
                Ok(_) => self.length = 0,
                Err(error) if error.error_len().is_none() => self.length += 1,
                Err(_) => return Err(at),
            }
            at += 1;
        }
        let rest = &piece[at..];
        let Err(error) = std::str::from_utf8(rest) else { return Ok(()) };
        let valid = error.valid_up_to();
        if error.error_len().is_some() {
            return Err(at + valid);
        }
        self.length = rest.len() - valid;
        self.begun[..self.length].copy_from_slice(&rest[valid..]);
        Ok(())
    }

    /// Whether no character waits for its end.
    pub(super) fn is_complete(&self) -> bool {
        self.length == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole text, for comparison.
    fn verdict(pieces: &[&[u8]]) -> Result<bool, usize> {
        let mut check = Utf8::default();
        let mut before = 0;
        for piece in pieces {
            check.push(piece).map_err(|valid| before + valid)?;
            before += piece.len();
        }
        Ok(check.is_complete())
    }

    #[test]
    fn a_text_in_any_two_or_three_pieces_is_a_text() {
        let text = "aé√🦀 grüße ひ\u{10FFFF}".as_bytes();
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let pieces = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(verdict(&pieces), Ok(true), "cut at {first} and {second}");
            }
            let ends_whole = std::str::from_utf8(&text[..first]).is_ok();
            assert_eq!(verdict(&[&text[..first]]), Ok(ends_whole), "ends at {first}");
        }
    }

    /// Every sequence of up to four bytes of these, in pieces of every size, as the standard library sees
    /// it in one.
    #[test]
    fn what_is_no_text_is_found_at_its_byte_however_it_is_cut() {
        let bytes = [b'a', 0x80, 0x8F, 0x9F, 0xBF, 0xC0, 0xC3, 0xE0, 0xED, 0xEF, 0xF0, 0xF4, 0xF5];
        for number in 0..bytes.len().pow(4) {
            let sequence = [0, 1, 2, 3].map(|i| bytes[number / bytes.len().pow(i) % bytes.len()]);
            let expected = match std::str::from_utf8(&sequence) {
                Ok(_) => Ok(true),
                Err(error) if error.error_len().is_none() => Ok(false),
                Err(error) => Err(error.valid_up_to()),
            };
            for size in 1..=4 {
                let pieces: Vec<_> = sequence.chunks(size).collect();
                match (verdict(&pieces), expected) {
                    // In pieces, the beginning of the character may have been taken before.
                    (Err(seen), Err(valid)) => {
                        assert!(seen >= valid && seen < valid + 4, "{sequence:x?} by {size}");
                    }
                    (seen, expected) => assert_eq!(seen, expected, "{sequence:x?} by {size}"),
                }
            }
        }
    }
}
