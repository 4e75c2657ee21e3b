//! Compression of messages, permessage-deflate (RFC 7692).

mod agreed;
mod deflater;
mod inflater;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use drivetrain_engine::{
    Error, ErrorKind, Extension, MessagePart, NegotiatedExtension, Result, Role, Rsv, Transform,
};

use self::{agreed::Agreed, deflater::Deflater, inflater::Inflater};

/// The registered name (RFC 7692 section 9.1).
const NAME: &str = "permessage-deflate";

/// Default minimum size of compressed messages.
const MIN_SIZE: usize = 1024;

/// Compresses messages, if the server agrees: permessage-deflate (RFC 7692).
///
/// Incoming messages are inflated in chunks. The message limit applies to the inflated size, the frame limit
/// to the wire; a frame has at most 64 KiB more than twice the largest message. A message
/// that inflates beyond the limit ends the session with [`TooBig`](ErrorKind::TooBig) and Close 1009, and never
/// takes more memory than the limit. Invalid or truncated data ends the session with
/// [`Protocol`](ErrorKind::Protocol) and Close 1007.
///
/// **Memory.** A session takes about 400 KiB more after its first sent compressed message, and 40 KiB more after its first
/// received one. [`client_no_context_takeover`](Self::client_no_context_takeover) and
/// [`server_no_context_takeover`](Self::server_no_context_takeover) release it after each message; messages
/// then compress less well; [`client_max_window_bits`](Self::client_max_window_bits) makes the first smaller.
///
/// **On a server** the options are what it grants: the first offer that it can grant is answered, with the server's own
/// wishes where the offer allows them, and an offer that it cannot grant is passed over. `server_` and `client_` mean the
/// same ends there. `client_max_window_bits` is only answered to clients that offer it.
///
/// **Secrets.** An attacker who sees the length of an encrypted message, and controls text beside a secret in it,
/// may learn the secret from the compression ratio (the CRIME attack). Exclude such messages with
/// [`only_if`](Self::only_if).
///
/// # Example
/// ```
/// use drivetrain::{OpCode, WebSockets, extension::PermessageDeflate};
///
/// let deflate = PermessageDeflate::new()
///     .server_no_context_takeover() // the inflater's memory is given back after each message
///     .min_size(256)
///     .only_if(|message| message.opcode == OpCode::Text);
/// let plugin = WebSockets::new().extension(deflate).max_message_size(1 << 20);
/// ```
#[derive(Clone)]
pub struct PermessageDeflate {
    asked: Agreed,
    level: u8,
    min_size: usize,
    required: bool,
    only_if: Option<Predicate>,
}

/// The predicate for compressed messages.
type Predicate = Arc<dyn Fn(&MessagePart) -> bool + Send + Sync>;

impl PermessageDeflate {
    /// The defaults: context is taken over in both directions, windows are as large as the server allows (32 KiB at
    /// most), messages of 1 KiB and more are compressed, at level 6.
    pub fn new() -> Self {
        Self {
            asked: Agreed::default(),
            level: 6,
            min_size: MIN_SIZE,
            required: false,
            only_if: None,
        }
    }

    /// Asks the server to compress each message separately (section 7.1.1.1). Default: messages may refer to earlier ones.
    #[must_use]
    pub fn server_no_context_takeover(mut self) -> Self {
        self.asked.server_no_context_takeover = true;
        self
    }

    /// Compresses each message separately, and tells the server so (section 7.1.1.2). A server's request for this is
    /// always honoured. Default: messages refer to earlier ones.
    #[must_use]
    pub fn client_no_context_takeover(mut self) -> Self {
        self.asked.client_no_context_takeover = true;
        self
    }

    /// Asks the server for a window of at most 2 to the power of `bits` bytes, 9 to 15 (section 7.1.2.1). A server
    /// without smaller windows does not agree to compress at all. This saves no memory here. Default: 15.
    #[must_use]
    pub fn server_max_window_bits(mut self, bits: u8) -> Self {
        self.asked.server_max_window_bits = Some(bits);
        self
    }

    /// Compresses with a window of at most 2 to the power of `bits` bytes, 9 to 15 (section 7.1.2.2); less if the
    /// server asks for less. A server may ask for 8, which the compressor does not have (zlib's neither): then
    /// no outgoing message is compressed. Default: 15.
    #[must_use]
    pub fn client_max_window_bits(mut self, bits: u8) -> Self {
        self.asked.client_max_window_bits = Some(bits);
        self
    }

    /// How hard to compress: from 0, not at all, over 1, fastest, to 9, smallest. Default: 6.
    #[must_use]
    pub fn level(mut self, level: u8) -> Self {
        self.level = level;
        self
    }

    /// Sends messages below this many bytes uncompressed. A streamed message counts as long.
    /// Default: 1024.
    #[must_use]
    pub fn min_size(mut self, bytes: usize) -> Self {
        self.min_size = bytes;
        self
    }

    /// Compresses only long enough messages that satisfy `predicate`: Ktor's `compressIf`. It
    /// sees the message, or its first part if sent in parts (64 KiB and more). It is called in the
    /// middle of the session's work: it must not wait, and calls to the session inside it fail. A panic ends
    /// the session. Default: all.
    #[must_use]
    pub fn only_if(
        mut self,
        predicate: impl Fn(&MessagePart) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.only_if = Some(Arc::new(predicate));
        self
    }

