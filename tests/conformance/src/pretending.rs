//! An engine that claims a missing capability, to check that the capability is really missing.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use drivetrain::http;
use drivetrain_engine::{
    Answer, Body, Capability, Engine, EngineSettings, Handshake, Resolver, Result, Runtime,
    Support, TlsVersion, async_trait,
};

use crate::{CountedStream, Deviation, Subject};

/// A subject whose engines claim one more capability.
pub(crate) struct Pretending {
    pub(crate) subject: Arc<dyn Subject>,
    pub(crate) capability: Capability,
}

impl Pretending {
    fn wrap(&self, engine: Box<dyn Engine>) -> Box<dyn Engine> {
        Box::new(Claiming { engine, capability: self.capability })
    }
}

impl Subject for Pretending {
    fn name(&self) -> &str {
        self.subject.name()
    }

    fn engine(&self) -> Box<dyn Engine> {
        self.wrap(self.subject.engine())
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.subject.block_on(future);
    }

    fn deviations(&self) -> &[Deviation] {
        self.subject.deviations()
    }

    fn with_root(&self, pem: &[u8]) -> Option<Box<dyn Engine>> {
        self.subject.with_root(pem).map(|engine| self.wrap(engine))
    }

    fn with_min_tls_version(&self, pem: &[u8], version: TlsVersion) -> Option<Box<dyn Engine>> {
        self.subject.with_min_tls_version(pem, version).map(|engine| self.wrap(engine))
    }

    fn over_http2(&self, pem: &[u8]) -> Option<Box<dyn Engine>> {
        self.subject.over_http2(pem).map(|engine| self.wrap(engine))
    }

    fn accepting_any_certificate(&self) -> Option<Box<dyn Engine>> {
        self.subject.accepting_any_certificate().map(|engine| self.wrap(engine))
    }

    fn with_client_certificate(&self, root: &[u8], client: &[u8]) -> Option<Box<dyn Engine>> {
        self.subject.with_client_certificate(root, client).map(|engine| self.wrap(engine))
    }

    fn with_resolver(&self, resolver: Resolver) -> Option<Box<dyn Engine>> {
        self.subject.with_resolver(resolver).map(|engine| self.wrap(engine))
    }

    fn with_ping_interval(&self, interval: Duration) -> Option<Box<dyn Engine>> {
        self.subject.with_ping_interval(interval).map(|engine| self.wrap(engine))
    }

    fn over(&self, stream: CountedStream) -> Option<Box<dyn Engine>> {
        self.subject.over(stream).map(|engine| self.wrap(engine))
    }
}

#[derive(Debug)]
struct Claiming {
    engine: Box<dyn Engine>,
    capability: Capability,
}

#[async_trait]
impl Engine for Claiming {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn support(&self, capability: Capability) -> Support {
        if capability == self.capability {
            return Support::Offered;
        }
        self.engine.support(capability)
    }

    fn settings(&self) -> EngineSettings {
        self.engine.settings()
    }

    fn check(&self) -> Result<()> {
        self.engine.check()
    }

    fn runtime(&self) -> Result<Arc<dyn Runtime>> {
        self.engine.runtime()
    }

    async fn execute(&self, request: http::Request<Body>) -> Result<http::Response<Body>> {
        self.engine.execute(request).await
    }

    async fn connect(&self, handshake: Handshake) -> Result<Answer> {
        self.engine.connect(handshake).await
    }
}
