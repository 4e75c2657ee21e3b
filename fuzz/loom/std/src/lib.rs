//! The standard library with loom's locks and atomics in the place of its own. `Arc` stays the standard
//! one: wakers and runtimes are made of it, and nothing here depends on its order.

pub use ::std::*;

pub mod sync {
    pub use ::loom::sync::{Mutex, MutexGuard};
    pub use ::std::sync::*;

    pub mod atomic {
        #[cfg(feature = "coherent")]
        pub use super::super::coherent::AtomicBool;
        pub use ::loom::sync::atomic::*;
    }
}

/// Loom's order of stores is partial, and it lets a thread read, after its own store, a value that a
/// `swap` of another thread wrote before it: the `swap` has read what that store replaced, so that the
/// standard rules this out. Here each load is a `swap` of a kind, which loom orders.
#[cfg(feature = "coherent")]
mod coherent {
    use ::loom::sync::atomic::{AtomicBool as Inner, Ordering};

    #[derive(Debug, Default)]
    pub struct AtomicBool(Inner);

    impl AtomicBool {
        pub fn new(value: bool) -> Self {
            Self(Inner::new(value))
        }

        pub fn load(&self, order: Ordering) -> bool {
            self.0.fetch_or(false, order)
        }

        pub fn store(&self, value: bool, order: Ordering) {
            self.0.swap(value, order);
        }

        pub fn swap(&self, value: bool, order: Ordering) -> bool {
            self.0.swap(value, order)
        }
    }
}
