//! An open WebSocket, as an engine returns it to the session.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::transport::Transport;

/// The end of the connection. It decides about masking (RFC 6455 section 5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// The end that opened the connection.
    Client,
    /// The end that accepted it.
    Server,
}

/// The protocol below the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// An upgraded HTTP/1.1 connection (RFC 6455).
    H1,
    /// A stream of an HTTP/2 connection (RFC 8441).
    H2,
    /// A browser's own WebSocket.
    Browser,
    /// No HTTP, for example an in-memory pipe.
    Direct,
}

/// The unit that [`poll_receive`](Transport::poll_receive) yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unit {
    /// Frames as on the wire, including fragments.
    Frames,
    /// Whole messages and control frames.
    Messages,
}

/// The duties that an engine fulfils itself. The session does the others, and the conformance
/// suite checks every claim on the wire.
///
/// The default is for a framing: frames, and no duties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Duties {
    /// Frames or messages. Default: frames.
    pub unit: Unit,
    /// The engine answers Pings. It may still yield them, as a sign of life; the session then flushes. An engine that
    /// answers has no [`RawSessions`](crate::Capability::RawSessions). Default: no.
    pub answers_ping: bool,
    /// The engine echoes the peer's Close. The session flushes when it has received the Close. Default: no.
    pub echoes_close: bool,
    /// After a violation of a rule or a limit, the engine sends a Close with a
    /// code of the library's choice, and the session sends none. Default: no.
    pub sends_close: bool,
    /// The engine validates UTF-8. Default: no.
    pub validates_utf8: bool,
    /// The engine enforces the message limit; only for [`Unit::Messages`]. Default: no.
    pub enforces_message_limit: bool,
    /// The engine applies negotiated extensions. Default: no.
    pub applies_extensions: bool,
}

impl Duties {
    /// For a framing: frames as on the wire; the session does everything else.
    pub const fn frames() -> Self {
        Self {
            unit: Unit::Frames,
            answers_ping: false,
            echoes_close: false,
            sends_close: false,
            validates_utf8: false,
            enforces_message_limit: false,
            applies_extensions: false,
        }
    }

    /// For a message API that checks text and size, and leaves control frames to the session.
    pub const fn messages() -> Self {
        Self {
            unit: Unit::Messages,
            validates_utf8: true,
            enforces_message_limit: true,
            ..Self::frames()
        }
    }

    /// Adds the duty to answer Pings.
    #[must_use]
    pub const fn answering_ping(mut self) -> Self {
        self.answers_ping = true;
        self
    }

    /// Adds the duty to echo the peer's Close.
    #[must_use]
    pub const fn echoing_close(mut self) -> Self {
        self.echoes_close = true;
        self
    }

    /// Adds the duty to send a Close after a violation.
    #[must_use]
    pub const fn sending_close(mut self) -> Self {
        self.sends_close = true;
        self
    }

    /// Adds the duty to validate UTF-8.
    #[must_use]
    pub const fn validating_utf8(mut self) -> Self {
        self.validates_utf8 = true;
        self
    }

    /// Adds the duty to apply extensions.
    #[must_use]
    pub const fn applying_extensions(mut self) -> Self {
        self.applies_extensions = true;
        self
    }
}

impl Default for Duties {
    fn default() -> Self {
        Self::frames()
    }
}

/// One extension as the server accepted it (RFC 6455 section 9.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NegotiatedExtension {
    name: String,
    parameters: Vec<(String, Option<String>)>,
}

impl NegotiatedExtension {
    /// An extension of this name and these parameters.
    pub fn new(
        name: impl Into<String>,
        parameters: impl IntoIterator<Item = (String, Option<String>)>,
    ) -> Self {
        Self { name: name.into(), parameters: parameters.into_iter().collect() }
    }

    /// Its registered name, such as `permessage-deflate`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its parameters in order, with the value where there is one.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.parameters.iter().map(|(name, value)| (name.as_str(), value.as_deref()))
    }
}

impl fmt::Display for NegotiatedExtension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (name, value) in self.parameters() {
            match value {
                Some(value) => write!(f, "; {name}={value}")?,
                None => write!(f, "; {name}")?,
            }
        }
        Ok(())
    }
}

/// An open WebSocket: its [`Transport`], the negotiated parameters, and the engine's duties.
///
/// Made with [`Connection::new`] and the setters. Default: a client's connection over HTTP/1.1.
pub struct Connection {
    transport: Box<dyn Transport>,
    role: Role,
    protocol: Protocol,
    subprotocol: Option<String>,
    extensions: Vec<NegotiatedExtension>,
    response: Option<http::Response<()>>,
    request: Option<Box<http::Request<()>>>,
    duties: Duties,
}

impl Connection {
    /// A client's connection over HTTP/1.1 with nothing negotiated and the default [`Duties`].
    pub fn new(transport: impl Transport + 'static) -> Self {
        Self::boxed(Box::new(transport))
    }

