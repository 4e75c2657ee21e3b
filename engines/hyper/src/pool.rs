//! Connections that wait for another request.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use crate::{dial::Place, exchange::Link};

/// Below what servers commonly allow; one that closed earlier is noticed when it is taken.
const IDLE: Duration = Duration::from_secs(30);

/// For all hosts together; the one idle for the longest goes first.
const MOST: usize = 32;

/// Idle connections, the one idle for the longest first. There is no task: those that are too old are
/// closed when the next one comes or goes.
#[derive(Default)]
pub(crate) struct Pool(Mutex<Vec<Idle>>);

struct Idle {
    place: Place,
    link: Link,
    since: Instant,
}

impl Pool {
    /// A connection to this place that is still open, as far as can be seen without waiting.
    pub(crate) fn take(&self, place: &Place) -> Option<Link> {
        let cx = &mut Context::from_waker(Waker::noop());
        loop {
            let mut link = {
                let mut idle = self.lock();
                expire(&mut idle);
                let index = idle.iter().rposition(|idle| idle.place == *place)?;
                idle.remove(index).link
            };
            if link.poll_idle(cx) == Poll::Ready(true) {
                return Some(link);
            }
        }
    }

    /// Keeps a connection that is idle.
    pub(crate) fn put(&self, place: Place, mut link: Link) {
        // Nobody's waker, so that an idle connection holds on to no task.
        if link.poll_idle(&mut Context::from_waker(Waker::noop())) != Poll::Ready(true) {
            return;
        }
        let mut idle = self.lock();
        expire(&mut idle);
        if idle.len() == MOST {
            idle.remove(0);
        }
        idle.push(Idle { place, link, since: Instant::now() });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        // No code of anyone else's runs under it, so that it is whole even if it were poisoned.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn expire(idle: &mut Vec<Idle>) {
    idle.retain(|idle| idle.since.elapsed() < IDLE);
}
