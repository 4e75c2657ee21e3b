//! The hop: what an engine holds, and what it hands on.

use std::{fmt, marker::PhantomData, sync::Arc};

use bytes::Bytes;
#[cfg(feature = "rustls")]
use drivetrain_engine::TlsVersion;
use drivetrain_engine::{
    Accepted, Answer, Body, Capability, Duties, Error, ErrorKind, Handshake, NativeSetting, Result,
    Runtime, Support, Transport,
};
use futures_io::{AsyncRead, AsyncWrite};
use http::{Request, Response};

use crate::{
    connect,
    pool::Pool,
    runtime::{Flavour, Tasks},
    stream::{Once, Stream},
    tls::Secure,
};

/// For engines on async-std and smol: everything they do before the first frame.
///
/// An engine keeps one as its HTTP side, hands [`execute`](Self::execute), [`runtime`](Self::runtime)
/// and the HTTP rows of [`support`](Self::support) on to it, and frames what [`connect`](Self::connect)
/// opens. Errors name the engine that the hop was made for.
///
/// The value is its configuration: nothing is made, read or dialled before the first use. Clones share
/// their idle HTTP connections and TLS sessions; setting a TLS option on a clone gives that clone its
/// own. Of two calls that set the same thing the later wins.
///
/// ```
/// # #[cfg(feature = "smol")] {
/// use drivetrain_hyper::{Hop, OnSmol};
///
/// #[derive(Clone, Debug)]
/// pub struct MyEngine {
///     hop: Hop<OnSmol>,
/// }
///
/// impl MyEngine {
///     pub fn new() -> Self {
///         Self { hop: Hop::new("mine") }
///     }
/// }
/// # }
/// ```
pub struct Hop<R> {
    pub(crate) engine: &'static str,
    pub(crate) secure: Secure,
    pub(crate) caller: Option<Once>,
    pub(crate) pool: Arc<Pool>,
    runtime: PhantomData<fn() -> R>,
}

pub(crate) const NO_TLS: &str = "it was built without TLS: switch on cargo feature `rustls`";
pub(crate) const ONE_STREAM: &str =
    "it runs over one stream that the caller brought: it opens one WebSocket";
pub(crate) const NOTHING_TO_DIAL: &str = "a stream that the caller brings is connected already";
const OWN_TLS: &str =
    "a stream that the caller brings has its own TLS: present the certificate there";

impl<R: Flavour> Hop<R> {
    /// The hop of the engine of this name, with the system's CA certificates and no client certificate.
    /// Does no I/O and does not fail.
    pub fn new(engine: &'static str) -> Self {
        let (secure, pool) = Default::default();
        Self { engine, secure, caller: None, pool, runtime: PhantomData }
    }

    /// The hop of the engine of this name over a stream that is connected already: for one handshake,
    /// once, by whichever clone comes first. It has no HTTP.
    pub fn over(
        engine: &'static str,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Self {
        Self { caller: Some(Once::new(stream)), ..Self::new(engine) }
    }

    /// Whether it is one over a stream of the caller's.
    pub fn is_over(&self) -> bool {
        self.caller.is_some()
    }

    /// Whether it offers one of [`Http1`](Capability::Http1), [`Http2`](Capability::Http2),
    /// [`Tls`](Capability::Tls), [`ClientCertificates`](Capability::ClientCertificates),
    /// [`ConnectTimeout`](Capability::ConnectTimeout), [`Proxies`](Capability::Proxies),
    /// [`SocksProxies`](Capability::SocksProxies) and
    /// [`WebSocketOverHttp2`](Capability::WebSocketOverHttp2). All others are missing: they are the
    /// engine's to answer.
    pub fn support(&self, capability: Capability) -> Support {
        let is_over = self.is_over();
        match capability {
            Capability::Http1 if is_over => Support::missing(ONE_STREAM),
            Capability::ConnectTimeout | Capability::Proxies | Capability::SocksProxies
                if is_over =>
            {
                Support::missing(NOTHING_TO_DIAL)
            }
            Capability::ClientCertificates if is_over => Support::missing(OWN_TLS),
            Capability::WebSocketOverHttp2 => {
                Support::missing("hyper over HTTP/1.1 only: use an engine on tokio for it")
            }
            Capability::Http2 => {
                Support::missing("hyper over HTTP/1.1 only: use an engine on tokio for HTTP/2")
            }
            // A stream of the caller's already is the TLS stream: it is used as it is.
            Capability::Tls if is_over || cfg!(feature = "rustls") => Support::Offered,
            Capability::ClientCertificates if cfg!(feature = "rustls") => Support::Offered,
            Capability::Tls | Capability::ClientCertificates => Support::missing(NO_TLS),
            Capability::Http1
            | Capability::ConnectTimeout
            | Capability::Proxies
            | Capability::SocksProxies => Support::Offered,
            _ => Support::missing("this version of the engine does not know it"),
        }
    }

    /// The options that were set, in order, for
    /// [`EngineSettings::native`](drivetrain_engine::EngineSettings); never a key.
    pub fn settings(&self) -> Vec<NativeSetting> {
        let set = self.secure.set().iter();
        set.map(|(name, value)| NativeSetting::new(*name, value.clone())).collect()
    }

    /// Refuses options that can never work, for [`Engine::check`](drivetrain_engine::Engine::check).
    /// No I/O.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`], saying which option and what would be right.
    pub fn check(&self) -> Result<()> {
        let checked = match (&self.caller, self.secure.set().first()) {
            (Some(_), Some((option, _))) => {
                let message = format!(
                    "{option} has no effect on a stream that the caller brings: bring the TLS stream"
                );
                Err(Error::new(ErrorKind::InvalidInput, message))
            }
            _ => self.secure.check(),
        };
        checked.map_err(|error| error.with_engine(self.engine))
    }

