//! What went wrong with an exchange, in one text for all engines.

use std::{error::Error as StdError, io};

use drivetrain_engine::{BoxError, Error, ErrorKind, HeadLimits};

/// What was under way on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum During {
    /// A request was not answered yet.
    Request,
    /// A handshake was not answered yet.
    Handshake,
    /// The body of an answer was read.
    Body,
}

/// The error for an exchange that failed with this one; `tls` is what TLS says, if TLS failed. An error of
/// the caller's own body is returned as it is.
pub fn failed(
    during: During,
    limits: HeadLimits,
    tls: Option<String>,
    error: impl Into<BoxError>,
) -> Error {
    let error = error.into();
    if let Some(own) = chain(&*error).find_map(|cause| cause.downcast_ref::<Error>()) {
        return own.clone();
    }
    if let Some(tls) = tls {
        return Error::new(ErrorKind::Tls, format!("TLS failed: {tls}")).with_source(error);
    }
    let hyper = chain(&*error).find_map(|cause| cause.downcast_ref::<hyper::Error>());
    let error_of = |kind, message: &'static str| Error::new(kind, message);
    match (hyper, during) {
        (Some(hyper), _) if hyper.is_parse_too_large() => too_large(limits, "of the response"),
        (Some(hyper), _) if hyper.is_timeout() => {
            error_of(ErrorKind::Timeout, "the server took too long")
        }
        (Some(hyper), _) if hyper.is_parse() => {
            error_of(ErrorKind::Protocol, "the server's answer is not valid HTTP")
        }
        (Some(hyper), During::Request | During::Handshake)
            if hyper.is_user() && !is_abandoned(hyper) =>
        {
            error_of(ErrorKind::InvalidInput, "the request cannot be sent")
        }
        (_, During::Body) => error_of(ErrorKind::Io, "the response's body ended early"),
        (_, During::Request) => {
            error_of(ErrorKind::Io, "the connection failed before the server answered")
        }
        (_, During::Handshake) => {
            error_of(ErrorKind::Io, "the connection failed during the handshake")
        }
    }
    .with_source(error)
}

/// Whether the task of a connection ended with the request still in its hands, which hyper calls the caller's doing.
pub fn is_abandoned(error: &hyper::Error) -> bool {
    error.is_user() && error.to_string() == "dispatch task is gone"
}

/// hyper does not say which of the two limits it was.
pub(super) fn too_large(limits: HeadLimits, of: &str) -> Error {
    let HeadLimits { max_headers, max_header_size, .. } = limits;
    let message = format!(
        "the headers {of} are more than max_headers, which is {max_headers}, or larger than \
         max_header_size, which is {max_header_size} bytes"
    );
    Error::new(ErrorKind::TooBig, message)
}

/// An error and its causes. An `io::Error` leaves out the one that it wraps, which is where TLS is.
pub fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| {
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => error.source(),
        }
    })
}
