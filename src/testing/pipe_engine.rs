//! The engine of a session on a pipe.

use std::sync::Arc;

use drivetrain_engine::{
    Answer, Body, Capability, Connection, Engine, Error, ErrorKind, Handshake, Result, Runtime,
    Support, async_trait,
};
use drivetrain_session::{Session, WebSockets};

use super::TestRuntime;
use crate::{options, trace};

impl TestRuntime {
    /// Opens a session on a connection with the plugin's options, as a client does. The first ping comes after the
    /// whole interval. The session applies the plugin's extensions that the connection has negotiated.
    ///
    /// # Panics
    /// If the connection has extensions that the plugin does not offer, or lacks one that is required.
    pub fn session(&self, connection: Connection, plugin: WebSockets) -> Session {
        let engine = PipeEngine(self.clone());
        let config = options::config(&engine, &plugin, &WebSockets::new());
        let extensions = config.extensions.negotiated(&connection);
        let extensions = extensions.expect("every negotiated extension is offered");
        let span = trace::session(engine.name(), &Default::default(), &connection);
        let runtime = Arc::new(self.clone());
        Session::builder(connection, runtime, Arc::new(config))
            .extensions(extensions)
            .span(span)
            .open()
    }
}

/// The engine of a session on a pipe: it offers every capability.
#[derive(Debug)]
pub(super) struct PipeEngine(pub(super) TestRuntime);

#[async_trait]
impl Engine for PipeEngine {
    fn name(&self) -> &str {
        "pipe"
    }

    fn support(&self, _: Capability) -> Support {
        Support::Offered
    }

    fn runtime(&self) -> Result<Arc<dyn Runtime>> {
        Ok(Arc::new(self.0.clone()))
    }

    async fn execute(&self, _: http::Request<Body>) -> Result<http::Response<Body>> {
        Err(Error::new(ErrorKind::Connect, "a pipe has no HTTP"))
    }

    async fn connect(&self, _: Handshake) -> Result<Answer> {
        Err(Error::new(ErrorKind::Connect, "a pipe is open already"))
    }
}