    /// Like [`new`](Self::new), for a boxed transport from a [`Framing`](crate::Framing).
    pub fn boxed(transport: Box<dyn Transport>) -> Self {
        Self {
            transport,
            role: Role::Client,
            protocol: Protocol::H1,
            subprotocol: None,
            extensions: Vec::new(),
            response: None,
            request: None,
            duties: Duties::default(),
        }
    }

    /// Sets the role. Default: [`Role::Client`].
    #[must_use]
    pub fn with_role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// Sets the protocol below the frames. Default: [`Protocol::H1`].
    #[must_use]
    pub fn with_protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Sets the negotiated subprotocol. Default: none.
    #[must_use]
    pub fn with_subprotocol(mut self, subprotocol: Option<String>) -> Self {
        self.subprotocol = subprotocol;
        self
    }

    /// Sets the negotiated extensions. Default: none.
    #[must_use]
    pub fn with_extensions(mut self, extensions: Vec<NegotiatedExtension>) -> Self {
        self.extensions = extensions;
        self
    }

    /// Sets the response that accepted the handshake, if the engine has it. Default: none.
    ///
    /// The headers are copied: an HTTP library's headers are slices of its read buffer, which would
    /// live as long as the connection.
    #[must_use]
    pub fn with_response(mut self, mut response: http::Response<()>) -> Self {
        *response.headers_mut() = copied(response.headers());
        self.response = Some(response);
        self
    }

    /// The request that asked for the handshake, on the end that accepted it: a server's counterpart of
    /// [`with_response`](Self::with_response), whose headers are copied alike. Default: none.
    #[must_use]
    pub fn with_request(mut self, mut request: http::Request<()>) -> Self {
        *request.headers_mut() = copied(request.headers());
        self.request = Some(Box::new(request));
        self
    }

    /// Sets the engine's duties. Default: [`Duties::frames`].
    #[must_use]
    pub fn with_duties(mut self, duties: Duties) -> Self {
        self.duties = duties;
        self
    }

    /// The role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The protocol below the frames.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The negotiated subprotocol.
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// The negotiated extensions.
    pub fn extensions(&self) -> &[NegotiatedExtension] {
        &self.extensions
    }

    /// The response that accepted the handshake.
    pub fn response(&self) -> Option<&http::Response<()>> {
        self.response.as_ref()
    }

    /// The request that asked for the handshake.
    pub fn request(&self) -> Option<&http::Request<()>> {
        self.request.as_deref()
    }

    /// The engine's duties.
    pub fn duties(&self) -> Duties {
        self.duties
    }

    /// The frames.
    pub fn into_transport(self) -> Box<dyn Transport> {
        self.transport
    }

    /// Puts the connection into the extensions of a response, so that both pass through middleware.
    /// Extensions must be `Clone`: the first [`take`](Self::take) from any clone returns the connection.
    pub fn attach<B>(self, response: &mut http::Response<B>) {
        response.extensions_mut().insert(Attached(Arc::new(Mutex::new(Some(self)))));
    }

    /// Takes the connection that [`attach`](Self::attach) stored; `None` after the first call.
    pub fn take<B>(response: &mut http::Response<B>) -> Option<Self> {
        let attached = response.extensions_mut().remove::<Attached>()?;
        attached.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A copy of the headers in new memory.
fn copied(headers: &HeaderMap) -> HeaderMap {
    let copy = |(name, value): (&HeaderName, &HeaderValue)| {
        // A copy of a valid name or value is valid.
        let name = HeaderName::from_bytes(name.as_ref()).unwrap_or_else(|_| name.clone());
        let mut copy = HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| value.clone());
        copy.set_sensitive(value.is_sensitive());
        (name, copy)
    };
    headers.iter().map(copy).collect()
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("role", &self.role)
            .field("protocol", &self.protocol)
            .field("subprotocol", &self.subprotocol.as_ref().map(|_| format_args!("redacted")))
            .field("extensions", &self.extensions)
            .field("duties", &self.duties)
            .finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct Attached(Arc<Mutex<Option<Connection>>>);

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn headers_of_the_response_do_not_keep_what_they_were_read_into() {
        let read = Bytes::from(vec![b'a'; 8192]);
        let slice = |length| HeaderValue::from_maybe_shared(read.slice(..length)).expect("a value");
        let mut headers = HeaderMap::new();
        for length in [3, 40] {
            headers.append("set-cookie", slice(length));
        }
        let mut secret = HeaderValue::from_bytes(b"\xe9\t\xff").expect("a value");
        secret.set_sensitive(true);
        headers.append("x-custom", secret);
        let copy = copied(&headers);
        assert_eq!(copy, headers);
        assert!(copy["x-custom"].is_sensitive());
        drop(headers);
        assert!(read.is_unique(), "nothing is left of it");
    }
}
