//! Requests with hyper's client over connections of the engine's own: through a tunnel, since reqwest hides what a
//! proxy answers, those with a body that streams, since reqwest lets nobody end a connection that is in use, and those
//! with a `Host` of their own that may go over HTTP/2, since reqwest dials what it names.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use drivetrain_connect::{HttpConnector, IntoTokio, TlsConnector, TokioExecutor, http1::ReadFirst};
use drivetrain_engine::{BoxStream, Capability, ConnectTimeout, Error, Result, UPLOAD_GRACE};
use http::{HeaderValue, Request, Response, Uri, header};
use http_body::{Frame, SizeHint};
use hyper::{
    body::Incoming,
    rt::{Read, ReadBufCursor, Write},
};
use hyper_util::{
    client::legacy::{
        self,
        connect::{Connected, Connection},
    },
    rt::{self, TokioIo, TokioTimer},
};
use tokio::{runtime::Handle, time::sleep};
use tower_service::Service;

use crate::{
    cut::Cut,
    host::Host,
    options::{Options, READ_OVER_HTTP2},
    purpose::Purpose,
    upload::Underway,
};

pub(crate) type Client = legacy::Client<TunnelConnector, reqwest::Body>;

/// Sends a request as reqwest would.
pub(crate) async fn send(
    client: &Client,
    mut request: Request<reqwest::Body>,
) -> std::result::Result<Response<Incoming>, legacy::Error> {
    let headers = request.headers_mut();
    headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    client.request(drivetrain_connect::http1::spelled(request).await).await
}

/// The answer, whose end gives the upload that it answers a grace, and ends its connection after that.
pub(crate) fn ending(
    sending: Underway,
    mut response: Response<Incoming>,
    handle: &Handle,
) -> Response<AnswerBody> {
    let cut = response.extensions_mut().remove::<Cut>();
    let upload = cut.map(|cut| Uploading { sending, cut });
    response.map(|body| AnswerBody { body, upload, handle: handle.clone() })
}

/// What an upload holds.
struct Uploading {
    sending: Underway,
    cut: Cut,
}

impl Uploading {
    /// Ends it unless it is over soon: hyper's client would write it for as long as the peer has the connection open.
    fn end(self, handle: &Handle) {
        let Self { sending, cut } = self;
        let blocked_at = cut.blocked_at();
        if sending.is_over() && blocked_at.is_none() {
            return;
        }
        handle.spawn(async move {
            sleep(UPLOAD_GRACE).await;
            // A connection that was used again has not been blocked all the time.
            let is_stuck = blocked_at.is_some() && cut.blocked_at() == blocked_at;
            if is_stuck || !sending.is_over() {
                cut.end();
            }
        });
    }
}

/// The body of an answer.
pub(crate) struct AnswerBody {
    body: Incoming,
    /// Until the body ends.
    upload: Option<Uploading>,
    handle: Handle,
}

impl AnswerBody {
    fn end(&mut self) {
        if let Some(upload) = self.upload.take() {
            upload.end(&self.handle);
        }
    }
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.end();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.end();
    }
}

/// TLS with what is offered to a server.
pub(crate) fn tls(options: &Options, purpose: &Purpose) -> Result<TlsConnector> {
    options.dialer.options().tls().connector(options.alpn(purpose))
}

pub(crate) fn build(
    options: &Options,
    purpose: &Purpose,
    tls: impl FnOnce(&Purpose) -> Result<TlsConnector>,
) -> Result<Client> {
    let dialer = options.dialer.clone();
    let tls = match purpose.secure {
        true => Some(tls(purpose)?),
        false => None,
    };
    let is_http2_alone = options.speaks_http2_alone(purpose);
    let inner = Inner { dialer, purpose: purpose.clone(), tls, is_http2_alone };
    let connector = TunnelConnector(Arc::new(inner));
    let mut builder = legacy::Client::builder(rt::TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(options.pool_idle_timeout())
        .http1_title_case_headers(true)
        .http1_max_headers(options.limits().max_headers)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_ignore_invalid_headers_in_responses(true)
        .http2_only(is_http2_alone)
        .http2_max_header_list_size(READ_OVER_HTTP2);
    if let Some(most) = options.pool_max_idle_per_host {
        builder.pool_max_idle_per_host(most);
    }
    if purpose.is_new {
        builder.pool_max_idle_per_host(0);
    }
    if let Some(interval) = options.http2_keep_alive_interval {
        builder.http2_keep_alive_interval(interval);
    }
    Ok(builder.build(connector))
}

/// Opens connections to hosts, in a tunnel where there is a proxy.
#[derive(Clone)]
pub(crate) struct TunnelConnector(Arc<Inner>);

struct Inner {
    dialer: HttpConnector<TokioExecutor>,
    purpose: Purpose,
    tls: Option<TlsConnector>,
    is_http2_alone: bool,
}

impl Inner {
    async fn connect(&self, uri: &Uri) -> Result<Tunnel> {
        let Purpose { proxy, connect_timeout, .. } = &self.purpose;
        let tls = || {
            let without = || Error::not_offered(Capability::Tls, "the client was made without it");
            self.tls.clone().ok_or_else(without)
        };
        let limit = connect_timeout.map(ConnectTimeout);
        let origin = match &self.purpose.host {
            Host::InUri(origin) => origin,
            Host::OfUrl | Host::Header => uri,
        };
        let stream = self.dialer.dial(origin, proxy.as_ref(), limit, tls).await?;
        let (ends, is_http2) = (stream.ends(), stream.is_http2() || self.is_http2_alone);
        let stream = ReadFirst::new(TokioIo::new(IntoTokio(stream.into_bytes())));
        Ok(Tunnel { stream, cut: Cut::default(), ends: ends.map(Ends), is_http2 })
    }
}

/// The addresses of a connection, in the extensions of what came over it.
#[derive(Clone, Copy)]
pub(crate) struct Ends(pub(crate) (SocketAddr, SocketAddr));

impl Service<Uri> for TunnelConnector {
    type Response = Tunnel;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Tunnel>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.connect(&uri).await })
    }
}

/// A connection to a host: an early answer is read on it before writing fails, and its [`Cut`] ends it.
pub(crate) struct Tunnel {
    stream: ReadFirst<TokioIo<IntoTokio<BoxStream>>>,
    cut: Cut,
    ends: Option<Ends>,
    is_http2: bool,
}

impl Connection for Tunnel {
    fn connected(&self) -> Connected {
        let connected = match self.ends {
            Some(ends) => Connected::new().extra(ends),
            None => Connected::new(),
        };
        // A shared connection stays open.
        if self.is_http2 { connected.negotiated_h2() } else { connected.extra(self.cut.clone()) }
    }
}

impl Read for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.cut.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl Write for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.cut.check(cx)?;
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.cut.note(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.cut.check(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.cut.check(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.cut.check(cx)?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.cut.note(&written);
        written
    }
}
