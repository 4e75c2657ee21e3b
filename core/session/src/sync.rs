//! Locks and atomics: the standard library's, or loom's in a build that checks every order of a session's tasks
//! (`fuzz/loom`). `Arc` stays the standard one: wakers and runtimes are made of it, and nothing here depends on its order.

#[cfg(not(drivetrain_loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64},
};

#[cfg(drivetrain_loom)]
pub(crate) use self::coherent::AtomicBool;
#[cfg(drivetrain_loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU8, AtomicU32, AtomicU64},
};

/// Loom's order of stores is partial, and it lets a thread read, after its own store, a value that a
/// `swap` of another thread wrote before it: the `swap` has read what that store replaced, so that the
/// standard rules this out. Here each load is a `swap` of a kind, which loom orders.
#[cfg(drivetrain_loom)]
mod coherent {
    use loom::sync::atomic::{AtomicBool as Inner, Ordering};

    #[derive(Debug, Default)]
    pub(crate) struct AtomicBool(Inner);

    impl AtomicBool {
        pub(crate) fn new(value: bool) -> Self {
            Self(Inner::new(value))
        }

        pub(crate) fn load(&self, order: Ordering) -> bool {
            self.0.fetch_or(false, order)
        }

        pub(crate) fn store(&self, value: bool, order: Ordering) {
            self.0.swap(value, order);
        }

        pub(crate) fn swap(&self, value: bool, order: Ordering) -> bool {
            self.0.swap(value, order)
        }
    }
}
