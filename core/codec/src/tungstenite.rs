//! The framing of the engines that are named after tungstenite, on any runtime.

use std::io::Cursor;

use drivetrain_engine::{
    Accepted, BoxStream, Bytes, EngineSettings, Error, ErrorKind, Framing, OpCode, Result, Role,
    Rsv, Transport,
};
use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode as NativeOpCode},
};

pub use tungstenite::protocol::WebSocketConfig;

use crate::{
    buffers::Buffers,
    framer::Framer,
    head::{Head, HeadCodec},
};

/// The frames of `Tungstenite`, `AsyncStd` and `Smol`, for both roles: [`Framer`] with tungstenite's frame header. Of
/// two calls that set the same option the later wins.
///
/// ```
/// use drivetrain_codec::{TungsteniteFraming, WebSocketConfig};
///
/// let config = WebSocketConfig::default().max_frame_size(Some(1 << 20));
/// let framing = TungsteniteFraming::new().preconfigured(config);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TungsteniteFraming {
    buffers: Buffers,
    max_frame_size: Option<usize>,
    max_message_size: Option<usize>,
    refused: Option<Refused>,
}

/// An option of a `WebSocketConfig` that no framing can honour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    MaxWriteBufferSize,
    AcceptUnmaskedFrames,
}

impl TungsteniteFraming {
    /// The framing with the defaults of each option.
    pub fn new() -> Self {
        Self::default()
    }

    fn map_buffers(mut self, with: impl FnOnce(Buffers) -> Buffers) -> Self {
        self.buffers = with(self.buffers);
        self
    }

    /// Takes over the options that are set in tungstenite's own configuration. Default: nothing.
    ///
    /// A field equal to tungstenite's default counts as not set; a limit of `None` is the largest there is. When the
    /// client is built, `max_write_buffer_size` is refused, as the session bounds its queue, and so is
    /// `accept_unmasked_frames`.
    #[must_use]
    pub fn preconfigured(mut self, config: WebSocketConfig) -> Self {
        let default = WebSocketConfig::default();
        if config.read_buffer_size != default.read_buffer_size {
            self.buffers = self.buffers.read_buffer_size(config.read_buffer_size);
        }
        if config.write_buffer_size != default.write_buffer_size {
            self.buffers = self.buffers.write_buffer_size(config.write_buffer_size);
        }
        if config.max_frame_size != default.max_frame_size {
            self.max_frame_size = Some(config.max_frame_size.unwrap_or(usize::MAX));
        }
        if config.max_message_size != default.max_message_size {
            self.max_message_size = Some(config.max_message_size.unwrap_or(usize::MAX));
        }
        if config.max_write_buffer_size != default.max_write_buffer_size {
            self.refused = Some(Refused::MaxWriteBufferSize);
        }
        if config.accept_unmasked_frames != default.accept_unmasked_frames {
            self.refused = Some(Refused::AcceptUnmaskedFrames);
        }
        self
    }
}

crate::buffer_options!(TungsteniteFraming, map_buffers);

impl Framing for TungsteniteFraming {
    fn settings(&self) -> EngineSettings {
        let mut settings = EngineSettings::default();
        settings.max_frame_size = self.max_frame_size;
        settings.max_message_size = self.max_message_size;
        settings.native = self.buffers.settings();
        settings
    }

    fn check(&self) -> Result<()> {
        let message = match self {
            Self { refused: Some(Refused::MaxWriteBufferSize), .. } => {
                "max_write_buffer_size of the preconfigured WebSocketConfig has no effect here: set the \
                 outgoing capacity of the WebSockets plugin instead"
            }
            Self { refused: Some(Refused::AcceptUnmaskedFrames), .. } => {
                "accept_unmasked_frames of the preconfigured WebSocketConfig is for servers: a server's \
                 frames are never masked"
            }
            Self { max_frame_size: Some(0), .. } => {
                "max_frame_size of the preconfigured WebSocketConfig must not be zero"
            }
            Self { max_message_size: Some(0), .. } => {
                "max_message_size of the preconfigured WebSocketConfig must not be zero"
            }
            _ => return self.buffers.check(),
        };
        Err(Error::new(ErrorKind::InvalidInput, message))
    }

