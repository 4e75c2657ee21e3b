//! The standard library with loom's locks and atomics in the place of its own. `Arc` stays the standard
//! one: wakers and runtimes are made of it, and nothing here depends on its order.

pub use ::std::*;

pub mod sync {
    pub use ::std::sync::*;
    pub use ::loom::sync::{Mutex, MutexGuard};

    pub mod atomic {
        pub use ::loom::sync::atomic::*;
    }
}
