//! Errors of the system, rustls and hyper as drivetrain's.

use std::{error::Error as StdError, io};

use drivetrain_engine::{Error, ErrorKind, HeadLimits};

use crate::http1::{During, chain, failed};

/// What was under way while dialling.
#[derive(Clone, Copy)]
pub(crate) enum DialStage {
    Resolve,
    Connect,
    #[cfg(any(feature = "rustls", feature = "native-tls"))]
    Tls,
}

/// A stream to this peer, the host or the proxy, that could not be opened.
pub(crate) fn dialling(
    peer: &str,
    stage: DialStage,
    error: impl StdError + Send + Sync + 'static,
) -> Error {
    let (kind, message) = match (tls(&error), stage) {
        (Some(tls), _) => (ErrorKind::Tls, format!("TLS with {peer} failed: {tls}")),
        (None, _) if is_late(&error) => {
            (ErrorKind::Timeout, format!("connecting to {peer} took too long"))
        }
        (None, DialStage::Resolve) => {
            (ErrorKind::Connect, format!("the name of {peer} cannot be resolved"))
        }
        (None, DialStage::Connect) => (ErrorKind::Connect, format!("cannot connect to {peer}")),
        // Nobody has refused anything: the network failed, or a server that is about to leave did this.
        #[cfg(any(feature = "rustls", feature = "native-tls"))]
        (None, DialStage::Tls) => {
            let message = format!("{peer} ended the connection instead of speaking TLS");
            return Error::new(ErrorKind::Tls, message).with_transient(true).with_source(error);
        }
    };
    Error::new(kind, message).with_source(error)
}

/// An exchange that failed on an open connection.
pub(crate) fn exchange(
    during: During,
    limits: HeadLimits,
    error: impl StdError + Send + Sync + 'static,
) -> Error {
    let tls = tls(&error);
    failed(during, limits, tls, error)
}

fn is_late(error: &(dyn StdError + 'static)) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
}

/// What TLS says, if it was TLS that failed.
pub(crate) fn tls(error: &(dyn StdError + 'static)) -> Option<String> {
    chain(error).find_map(|cause| {
        #[cfg(feature = "rustls")]
        if let Some(error) = cause.downcast_ref::<rustls::Error>() {
            return Some(drivetrain_tls::describe(error));
        }
        #[cfg(feature = "native-tls")]
        if let Some(error) = cause.downcast_ref::<native_tls::Error>() {
            return Some(error.to_string());
        }
        let _ = cause;
        None
    })
}
