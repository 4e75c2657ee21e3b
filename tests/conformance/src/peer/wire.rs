//! Frames as they are on the wire (RFC 6455 section 5.2): decoding what a client sent, and encoding
//! anything, legal or not.

use std::{fmt, io};

/// The opcodes of RFC 6455 section 11.8.
pub mod opcode {
    /// A further fragment of a message.
    pub const CONTINUATION: u8 = 0x0;
    /// A text message or its first fragment.
    pub const TEXT: u8 = 0x1;
    /// A binary message or its first fragment.
    pub const BINARY: u8 = 0x2;
    /// A Close frame.
    pub const CLOSE: u8 = 0x8;
    /// A Ping frame.
    pub const PING: u8 = 0x9;
    /// A Pong frame.
    pub const PONG: u8 = 0xA;
}

/// One frame, legal or not.
///
/// Build unusual ones with struct update: `WireFrame { fin: false, ..WireFrame::text("a") }`.
#[derive(Clone, PartialEq, Eq)]
pub struct WireFrame {
    /// Whether this is the last fragment of its message.
    pub fin: bool,
    /// The three reserved bits as a number: RSV1 is 4, RSV2 is 2, RSV3 is 1.
    pub rsv: u8,
    /// The four bits of the opcode; see [`opcode`].
    pub opcode: u8,
    /// Whether a received frame came masked. Ignored when sending: see [`WireFrame::encode`].
    pub masked: bool,
    /// The payload, unmasked.
    pub payload: Vec<u8>,
}

impl WireFrame {
    /// A final, unmasked frame with the given opcode.
    pub fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self { fin: true, rsv: 0, opcode, masked: false, payload: payload.into() }
    }

    /// A whole text message. Bytes are allowed, so that invalid UTF-8 can be sent.
    pub fn text(payload: impl Into<Vec<u8>>) -> Self {
        Self::new(opcode::TEXT, payload)
    }

    /// A whole binary message.
    pub fn binary(payload: impl Into<Vec<u8>>) -> Self {
        Self::new(opcode::BINARY, payload)
    }

    /// A Ping.
    pub fn ping(payload: impl Into<Vec<u8>>) -> Self {
        Self::new(opcode::PING, payload)
    }

    /// A Pong.
    pub fn pong(payload: impl Into<Vec<u8>>) -> Self {
        Self::new(opcode::PONG, payload)
    }

    /// A Close with a code and a reason, or with an empty payload if `code` is `None`.
    /// Codes that must not travel and reasons that are too long are sent as they are.
    pub fn close(code: impl Into<Option<u16>>, reason: &str) -> Self {
        let mut payload = Vec::new();
        if let Some(code) = code.into() {
            payload.extend_from_slice(&code.to_be_bytes());
            payload.extend_from_slice(reason.as_bytes());
        }
        Self::new(opcode::CLOSE, payload)
    }

    /// The code of a Close; `None` if it is none, or has no code.
    pub fn close_code(&self) -> Option<u16> {
        let code = self.payload.first_chunk().filter(|_| self.opcode == opcode::CLOSE)?;
        Some(u16::from_be_bytes(*code))
    }

    /// A continuation; the last one of its message if `fin`.
    pub fn continuation(payload: impl Into<Vec<u8>>, fin: bool) -> Self {
        Self { fin, ..Self::new(opcode::CONTINUATION, payload) }
    }

    /// The frame's bytes: masked with `masking` as a client must, or plain as a server must.
    pub fn encode(&self, masking: Option<[u8; 4]>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.payload.len() + 14);
        self.encode_into(masking, &mut bytes);
        bytes
    }

    pub(super) fn encode_into(&self, masking: Option<[u8; 4]>, bytes: &mut Vec<u8>) {
        let len = self.payload.len() as u64;
        let encoding = LengthEncoding::Minimal;
        push_header(bytes, self.fin, self.rsv, self.opcode, masking.is_some(), encoding, len);
        if let Some(key) = masking {
            bytes.extend_from_slice(&key);
        }
        push_masked(bytes, masking, &self.payload);
    }

    /// Decodes the frame at the start of `bytes` and says how many bytes it took; `None` if `bytes`
    /// ends within the frame. A length that is not minimal or has its top bit set is `InvalidData`.
    pub fn decode(bytes: &[u8]) -> io::Result<Option<(Self, usize)>> {
        let Some(head) = Head::parse(bytes)? else {
            return Ok(None);
        };
        let Some(payload) = head.payload(bytes) else {
            return Ok(None);
        };
        let mut frame = head.frame();
        push_masked(&mut frame.payload, head.masking, payload);
        Ok(Some((frame, head.total())))
    }
}

