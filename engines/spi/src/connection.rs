//! An open WebSocket, as an engine hands it to the session.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::Transport;

/// Which end of the connection this is: it decides who masks (RFC 6455 section 5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// The end that opened the connection.
    Client,
    /// The end that accepted it.
    Server,
}

/// What carries the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// An upgraded HTTP/1.1 connection (RFC 6455).
    H1,
    /// A stream of an HTTP/2 connection (RFC 8441).
    H2,
    /// A browser's own WebSocket.
    Browser,
    /// No HTTP at all, such as an in-memory pipe.
    Direct,
}

/// What one [`poll_receive`](Transport::poll_receive) yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unit {
    /// Frames as they are on the wire, fragments among them.
    Frames,
    /// Whole messages and control frames.
    Messages,
}

/// What an engine does by itself. The session does exactly what is not in here, and the conformance
/// suite checks every claim on the wire.
///
/// The default is the most honest one for a framer: frames, and nothing done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Duties {
    /// Frames or messages. Default: frames.
    pub unit: Unit,
    /// A Ping is answered below; it may still be yielded, as a sign of life. Default: no.
    pub answers_ping: bool,
    /// The peer's Close is echoed below. Default: no.
    pub echoes_close: bool,
    /// Text is checked to be UTF-8 below. Default: no.
    pub validates_utf8: bool,
    /// The limit for messages is kept below; only for [`Unit::Messages`]. Default: no.
    pub enforces_message_limit: bool,
    /// Negotiated extensions are applied below. Default: no.
    pub applies_extensions: bool,
}

impl Duties {
    /// A framer's: frames as they come, everything else is the session's.
    pub const fn frames() -> Self {
        Self {
            unit: Unit::Frames,
            answers_ping: false,
            echoes_close: false,
            validates_utf8: false,
            enforces_message_limit: false,
            applies_extensions: false,
        }
    }

    /// A message API's that checks text and size, but leaves control frames to the session.
    pub const fn messages() -> Self {
        Self {
            unit: Unit::Messages,
            validates_utf8: true,
            enforces_message_limit: true,
            ..Self::frames()
        }
    }

    /// The same, with pings answered below.
    #[must_use]
    pub const fn answering_ping(mut self) -> Self {
        self.answers_ping = true;
        self
    }

    /// The same, with the peer's Close echoed below.
    #[must_use]
    pub const fn echoing_close(mut self) -> Self {
        self.echoes_close = true;
        self
    }

    /// The same, with extensions applied below.
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

/// An open WebSocket: its [`Transport`], what was negotiated, and what the engine does by itself.
///
/// Made with [`Connection::new`] and the setters; a client's on HTTP/1.1 unless they say otherwise.
pub struct Connection {
    transport: Box<dyn Transport>,
    role: Role,
    protocol: Protocol,
    subprotocol: Option<String>,
    extensions: Vec<NegotiatedExtension>,
    response: Option<http::Response<()>>,
    duties: Duties,
}

impl Connection {
    /// A client's connection over HTTP/1.1 with nothing negotiated and the default [`Duties`].
    pub fn new(transport: impl Transport + 'static) -> Self {
        Self {
            transport: Box::new(transport),
            role: Role::Client,
            protocol: Protocol::H1,
            subprotocol: None,
            extensions: Vec::new(),
            response: None,
            duties: Duties::default(),
        }
    }

    /// Which end this is. Default: [`Role::Client`].
    #[must_use]
    pub fn with_role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// What carries the frames. Default: [`Protocol::H1`].
    #[must_use]
    pub fn with_protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// The subprotocol that was agreed on. Default: none.
    #[must_use]
    pub fn with_subprotocol(mut self, subprotocol: Option<String>) -> Self {
        self.subprotocol = subprotocol;
        self
    }

    /// The extensions that were agreed on. Default: none.
    #[must_use]
    pub fn with_extensions(mut self, extensions: Vec<NegotiatedExtension>) -> Self {
        self.extensions = extensions;
        self
    }

    /// The response that accepted the handshake, where the engine can show it. Default: none.
    ///
    /// Its headers are copied: as an HTTP library has read them they are slices of its read buffer, which would
    /// live as long as the connection.
    #[must_use]
    pub fn with_response(mut self, mut response: http::Response<()>) -> Self {
        *response.headers_mut() = copied(response.headers());
        self.response = Some(response);
        self
    }

    /// What the engine does by itself. Default: [`Duties::frames`].
    #[must_use]
    pub fn with_duties(mut self, duties: Duties) -> Self {
        self.duties = duties;
        self
    }

    /// Which end this is.
    pub fn role(&self) -> Role {
        self.role
    }

    /// What carries the frames.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The subprotocol that was agreed on.
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// The extensions that were agreed on.
    pub fn extensions(&self) -> &[NegotiatedExtension] {
        &self.extensions
    }

    /// The response that accepted the handshake.
    pub fn response(&self) -> Option<&http::Response<()>> {
        self.response.as_ref()
    }

    /// What the engine does by itself.
    pub fn duties(&self) -> Duties {
        self.duties
    }

    /// The frames.
    pub fn into_transport(self) -> Box<dyn Transport> {
        self.transport
    }

    /// Puts the connection into the extensions of a response, so that both pass through middleware.
    /// Extensions must be `Clone`: the first [`take`](Self::take) from any clone gets it.
    pub fn attach<B>(self, response: &mut http::Response<B>) {
        response.extensions_mut().insert(Attached(Arc::new(Mutex::new(Some(self)))));
    }

    /// Takes the connection that [`attach`](Self::attach) put there; `None` if there is none left.
    pub fn take<B>(response: &mut http::Response<B>) -> Option<Self> {
        let attached = response.extensions_mut().remove::<Attached>()?;
        attached.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The same headers in memory of their own.
fn copied(headers: &HeaderMap) -> HeaderMap {
    let copy = |(name, value): (&HeaderName, &HeaderValue)| {
        // What is a name or a value is one when it is copied.
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
            .field("subprotocol", &self.subprotocol)
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
