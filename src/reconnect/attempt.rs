//! One attempt to connect: delay, hooks and handshake.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use drivetrain_engine::{Error, Result, Runtime, Timer};
use drivetrain_session::Session;

use crate::{deadline, web_socket::WebSocketRequest};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
type Prepare =
    dyn Fn(Attempt, WebSocketRequest) -> BoxFuture<'static, Result<WebSocketRequest>> + Send + Sync;
type Opened = dyn for<'a> Fn(&'a mut Session) -> BoxFuture<'a, Result<()>> + Send + Sync;

/// An attempt to connect, as [`on_connect`](super::ReconnectRequest::on_connect) sees it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// The number of the attempt: 0 for the first connection, from 1 after a loss.
    pub number: u32,
    /// The end of the previous connection, or the failure of the previous attempt; `None` for the first attempt.
    pub error: Option<Error>,
}

/// The parts of each attempt.
pub(super) struct Recipe {
    pub(super) request: WebSocketRequest,
    pub(super) prepare: Option<Box<Prepare>>,
    pub(super) opened: Option<Box<Opened>>,
    pub(super) timeout: Duration,
    pub(super) unacknowledged_capacity: usize,
}

/// The failed part of an attempt.
#[derive(Debug)]
pub(super) enum Failure {
    /// The handshake failed.
    Handshake(Error),
    /// A hook failed.
    Hook(Error),
}

impl Recipe {
    async fn open(&self, attempt: Attempt) -> Result<Session, Failure> {
        let mut request = self.request.clone();
        if let Some(prepare) = &self.prepare {
            request = prepare(attempt, request).await.map_err(Failure::Hook)?;
        }
        let mut session = request.connect().await.map_err(Failure::Handshake)?;
        if let Some(opened) = &self.opened {
            opened(&mut session).await.map_err(Failure::Hook)?;
        }
        session.keep_send_log(self.unacknowledged_capacity);
        Ok(session)
    }
}

/// An attempt in progress.
pub(super) enum RunningAttempt {
    /// The delay before the attempt.
    Waiting(Box<dyn Timer>, Attempt),
    /// Hooks and handshake.
    Running(BoxFuture<'static, Result<Session, Failure>>, u32),
}

impl RunningAttempt {
    /// An attempt without delay.
    pub(super) fn begin(
        recipe: &Arc<Recipe>,
        runtime: &Arc<dyn Runtime>,
        attempt: Attempt,
    ) -> Self {
        let (recipe, runtime) = (Arc::clone(recipe), Arc::clone(runtime));
        let number = attempt.number;
        let future = async move {
            let mut failure = None;
            let opening = async {
                recipe.open(attempt).await.map_err(|failed| {
                    let error = failed.error().clone();
                    failure = Some(failed);
                    error
                })
            };
            let limit = Some(recipe.timeout);
            let opened = deadline::within(&*runtime, limit, "the try to connect", opening).await;
            opened.map_err(|error| failure.unwrap_or(Failure::Handshake(error)))
        };
        Self::Running(Box::pin(future), number)
    }

    /// Ready when the delay is over.
    pub(super) fn poll_delay(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Waiting(timer, _) => timer.poll(cx),
            Self::Running(..) => Poll::Ready(()),
        }
    }
}

impl Failure {
    pub(super) fn error(&self) -> &Error {
        match self {
            Self::Handshake(error) | Self::Hook(error) => error,
        }
    }
}
