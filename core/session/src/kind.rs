//! The kind of a message.

use drivetrain_engine::OpCode;

/// The kind of a message: text or bytes.
///
/// # Example
/// ```no_run
/// # async fn example(session: drivetrain_session::Session) -> drivetrain_engine::Result<()> {
/// use drivetrain_session::MessageKind;
///
/// let mut writer = session.send_stream(MessageKind::Text).await?;
/// writer.write_chunk("a long ").await?;
/// writer.write_chunk("story").await?;
/// writer.finish().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// Text: UTF-8.
    Text,
    /// Bytes of any kind.
    Binary,
}

impl MessageKind {
    /// The opcode of the message's first frame.
    pub(super) const fn opcode(self) -> OpCode {
        match self {
            Self::Text => OpCode::Text,
            Self::Binary => OpCode::Binary,
        }
    }
}
