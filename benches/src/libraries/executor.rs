//! The runtimes, as programs on them run their first future.

use std::{future::Future, sync::mpsc};

use tokio::runtime::{Builder, Runtime};

use crate::Result;

#[derive(Debug)]
pub(crate) enum Executor {
    /// One thread.
    Tokio(Runtime),
    #[cfg(feature = "async-std")]
    AsyncStd,
    #[cfg(feature = "smol")]
    Smol,
}

/// Keeps other threads from running tasks while it lives.
pub(crate) type Held = mpsc::Sender<()>;

impl Executor {
    #[cfg_attr(
        not(any(feature = "tungstenite", feature = "fastwebsockets")),
        expect(dead_code, reason = "no engine in this build runs on tokio")
    )]
    pub(crate) fn tokio() -> Result<Self> {
        Ok(Self::Tokio(Builder::new_current_thread().enable_all().build()?))
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        match self {
            Self::Tokio(runtime) => runtime.block_on(future),
            #[cfg(feature = "async-std")]
            Self::AsyncStd => async_std::task::block_on(future),
            #[cfg(feature = "smol")]
            Self::Smol => smol::block_on(future),
        }
    }

    /// Runs a future that needs no sockets. Which thread of async-std or smol looks after its reactor is
    /// a matter of chance, so it is left out; tokio's is this thread.
    pub(crate) fn block_on_without_io<T>(&self, future: impl Future<Output = T>) -> T {
        match self {
            Self::Tokio(runtime) => runtime.block_on(future),
            #[cfg(any(feature = "async-std", feature = "smol"))]
            _ => alone::block_on(future),
        }
    }

    /// Holds the thread on which async-std or smol runs tasks: when it runs them is a matter of chance,
    /// too. It takes that there is one such thread.
    pub(crate) fn hold(&self) -> Option<Held> {
        match self {
            Self::Tokio(_) => None,
            #[cfg(feature = "async-std")]
            Self::AsyncStd => alone::hold(|task| drop(async_std::task::spawn(task))),
            #[cfg(feature = "smol")]
            Self::Smol => alone::hold(|task| smol::spawn(task).detach()),
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
            // Whoever is gone does not wait for it.
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
