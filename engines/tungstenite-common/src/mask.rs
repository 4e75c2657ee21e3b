//! Masking (RFC 6455 section 5.3).

use rand::Rng;

/// Masks that a peer or a proxy cannot predict, as RFC 6455 section 10.3 asks for.
///
/// They come from `rand::rng()`, the generator tungstenite itself uses: ChaCha, seeded and reseeded from
/// the operating system. A mask by itself would cost a look-up of the thread's generator, so 64 are
/// drawn at a time, by the first frame that needs one.
pub(crate) struct Masks {
    pool: [[u8; 4]; 64],
    next: usize,
}

impl Masks {
    pub(crate) fn new() -> Self {
        Self { pool: [[0; 4]; 64], next: usize::MAX }
    }

    #[inline]
    pub(crate) fn draw(&mut self) -> [u8; 4] {
        if let Some(&mask) = self.pool.get(self.next) {
            self.next += 1;
            return mask;
        }
        self.refill()
    }

    #[cold]
    fn refill(&mut self) -> [u8; 4] {
        rand::rng().fill_bytes(self.pool.as_flattened_mut());
        self.next = 1;
        self.pool[0]
    }
}

/// Copies and masks in one pass, a word at a time. Both slices have the same length.
#[inline]
pub(crate) fn copy(from: &[u8], to: &mut [u8], mask: [u8; 4]) {
    let words = from.len() & !7;
    let (from, from_tail) = from.split_at(words);
    let (to, to_tail) = to.split_at_mut(words);
    let word = double(mask);
    for (from, to) in from.chunks_exact(8).zip(to.chunks_exact_mut(8)) {
        to.copy_from_slice(&xor(from, word));
    }
    for ((from, to), mask) in from_tail.iter().zip(to_tail).zip(word.to_ne_bytes()) {
        *to = from ^ mask;
    }
}

/// Masks or unmasks in place, a word at a time.
pub(crate) fn apply(bytes: &mut [u8], mask: [u8; 4]) {
    let word = double(mask);
    let mut words = bytes.chunks_exact_mut(8);
    for bytes in &mut words {
        let masked = xor(bytes, word);
        bytes.copy_from_slice(&masked);
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(word.to_ne_bytes()) {
        *byte ^= mask;
    }
}

#[inline]
fn double(mask: [u8; 4]) -> u64 {
    u64::from(u32::from_ne_bytes(mask)) * 0x1_0000_0001
}

#[inline]
fn xor(eight: &[u8], word: u64) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(eight);
    (u64::from_ne_bytes(bytes) ^ word).to_ne_bytes()
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
