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
    next: usize,
}

impl Masks {
    /// Nothing is drawn yet.
    pub const fn new() -> Self {
        Self { pool: [[0; 4]; 64], next: usize::MAX }
    }

    /// The mask of the next frame.
    #[inline]
    pub fn draw(&mut self) -> [u8; 4] {
        let Some(&mask) = self.pool.get(self.next) else { return self.refill() };
        self.next += 1;
        mask
    }

    #[cold]
    fn refill(&mut self) -> [u8; 4] {
        rand::rng().fill_bytes(self.pool.as_flattened_mut());
        self.next = 1;
        self.pool[0]
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
    let (from, from_tail) = from[..length].split_at(length & !(WORD - 1));
    let (to, to_tail) = to[..length].split_at_mut(length & !(WORD - 1));
    let word = repeat(mask);
    for (from, to) in from.chunks_exact(WORD).zip(to.chunks_exact_mut(WORD)) {
        to.copy_from_slice(&xor(from, word));
    }
    for (at, (from, to)) in from_tail.iter().zip(to_tail).enumerate() {
        *to = from ^ mask[at % 4];
    }
}

/// Masks or unmasks in place, a word at a time.
#[inline]
pub fn apply(bytes: &mut [u8], mask: [u8; 4]) {
    let word = repeat(mask);
    let mut words = bytes.chunks_exact_mut(WORD);
    for bytes in &mut words {
        let masked = xor(bytes, word);
        bytes.copy_from_slice(&masked);
    }
    for (at, byte) in words.into_remainder().iter_mut().enumerate() {
        *byte ^= mask[at % 4];
    }
}

#[inline]
fn repeat([a, b, c, d]: [u8; 4]) -> u128 {
    u128::from_ne_bytes([a, b, c, d, a, b, c, d, a, b, c, d, a, b, c, d])
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
