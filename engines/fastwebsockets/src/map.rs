//! fastwebsockets' opcodes and errors in drivetrain's words, and back.

use std::{fmt, io};

use drivetrain_engine::{Capability, CloseCode, Error, ErrorKind, OpCode};
use fastwebsockets::WebSocketError;

/// Why reserved bits are missing.
pub(crate) const NO_RSV: &str =
    "fastwebsockets refuses frames with reserved bits and cannot write them: use Tungstenite";

/// What the gate tells the framer through the library: the cause of an `io::Error`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    /// The peer broke the protocol in a way that the library overlooks.
    Violation(&'static str),
    /// The peer announced a data frame of this length, above the limit.
    TooBig(u64),
    /// Nothing to read and nothing buffered: the moment to give memory back.
    Idle,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Violation(what) => f.write_str(what),
            Self::TooBig(length) => write!(f, "a frame of {length} bytes was announced"),
            Self::Idle => f.write_str("nothing to read"),
        }
    }
}

impl std::error::Error for Stop {}

impl From<Stop> for io::Error {
    fn from(stop: Stop) -> Self {
        Self::new(io::ErrorKind::InvalidData, stop)
    }
}

impl Stop {
    /// What the gate said, if the error comes from there.
    pub(crate) fn of(error: &WebSocketError) -> Option<Self> {
        match error {
            WebSocketError::IoError(error) => error.get_ref()?.downcast_ref().copied(),
            _ => None,
        }
    }
}

pub(crate) fn opcode_from_library(opcode: fastwebsockets::OpCode) -> OpCode {
    match opcode {
        fastwebsockets::OpCode::Continuation => OpCode::Continuation,
        fastwebsockets::OpCode::Text => OpCode::Text,
        fastwebsockets::OpCode::Binary => OpCode::Binary,
        fastwebsockets::OpCode::Close => OpCode::Close,
        fastwebsockets::OpCode::Ping => OpCode::Ping,
        fastwebsockets::OpCode::Pong => OpCode::Pong,
    }
}

pub(crate) fn opcode_to_library(opcode: OpCode) -> fastwebsockets::OpCode {
    match opcode {
        OpCode::Continuation => fastwebsockets::OpCode::Continuation,
        OpCode::Text => fastwebsockets::OpCode::Text,
        OpCode::Binary => fastwebsockets::OpCode::Binary,
        OpCode::Close => fastwebsockets::OpCode::Close,
        OpCode::Ping => fastwebsockets::OpCode::Ping,
        OpCode::Pong => fastwebsockets::OpCode::Pong,
    }
}

/// The error of the library, or of the gate through it.
///
/// `UnexpectedEOF` is not an error between frames; there it never gets here. TLS that ends without `close_notify` is
/// an I/O error of that kind (RFC 8446 section 6.1), `inside` a frame and between two.
pub(crate) fn received(error: WebSocketError, limit: usize, inside: bool) -> Error {
    use WebSocketError as Native;
    let protocol = |message: &'static str| Error::new(ErrorKind::Protocol, message);
    if let Some(stop) = Stop::of(&error) {
        return match stop {
            Stop::TooBig(length) => too_big(length, limit),
            Stop::Violation(what) => protocol(what),
            Stop::Idle => io(io::ErrorKind::WouldBlock.into()),
        };
    }
    let mapped = match &error {
        Native::FrameTooLarge => {
            Error::new(ErrorKind::TooBig, "the peer announced a frame above max_message_size")
        }
        Native::InvalidUTF8 => protocol("the peer sent text that is not UTF-8")
            .with_close_code(CloseCode::INVALID_PAYLOAD),
        Native::ReservedBitsNotZero => {
            protocol("the peer set a reserved bit that no extension was agreed on for")
        }
        Native::InvalidValue => protocol("the peer sent a frame with a reserved opcode"),
        Native::ControlFrameFragmented => protocol("the peer fragmented a control frame"),
        Native::PingFrameTooLarge => protocol(LONG_CONTROL),
        _ => protocol("the peer sent an invalid frame"),
    };
    match error {
        Native::IoError(error) if inside && error.kind() == io::ErrorKind::UnexpectedEof => {
            Error::inside_frame(error)
        }
        Native::IoError(error) => io(error),
        error => mapped.with_source(error),
    }
}

pub(crate) const LONG_CONTROL: &str = "the peer sent a control frame with more than 125 bytes";

/// A data frame above the limit.
#[cold]
pub(crate) fn too_big(length: u64, limit: usize) -> Error {
    let message = format!("the peer announced a frame of {length} bytes, the limit is {limit}");
    Error::new(ErrorKind::TooBig, message)
}

/// The stream failed.
pub(crate) fn io(error: io::Error) -> Error {
    Error::from(error)
}

/// The library behaved in a way that the framer does not know how to continue from.
#[cold]
pub(crate) fn lost() -> Error {
    Error::new(ErrorKind::Io, "fastwebsockets lost its place in the stream")
}

/// Reserved bits on a frame to be sent.
pub(crate) fn no_reserved_bits() -> Error {
    Error::not_offered(Capability::RsvBits, NO_RSV)
}

/// A frame that no engine may send.
pub(crate) fn bad_control_frame() -> Error {
    let message = "a control frame has at most 125 bytes and is not fragmented";
    Error::new(ErrorKind::InvalidInput, message)
}
