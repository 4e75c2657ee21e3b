//! Errors and bodies of reqwest and hyper as drivetrain's.

use std::{
    borrow::Cow,
    error::Error as StdError,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use drivetrain_connect::http1::{During, chain};
use drivetrain_engine::{
    Body, BoxError, Error, ErrorKind, HeadLimits, Proxy, Result, UPLOAD_GRACE, UnixSocket,
};
use http::Uri;
use http_body::{Frame, SizeHint};
use hyper_util::client::legacy;
use tokio::runtime::Handle;

use crate::upload::BodyFailed;

/// An error of reqwest's while a request to this URI was under way.
pub(crate) fn failed(
    engine: &'static str,
    during: During,
    uri: Option<&Uri>,
    proxy: Option<&Proxy>,
    socket: Option<&UnixSocket>,
    limits: HeadLimits,
    error: reqwest::Error,
) -> Error {
    // The URL may hold credentials, and the caller knows it.
    let error = error.without_url();
    let place = uri.map(place).unwrap_or_default();
    let way = by(proxy);
    if let Some(own) = own(&error) {
        return own.with_engine(engine);
    }
    let (kind, message): (_, Cow<'static, str>) = if let (Some(tls), Some(_)) = (tls(&error), uri) {
        // For a plain URL it is the proxy that speaks TLS.
        let is_proxys = uri.and_then(Uri::scheme_str) == Some("http");
        let proxy = proxy.filter(|_| is_proxys).map(|it| format!("the proxy {}", it.authority()));
        let peer = proxy.unwrap_or(place);
        (ErrorKind::Tls, format!("TLS with {peer} failed: {tls}").into())
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
        let is_refused = REFUSALS.iter().any(|refusal| cause.contains(refusal));
        let cause = cause.replace("authorization required", "authorization required (407)");
        let message = format!("cannot connect to {place}{way}: {cause}");
        return Error::new(ErrorKind::Connect, message)
            .with_transient(!is_refused)
            .with_engine(engine)
            .with_source(error);
    } else if error.is_connect() {
        let peer = socket.map_or(place, ToString::to_string);
        (ErrorKind::Connect, format!("cannot connect to {peer}").into())
    } else if error.is_builder() {
        (ErrorKind::InvalidInput, "the request cannot be sent".into())
    } else if error.is_redirect() {
        (ErrorKind::Other, "the preconfigured client gave up following redirects".into())
    } else {
        let tls = tls(&error);
        return drivetrain_connect::http1::failed(during, limits, tls, error).with_engine(engine);
    };
    Error::new(kind, message).with_engine(engine).with_source(error)
}

/// An error of hyper's client while a request to this URI was under way on a connection of the engine's own. What the
/// way there failed with is in it.
pub(crate) fn failed_in_tunnel(
    engine: &'static str,
    uri: &Uri,
    limits: HeadLimits,
    error: legacy::Error,
) -> Error {
    let error = match (own(&error), tls(&error)) {
        (Some(own), _) => own,
        (None, Some(tls)) => {
            let message = format!("TLS with {} failed: {tls}", place(uri));
            Error::new(ErrorKind::Tls, message).with_source(error)
        }
        (None, None) => drivetrain_connect::http1::failed(During::Request, limits, None, error),
    };
    error.with_engine(engine)
}

/// What hyper-util says of a proxy that will say the same again: wrong credentials, or a rule.
const REFUSALS: [&str; 6] = [
    "authorization required",
    "credentials not accepted",
    "does not support user/pass authentication",
    "implements authentication incorrectly",
    "connection not allowed",
    "not allowed by ruleset",
];

/// The proxy on the way, for a message.
pub(crate) fn by(proxy: Option<&Proxy>) -> String {
    proxy.map(|proxy| format!(" through the proxy {}", proxy.authority())).unwrap_or_default()
}

/// A client that could not be made.
pub(crate) fn not_built(engine: &'static str, error: reqwest::Error) -> Error {
    let kind = if tls(&error).is_some() { ErrorKind::Tls } else { ErrorKind::InvalidInput };
    Error::new(kind, "reqwest refused its configuration").with_engine(engine).with_source(error)
}

/// A response with its body as drivetrain's, still streaming, if its head is within the limits.
pub(crate) fn response<B>(
    engine: &'static str,
    handle: &Handle,
    limits: HeadLimits,
    response: http::Response<B>,
) -> Result<http::Response<Body>>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    limits.allow(response.headers()).map_err(|error| error.with_engine(engine))?;
    Ok(response.map(|body| {
        if body.is_end_stream() {
            return Body::empty();
        }
        Body::streaming(Incoming { engine, handle: handle.clone(), limits, body })
    }))
}

/// The same, for a connection that is used again if what is left of a short body is read.
pub(crate) fn reusable<B>(
    engine: &'static str,
    handle: &Handle,
    limits: HeadLimits,
    response: http::Response<B>,
) -> Result<http::Response<Body>>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let handle = handle.clone();
    self::response(
        engine,
        &handle,
        limits,
        response.map(|body| Short { handle: handle.clone(), body: Some(body) }),
    )
}

/// What of an answer that was dropped is read to its end: less than another connection costs.
const SHORT: u64 = 64 << 10;

/// A body that is read to its end when it is dropped, if that is not far.
struct Short<B>
where
    B: http_body::Body + Send + Unpin + 'static,
{
    handle: Handle,
    body: Option<B>,
}

impl<B> http_body::Body for Short<B>
where
    B: http_body::Body + Send + Unpin + 'static,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<B::Data>, B::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(B::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), B::size_hint)
    }
}

impl<B> Drop for Short<B>
where
    B: http_body::Body + Send + Unpin + 'static,
{
    fn drop(&mut self) {
        let Some(mut body) = self.body.take() else { return };
        if body.is_end_stream() || body.size_hint().upper().is_none_or(|upper| upper > SHORT) {
            return;
        }
        self.handle.spawn(async move {
            let rest = async {
                while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {}
            };
            // What does not come soon is not worth waiting for.
            let _ = tokio::time::timeout(UPLOAD_GRACE, rest).await;
        });
    }
}

/// The error of drivetrain's that the caller's own body gave.
fn own(error: &(dyn StdError + 'static)) -> Option<Error> {
    let wrapped = chain(error).find_map(|cause| cause.downcast_ref::<BodyFailed>());
    let own = || chain(error).find_map(|cause| cause.downcast_ref::<Error>());
    wrapped.map(|failed| &failed.error).or_else(own).cloned()
}

/// What TLS says, if it was TLS that failed.
#[cfg_attr(
    not(any(feature = "rustls", feature = "native-tls")),
    expect(unused_variables, reason = "there is no TLS to fail")
)]
pub(crate) fn tls(error: &(dyn StdError + 'static)) -> Option<String> {
    #[cfg(feature = "rustls")]
    if let Some(error) = chain(error).find_map(|cause| cause.downcast_ref::<rustls::Error>()) {
        return Some(drivetrain_tls::describe(error));
    }
    #[cfg(feature = "native-tls")]
    if let Some(error) = chain(error).find_map(|cause| cause.downcast_ref::<native_tls::Error>()) {
        return Some(error.to_string());
    }
    None
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
    limits: HeadLimits,
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
                Ok(error) => {
                    failed(this.engine, During::Body, None, None, None, this.limits, *error)
                }
                Err(error) => {
                    let tls = tls(&*error);
                    drivetrain_connect::http1::failed(During::Body, this.limits, tls, error)
                        .with_engine(this.engine)
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
