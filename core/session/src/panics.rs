//! Panics of user code: each is caught, and the first one is resumed once all of the code has run.

use std::{
    any::Any,
    mem,
    panic::{self, AssertUnwindSafe},
    task::Waker,
    thread,
};

/// The payload of a panic.
type Panic = Box<dyn Any + Send>;

/// Collects panics, so that one does not stop the rest of the work.
#[derive(Default)]
pub(crate) struct Panics {
    first: Option<Panic>,
}

impl Panics {
    pub(crate) fn catch(&mut self, code: impl FnOnce()) {
        if let Err(panic) = panic::catch_unwind(AssertUnwindSafe(code)) {
            // A panic payload may run user code on its drop.
            mem::forget(self.first.replace(panic));
        }
    }

    /// Whether there was none.
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Resumes the first panic, if there was one and this thread is not panicking already.
    #[inline]
    pub(crate) fn resume(self) {
        if let Some(panic) = self.first {
            resume(panic);
        }
    }

    /// Resumes none.
    pub(crate) fn forget(self) {
        mem::forget(self.first);
    }
}

#[cold]
fn resume(panic: Panic) {
    if thread::panicking() {
        mem::forget(panic);
    } else {
        panic::resume_unwind(panic);
    }
}

/// Wakes all wakers, also if one panics; then resumes the first panic.
pub fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    let mut panics = Panics::default();
    for waker in wakers {
        panics.catch(|| waker.wake());
    }
    panics.resume();
}

#[cfg(test)]
mod tests {
    use std::{
        panic::resume_unwind,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering::Relaxed},
        },
        task::Wake,
    };

    use super::*;

    /// The payload of a panic that runs code on its drop.
    struct Counted(Arc<AtomicUsize>);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    struct Panicking(AtomicUsize);

    impl Wake for Panicking {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
            resume_unwind(Box::new("of a waker"));
        }
    }

    #[test]
    fn a_panic_that_is_forgotten_runs_no_code() {
        let drops = Arc::new(AtomicUsize::new(0));
        let mut panics = Panics::default();
        panics.catch(|| ());
        assert!(panics.is_empty());
        for _ in 0..2 {
            panics.catch(|| resume_unwind(Box::new(Counted(Arc::clone(&drops)))));
        }
        assert!(!panics.is_empty());
        panics.forget();
        assert_eq!(drops.load(Relaxed), 0);
        Panics::default().resume();
    }

    #[test]
    fn all_wakers_are_woken_and_the_panic_is_resumed() {
        let wakes = Arc::new(Panicking(AtomicUsize::new(0)));
        let wakers = [0; 3].map(|_| Waker::from(Arc::clone(&wakes)));
        let panic = panic::catch_unwind(|| wake_all(wakers)).expect_err("it panics");
        assert_eq!(panic.downcast_ref(), Some(&"of a waker"));
        assert_eq!(wakes.0.load(Relaxed), 3);
    }
}
