//! The native engine, altered: it lacks capabilities, or only says so; it does duties, or only says so.

#[path = "altered/transport.rs"]
mod transport;

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, LazyLock},
    time::Duration,
};

use drivetrain::{
    Body, Capability, Error, Resolver, Result, Support, TlsVersion,
    engine::{
        Answer, Connection, Duties, Engine, EngineSettings, Handshake, Native, Reqwest, Runtime,
        async_trait,
    },
    http,
};
use drivetrain_conformance::{CountedStream, Subject};
use drivetrain_engine::{ConnectTimeout, Proxy, UnixSocket};
use tokio_util::compat::FuturesAsyncReadCompatExt as _;

const WITHOUT: &str = "it was taken away for a test";

/// What is altered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Altered {
    pub(crate) name: &'static str,
    /// Taken away: refused where it is asked for, or not there.
    pub(crate) lacks: &'static [Capability],
    /// There, and said to be missing.
    pub(crate) hides: Option<Capability>,
    /// What the library does by itself.
    pub(crate) does: Duties,
    /// What the connection says that it does.
    pub(crate) claims: Duties,
}

impl Altered {
    /// An honest engine that lacks these.
    pub(crate) const fn lacking(name: &'static str, lacks: &'static [Capability]) -> Self {
        let duties = Duties::frames();
        Self { name, lacks, hides: None, does: duties, claims: duties }
    }

    /// The same with these duties.
    pub(crate) const fn doing(mut self, duties: Duties) -> Self {
        (self.does, self.claims) = (duties, duties);
        self
    }

    /// The connection as the library gives it.
    pub(crate) fn connection(&self, connection: Connection) -> Result<Connection> {
        let subprotocol = connection.subprotocol().map(str::to_owned);
        let (role, protocol) = (connection.role(), connection.protocol());
        let extensions = connection.extensions().to_vec();
        let response = connection.response().map(|response| {
            let mut copy = http::Response::new(());
            *copy.status_mut() = response.status();
            *copy.headers_mut() = response.headers().clone();
            if !self.lacks(Capability::HandshakePhases) {
                *copy.extensions_mut() = response.extensions().clone();
            }
            copy
        });
        let transport = transport::altered(self, connection)?;
        let made = Connection::boxed(transport)
            .with_role(role)
            .with_protocol(protocol)
            .with_subprotocol(subprotocol)
            .with_extensions(extensions)
            .with_duties(self.claims);
        Ok(match response {
            Some(response) if !self.lacks(Capability::HandshakeResponse) => {
                made.with_response(response)
            }
            _ => made,
        })
    }

    fn lacks(&self, capability: Capability) -> bool {
        self.lacks.contains(&capability)
    }

    fn made(self, native: Native) -> Made {
        Some(Box::new(AlteredEngine { native, altered: self }))
    }

    fn http(self, http: Reqwest) -> Made {
        let http = if self.lacks(Capability::Http2) { http.http1_only() } else { http };
        let pools = !self.lacks(Capability::ConnectionReuse);
        let http = if pools { http } else { http.pool_max_idle_per_host(0) };
        self.made(Native::new().http(http))
    }

    /// An engine with options of a capability that may be missing.
    fn with(self, capability: Capability, http: impl FnOnce() -> Reqwest) -> Made {
        // A library without TLS has no options of it, whatever it can do.
        let has_tls = !self.lacks(Capability::Tls) && self.hides != Some(Capability::Tls);
        if self.lacks(capability) || !has_tls { None } else { self.http(http()) }
    }
}

type Made = Option<Box<dyn Engine>>;

impl Subject for Altered {
    fn name(&self) -> &str {
        self.name
    }

    fn engine(&self) -> Box<dyn Engine> {
        self.http(Reqwest::new()).expect("an engine")
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        static RUNTIME: LazyLock<tokio::runtime::Runtime> =
            LazyLock::new(|| tokio::runtime::Runtime::new().expect("a runtime"));
        RUNTIME.block_on(future);
    }

    fn with_root(&self, pem: &[u8]) -> Made {
        self.with(Capability::Tls, || Reqwest::new().root_certificate_pem(pem))
    }

    fn with_min_tls_version(&self, pem: &[u8], version: TlsVersion) -> Made {
        let http = || Reqwest::new().root_certificate_pem(pem).min_tls_version(version);
        self.with(Capability::Tls, http)
    }

