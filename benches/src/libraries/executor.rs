//! The runtimes, as programs on them run their first future.

use std::{future::Future, pin::Pin, sync::mpsc, time::Duration};

use tokio::runtime::{Builder, Runtime};

use crate::Result;

#[derive(Debug)]
pub(crate) enum Executor {
    /// One thread.
    Tokio(Runtime),
    /// As many threads as there are cores, on which all work is done.
    TokioThreads(Runtime),
    #[cfg(feature = "async-std")]
    AsyncStd,
    #[cfg(feature = "smol")]
    Smol,
}

/// Keeps other threads from running tasks while it lives.
pub(crate) type Held = mpsc::Sender<()>;

impl Executor {
    pub(crate) fn tokio() -> Result<Self> {
        Ok(Self::Tokio(Builder::new_current_thread().enable_all().build()?))
    }

    /// One thread, and a timer that is set, as one is wherever anything has a timeout: then each wait for input is a wait
    /// with a deadline.
    pub(crate) fn tokio_with_timer() -> Result<Self> {
        let executor = Self::tokio()?;
        executor.block_on(async {
            tokio::spawn(tokio::time::sleep(Duration::from_secs(24 * 60 * 60)));
            tokio::task::yield_now().await;
        });
        Ok(executor)
    }

    pub(crate) fn tokio_threads() -> Result<Self> {
        Ok(Self::TokioThreads(Builder::new_multi_thread().enable_all().build()?))
    }

    pub(crate) fn spawner(&self) -> Spawner {
        match self {
            Self::Tokio(_) | Self::TokioThreads(_) => Spawner::Tokio,
            #[cfg(feature = "async-std")]
            Self::AsyncStd => Spawner::AsyncStd,
            #[cfg(feature = "smol")]
            Self::Smol => Spawner::Smol,
        }
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        match self {
            Self::Tokio(runtime) | Self::TokioThreads(runtime) => runtime.block_on(future),
            #[cfg(feature = "async-std")]
            Self::AsyncStd => async_std::task::block_on(future),
            #[cfg(feature = "smol")]
            Self::Smol => smol::block_on(future),
        }
    }

    /// Runs a program's work: in a task where the runtime has threads for tasks, else right here.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        match self {
            Self::TokioThreads(_) => self.block_on(async { self.spawner().spawn(future).await }),
            _ => self.block_on(future),
        }
    }

    /// Runs a future that needs no sockets. Which thread of async-std or smol looks after its reactor is
    /// a matter of chance, so it is left out; tokio's is this thread.
    pub(crate) fn block_on_without_io<T>(&self, future: impl Future<Output = T>) -> T {
        match self {
            Self::Tokio(runtime) | Self::TokioThreads(runtime) => runtime.block_on(future),
            #[cfg(any(feature = "async-std", feature = "smol"))]
            _ => alone::block_on(future),
        }
    }

    /// Holds the thread on which async-std or smol runs tasks: when it runs them is a matter of chance,
    /// too. It takes that there is one such thread.
    pub(crate) fn hold(&self) -> Option<Held> {
        match self {
            Self::Tokio(_) | Self::TokioThreads(_) => None,
            #[cfg(feature = "async-std")]
            Self::AsyncStd => alone::hold(|task| drop(async_std::task::spawn(task))),
            #[cfg(feature = "smol")]
            Self::Smol => alone::hold(|task| smol::spawn(task).detach()),
        }
    }
}

/// Starts tasks on the runtime that it is used in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Spawner {
    Tokio,
    #[cfg(feature = "async-std")]
    AsyncStd,
    #[cfg(feature = "smol")]
    Smol,
}

type Task<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

impl Spawner {
    pub(crate) fn spawn<T: Send + 'static>(
        self,
        future: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Task<T> {
        match self {
            Self::Tokio => {
                let task = tokio::spawn(future);
                Box::pin(async { task.await? })
            }
            #[cfg(feature = "async-std")]
            Self::AsyncStd => Box::pin(async_std::task::spawn(future)),
            #[cfg(feature = "smol")]
            Self::Smol => Box::pin(smol::spawn(future)),
        }
    }

    pub(crate) async fn sleep(self, time: Duration) {
        match self {
            Self::Tokio => tokio::time::sleep(time).await,
            #[cfg(feature = "async-std")]
            Self::AsyncStd => async_std::task::sleep(time).await,
            #[cfg(feature = "smol")]
            Self::Smol => drop(smol::Timer::after(time).await),
        }
    }
}

/// A thread without the company of a runtime's.
#[cfg(any(feature = "async-std", feature = "smol"))]
mod alone {
    use std::{
        future::Future,
        pin::{Pin, pin},
        sync::{Arc, mpsc},
        task::{Context, Poll, Wake, Waker},
        thread::{self, Thread},
    };

    use super::Held;

    pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut cx = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
                return value;
            }
            thread::park();
        }
    }

    pub(super) fn hold(
        spawn: impl FnOnce(Pin<Box<dyn Future<Output = ()> + Send>>),
    ) -> Option<Held> {
        let (holds, is_held) = mpsc::channel();
        let (release, released) = mpsc::channel();
        spawn(Box::pin(async move {
            // A caller that is gone does not wait for it.
            let _ = holds.send(());
            let _ = released.recv();
        }));
        is_held.recv().ok().map(|()| release)
    }

    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }

        fn wake_by_ref(self: &Arc<Self>) {
            self.0.unpark();
        }
    }
}
