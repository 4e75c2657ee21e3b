//! Errors of the system, rustls and hyper as drivetrain's.

use std::{borrow::Cow, error::Error as StdError, io};

use drivetrain_engine::{Error, ErrorKind};

use crate::dial::Place;

/// What was under way while dialling.
#[derive(Clone, Copy)]
pub(crate) enum Stage {
    Resolve,
    Connect,
    #[cfg(feature = "rustls")]
    Tls,
}

/// What was under way on a connection.
#[derive(Clone, Copy)]
pub(crate) enum During {
    Request,
    Handshake,
    Body,
}

/// A stream that could not be opened.
pub(crate) fn dialling(place: &Place, stage: Stage, error: io::Error) -> Error {
    // Before TLS it is the proxy that was dialled, if there is one.
    let dialled = match place.way.proxy() {
        Some(proxy) => format!("the proxy {}", proxy.authority()),
        None => place.authority(),
    };
    let authority = place.authority();
    let (kind, message) = match (tls(&error), stage) {
        (Some(tls), _) => (ErrorKind::Tls, format!("TLS with {authority} failed: {tls}")),
        (None, _) if error.kind() == io::ErrorKind::TimedOut => {
            (ErrorKind::Timeout, format!("connecting to {dialled} took too long"))
        }
        (None, Stage::Resolve) => {
            (ErrorKind::Connect, format!("the name of {dialled} cannot be resolved"))
        }
        (None, Stage::Connect) => (ErrorKind::Connect, format!("cannot connect to {dialled}")),
        #[cfg(feature = "rustls")]
        (None, Stage::Tls) => {
            (ErrorKind::Tls, format!("{authority} ended the connection instead of speaking TLS"))
        }
    };
    Error::new(kind, message).with_source(error)
}

/// An exchange that failed on an open connection.
pub(crate) fn exchange(engine: &'static str, during: During, error: hyper::Error) -> Error {
    if let Some(own) = chain(&error).find_map(|cause| cause.downcast_ref::<Error>()) {
        // The caller's own body gave it.
        return own.clone().with_engine(engine);
    }
    let (kind, message): (_, Cow<'static, str>) = if let Some(tls) = tls(&error) {
        (ErrorKind::Tls, format!("TLS failed: {tls}").into())
    } else if error.is_parse() {
        (ErrorKind::Protocol, "the server's answer is not HTTP".into())
    } else if error.is_user() {
        (ErrorKind::InvalidInput, "the request cannot be sent".into())
    } else {
        let message = match during {
            During::Request => "the connection failed before the server answered",
            During::Handshake => "the connection failed during the handshake",
            During::Body => "the response's body ended early",
        };
        (ErrorKind::Io, message.into())
    };
    Error::new(kind, message).with_engine(engine).with_source(error)
}

/// What TLS says, if it was TLS that failed.
#[cfg_attr(not(feature = "rustls"), expect(unused_variables, reason = "there is no TLS to fail"))]
fn tls(error: &(dyn StdError + 'static)) -> Option<String> {
    #[cfg(feature = "rustls")]
    return chain(error)
        .find_map(|cause| cause.downcast_ref::<rustls::Error>())
        .map(ToString::to_string);
    #[cfg(not(feature = "rustls"))]
    None
}

/// An error and its causes. An `io::Error` leaves out the one that it wraps, which is where rustls is.
fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| {
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => error.source(),
        }
    })
}
