//! The stream of both directions.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use drivetrain_engine::BoxStream;

/// The stream of the gate, which the library owns, and of the writer. Both run under the one `&mut Framer`, so that
/// nobody waits for the lock.
#[derive(Clone)]
pub(super) struct SharedStream(Arc<Mutex<BoxStream>>);

impl SharedStream {
    pub(super) fn new(stream: BoxStream) -> Self {
        Self(Arc::new(Mutex::new(stream)))
    }

    #[inline]
    pub(super) fn with<T>(&self, poll: impl FnOnce(Pin<&mut BoxStream>) -> T) -> T {
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        poll(Pin::new(&mut *stream))
    }
}
