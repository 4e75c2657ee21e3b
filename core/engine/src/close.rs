//! The end of a WebSocket: codes, reasons and outcome (RFC 6455 section 7).

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;

use crate::error::{Error, ErrorKind, Result};

/// A close code (RFC 6455 section 7.4).
///
/// [`CloseCode::try_from`] takes the codes that may travel: 1000 to 1003, 1007 to 1014 and 3000 to
/// 4999. The constants [`NO_STATUS`](Self::NO_STATUS), [`ABNORMAL`](Self::ABNORMAL) and
/// [`TLS`](Self::TLS) exist for reporting only: no [`CloseReason`] can be made of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: this end goes away, for example a closed page or a stopping server.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: a kind of data this end cannot accept.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// 1005: a Close without a code was received. Never travels.
    pub const NO_STATUS: Self = Self(1005);
    /// 1006: the connection ended without a Close. Never travels.
    pub const ABNORMAL: Self = Self(1006);
    /// 1007: the data does not fit its type, such as text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: a message that breaks this end's policy.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// 1009: a message too big to process.
    pub const TOO_BIG: Self = Self(1009);
    /// 1010: the server did not negotiate an extension that the client needs.
    pub const MANDATORY_EXTENSION: Self = Self(1010);
    /// 1011: an unexpected condition prevents this end from continuing.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1012: the service restarts.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// 1013: the service is overloaded; try again later.
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// 1014: a gateway received an invalid response from the server behind it.
    pub const BAD_GATEWAY: Self = Self(1014);
    /// 1015: TLS failed. Never travels.
    pub const TLS: Self = Self(1015);

    /// Whether the code may be in a Close frame (RFC 6455 section 7.4, IANA's registry).
    pub const fn may_travel(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl TryFrom<u16> for CloseCode {
    type Error = Error;

    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a code that must not travel.
    fn try_from(code: u16) -> Result<Self> {
        let code = Self(code);
        if code.may_travel() {
            return Ok(code);
        }
        Err(Error::new(
            ErrorKind::InvalidInput,
            format!(
                "close code {code} must not be sent: use 1000-1003, 1007-1014 or 3000-4999 \
                 (your own: 4000-4999)"
            ),
        ))
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.0
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Why a WebSocket is closed: a code and at most 123 bytes of text.
///
/// ```
/// use drivetrain_engine::{CloseCode, CloseReason};
///
/// let reason = CloseReason::new(4001, "session expired")?;
/// assert_eq!(reason.text(), "session expired");
/// assert_eq!(CloseReason::normal().code(), CloseCode::NORMAL);
/// assert!(CloseReason::new(1006, "").is_err(), "1006 never travels");
/// # Ok::<(), drivetrain_engine::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct CloseReason {
    code: CloseCode,
    text: ByteString,
}

impl CloseReason {
    /// The largest text, in bytes of UTF-8 (a control frame's 125 less the code).
    pub const MAX_TEXT: usize = 123;

    /// Makes a reason from a code (`u16` or [`CloseCode`]) and a text.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a code that must not travel and for a text above
    /// [`MAX_TEXT`](Self::MAX_TEXT) bytes.
    pub fn new<C>(code: C, text: impl Into<String>) -> Result<Self>
    where
        C: TryInto<CloseCode>,
        Error: From<C::Error>,
    {
        let code = CloseCode::try_from(code.try_into()?.0)?;
        let text = text.into();
        if text.len() > Self::MAX_TEXT {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("a close reason of {} bytes is too long: at most 123", text.len()),
            ));
        }
        Ok(Self { code, text: text.into() })
    }

    /// 1000 without a text.
    pub fn normal() -> Self {
        Self::bare(CloseCode::NORMAL)
    }

    /// 1001 without a text.
    pub fn going_away() -> Self {
        Self::bare(CloseCode::GOING_AWAY)
    }

    /// A reason for a code, its text cut to 123 bytes (never inside a character). A code that must
    /// not travel is accepted for reports; it is never sent.
    pub fn truncated(code: CloseCode, text: &str) -> Self {
        let mut end = text.len().min(Self::MAX_TEXT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self { code, text: text[..end].to_owned().into() }
    }

    /// The code.
    pub fn code(&self) -> CloseCode {
        self.code
    }

    /// The text; empty if there is none.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Reads the payload of a Close frame; `None` if it is empty.
    ///
    /// # Errors
    /// [`ErrorKind::Protocol`] for one byte, for a code that must not travel (both 1002), and for a
    /// text that is not UTF-8 (1007) (RFC 6455 sections 5.5.1, 7.4.2 and 8.1).
    pub fn from_payload(payload: &Bytes) -> Result<Option<Self>> {
        let violation = |message: String| Error::new(ErrorKind::Protocol, message);
        match payload.len() {
            0 => return Ok(None),
            1 => return Err(violation("a close frame has a payload of one byte".into())),
            2..=125 => {}
            n => return Err(violation(format!("a close frame has a payload of {n} bytes"))),
        }
        let code = CloseCode(u16::from_be_bytes([payload[0], payload[1]]));
        if !code.may_travel() {
            return Err(violation(format!("a close frame has code {code}, which must not travel")));
        }
        let text = ByteString::try_from(payload.slice(2..)).map_err(|_| {
            violation("the text of a close frame is not UTF-8".into())
                .with_close_code(CloseCode::INVALID_PAYLOAD)
        })?;
        Ok(Some(Self { code, text }))
    }

    /// The payload of a Close frame; empty for a code that must not travel.
    pub fn to_payload(&self) -> Bytes {
        if !self.code.may_travel() {
            return Bytes::new();
        }
        let mut payload = BytesMut::with_capacity(2 + self.text.len());
        payload.put_u16(self.code.0);
        payload.put_slice(self.text.as_bytes());
        payload.freeze()
    }

    fn bare(code: CloseCode) -> Self {
        Self { code, text: ByteString::new() }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.text.is_empty() {
            return self.code.fmt(f);
        }
        write!(f, "{} ({})", self.code, self.text())
    }
}

impl fmt::Debug for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloseReason({self})")
    }
}