    /// Refuses servers that do not compress: opening fails with [`Rejected`](ErrorKind::Rejected), and the server gets
    /// Close 1010. Default: without agreement, messages are sent uncompressed.
    #[must_use]
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }
}

impl Default for PermessageDeflate {
    fn default() -> Self {
        Self::new()
    }
}

impl Extension for PermessageDeflate {
    fn name(&self) -> &str {
        NAME
    }

    fn rsv(&self) -> Rsv {
        Rsv::RSV1
    }

    fn offers(&self) -> Vec<String> {
        let Agreed {
            server_no_context_takeover,
            client_no_context_takeover,
            server_max_window_bits,
            client_max_window_bits,
        } = self.asked;
        // Without a value, the client declares that it understands the parameter.
        let mut offer = String::from("client_max_window_bits");
        if let Some(bits) = client_max_window_bits {
            offer.push_str(&format!("={bits}"));
        }
        if let Some(bits) = server_max_window_bits {
            offer.push_str(&format!("; server_max_window_bits={bits}"));
        }
        if client_no_context_takeover {
            offer.push_str("; client_no_context_takeover");
        }
        if server_no_context_takeover {
            offer.push_str("; server_no_context_takeover");
        }
        vec![offer]
    }

    fn is_required(&self) -> bool {
        self.required
    }

    fn check(&self) -> Result<()> {
        let Agreed { server_max_window_bits, client_max_window_bits, .. } = self.asked;
        for (name, bits) in [
            ("server_max_window_bits", server_max_window_bits),
            ("client_max_window_bits", client_max_window_bits),
        ] {
            if bits.is_some_and(|bits| !(9..=15).contains(&bits)) {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!("{name} of permessage-deflate must be 9 to 15: leave it out for 15"),
                ));
            }
        }
        if self.level > 9 {
            let message = "the level of permessage-deflate must be 0 to 9: 6 is the default";
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        Ok(())
    }

    fn answer(&self, offered: &[NegotiatedExtension]) -> Option<NegotiatedExtension> {
        let answer = offered.iter().find_map(|offer| Agreed::answer(&self.asked, offer))?;
        Some(NegotiatedExtension::new(NAME, answer.parameters()))
    }

    fn accept(&self, agreed: &NegotiatedExtension, role: Role) -> Result<Box<dyn Transform>> {
        let agreed = Agreed::read(agreed)?;
        let (in_takeover, out_takeover, out_bits) = match role {
            Role::Server => (
                !agreed.client_no_context_takeover,
                !agreed.server_no_context_takeover,
                agreed.server_max_window_bits,
            ),
            _ => {
                agreed.check_against(&self.asked)?;
                let own = self.asked.client_no_context_takeover;
                (
                    !agreed.server_no_context_takeover,
                    !(agreed.client_no_context_takeover || own),
                    agreed.client_max_window_bits.or(self.asked.client_max_window_bits),
                )
            }
        };
        let bits = out_bits.unwrap_or(15);
        Ok(Box::new(Deflation {
            inflater: Inflater::new(in_takeover),
            deflater: (bits > 8).then(|| Deflater::new(self.level, bits, out_takeover)),
            compresses: false,
            min_size: self.min_size,
            only_if: self.only_if.clone(),
        }))
    }
}

impl fmt::Debug for PermessageDeflate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PermessageDeflate")
            .field("offers", &self.offers())
            .field("level", &self.level)
            .field("min_size", &self.min_size)
            .field("required", &self.required)
            .field("only_if", &self.only_if.is_some())
            .finish()
    }
}

/// Both directions of one session.
struct Deflation {
    inflater: Inflater,
    /// `None` for a negotiated window that the compressor does not have.
    deflater: Option<Deflater>,
    /// The outgoing message is compressed.
    compresses: bool,
    min_size: usize,
    only_if: Option<Predicate>,
}

impl Deflation {
    fn is_worth_it(&self, part: &MessagePart) -> bool {
        (!part.fin || part.payload.len() >= self.min_size)
            && self.only_if.as_ref().is_none_or(|holds| holds(part))
    }
}

impl Transform for Deflation {
    fn incoming(&mut self, part: &mut MessagePart, room: usize) -> Result<Bytes> {
        self.inflater.inflate(part, room)
    }

    fn outgoing(&mut self, part: &mut MessagePart) -> Result<()> {
        if part.first {
            self.compresses = self.deflater.is_some() && self.is_worth_it(part);
        }
        if let Some(deflater) = self.deflater.as_mut().filter(|_| self.compresses) {
            if part.first {
                part.rsv = part.rsv | Rsv::RSV1;
            }
            part.payload = deflater.deflate(&part.payload, part.fin)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<Bytes> {
        match self.deflater.as_mut().filter(|_| self.compresses) {
            Some(deflater) => deflater.flush(),
            None => Ok(Bytes::new()),
        }
    }
}

impl fmt::Debug for Deflation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deflation")
            .field("inflater", &self.inflater)
            .field("deflater", &self.deflater)
            .field("min_size", &self.min_size)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
