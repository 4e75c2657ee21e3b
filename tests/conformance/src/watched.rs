//! An engine with counted session tasks.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use drivetrain::http;
use drivetrain_engine::{
    Answer, Body, Capability, Engine, EngineSettings, Handshake, Instant, Result, Runtime, Support,
    Timer, async_trait,
};

/// The session tasks of a [`Watched`] engine.
#[derive(Clone, Debug, Default)]
pub struct Tasks(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    running: AtomicUsize,
    polls: AtomicUsize,
}

impl Tasks {
    /// Number of unfinished tasks.
    pub fn running(&self) -> usize {
        self.0.running.load(Ordering::SeqCst)
    }

    /// Number of polls of all tasks: each poll is a task switch.
    pub fn polls(&self) -> usize {
        self.0.polls.load(Ordering::SeqCst)
    }

    fn begin(&self) -> Ticket {
        self.0.running.fetch_add(1, Ordering::SeqCst);
        Ticket(self.clone())
    }
}

/// Counts as one running task.
struct Ticket(Tasks);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An engine with a counting runtime.
///
/// ```
/// use drivetrain_conformance::{Tasks, Watched};
///
/// # fn count(engine: Box<dyn drivetrain_engine::Engine>) {
/// let tasks = Tasks::default();
/// let client = drivetrain::HttpClient::new(Watched::new(engine, tasks.clone()));
/// // ... sessions of this client come and go ...
/// assert_eq!(tasks.running(), 0);
/// # }
/// ```
#[derive(Debug)]
pub struct Watched {
    engine: Box<dyn Engine>,
    tasks: Tasks,
}

impl Watched {
    /// Counts this engine's session tasks in `tasks`.
    pub fn new(engine: Box<dyn Engine>, tasks: Tasks) -> Self {
        Self { engine, tasks }
    }
}

#[async_trait]
impl Engine for Watched {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn support(&self, capability: Capability) -> Support {
        self.engine.support(capability)
    }

    fn settings(&self) -> EngineSettings {
        self.engine.settings()
    }

    fn check(&self) -> Result<()> {
        self.engine.check()
    }

    fn runtime(&self) -> Result<Arc<dyn Runtime>> {
        Ok(Arc::new(Counted { runtime: self.engine.runtime()?, tasks: self.tasks.clone() }))
    }

    async fn execute(&self, request: http::Request<Body>) -> Result<http::Response<Body>> {
        self.engine.execute(request).await
    }

    async fn connect(&self, handshake: Handshake) -> Result<Answer> {
        self.engine.connect(handshake).await
    }
}

#[derive(Debug)]
struct Counted {
    runtime: Arc<dyn Runtime>,
    tasks: Tasks,
}

impl Runtime for Counted {
    fn random(&self) -> u32 {
        self.runtime.random()
    }

    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send + 'static>>) {
        let ticket = self.tasks.begin();
        self.runtime.spawn(Box::pin(async move {
            let mut future = future;
            poll_fn(|cx| {
                ticket.0.0.polls.fetch_add(1, Ordering::SeqCst);
                future.as_mut().poll(cx)
            })
            .await;
            drop(ticket);
        }));
    }

    fn now(&self) -> Instant {
        self.runtime.now()
    }

    fn timer(&self, deadline: Instant) -> Box<dyn Timer> {
        self.runtime.timer(deadline)
    }
}
