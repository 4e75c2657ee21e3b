//! The engine of a session on a pipe.

use std::sync::Arc;

use drivetrain_engine::{
    Answer, Body, Capability, Engine, Error, ErrorKind, Handshake, Result, Runtime, Support,
    async_trait,
};

use super::TestRuntime;

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
