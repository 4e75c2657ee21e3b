//! What the tests of this crate share: frames as they are on the wire, encoded without the code under test.

pub(crate) const MIB: usize = 1 << 20;

pub(crate) fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 251) as u8).collect()
}

/// A frame with this first byte, in the shortest encoding.
pub(crate) fn wire(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let flag = if mask.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(flag | length as u8),
        length @ 126..0x1_0000 => {
            bytes.push(flag | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(flag | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(mask.into_iter().flatten());
    let key = mask.unwrap_or_default();
    bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]));
    bytes
}

/// A small generator (xorshift64): the same numbers on every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}
