//! What the suite has to know about an engine.

use std::{future::Future, pin::Pin, time::Duration};

use drivetrain_engine::{Engine, TlsVersion};

use crate::CountedStream;

/// An engine under test.
///
/// The engines that the methods give are made anew by each call and share nothing, so that dropping one
/// closes all its connections.
///
/// The methods that give `Option` have to agree with [`Engine::support`]: `Some` if the capability is
/// offered, and else `None`. The suite checks that.
pub trait Subject: Send + Sync + 'static {
    /// The first part of its trials' names.
    fn name(&self) -> &str;

    /// The engine with its default options.
    fn engine(&self) -> Box<dyn Engine>;

    /// Runs a future to its end on a runtime that the engine works on, with timers and I/O. It is called
    /// from many threads at once.
    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>);

    /// The engine with one more root certificate; `Some` if it offers
    /// [`Tls`](drivetrain_engine::Capability::Tls).
    fn with_root(&self, pem: &[u8]) -> Option<Box<dyn Engine>> {
        let _ = pem;
        None
    }

    /// The engine with one more root certificate, and nothing older than this version of TLS; `Some` if it
    /// offers [`Tls`](drivetrain_engine::Capability::Tls).
    fn with_min_tls_version(
        &self,
        root_pem: &[u8],
        version: TlsVersion,
    ) -> Option<Box<dyn Engine>> {
        let _ = (root_pem, version);
        None
    }

    /// The engine with one more root certificate, which opens WebSockets over HTTP/2; `Some` if it then
    /// offers [`WebSocketOverHttp2`](drivetrain_engine::Capability::WebSocketOverHttp2), though it may not
    /// with its default options.
    fn over_http2(&self, root_pem: &[u8]) -> Option<Box<dyn Engine>> {
        let _ = root_pem;
        None
    }

    /// The engine that accepts any certificate; `Some` if it offers
    /// [`Tls`](drivetrain_engine::Capability::Tls).
    fn accepting_any_certificate(&self) -> Option<Box<dyn Engine>> {
        None
    }

    /// The engine with one more root certificate, and a client certificate, which is one text of
    /// certificate and PKCS#8 key; `Some` if it offers
    /// [`ClientCertificates`](drivetrain_engine::Capability::ClientCertificates).
    fn with_client_certificate(
        &self,
        root_pem: &[u8],
        client_pem: &[u8],
    ) -> Option<Box<dyn Engine>> {
        let _ = (root_pem, client_pem);
        None
    }

    /// The engine with an engine-level ping interval, zero too, which the engine has to refuse in
    /// [`Engine::check`]; `Some` if it offers
    /// [`EnginePing`](drivetrain_engine::Capability::EnginePing).
    fn with_ping_interval(&self, interval: Duration) -> Option<Box<dyn Engine>> {
        let _ = interval;
        None
    }

    /// The engine over a stream that is connected already; `Some` if it offers
    /// [`CallerStream`](drivetrain_engine::Capability::CallerStream).
    fn over(&self, stream: CountedStream) -> Option<Box<dyn Engine>> {
        let _ = stream;
        None
    }
}

impl<S: Subject + ?Sized> Subject for Box<S> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn engine(&self) -> Box<dyn Engine> {
        (**self).engine()
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        (**self).block_on(future);
    }

    fn with_root(&self, pem: &[u8]) -> Option<Box<dyn Engine>> {
        (**self).with_root(pem)
    }

    fn with_min_tls_version(
        &self,
        root_pem: &[u8],
        version: TlsVersion,
    ) -> Option<Box<dyn Engine>> {
        (**self).with_min_tls_version(root_pem, version)
    }

    fn over_http2(&self, root_pem: &[u8]) -> Option<Box<dyn Engine>> {
        (**self).over_http2(root_pem)
    }

    fn accepting_any_certificate(&self) -> Option<Box<dyn Engine>> {
        (**self).accepting_any_certificate()
    }

    fn with_client_certificate(
        &self,
        root_pem: &[u8],
        client_pem: &[u8],
    ) -> Option<Box<dyn Engine>> {
        (**self).with_client_certificate(root_pem, client_pem)
    }

    fn with_ping_interval(&self, interval: Duration) -> Option<Box<dyn Engine>> {
        (**self).with_ping_interval(interval)
    }

    fn over(&self, stream: CountedStream) -> Option<Box<dyn Engine>> {
        (**self).over(stream)
    }
}