    /// The runtime for the sessions on the engine; there is no "outside" of it.
    pub fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(Tasks::<R>::new())
    }

    /// Sends one HTTP request, as [`Engine::execute`](drivetrain_engine::Engine::execute) asks for, over a
    /// connection that is kept or over a new one.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for `https` in a build without TLS, and over a stream of the caller's;
    /// [`ErrorKind::Connect`], [`ErrorKind::Tls`], [`ErrorKind::Timeout`], [`ErrorKind::Protocol`] or
    /// [`ErrorKind::Io`] where the exchange failed, [`ErrorKind::InvalidInput`] for a request that cannot
    /// be sent. An error that the request's own body gave is returned as it is.
    ///
    /// # Cancel safety
    /// Dropping the future ends the request.
    pub async fn execute(&self, request: Request<Body>) -> Result<Response<Body>> {
        connect::execute(self, request).await
    }

    /// Sends a handshake, over the stream that was brought or over a connection of its own, and frames
    /// the stream: all of [`Engine::connect`](drivetrain_engine::Engine::connect). `frame` makes the
    /// transport of the stream, of what was read behind the server's answer and comes first, and of what
    /// was agreed on; `duties` are what that transport does by itself.
    ///
    /// # Errors
    /// As for [`execute`](Self::execute), and [`ErrorKind::Protocol`] for a 101 that is not a valid
    /// answer; the connection is then closed. [`ErrorKind::Connect`] if the stream that was brought has
    /// been used, [`ErrorKind::Unsupported`] for a proxy or a connect timeout over it. Any other status is
    /// [`Answer::Refused`].
    ///
    /// # Cancel safety
    /// Dropping the future ends the attempt and frees the socket.
    pub async fn connect<T: Transport + 'static>(
        &self,
        handshake: &Handshake,
        duties: Duties,
        frame: impl FnOnce(Stream, Bytes, &Accepted) -> T + Send,
    ) -> Result<Answer> {
        connect::open(self, handshake, duties, frame).await
    }
}

/// TLS. What cannot be read is told by [`check`](Self::check).
#[cfg(feature = "rustls")]
impl<R: Flavour> Hop<R> {
    /// Trusts the certificates in `pem`, which may be a bundle, as well as the system's. Default: none.
    #[must_use]
    pub fn root_certificate_pem(self, pem: impl AsRef<[u8]>) -> Self {
        let value = format!("{} bytes", pem.as_ref().len());
        self.tls("root_certificate_pem", value, |tls| tls.root_certificate_pem(pem))
    }

    /// Trusts the certificate in `der` as well as the system's. Default: none.
    #[must_use]
    pub fn root_certificate_der(self, der: impl AsRef<[u8]>) -> Self {
        let value = format!("{} bytes", der.as_ref().len());
        self.tls("root_certificate_der", value, |tls| tls.root_certificate_der(der))
    }

    /// Trusts the root certificates that were given, and not the system's. Default: both.
    #[must_use]
    pub fn only_these_roots(self) -> Self {
        self.tls("only_these_roots", "true".into(), drivetrain_tls::Tls::only_these_roots)
    }

    /// Refuses servers that only speak an older TLS. Default: [`TlsVersion::V1_2`].
    #[must_use]
    pub fn min_tls_version(self, version: TlsVersion) -> Self {
        self.tls("min_tls_version", version.to_string(), |tls| tls.min_version(version))
    }

    /// **Accepts whatever certificate a server shows, for any name: anybody in between can read and change
    /// everything.** For tests alone. Default: certificates are verified. Roots cannot be set beside it.
    #[must_use]
    pub fn danger_accept_any_certificate(self) -> Self {
        let with = drivetrain_tls::Tls::danger_accept_any_certificate;
        self.tls("danger_accept_any_certificate", "true: NO VERIFICATION".into(), with)
    }

    /// Presents this certificate to a server that asks for one. Default: none.
    ///
    /// `chain_and_key` is one PEM text with the chain, leaf first, and the private key, not encrypted.
    #[must_use]
    pub fn client_certificate_pem(self, chain_and_key: impl AsRef<[u8]>) -> Self {
        self.tls("client_certificate_pem", "set".into(), |tls| {
            tls.client_certificate_pem(chain_and_key)
        })
    }

    /// Uses this configuration of rustls, with its own provider, roots and client certificate; only its
    /// ALPN list is overwritten, with `http/1.1`. Default: none. The other TLS options cannot be set
    /// beside it.
    #[must_use]
    pub fn rustls_config(self, config: Arc<rustls::ClientConfig>) -> Self {
        self.tls("rustls_config", "a rustls::ClientConfig".into(), |tls| tls.preconfigured(config))
    }

    fn tls(
        mut self,
        name: &'static str,
        value: String,
        with: impl FnOnce(drivetrain_tls::Tls) -> drivetrain_tls::Tls,
    ) -> Self {
        self.secure.change(name, value, with);
        // A connection that was opened on other terms is not for this value.
        self.pool = Arc::default();
        self
    }
}

impl<R> Clone for Hop<R> {
    fn clone(&self) -> Self {
        Self {
            engine: self.engine,
            secure: self.secure.clone(),
            caller: self.caller.clone(),
            pool: Arc::clone(&self.pool),
            runtime: PhantomData,
        }
    }
}

/// Prints what was set, never certificates or keys.
impl<R: Flavour> fmt::Debug for Hop<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Hop");
        debug.field("engine", &self.engine).field("runtime", &R::NAME);
        for (name, value) in self.secure.set() {
            debug.field(name, &format_args!("{value}"));
        }
        if let Some(caller) = &self.caller {
            debug.field("over", caller);
        }
        debug.finish()
    }
}
