//! Masking (RFC 6455 section 5.3).

use std::fmt;

use rand::Rng;

/// Masks that a peer or a proxy cannot predict, as RFC 6455 section 10.3 asks for.
///
/// They come from `rand::rng()`: ChaCha, seeded and reseeded from the operating system. A mask by itself
/// would cost a look-up of the thread's generator, so 64 are drawn at a time, by the first frame that
/// needs one.
pub struct Masks {
    pool: [[u8; 4]; 64],
    next: u8,
}

impl Masks {
    /// Nothing is drawn yet.
    pub const fn new() -> Self {
        Self { pool: [[0; 4]; 64], next: u8::MAX }
    }

    /// The mask of the next frame.
    #[inline]
    pub fn draw(&mut self) -> [u8; 4] {
        match self.drawn() {
            Some(mask) => mask,
            None => {
                self.refill();
                self.next = 1;
                self.pool[0]
            }
        }
    }

    /// The same, if one was drawn already.
    #[inline]
    pub(crate) fn drawn(&mut self) -> Option<[u8; 4]> {
        let mask = *self.pool.get(usize::from(self.next))?;
        self.next += 1;
        Some(mask)
    }

    /// Draws as many as are kept.
    #[cold]
    pub(crate) fn refill(&mut self) {
        rand::rng().fill_bytes(self.pool.as_flattened_mut());
        self.next = 0;
    }
}

impl Default for Masks {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Masks {
    /// What is still to be drawn is shown to nobody.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masks").finish_non_exhaustive()
    }
}

/// How much is masked at a time.
const WORD: usize = 16;

/// Copies and masks in one pass, a word at a time. Of slices that are not of the same length, what is longer is
/// left alone.
#[inline]
pub fn copy(from: &[u8], to: &mut [u8], mask: [u8; 4]) {
    let length = from.len().min(to.len());
    let (from, to) = (&from[..length], &mut to[..length]);
    if length <= 2 * WORD {
        copy_short(from, to, mask);
    } else {
        copy_long(from, to, mask);
    }
}

/// Masks at most two words without a loop, by numbers from both ends, which may overlap: most messages.
macro_rules! mask_short {
    ($from:expr => $to:expr, $mask:expr) => {{
        let word = u32::from_le_bytes($mask);
        mask_short!(u128, $from => $to, word);
        mask_short!(u64, $from => $to, word);
        mask_short!(u32, $from => $to, word);
        for (at, mask) in $mask.into_iter().enumerate().take($from.len()) {
            let masked = $from[at] ^ mask;
            $to[at] = masked;
        }
    }};
    ($number:ty, $from:expr => $to:expr, $word:expr) => {
        if let (Some(first), Some(last)) = ($from.first_chunk(), $from.last_chunk()) {
            // The first of the last ones may be any byte of the mask.
            let turned = $word.rotate_right(($from.len() as u32 % 4) * 8);
            let first = <$number>::from_le_bytes(*first) ^ (repeat($word) as $number);
            let last = <$number>::from_le_bytes(*last) ^ (repeat(turned) as $number);
            if let Some(to) = $to.first_chunk_mut() {
                *to = first.to_le_bytes();
            }
            if let Some(to) = $to.last_chunk_mut() {
                *to = last.to_le_bytes();
            }
            return;
        }
    };
}

#[inline]
fn copy_short(from: &[u8], to: &mut [u8], mask: [u8; 4]) {
    mask_short!(from => to, mask);
}

#[inline(never)]
fn copy_long(from: &[u8], to: &mut [u8], mask: [u8; 4]) {
    let words = from.len() & !(WORD - 1);
    let (from, from_tail) = from.split_at(words);
    let (to, to_tail) = to.split_at_mut(words);
    let word = repeat(u32::from_ne_bytes(mask));
    for (from, to) in from.chunks_exact(WORD).zip(to.chunks_exact_mut(WORD)) {
        to.copy_from_slice(&xor(from, word));
    }
    copy_short(from_tail, to_tail, mask);
}

/// Masks or unmasks in place, a word at a time.
#[inline]
pub fn apply(bytes: &mut [u8], mask: [u8; 4]) {
    if bytes.len() <= 2 * WORD {
        apply_short(bytes, mask);
    } else {
        apply_long(bytes, mask);
    }
}

#[inline]
fn apply_short(bytes: &mut [u8], mask: [u8; 4]) {
    mask_short!(bytes => bytes, mask);
}

#[inline(never)]
fn apply_long(bytes: &mut [u8], mask: [u8; 4]) {
    let word = repeat(u32::from_ne_bytes(mask));
    let mut words = bytes.chunks_exact_mut(WORD);
    for bytes in &mut words {
        let masked = xor(bytes, word);
        bytes.copy_from_slice(&masked);
    }
    apply_short(words.into_remainder(), mask);
}

#[inline]
fn repeat(word: u32) -> u128 {
    let two = u128::from(word) | u128::from(word) << 32;
    two | two << 64
}

#[inline]
fn xor(bytes: &[u8], word: u128) -> [u8; WORD] {
    let mut copy = [0; WORD];
    copy.copy_from_slice(bytes);
    (u128::from_ne_bytes(copy) ^ word).to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_masked_as_byte_by_byte() {
        let mask = [1, 20, 77, 255];
        let bytes: Vec<u8> = (0..100).collect();
        for length in 0..bytes.len() {
            for start in 0..8.min(length) {
                let bytes = &bytes[start..length];
                let expected: Vec<u8> =
                    bytes.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect();
                let mut copied = vec![0; bytes.len()];
                copy(bytes, &mut copied, mask);
                assert_eq!(copied, expected, "copying {start}..{length}");
                apply(&mut copied, mask);
                assert_eq!(copied, bytes, "unmasking {start}..{length}");
            }
        }
    }

    #[test]
    fn masks_do_not_repeat() {
        let mut masks = Masks::new();
        let drawn: std::collections::HashSet<_> = (0..200).map(|_| masks.draw()).collect();
        assert!(drawn.len() > 195, "{} of 200 are distinct", drawn.len());
    }
}
