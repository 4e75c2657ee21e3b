//! Errors and bodies of reqwest and hyper as drivetrain's.

use std::{
    borrow::Cow,
    error::Error as StdError,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use drivetrain_engine::{Body, BoxError, Error, ErrorKind, Proxy, Result};
use http::Uri;
use http_body::{Frame, SizeHint};
use tokio::runtime::Handle;

/// What failed, for the message.
#[derive(Clone, Copy)]
pub(crate) enum During {
    Request,
    Handshake,
    Body,
}

/// An error of reqwest's while a request to this URI was under way.
pub(crate) fn failed(
    engine: &'static str,
    during: During,
    uri: Option<&Uri>,
    proxy: Option<&Proxy>,
    error: reqwest::Error,
) -> Error {
    // The URL may hold credentials, and whoever made the request knows it.
    let error = error.without_url();
    if let Some(own) = own(&error) {
        return own.with_engine(engine);
    }
    let place = uri.map(place).unwrap_or_default();
    let way = proxy.map(|proxy| format!(" through the proxy {}", proxy.authority()));
    let way = way.unwrap_or_default();
    let (kind, message): (_, Cow<'static, str>) = if let Some(tls) = tls(&error) {
        (ErrorKind::Tls, format!("TLS with {place} failed: {tls}").into())
    } else if error.is_timeout() && error.is_connect() {
        (ErrorKind::Timeout, format!("connecting to {place}{way} took too long").into())
    } else if error.is_timeout() {
        (ErrorKind::Timeout, "the server took too long".into())
    } else if let (true, Some(proxy)) = (error.is_dns(), proxy) {
        let message = format!("the name of the proxy {} cannot be resolved", proxy.authority());
        (ErrorKind::Connect, message.into())
    } else if error.is_dns() {
        (ErrorKind::Connect, format!("the name of {place} cannot be resolved").into())
    } else if error.is_connect() && proxy.is_some() {
        let cause = chain(&error).last().map(ToString::to_string).unwrap_or_default();
        // hyper-util says it in words alone; of another status it says nothing.
        let cause = cause.replace("authorization required", "authorization required (407)");
        (ErrorKind::Connect, format!("cannot connect to {place}{way}: {cause}").into())
    } else if error.is_connect() {
        (ErrorKind::Connect, format!("cannot connect to {place}").into())
    } else if error.is_builder() {
        (ErrorKind::InvalidInput, "the request cannot be sent".into())
    } else if error.is_redirect() {
        (ErrorKind::Other, "the preconfigured client gave up following redirects".into())
    } else {
        exchange(&error, during)
    };
    Error::new(kind, message).with_engine(engine).with_source(error)
}

/// An error of hyper's on a stream of the caller's.
pub(crate) fn failed_over(engine: &'static str, error: hyper::Error) -> Error {
    let (kind, message) = exchange(&error, During::Handshake);
    Error::new(kind, message).with_engine(engine).with_source(error)
}

/// A client that could not be made.
pub(crate) fn not_built(engine: &'static str, error: reqwest::Error) -> Error {
    let kind = if tls(&error).is_some() { ErrorKind::Tls } else { ErrorKind::InvalidInput };
    Error::new(kind, "reqwest refused its configuration").with_engine(engine).with_source(error)
}

/// A response with its body as drivetrain's, still streaming.
pub(crate) fn response<B>(
    engine: &'static str,
    handle: &Handle,
    response: http::Response<B>,
) -> http::Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    response.map(|body| {
        if body.is_end_stream() {
            return Body::empty();
        }
        Body::streaming(Incoming { engine, handle: handle.clone(), body })
    })
}

/// A body, in memory or streaming, as reqwest's: what is in memory keeps its length.
pub(crate) fn request_body(body: Body) -> reqwest::Body {
    match body.as_bytes() {
        Some(bytes) => reqwest::Body::from(bytes.clone()),
        None => reqwest::Body::wrap(body),
    }
}

/// Neither a refused connection nor TLS: the exchange itself went wrong.
fn exchange(error: &(dyn StdError + 'static), during: During) -> (ErrorKind, Cow<'static, str>) {
    let hyper = chain(error).find_map(|cause| cause.downcast_ref::<hyper::Error>());
    match (hyper, during) {
        (Some(hyper), _) if hyper.is_timeout() => {
            (ErrorKind::Timeout, "the server took too long".into())
        }
        (Some(hyper), _) if hyper.is_parse() => {
            (ErrorKind::Protocol, "the server's answer is not HTTP".into())
        }
        (Some(hyper), During::Request | During::Handshake) if hyper.is_user() => {
            (ErrorKind::InvalidInput, "the request cannot be sent".into())
        }
        (_, During::Body) => (ErrorKind::Io, "the response's body ended early".into()),
        (_, During::Request) => {
            (ErrorKind::Io, "the connection failed before the server answered".into())
        }
        (_, During::Handshake) => {
            (ErrorKind::Io, "the connection failed during the handshake".into())
        }
    }
}

/// The error of drivetrain's that the caller's own body gave.
fn own(error: &(dyn StdError + 'static)) -> Option<Error> {
    chain(error).find_map(|cause| cause.downcast_ref::<Error>()).cloned()
}

/// What TLS says, if it was TLS that failed.
#[cfg_attr(
    not(any(feature = "rustls", feature = "native-tls")),
    expect(unused_variables, reason = "there is no TLS to fail")
)]
pub(crate) fn tls(error: &(dyn StdError + 'static)) -> Option<String> {
    #[cfg(feature = "rustls")]
    if let Some(error) = chain(error).find_map(|cause| cause.downcast_ref::<rustls::Error>()) {
        return Some(error.to_string());
    }
    #[cfg(feature = "native-tls")]
    if let Some(error) = chain(error).find_map(|cause| cause.downcast_ref::<native_tls::Error>()) {
        return Some(error.to_string());
    }
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

/// The host and port, without credentials.
pub(crate) fn place(uri: &Uri) -> String {
    let host = uri.host().unwrap_or_default();
    uri.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// A body that is read inside its runtime, as timeouts set on the client below are timers.
struct Incoming<B> {
    engine: &'static str,
    handle: Handle,
    body: B,
}

impl<B> http_body::Body for Incoming<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>>>> {
        let this = &mut *self;
        let _entered = this.handle.enter();
        Pin::new(&mut this.body).poll_frame(cx).map_err(|error| {
            let error: BoxError = error.into();
            match error.downcast::<reqwest::Error>() {
                Ok(error) => failed(this.engine, During::Body, None, None, *error),
                Err(error) => {
                    let (kind, message) = exchange(&*error, During::Body);
                    Error::new(kind, message).with_engine(this.engine).with_source(error)
                }
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
