//! The description of an engine under test.

use std::{future::Future, pin::Pin, time::Duration};

use drivetrain_engine::{Engine, Resolver, TlsVersion};

use crate::{CountedStream, Deviation};

/// An engine under test.
///
/// Each call of a method returns a new engine that shares nothing with others. Dropping an engine therefore
/// closes all its connections.
///
/// Methods that return `Option` must agree with [`Engine::support`]: `Some` if the capability is
/// offered, otherwise `None`. The suite checks this.
pub trait Subject: Send + Sync + 'static {
    /// The first part of the names of the trials.
    fn name(&self) -> &str;

    /// The engine with its default options.
    fn engine(&self) -> Box<dyn Engine>;

    /// Runs a future to completion on a runtime of the engine, with timers and I/O. The suite calls it
    /// from many threads at once.
    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>);

    /// The engine's deviations from the suite's rules. Default: none.
    fn deviations(&self) -> &[Deviation] {
        &[]
    }

    /// The engine with one more root certificate; `Some` if it offers
    /// [`Tls`](drivetrain_engine::Capability::Tls).
    fn with_root(&self, pem: &[u8]) -> Option<Box<dyn Engine>> {
        let _ = pem;
        None
    }

    /// The engine with one more root certificate and this minimum TLS version; `Some` if it
    /// offers [`Tls`](drivetrain_engine::Capability::Tls).
    fn with_min_tls_version(
        &self,
        root_pem: &[u8],
        version: TlsVersion,
    ) -> Option<Box<dyn Engine>> {
        let _ = (root_pem, version);
        None
    }

    /// The engine with one more root certificate and WebSockets over HTTP/2; `Some` if it then
    /// offers [`WebSocketOverHttp2`](drivetrain_engine::Capability::WebSocketOverHttp2), even if it does not
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

    /// The engine with one more root certificate and a client certificate, given as one text of
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

    /// The engine that resolves names by this function; `Some` if it offers
    /// [`Resolver`](drivetrain_engine::Capability::Resolver).
    fn with_resolver(&self, resolver: Resolver) -> Option<Box<dyn Engine>> {
        let _ = resolver;
        None
    }

    /// The engine with an engine-level ping interval, also zero, which the engine must refuse in
    /// [`Engine::check`]; `Some` if it offers
    /// [`EnginePing`](drivetrain_engine::Capability::EnginePing).
    fn with_ping_interval(&self, interval: Duration) -> Option<Box<dyn Engine>> {
        let _ = interval;
        None
    }

    /// The engine over a connected stream; `Some` if it offers
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

    fn deviations(&self) -> &[Deviation] {
        (**self).deviations()
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

    fn with_resolver(&self, resolver: Resolver) -> Option<Box<dyn Engine>> {
        (**self).with_resolver(resolver)
    }

    fn with_ping_interval(&self, interval: Duration) -> Option<Box<dyn Engine>> {
        (**self).with_ping_interval(interval)
    }

    fn over(&self, stream: CountedStream) -> Option<Box<dyn Engine>> {
        (**self).over(stream)
    }
}