    fn transport(
        &self,
        stream: BoxStream,
        read_ahead: Bytes,
        role: Role,
        _: &Accepted,
    ) -> Result<Box<dyn Transport>> {
        let framer = Framer::new(stream, &read_ahead, role, &self.buffers);
        Ok(Box::new(framer.with_heads(&FrameHeaders)))
    }
}

/// Adds the options of [`TungsteniteFraming`](crate::TungsteniteFraming) to an engine.
#[macro_export]
macro_rules! tungstenite_options {
    ($Engine:ident) => {
        $crate::buffer_options!($Engine, map_framing);

        impl $Engine {
            /// Takes over the options that are set in tungstenite's own configuration. Default: nothing.
            ///
            /// A field equal to tungstenite's default counts as not set; a limit of `None` is the largest there is.
            /// `max_write_buffer_size` and `accept_unmasked_frames` are refused when the client is built.
            #[must_use]
            pub fn preconfigured(self, config: $crate::WebSocketConfig) -> Self {
                self.map_framing(|framing| framing.preconfigured(config))
            }
        }
    };
}

/// tungstenite's codec for heads.
struct FrameHeaders;

impl HeadCodec for FrameHeaders {
    fn read(&self, bytes: &[u8]) -> Result<Option<Head>> {
        let mut cursor = Cursor::new(bytes);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|error| {
            let message = format!("the peer sent a bad frame: {error}");
            Error::new(ErrorKind::Protocol, message).with_source(error)
        })?;
        let Some((FrameHeader { is_final: fin, rsv1, rsv2, rsv3, opcode, mask }, length)) = parsed
        else {
            return Ok(None);
        };
        let opcode = match opcode {
            NativeOpCode::Data(Data::Continue) => OpCode::Continuation,
            NativeOpCode::Data(Data::Text) => OpCode::Text,
            NativeOpCode::Data(Data::Binary) => OpCode::Binary,
            NativeOpCode::Control(Control::Close) => OpCode::Close,
            NativeOpCode::Control(Control::Ping) => OpCode::Ping,
            NativeOpCode::Control(Control::Pong) => OpCode::Pong,
            NativeOpCode::Data(Data::Reserved(_)) | NativeOpCode::Control(Control::Reserved(_)) => {
                let message = "the peer sent a frame with a reserved opcode";
                return Err(Error::new(ErrorKind::Protocol, message));
            }
        };
        // A complete head has at most 14 bytes.
        let size = cursor.position() as usize;
        Ok(Some(Head { fin, rsv: Rsv::new(rsv1, rsv2, rsv3), opcode, mask, length, size }))
    }

    fn write(&self, head: &Head, mut to: &mut [u8]) -> Result<()> {
        let header = FrameHeader {
            is_final: head.fin,
            rsv1: head.rsv.contains(Rsv::RSV1),
            rsv2: head.rsv.contains(Rsv::RSV2),
            rsv3: head.rsv.contains(Rsv::RSV3),
            opcode: match head.opcode {
                OpCode::Continuation => NativeOpCode::Data(Data::Continue),
                OpCode::Text => NativeOpCode::Data(Data::Text),
                OpCode::Binary => NativeOpCode::Data(Data::Binary),
                OpCode::Close => NativeOpCode::Control(Control::Close),
                OpCode::Ping => NativeOpCode::Control(Control::Ping),
                OpCode::Pong => NativeOpCode::Control(Control::Pong),
            },
            mask: head.mask,
        };
        header.format(head.length, &mut to).map_err(|error| {
            // Cannot happen: `to` has the length of the head.
            Error::new(ErrorKind::Other, "a frame header was not encoded").with_source(error)
        })
    }
}

#[cfg(test)]
mod tests;
