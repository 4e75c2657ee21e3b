//! Extensions of the protocol (RFC 6455 section 9): offers and transforms.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::{
    connection::{NegotiatedExtension, Role},
    error::Result,
    frame::{OpCode, Rsv},
};

/// An extension to offer to servers or to grant to clients. It makes the [`Transform`] of each session.
///
/// The `WebSockets` plugin or one request takes the value. The handshake offers the extension. If the server
/// agrees, [`accept`](Self::accept) checks the answer and makes the [`Transform`] of that session. A server grants an
/// offer with [`answer`](Self::answer), and makes the transform with the same `accept`. Extensions
/// work on every engine with reserved bits, and see data frames only: control frames never pass through
/// a transform.
///
/// Outgoing messages pass transforms in the order of the server's answer (RFC 6455 section 9.1), and incoming
/// messages pass them in reverse order. Two extensions with the same name, or with the same
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

    /// The reserved bits of the extension. A message without any of them does not pass through
    /// [`Transform::incoming`]. Without reserved bits here, every message does. Default: none.
    fn rsv(&self) -> Rsv {
        Rsv::NONE
    }

    /// The offers, the preferred one first: the parameters of each as in the header, such as
    /// `client_max_window_bits; server_no_context_takeover`. Default: one offer without parameters.
    fn offers(&self) -> Vec<String> {
        vec![String::new()]
    }

    /// Whether the session needs the extension. If the server does not agree, the connection is closed with
    /// 1010 and opening it fails. Default: no.
    fn is_required(&self) -> bool {
        false
    }

    /// Refuses an impossible configuration. Called when the client is built, or before any I/O.
    /// Default: accepts everything.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput); the message names the option and a valid value.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// What a server agrees to, of the offers that a client made in its order of preference; `None` declines them all.
    /// An offer that cannot be granted is passed over, it is no error (RFC 6455 section 9.1). Only called where there is
    /// an offer. Default: the first offer without parameters.
    fn answer(&self, offered: &[NegotiatedExtension]) -> Option<NegotiatedExtension> {
        offered.iter().find(|offer| offer.parameters().next().is_none()).cloned()
    }

    /// Checks the negotiated parameters, and makes the transform of one session. `role` is this end's role: a client checks
    /// the server's answer to its offers, a server takes its own answer.
    ///
    /// # Errors
    /// [`Protocol`](crate::ErrorKind::Protocol) if the answer does not fit the offers: an unknown or repeated
    /// parameter, or an invalid value. The connection is closed and opening it fails with this error.
    fn accept(&self, agreed: &NegotiatedExtension, role: Role) -> Result<Box<dyn Transform>>;
}

/// Transforms the messages of one session part by part, so that neither end holds a message as
/// a whole.
///
/// Parts arrive in order, one message after the other. A transform may keep state between
/// messages. A panic ends the session.
///
/// # What it may call, and what waits for it
/// The session holds no lock while it calls or drops a transform. The transform may use its own session: ask it, send
/// on it, close it. It must not wait for its session (block on its `send`, `receive` or `flush`), because the session
/// waits for the transform.
///
/// A call runs on the task that sends or receives, or on the session's own task, and keeps that task's thread busy; a
/// slow transform is best moved off a runtime's threads. Meanwhile another task's `send` is accepted up to the outgoing
/// capacity, control frames and messages that pass through no transform come and go, and everything else of the session
/// works. Messages that need a transform wait: all transforms of a session run one at a time, and sending and receiving
/// take turns. A session that ends meanwhile drops the transform when the call returns.
pub trait Transform: Send + fmt::Debug {
    /// Consumes the front of `part.payload`, and returns at most `room` transformed bytes.
    ///
    /// The session calls again with the rest until the payload is empty and fewer than `room` bytes are returned. Only then the part
    /// (with `fin`: the message) is over. The output of a small part may be large, and is bounded all the
    /// same: the session stops at its message limit. `part.first` is set only in the first call for a
    /// message.
    ///
    /// # Errors
    /// The session ends with this error. The Close has its [`close_code`](crate::Error::close_code), or 1011. The session
    /// does not call the transform again.
    fn incoming(&mut self, part: &mut MessagePart, room: usize) -> Result<Bytes>;

    /// Replaces `part.payload` by the transformed bytes. It may retain a tail for a later part of the same
    /// message. On the first part it decides whether to transform the message, and then adds its reserved bits to
    /// `part.rsv`.
    ///
    /// # Errors
    /// The session ends with this error. The Close has its [`close_code`](crate::Error::close_code), or 1011. The session
    /// does not call the transform again.
    fn outgoing(&mut self, part: &mut MessagePart) -> Result<()>;

    /// Returns the retained tail of the outgoing message, so that the peer can read everything passed to
    /// [`outgoing`](Self::outgoing) before: the writer of a streamed message has flushed. The message continues.
    /// Called after a part that was not the last; an empty result sends nothing. Default: no tail.
    ///
    /// # Errors
    /// The session ends with this error. The Close has its [`close_code`](crate::Error::close_code), or 1011. The session
    /// does not call the transform again.
    fn flush(&mut self) -> Result<Bytes> {
        Ok(Bytes::new())
    }
}

/// A fragment or a whole message on its way through transforms.
#[derive(Clone, PartialEq, Eq)]
pub struct MessagePart {
    /// [`Text`](OpCode::Text) or [`Binary`](OpCode::Binary), for every part of a message.
    pub opcode: OpCode,
    /// The reserved bits of the message: those of its first incoming frame, or those set so far on an outgoing
    /// message.
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

    fn answer(&self, offered: &[NegotiatedExtension]) -> Option<NegotiatedExtension> {
        (**self).answer(offered)
    }

    fn accept(&self, agreed: &NegotiatedExtension, role: Role) -> Result<Box<dyn Transform>> {
        (**self).accept(agreed, role)
    }
}
