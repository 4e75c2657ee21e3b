//! The head of a frame (RFC 6455 section 5.2), read and written.

use drivetrain_engine::{Error, ErrorKind, OpCode, RawFrame, Role, Rsv, frame_rules};

/// The longest head: two bytes, a length of eight, a mask of four.
pub(crate) const LONGEST: usize = 14;

/// The largest payload of a control frame (RFC 6455 section 5.5).
pub(crate) const LARGEST_CONTROL: usize = 125;

/// The head of a frame, as a [`HeadCodec`] reads and writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Whether the frame is the last of its message.
    pub fin: bool,
    /// The reserved bits.
    pub rsv: Rsv,
    /// What the frame is.
    pub opcode: OpCode,
    /// The mask of the payload; `None` in a server's frame.
    pub mask: Option<[u8; 4]>,
    /// The length of the payload.
    pub length: u64,
    /// The length of the head itself.
    pub size: usize,
}

/// A library's codec for heads, in place of this crate's, for a [`Framer`](crate::Framer) that sends and receives with
/// the library.
///
/// It serves frames that are not short and plain, which are most by far: those never reach it. The roles, the opcodes
/// and the lengths that RFC 6455 sections 5.1, 5.2 and 5.5 forbid are checked around it.
pub trait HeadCodec: Send + Sync {
    /// Reads the head at the beginning of `bytes`; `None` if it is not complete.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] for a head that the library refuses.
    fn read(&self, bytes: &[u8]) -> Result<Option<Head>, Error>;

    /// Writes the head into `to`, which has [`Head::size`] bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Other`] if the library does not; the frame is then not sent.
    fn write(&self, head: &Head, to: &mut [u8]) -> Result<(), Error>;
}

/// Reads the head at the beginning of `bytes`; `None` if it is not complete. The two bytes that are in each head are
/// checked before the rest has come.
///
/// # Errors
/// [`ErrorKind::Protocol`] for what RFC 6455 sections 5.1, 5.2 and 5.5 forbid the other end of `role`. Reserved
/// bits are not looked at: an extension may use them.
pub(crate) fn read(bytes: &[u8], role: Role) -> Result<Option<Head>, Error> {
    let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
    let opcode = check_start(first, second, role)?;
    let fin = first & 0x80 != 0;
    let (is_masked, code) = (second & 0x80 != 0, second & 0x7f);
    let (length, extended) = match code {
        126 => match rest.first_chunk() {
            Some(&bytes) => (u64::from(u16::from_be_bytes(bytes)), 2),
            None => return Ok(None),
        },
        127 => match rest.first_chunk() {
            Some(&bytes) => (u64::from_be_bytes(bytes), 8),
            None => return Ok(None),
        },
        code => (u64::from(code), 0),
    };
    frame_rules::check_length(length, code).map_err(refuse)?;
    let mut size = 2 + extended;
    let mask = match is_masked {
        true => match rest[extended..].first_chunk() {
            Some(&mask) => Some(mask),
            None => return Ok(None),
        },
        false => None,
    };
    size += mask.map_or(0, |mask| mask.len());
    Ok(Some(Head { fin, rsv: rsv(first), opcode, mask, length, size }))
}

/// The same by a library's codec, with the same checks.
pub(crate) fn read_with(
    heads: &dyn HeadCodec,
    bytes: &[u8],
    role: Role,
) -> Result<Option<Head>, Error> {
    let &[first, second, ..] = bytes else { return Ok(None) };
    check_start(first, second, role)?;
    let head = heads.read(bytes)?;
    if let Some(head) = &head {
        frame_rules::check_length(head.length, second & 0x7f).map_err(refuse)?;
    }
    Ok(head)
}

/// Checks the two bytes that are in each head.
#[inline]
fn check_start(first: u8, second: u8, role: Role) -> Result<OpCode, Error> {
    let opcode =
        opcode(first).ok_or_else(|| refuse("the peer sent a frame with a reserved opcode"))?;
    if opcode.is_control() {
        if first & 0x80 == 0 {
            return Err(refuse("the peer fragmented a control frame"));
        }
        if usize::from(second & 0x7f) > LARGEST_CONTROL {
            return Err(refuse("the peer sent a control frame with more than 125 bytes"));
        }
    }
    frame_rules::check_mask(role, second & 0x80 != 0).map_err(refuse)?;
    Ok(opcode)
}

/// What the first byte of a head says the frame is; `None` if it is reserved.
#[inline]
pub(crate) fn opcode(first: u8) -> Option<OpCode> {
    Some(match first & 0x0f {
        0x0 => OpCode::Continuation,
        0x1 => OpCode::Text,
        0x2 => OpCode::Binary,
        0x8 => OpCode::Close,
        0x9 => OpCode::Ping,
        0xa => OpCode::Pong,
        _ => return None,
    })
}

/// The reserved bits in the first byte of a head.
#[inline]
pub(crate) fn rsv(first: u8) -> Rsv {
    Rsv::new(first & 0x40 != 0, first & 0x20 != 0, first & 0x10 != 0)
}

/// The opcode as it is in the first byte of a head.
#[inline]
pub(crate) fn code(opcode: OpCode) -> u8 {
    match opcode {
        OpCode::Continuation => 0x0,
        OpCode::Text => 0x1,
        OpCode::Binary => 0x2,
        OpCode::Close => 0x8,
        OpCode::Ping => 0x9,
        OpCode::Pong => 0xa,
    }
}

/// The first byte of a frame's head.
pub(crate) fn first(frame: &RawFrame) -> u8 {
    let flag = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
    code(frame.opcode)
        | flag(frame.fin, 0x80)
        | flag(frame.rsv.contains(Rsv::RSV1), 0x40)
        | flag(frame.rsv.contains(Rsv::RSV2), 0x20)
        | flag(frame.rsv.contains(Rsv::RSV3), 0x10)
}

/// The length of the head of a frame with a payload of this length.
pub(crate) fn size(payload: usize, is_masked: bool) -> usize {
    let extended = match payload {
        0..126 => 0,
        126..0x1_0000 => 2,
        _ => 8,
    };
    2 + extended + if is_masked { 4 } else { 0 }
}

/// The head of a frame that is sent with this mask.
pub(crate) fn of(frame: &RawFrame, mask: Option<[u8; 4]>) -> Head {
    let length = frame.payload.len();
    Head {
        fin: frame.fin,
        rsv: frame.rsv,
        opcode: frame.opcode,
        mask,
        length: length as u64,
        size: size(length, mask.is_some()),
    }
}

/// Writes a head of [`size`] bytes to the beginning of `to`, in the shortest encoding.
pub(crate) fn write(to: &mut [u8], frame: &RawFrame, mask: Option<[u8; 4]>) {
    let length = frame.payload.len();
    let mut head = [0; LONGEST];
    head[0] = first(frame);
    head[1] = if mask.is_some() { 0x80 } else { 0 };
    let mut at = 2;
    match length {
        0..126 => head[1] |= length as u8,
        126..0x1_0000 => {
            head[1] |= 126;
            head[at..at + 2].copy_from_slice(&(length as u16).to_be_bytes());
            at += 2;
        }
        _ => {
            head[1] |= 127;
            head[at..at + 8].copy_from_slice(&(length as u64).to_be_bytes());
            at += 8;
        }
    }
    if let Some(mask) = mask {
        head[at..at + 4].copy_from_slice(&mask);
        at += 4;
    }
    to[..at].copy_from_slice(&head[..at]);
}

#[cold]
fn refuse(message: &'static str) -> Error {
    Error::new(ErrorKind::Protocol, message)
}
