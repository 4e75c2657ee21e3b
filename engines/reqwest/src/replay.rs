//! Whether a request that failed may be sent again.

use std::{
    collections::{HashSet, VecDeque},
    error::Error as StdError,
    io,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use drivetrain_connect::http1::{chain, is_abandoned};
use drivetrain_engine::Replay;
use http::Extensions;
use hyper_util::client::legacy::{
    self,
    connect::{Connected, HttpInfo},
};

use crate::tunnelled;

/// How many connections are remembered, those that answered first being forgotten first.
const REMEMBERED: usize = 4096;

/// The ends of a TCP connection, which are its name.
type Ends = (SocketAddr, SocketAddr);

/// A request on its way.
#[derive(Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) has_body: bool,
    /// Known beforehand: nothing is negotiated in clear text.
    pub(crate) is_http2: bool,
}

impl Sent {
    /// Nothing of the body was sent, and the stream, if there was one, was reset.
    ///
    /// A request for which a connection of HTTP/2 has no stream yet waits in hyper, which forgets it when a GOAWAY
    /// comes. The error is that of a task which is gone, and does not say that nothing was sent.
    fn is_incomplete(self, error: &(dyn StdError + 'static)) -> bool {
        let connection = legacy_error(error).and_then(legacy::Error::connect_info);
        let is_negotiated = connection.is_some_and(Connected::is_negotiated_h2);
        let hyper = chain(error).find_map(|cause| cause.downcast_ref::<hyper::Error>());
        self.has_body && (self.is_http2 || is_negotiated) && hyper.is_some_and(is_abandoned)
    }
}

/// The connections that have answered: reqwest does not tell whether one that fails was reused.
#[derive(Default)]
pub(crate) struct Answered(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    known: HashSet<Ends>,
    order: VecDeque<Ends>,
}

impl Answered {
    /// Notes the connection of an answer with these extensions.
    pub(crate) fn note(&self, answer: &Extensions) {
        let Some(ends) = ends(answer) else { return };
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !remembered.known.insert(ends) {
            return;
        }
        remembered.order.push_back(ends);
        if remembered.order.len() > REMEMBERED {
            if let Some(oldest) = remembered.order.pop_front() {
                remembered.known.remove(&oldest);
            }
        }
    }

    /// Why the request that failed so may be sent again, if it may.
    pub(crate) fn replay(&self, sent: Sent, error: &(dyn StdError + 'static)) -> Option<Replay> {
        if is_not_processed(error) || sent.is_incomplete(error) {
            return Some(Replay::NotProcessed);
        }
        (has_ended(error) && self.is_reused(error)).then_some(Replay::Unanswered)
    }

    fn is_reused(&self, error: &(dyn StdError + 'static)) -> bool {
        let connection = legacy_error(error).and_then(legacy::Error::connect_info);
        let Some(connection) = connection else { return false };
        let mut extras = Extensions::new();
        connection.get_extras(&mut extras);
        let remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ends(&extras).is_some_and(|ends| remembered.known.contains(&ends))
    }
}

fn ends(extensions: &Extensions) -> Option<Ends> {
    let of_reqwest = || extensions.get::<HttpInfo>().map(|it| (it.local_addr(), it.remote_addr()));
    extensions.get::<tunnelled::Ends>().map(|ends| ends.0).or_else(of_reqwest)
}

/// The server says that it has not looked at the request (RFC 9113 sections 6.8 and 8.7), or nothing of it was sent.
pub(crate) fn is_not_processed(error: &(dyn StdError + 'static)) -> bool {
    if let Some(error) = chain(error).find_map(|cause| cause.downcast_ref::<h2::Error>()) {
        let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        // A server that asks for calm is not to be asked again at once.
        let gone = error.is_go_away() && error.reason() != Some(h2::Reason::ENHANCE_YOUR_CALM);
        return error.is_remote() && (refused || gone);
    }
    match chain(error).find_map(|cause| cause.downcast_ref::<hyper::Error>()) {
        Some(hyper) => hyper.is_canceled(),
        // The pool gave it no connection: it waited for one of HTTP/2 that another request was dialling.
        None => legacy_error(error).is_some_and(|error| {
            error.connect_info().is_none() && (!error.is_connect() || is_of_the_pool(error))
        }),
    }
}

/// The pool's errors have no name outside of the library; nothing was dialled in vain.
fn is_of_the_pool(error: &legacy::Error) -> bool {
    let closed = ["checked out connection was closed", "request was canceled"];
    error.source().is_some_and(|cause| closed.contains(&&*cause.to_string()))
}

fn legacy_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a legacy::Error> {
    chain(error).find_map(|cause| cause.downcast_ref::<legacy::Error>())
}

/// The connection ended, and not because of what came or of what was to be sent.
fn has_ended(error: &(dyn StdError + 'static)) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof,
    };
    let hyper = chain(error).find_map(|cause| cause.downcast_ref::<hyper::Error>());
    if hyper.is_some_and(is_abandoned) {
        return true;
    }
    let Some(hyper) = hyper.filter(|hyper| !hyper.is_user() && !hyper.is_parse()) else {
        return false;
    };
    let is_over = |error: &io::Error| {
        let kinds = [BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof];
        kinds.contains(&error.kind())
    };
    let cause = chain(error).find_map(|cause| cause.downcast_ref::<io::Error>());
    hyper.is_incomplete_message() || hyper.is_closed() || cause.is_some_and(is_over)
}
