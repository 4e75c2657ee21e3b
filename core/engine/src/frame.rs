//! Frames of transports ([`RawFrame`]) and of sessions ([`Frame`]).

use std::{fmt, ops};

use bytes::Bytes;

use crate::{close::CloseReason, text::Utf8Bytes};

/// The opcode of a frame (RFC 6455 section 5.2). Transports refuse reserved opcodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpCode {
    /// 0: continues a message.
    Continuation,
    /// 1: begins a text message.
    Text,
    /// 2: begins a binary message.
    Binary,
    /// 8: closes the connection.
    Close,
    /// 9: asks for a [`Pong`](Self::Pong) with the same payload.
    Ping,
    /// 10: answers a [`Ping`](Self::Ping), or is an unsolicited heartbeat.
    Pong,
}

impl OpCode {
    /// Whether it is a control frame: never fragmented, at most 125 bytes (RFC 6455 section 5.5).
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The three reserved bits of a frame, for extensions (RFC 6455 section 5.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Rsv(u8);

impl Rsv {
    /// None of them set.
    pub const NONE: Self = Self(0);
    /// The first, which permessage-deflate uses (RFC 7692).
    pub const RSV1: Self = Self(0b100);
    /// The second.
    pub const RSV2: Self = Self(0b010);
    /// The third.
    pub const RSV3: Self = Self(0b001);

    /// The bits as flags.
    pub const fn new(rsv1: bool, rsv2: bool, rsv3: bool) -> Self {
        Self((rsv1 as u8) << 2 | (rsv2 as u8) << 1 | rsv3 as u8)
    }

    /// Whether none is set.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any bit of `other` is set.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl ops::BitOr for Rsv {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Rsv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rsv({:03b})", self.0)
    }
}

/// One frame as on the wire, unmasked: the unit of transports, extensions and raw sessions.
#[derive(Clone, PartialEq, Eq)]
pub struct RawFrame {
    /// Whether it is the last frame of its message.
    pub fin: bool,
    /// The reserved bits; none unless an extension was negotiated.
    pub rsv: Rsv,
    /// The opcode.
    pub opcode: OpCode,
    /// Its payload, unmasked.
    pub payload: Bytes,
}

impl RawFrame {
    /// A final frame without reserved bits.
    #[inline]
    pub fn new(opcode: OpCode, payload: impl Into<Bytes>) -> Self {
        Self { fin: true, rsv: Rsv::NONE, opcode, payload: payload.into() }
    }

    /// The same frame with more of its message to follow.
    #[must_use]
    pub fn not_final(mut self) -> Self {
        self.fin = false;
        self
    }
}

impl fmt::Debug for RawFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fin, rsv, opcode, payload } = self;
        write!(f, "RawFrame({opcode:?}, fin: {fin}, {rsv:?}, {} bytes)", payload.len())
    }
}

/// A message or a control frame: the unit of sessions.
///
/// ```
/// use drivetrain_engine::Frame;
///
/// let frame = Frame::from("hello");
/// assert_eq!(frame.read_text(), Some("hello"));
/// assert_eq!(format!("{frame:?}"), "Text(5 bytes)", "payloads do not leak into logs");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub enum Frame {
    /// A text message.
    Text(Utf8Bytes),
    /// A binary message.
    Binary(Bytes),
    /// A ping of at most 125 bytes. The peer answers with a pong.
    Ping(Bytes),
    /// A pong of at most 125 bytes.
    Pong(Bytes),
    /// The Close, with its reason if it has one.
    Close(Option<CloseReason>),
}

impl Frame {
    /// The text of a [`Text`](Self::Text); `None` for other frames.
    pub fn read_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The payload of any frame except a Close, whose payload is empty here: see
    /// [`read_reason`](Self::read_reason). A short text is copied, once; for its length alone use
    /// [`payload`](Self::payload).
    pub fn read_bytes(&self) -> &Bytes {
        static EMPTY: Bytes = Bytes::new();
        match self {
            Self::Text(text) => text.as_shared(),
            Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => bytes,
            Self::Close(_) => &EMPTY,
        }
    }

    /// The payload as a slice, without a copy.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => bytes,
            Self::Close(_) => &[],
        }
    }

    /// The reason of a [`Close`](Self::Close), if any.
    pub fn read_reason(&self) -> Option<&CloseReason> {
        match self {
            Self::Close(reason) => reason.as_ref(),
            _ => None,
        }
    }

    /// The text of a [`Text`](Self::Text); `None` for other frames.
    pub fn into_text(self) -> Option<Utf8Bytes> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The payload. Only a short text is copied. For a Close, [`CloseReason::to_payload`].
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Text(text) => text.into(),
            Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => bytes,
            Self::Close(reason) => reason.map_or_else(Bytes::new, |reason| reason.to_payload()),
        }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Text(_) => "Text",
            Self::Binary(_) => "Binary",
            Self::Ping(_) => "Ping",
            Self::Pong(_) => "Pong",
            Self::Close(Some(reason)) => return write!(f, "Close({reason})"),
            Self::Close(None) => return f.write_str("Close"),
        };
        write!(f, "{name}({} bytes)", self.payload().len())
    }
}

impl From<&str> for Frame {
    #[inline]
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Frame {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<Utf8Bytes> for Frame {
    fn from(text: Utf8Bytes) -> Self {
        Self::Text(text)
    }
}

impl From<Bytes> for Frame {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

impl From<Vec<u8>> for Frame {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes.into())
    }
}

impl From<CloseReason> for Frame {
    fn from(reason: CloseReason) -> Self {
        Self::Close(Some(reason))
    }
}
