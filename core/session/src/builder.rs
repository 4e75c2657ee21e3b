//! Opening a session on a connection.

use std::sync::Arc;

use drivetrain_engine::{Connection, Runtime};
use tracing::Span;

use super::{
    config::SessionConfig, extensions::Extensions, halves, lifecycle::keepalive::Jitter,
    session::Session, shared::Shared, task::Task, trace,
};

/// A session that is not yet open. Made by [`Session::builder`].
#[must_use = "nothing happens until it is opened"]
pub struct SessionBuilder {
    connection: Connection,
    runtime: Arc<dyn Runtime>,
    config: Arc<SessionConfig>,
    extensions: Option<Extensions>,
    span: Span,
}

impl Session {
    /// A session to open on a connection: on either end, whose role it takes from the connection. Its task runs on
    /// the runtime.
    pub fn builder(
        connection: Connection,
        runtime: Arc<dyn Runtime>,
        config: Arc<SessionConfig>,
    ) -> SessionBuilder {
        SessionBuilder::new(connection, runtime, config)
    }
}

impl SessionBuilder {
    pub(crate) fn new(
        connection: Connection,
        runtime: Arc<dyn Runtime>,
        config: Arc<SessionConfig>,
    ) -> Self {
        Self { connection, runtime, config, extensions: None, span: Span::none() }
    }

    /// Applies these extensions to the session's messages. Default: none.
    pub fn extensions(self, extensions: Option<Extensions>) -> Self {
        Self { extensions, ..self }
    }

    /// Emits the session's events in this span, and closes the span at the session's end. Default: none.
    pub fn span(self, span: Span) -> Self {
        Self { span, ..self }
    }

    /// Opens the session and starts its task on the runtime.
    pub fn open(self) -> Session {
        let Self { connection, runtime, config, extensions, span } = self;
        let jitter = Jitter::random(&*runtime);
        let shared =
            Shared::new(connection, extensions, Arc::clone(&runtime), config, jitter, &span);
        trace::opened(&span, &shared.facts);
        runtime.spawn(Box::pin(Task::new(Arc::clone(&shared), span)));
        let (outgoing, incoming) = halves::halves(shared);
        Session { outgoing, incoming }
    }
}

impl std::fmt::Debug for SessionBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
