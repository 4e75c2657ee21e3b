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
