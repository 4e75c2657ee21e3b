//! Extensions of the protocol (RFC 6455 section 9): what is offered, and what transforms messages.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::{NegotiatedExtension, OpCode, Result, Role, Rsv};

/// An extension to offer to servers, and the maker of what it does to messages.
///
/// A value is set on the `WebSockets` plugin or on one request. Opening a connection offers it; if the server
/// agrees, [`accept`](Self::accept) checks to what, and makes the [`Transform`] of that one session. Extensions
/// work on every engine that shows reserved bits, and see data frames only: control frames never pass through
/// a transform.
///
/// Transforms are applied in the order in which the server's answer lists them (RFC 6455 section 9.1) to what
/// goes out, and in reverse order to what comes in. Two extensions of the same name, or of which both use a
/// reserved bit, are refused when the client is built.
///
/// # Example
/// ```
/// use drivetrain_engine::{
///     Bytes, Extension, MessagePart, NegotiatedExtension, Result, Role, Rsv, Transform,
/// };
///
/// /// Turns every byte round.
/// #[derive(Debug)]
/// struct Inverted;
///
/// impl Extension for Inverted {
///     fn name(&self) -> &str {
///         "x-inverted"
///     }
///
///     fn rsv(&self) -> Rsv {
///         Rsv::RSV3
///     }
///
///     fn accept(&self, _agreed: &NegotiatedExtension, _role: Role) -> Result<Box<dyn Transform>> {
///         Ok(Box::new(Inverted))
///     }
/// }
///
/// impl Transform for Inverted {
///     fn incoming(&mut self, part: &mut MessagePart, room: usize) -> Result<Bytes> {
///         let taken = part.payload.split_to(part.payload.len().min(room));
///         Ok(taken.iter().map(|byte| !byte).collect())
///     }
///
///     fn outgoing(&mut self, part: &mut MessagePart) -> Result<()> {
///         part.payload = part.payload.iter().map(|byte| !byte).collect();
///         part.rsv = part.rsv | Rsv::RSV3; // the session sends the bits of a message's first part
///         Ok(())
///     }
/// }
/// ```
pub trait Extension: Send + Sync + fmt::Debug + 'static {
    /// Its registered name, such as `permessage-deflate`.
    fn name(&self) -> &str;

    /// The reserved bits that it uses. A message without any of them does not pass through
    /// [`Transform::incoming`]; with none here, every message does. Default: none.
    fn rsv(&self) -> Rsv {
        Rsv::NONE
    }

    /// What is offered, the preferred offer first: the parameters of each as they stand in the header, such as
    /// `client_max_window_bits; server_no_context_takeover`. Default: one offer without parameters.
    fn offers(&self) -> Vec<String> {
        vec![String::new()]
    }

    /// Whether a session without it is of no use. If the server does not agree, the connection is closed with
    /// 1010 and opening it fails. Default: no.
    fn is_required(&self) -> bool {
        false
    }

    /// Refuses a configuration that can never work. Called when the client is built, or before anything is sent.
    /// Default: everything is accepted.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput), saying which option and what would be right.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Checks what was agreed on, and makes the transform of one session. `role` is this end's: a client checks
    /// what the server answered to its offers, a server takes what it has answered itself.
    ///
    /// # Errors
    /// [`Protocol`](crate::ErrorKind::Protocol) if the answer is none to the offers: an unknown parameter, one
    /// given twice, a value that cannot be. The connection is closed and opening it fails with this error.
    fn accept(&self, agreed: &NegotiatedExtension, role: Role) -> Result<Box<dyn Transform>>;
}

/// What an extension does to the messages of one session, part by part, so that neither end holds a message as
/// a whole for it.
///
/// The parts of one message come in order, and those of the next after its last: state may be kept between
/// messages. Calls are made under the session's lock: they must not wait.
pub trait Transform: Send + fmt::Debug {
    /// Takes from `part.payload`, from its front, what makes at most `room` bytes, and returns these.
    ///
    /// Asked again with the rest until the payload is empty and fewer than `room` bytes came; only then the part
    /// (with `fin`: the message) is over. So what comes of a small part may be large, and is bounded all the
    /// same: the session stops asking at its limit for messages. `part.first` is set in the first call for a
    /// message only; what is taken has no meaning to the session otherwise.
    ///
    /// # Errors
    /// What the session ends with; the Close has its [`close_code`](crate::Error::close_code), or 1011. Nothing is
    /// asked of the transform after it.
    fn incoming(&mut self, part: &mut MessagePart, room: usize) -> Result<Bytes>;

    /// Replaces `part.payload` by what goes out instead; it may keep something back for a later part of the same
    /// message. On the first part it decides whether to transform the message, and adds its reserved bits to
    /// `part.rsv` if so.
    ///
    /// # Errors
    /// What the session ends with; the Close has its [`close_code`](crate::Error::close_code), or 1011. Nothing is
    /// asked of the transform after it.
    fn outgoing(&mut self, part: &mut MessagePart) -> Result<()>;
}

/// A part of a message on its way through transforms: a fragment, or a whole message.
#[derive(Clone, PartialEq, Eq)]
pub struct MessagePart {
    /// [`Text`](OpCode::Text) or [`Binary`](OpCode::Binary), for every part of a message.
    pub opcode: OpCode,
    /// The reserved bits of the message: those that its first frame came with, or those set so far on what goes
    /// out.
    pub rsv: Rsv,
    /// Whether the message begins here.
    pub first: bool,
    /// Whether the message ends here.
    pub fin: bool,
    /// The bytes.
    pub payload: Bytes,
}

impl MessagePart {
    /// A whole message without reserved bits.
    pub fn new(opcode: OpCode, payload: impl Into<Bytes>) -> Self {
        Self { opcode, rsv: Rsv::NONE, first: true, fin: true, payload: payload.into() }
    }
}

impl fmt::Debug for MessagePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { opcode, rsv, first, fin, payload } = self;
        let bytes = payload.len();
        write!(f, "MessagePart({opcode:?}, first: {first}, fin: {fin}, {rsv:?}, {bytes} bytes)")
    }
}

impl<E: Extension + ?Sized> Extension for Arc<E> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn rsv(&self) -> Rsv {
        (**self).rsv()
    }

    fn offers(&self) -> Vec<String> {
        (**self).offers()
    }

    fn is_required(&self) -> bool {
        (**self).is_required()
    }

    fn check(&self) -> Result<()> {
        (**self).check()
    }

    fn accept(&self, agreed: &NegotiatedExtension, role: Role) -> Result<Box<dyn Transform>> {
        (**self).accept(agreed, role)
    }
}
