//! Frames as transports speak them ([`RawFrame`]) and as sessions do ([`Frame`]).

use std::{fmt, ops};

use bytes::Bytes;

use crate::{CloseReason, Utf8Bytes};

/// What a frame is (RFC 6455 section 5.2). Reserved opcodes are refused by the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpCode {
    /// 0: goes on with the message that an earlier frame began.
    Continuation,
    /// 1: begins a text message.
    Text,
    /// 2: begins a binary message.
    Binary,
    /// 8: closes the connection.
    Close,
    /// 9: asks for a [`Pong`](Self::Pong) with the same payload.
    Ping,
    /// 10: answers a [`Ping`](Self::Ping), or is a heartbeat nobody asked for.
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

/// One frame as it is on the wire, unmasked: what transports, extensions and raw sessions speak.
#[derive(Clone, PartialEq, Eq)]
pub struct RawFrame {
    /// Whether it is the last frame of its message.
    pub fin: bool,
    /// The reserved bits; none unless an extension was negotiated.
    pub rsv: Rsv,
    /// What it is.
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

/// A message or a control frame: what sessions speak.
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
    /// A ping of at most 125 bytes; the peer answers it with a pong.
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

    /// The payload of any frame but a Close, whose payload is empty here: see
    /// [`read_reason`](Self::read_reason). A short text is copied for it, once: for its length alone there is
    /// [`payload`](Self::payload).
    pub fn read_bytes(&self) -> &Bytes {
        static EMPTY: Bytes = Bytes::new();
        match self {
            Self::Text(text) => text.as_shared(),
            Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => bytes,
            Self::Close(_) => &EMPTY,
        }
    }

    /// What [`read_bytes`](Self::read_bytes) gives, as a slice, never copied.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => bytes,
            Self::Close(_) => &[],
        }
    }

    /// The reason of a [`Close`](Self::Close) that has one.
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

    /// The payload, without a copy but of a short text; for a Close what [`CloseReason::to_payload`] gives.
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