/// The end of a session: both Close frames, whether the end was clean, and the error if not.
///
/// `clean` means: this end sent a Close after all accepted messages, and received the peer's Close. If
/// this end closed first, the peer has confirmed all messages. If the peer closed first,
/// all messages were written, but the peer may have stopped reading before.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Outcome {
    /// The Close that this end has written; code 1005 without a code; `None` if none was written.
    pub sent: Option<CloseReason>,
    /// The Close that the peer has sent; code 1005 without a code; `None` if none arrived.
    pub received: Option<CloseReason>,
    /// Whether the closing handshake was completed, after everything that was accepted.
    pub clean: bool,
    /// Number of received messages that were discarded unread.
    pub discarded: u64,
    /// The error of an unclean end. After the peer's Close, the failure beside it.
    pub error: Option<Error>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part =
            |f: &mut fmt::Formatter<'_>, what: &str, reason: &Option<CloseReason>| match reason {
                Some(reason) => write!(f, "{what} {reason}"),
                None => write!(f, "{what} no close"),
            };
        part(f, "sent", &self.sent)?;
        f.write_str(", ")?;
        part(f, "received", &self.received)?;
        match &self.error {
            Some(error) => write!(f, ": {error}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_must_not_travel_are_refused() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
            assert!(CloseCode::try_from(code).is_err(), "{code}");
        }
        for code in [1000, 1003, 1007, 1014, 3000, 4999] {
            assert_eq!(u16::from(CloseCode::try_from(code).expect("may travel")), code);
        }
        assert!(CloseReason::new(CloseCode::ABNORMAL, "").is_err());
    }

    #[test]
    fn text_ends_at_123_bytes_and_never_inside_a_character() {
        assert!(CloseReason::new(1000, "x".repeat(123)).is_ok());
        assert!(CloseReason::new(1000, "x".repeat(124)).is_err());
        let cut = CloseReason::truncated(CloseCode::NORMAL, &"é".repeat(100));
        assert_eq!(cut.text(), "é".repeat(61));
    }

    #[test]
    fn payload_survives_the_round_trip_and_violations_have_their_code() {
        let reason = CloseReason::new(4000, "über").expect("valid");
        assert_eq!(CloseReason::from_payload(&reason.to_payload()).expect("valid"), Some(reason));
        assert_eq!(CloseReason::from_payload(&Bytes::new()).expect("valid"), None);
        for (payload, code) in [
            (&[3_u8][..], CloseCode::PROTOCOL_ERROR),
            (&[3, 237], CloseCode::PROTOCOL_ERROR),
            (&[0x03, 0xe8, 0xff], CloseCode::INVALID_PAYLOAD),
        ] {
            let error = CloseReason::from_payload(&Bytes::copy_from_slice(payload)).unwrap_err();
            assert_eq!((error.kind(), error.close_code()), (ErrorKind::Protocol, Some(code)));
        }
    }
}