    fn over_http2(&self, pem: &[u8]) -> Made {
        let http = || Reqwest::new().root_certificate_pem(pem).web_socket_over_http2();
        self.with(Capability::WebSocketOverHttp2, http)
    }

    fn accepting_any_certificate(&self) -> Made {
        self.with(Capability::Tls, || Reqwest::new().danger_accept_any_certificate())
    }

    fn with_client_certificate(&self, root: &[u8], client: &[u8]) -> Made {
        let http = || Reqwest::new().root_certificate_pem(root).client_certificate_pem(client);
        self.with(Capability::ClientCertificates, http)
    }

    fn with_resolver(&self, resolver: Resolver) -> Made {
        let has = !self.lacks(Capability::Resolver);
        has.then(|| Reqwest::new().resolver(resolver)).and_then(|http| self.http(http))
    }

    fn with_ping_interval(&self, interval: Duration) -> Made {
        let has = !self.lacks(Capability::EnginePing);
        has.then(|| Native::new().ping_interval(interval)).and_then(|native| self.made(native))
    }

    fn over(&self, stream: CountedStream) -> Made {
        let has = !self.lacks(Capability::CallerStream);
        has.then(|| Native::over(stream.compat())).and_then(|native| self.made(native))
    }
}

#[derive(Debug)]
struct AlteredEngine {
    native: Native,
    altered: Altered,
}

impl AlteredEngine {
    /// Refuses what is missing and asked for.
    fn refuse(&self, capability: Capability, is_asked_for: bool) -> Result<()> {
        if is_asked_for && self.altered.lacks(capability) {
            return Err(Error::unsupported(self.name().to_owned(), capability, WITHOUT));
        }
        Ok(())
    }

    fn refuse_options(&self, uri: &http::Uri, options: &http::Extensions) -> Result<()> {
        self.refuse(Capability::Tls, uri.scheme_str() == Some("https"))?;
        self.refuse(Capability::ConnectTimeout, options.get::<ConnectTimeout>().is_some())?;
        self.refuse(Capability::UnixSockets, options.get::<UnixSocket>().is_some())?;
        let proxy = options.get::<Proxy>().map(Proxy::capability);
        proxy.map_or(Ok(()), |capability| self.refuse(capability, true))
    }
}

/// A library without them has no place to put them: it is the client that refuses them.
fn without_headers(handshake: Handshake) -> Result<Handshake> {
    let mut request = http::Request::from(handshake);
    request.headers_mut().clear();
    Handshake::try_from(request)
}

#[async_trait]
impl Engine for AlteredEngine {
    fn name(&self) -> &str {
        self.native.name()
    }

    fn support(&self, capability: Capability) -> Support {
        if self.altered.lacks(capability) || self.altered.hides == Some(capability) {
            return Support::missing(WITHOUT);
        }
        self.native.support(capability)
    }

    fn settings(&self) -> EngineSettings {
        self.native.settings()
    }

    fn check(&self) -> Result<()> {
        self.native.check()
    }

    fn runtime(&self) -> Result<Arc<dyn Runtime>> {
        self.native.runtime()
    }

    async fn execute(&self, request: http::Request<Body>) -> Result<http::Response<Body>> {
        self.refuse(Capability::Http1, true)?;
        self.refuse_options(request.uri(), request.extensions())?;
        self.native.execute(request).await
    }

    async fn connect(&self, handshake: Handshake) -> Result<Answer> {
        self.refuse(Capability::WebSockets, true)?;
        self.refuse_options(handshake.uri(), handshake.extensions())?;
        self.refuse(Capability::Subprotocols, !handshake.subprotocols().is_empty())?;
        self.refuse(Capability::RsvBits, !handshake.offered_extensions().is_empty())?;
        let handshake = match self.altered.lacks(Capability::HandshakeHeaders) {
            true => without_headers(handshake)?,
            false => handshake,
        };
        let handshake = match self.altered.does.applies_extensions {
            true => handshake.extension(transport::OFFER)?,
            false => handshake,
        };
        Ok(match self.native.connect(handshake).await? {
            Answer::Open(connection) => Answer::Open(self.altered.connection(connection)?),
            refused => refused,
        })
    }
}