impl fmt::Debug for WireFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("WireFrame");
        debug
            .field("fin", &self.fin)
            .field("rsv", &self.rsv)
            .field("opcode", &self.opcode)
            .field("masked", &self.masked)
            .field("len", &self.payload.len());
        if let Some(code) = self.close_code() {
            debug.field("code", &code);
        }
        debug.finish()
    }
}

/// How [`frame_header`] writes the length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LengthEncoding {
    /// The shortest form, the only legal one.
    Minimal,
    /// In the header's seven bits; the length is cut to them. 126 and 127 announce a longer form.
    Seven,
    /// In 16 bits, even if seven would do; the length is cut to them.
    Sixteen,
    /// In 64 bits, even if fewer would do; a length with the top bit set is illegal on the wire.
    SixtyFour,
}

/// A frame's header up to the masking key, which the caller appends if `masked`.
/// Writes invalid frames too: lengths without payload, non-minimal lengths, reserved opcodes.
pub fn frame_header(
    fin: bool,
    rsv: u8,
    opcode: u8,
    masked: bool,
    encoding: LengthEncoding,
    len: u64,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(10);
    push_header(&mut bytes, fin, rsv, opcode, masked, encoding, len);
    bytes
}

pub(super) fn push_header(
    bytes: &mut Vec<u8>,
    fin: bool,
    rsv: u8,
    opcode: u8,
    masked: bool,
    encoding: LengthEncoding,
    len: u64,
) {
    let first = (u8::from(fin) << 7) | ((rsv & 0x7) << 4) | (opcode & 0xF);
    let mask = u8::from(masked) << 7;
    let encoding = match (encoding, len) {
        (LengthEncoding::Minimal, 0..=125) => LengthEncoding::Seven,
        (LengthEncoding::Minimal, 126..=0xFFFF) => LengthEncoding::Sixteen,
        (LengthEncoding::Minimal, _) => LengthEncoding::SixtyFour,
        (chosen, _) => chosen,
    };
    match encoding {
        LengthEncoding::Seven => bytes.extend_from_slice(&[first, mask | (len & 0x7F) as u8]),
        LengthEncoding::Sixteen => {
            bytes.extend_from_slice(&[first, mask | 126]);
            bytes.extend_from_slice(&((len & 0xFFFF) as u16).to_be_bytes());
        }
        LengthEncoding::Minimal | LengthEncoding::SixtyFour => {
            bytes.extend_from_slice(&[first, mask | 127]);
            bytes.extend_from_slice(&len.to_be_bytes());
        }
    }
}

/// Appends `payload` with the mask laid over it, which masks and unmasks alike.
pub(super) fn push_masked(bytes: &mut Vec<u8>, masking: Option<[u8; 4]>, payload: &[u8]) {
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    let Some(key) = masking else { return };
    // Eight bytes at a time: the bench server spends its time here.
    let wide = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let mut chunks = bytes[start..].chunks_exact_mut(8);
    for chunk in &mut chunks {
        let word: [u8; 8] = (&*chunk).try_into().expect("chunks_exact yields eight bytes");
        chunk.copy_from_slice(&(u64::from_ne_bytes(word) ^ wide).to_ne_bytes());
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

/// A decoded frame header.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) fin: bool,
    pub(super) rsv: u8,
    pub(super) opcode: u8,
    pub(super) masking: Option<[u8; 4]>,
    pub(super) len: usize,
    size: usize,
}

impl Head {
    /// `None` if `bytes` ends within the header.
    pub(super) fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        let [first, second, rest @ ..] = bytes else {
            return Ok(None);
        };
        let (len, extended) = match (second & 0x7F, rest) {
            (126, [a, b, ..]) => (u64::from(u16::from_be_bytes([*a, *b])), 2),
            (127, [a, b, c, d, e, f, g, h, ..]) => {
                (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), 8)
            }
            (126 | 127, _) => return Ok(None),
            (len, _) => (u64::from(len), 0),
        };
        match (extended, len) {
            (2, 0..=125) | (8, 0..=0xFFFF) => {
                return Err(invalid("the frame's length is not minimal"));
            }
            (8, 0x8000_0000_0000_0000..) => {
                return Err(invalid("the frame's length has its top bit set"));
            }
            _ => {}
        }
        let masking = match (second >> 7, &rest[extended..]) {
            (0, _) => None,
            (_, [a, b, c, d, ..]) => Some([*a, *b, *c, *d]),
            _ => return Ok(None),
        };
        Ok(Some(Self {
            fin: first >> 7 == 1,
            rsv: (first >> 4) & 0x7,
            opcode: first & 0xF,
            masking,
            len: usize::try_from(len).map_err(|_| invalid("the frame is longer than memory"))?,
            size: 2 + extended + if masking.is_some() { 4 } else { 0 },
        }))
    }

    pub(super) fn is_control(&self) -> bool {
        self.opcode >= 8
    }

    /// Length of header and payload.
    pub(super) fn total(&self) -> usize {
        self.size.saturating_add(self.len)
    }

    /// The payload as it is on the wire, if all of it is in `bytes`.
    pub(super) fn payload<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        bytes.get(self.size..self.total())
    }

    /// The frame, its payload still empty.
    pub(super) fn frame(&self) -> WireFrame {
        WireFrame {
            fin: self.fin,
            rsv: self.rsv,
            opcode: self.opcode,
            masked: self.masking.is_some(),
            payload: Vec::new(),
        }
    }
}

pub(super) fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_form_survives_a_round_trip() {
        for (len, header) in
            [(0, 2), (7, 2), (125, 2), (126, 4), (127, 4), (65_535, 4), (65_536, 10)]
        {
            for masking in [None, Some([1, 2, 3, 4])] {
                let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
                let sent = WireFrame::binary(payload);
                let bytes = sent.encode(masking);
                let size = header + if masking.is_some() { 4 } else { 0 };
                assert_eq!(bytes.len(), size + len);
                for cut in 0..size {
                    assert_eq!(WireFrame::decode(&bytes[..cut]).expect("legal"), None);
                }
                let (got, used) = WireFrame::decode(&bytes).expect("legal").expect("complete");
                assert_eq!(used, bytes.len());
                assert_eq!(got, WireFrame { masked: masking.is_some(), ..sent });
            }
        }
    }

    #[test]
    fn the_examples_of_rfc_6455_section_5_7_decode() {
        let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        let (frame, _) = WireFrame::decode(&masked).expect("legal").expect("complete");
        assert_eq!((frame.payload.as_slice(), frame.masked), (b"Hello".as_slice(), true));
        let (frame, _) =
            WireFrame::decode(&[0x01, 0x03, b'H', b'e', b'l']).expect("legal").expect("complete");
        assert_eq!((frame.payload.as_slice(), frame.fin), (b"Hel".as_slice(), false));
        assert_eq!(WireFrame::text("Hello").encode(None), b"\x81\x05Hello");
    }

    #[test]
    fn illegal_lengths_can_be_written_and_are_refused_when_read() {
        use LengthEncoding::{Minimal, Seven, Sixteen, SixtyFour};
        assert_eq!(frame_header(true, 7, 0xF, true, Sixteen, 5), [0xFF, 0xFE, 0, 5]);
        assert_eq!(frame_header(false, 0, 2, false, Seven, 127), [0x02, 0x7F]);
        let huge = frame_header(true, 0, 2, false, Minimal, 1 << 62);
        assert_eq!(huge, [0x82, 0x7F, 0x40, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(WireFrame::decode(&huge).expect("legal"), None);
        for header in [
            frame_header(true, 0, 2, false, Sixteen, 125),
            frame_header(true, 0, 2, false, SixtyFour, 65_535),
            frame_header(true, 0, 2, false, SixtyFour, 1 << 63),
        ] {
            let error = WireFrame::decode(&header).expect_err("illegal");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn a_close_frame_may_be_empty() {
        assert_eq!(WireFrame::close(None, "unused").encode(None), [0x88, 0]);
        assert_eq!(WireFrame::close(1000, "a").encode(None), [0x88, 3, 0x03, 0xE8, b'a']);
    }
}
