//! HTTP connections that wait for another request.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use drivetrain_engine::Instant;

use crate::{destination::Destination, http1_connection::Http1Connection};

/// For all hosts together; the one idle for the longest goes first.
pub(crate) const MOST: usize = 1024;

/// What a pool keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolLimits {
    /// How long; below what servers commonly allow. One that closed earlier is noticed when it is taken.
    pub(crate) idle_timeout: Option<Duration>,
    /// How many to one host.
    pub(crate) max_idle_per_host: usize,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self { idle_timeout: Some(Duration::from_secs(30)), max_idle_per_host: 32 }
    }
}

/// Idle connections, the one idle for the longest first. There is no task: those that are too old are
/// closed when the next one comes or goes.
#[derive(Default)]
pub(crate) struct Pool {
    idle: Mutex<Vec<Idle>>,
    limits: PoolLimits,
}

struct Idle {
    destination: Destination,
    connection: Http1Connection,
    since: Instant,
}

impl Pool {
    pub(crate) fn new(limits: PoolLimits) -> Self {
        Self { idle: Mutex::default(), limits }
    }

    /// A connection to this destination that is still open, as far as can be seen without waiting.
    pub(crate) fn take(&self, destination: &Destination, now: Instant) -> Option<Http1Connection> {
        let cx = &mut Context::from_waker(Waker::noop());
        loop {
            let mut connection = {
                let mut idle = self.lock();
                self.expire(&mut idle, now);
                let index = idle.iter().rposition(|idle| idle.destination == *destination)?;
                idle.remove(index).connection
            };
            if connection.poll_idle(cx) == Poll::Ready(true) {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection that is idle.
    pub(crate) fn put(
        &self,
        destination: Destination,
        mut connection: Http1Connection,
        now: Instant,
    ) {
        // A waker of no task, so that an idle connection holds on to none.
        if connection.poll_idle(&mut Context::from_waker(Waker::noop())) != Poll::Ready(true) {
            return;
        }
        let mut idle = self.lock();
        self.expire(&mut idle, now);
        let here = idle.iter().filter(|idle| idle.destination == destination).count();
        let oldest = match () {
            () if here >= self.limits.max_idle_per_host => {
                idle.iter().position(|idle| idle.destination == destination)
            }
            () if idle.len() >= MOST => Some(0),
            () => None,
        };
        if let Some(oldest) = oldest {
            idle.remove(oldest);
        }
        if self.limits.max_idle_per_host > 0 {
            idle.push(Idle { destination, connection, since: now });
        }
    }

    fn expire(&self, idle: &mut Vec<Idle>, now: Instant) {
        if let Some(limit) = self.limits.idle_timeout {
            idle.retain(|idle| now.saturating_since(idle.since) < limit);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        // No code of anyone else's runs under it, so that it is whole even if it were poisoned.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        pin::Pin,
        sync::{Arc, Weak},
    };

    use drivetrain_engine::HeadLimits;
    use futures_io::{AsyncRead, AsyncWrite};
    use futures_util::FutureExt as _;

    use super::*;
    use crate::{
        connector_state::ConnectorState, options::ConnectOptions, stream::ConnectedStream,
    };

    /// A socket that nothing comes from; the handle lives as long as it.
    struct Silent {
        _open: Arc<()>,
    }

    impl AsyncRead for Silent {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Silent {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// The pool of these options, and the connections that it was given, in order.
    struct Given {
        shared: Arc<ConnectorState>,
        connections: Vec<Weak<()>>,
    }

    impl Given {
        fn with(options: ConnectOptions) -> Self {
            Self { shared: ConnectorState::new(options), connections: Vec::new() }
        }

        fn put(&mut self, host: &str, at: Duration) {
            let open = Arc::new(());
            self.connections.push(Arc::downgrade(&open));
            let stream = ConnectedStream::socket(Silent { _open: open }, None);
            let connection = Http1Connection::new(stream, HeadLimits::default()).now_or_never();
            let connection = connection.expect("no I/O").expect("a connection");
            self.shared.pool.put(destination(host), connection, Instant::from_origin(at));
        }

        /// Which connection there is for this host. It is used up.
        fn take(&self, host: &str, at: Duration) -> Option<usize> {
            let before = self.open();
            drop(self.shared.pool.take(&destination(host), Instant::from_origin(at))?);
            let after = self.open();
            before.into_iter().find(|index| !after.contains(index))
        }

        fn open(&self) -> Vec<usize> {
            let is_open = |index: &usize| self.connections[*index].strong_count() > 0;
            (0..self.connections.len()).filter(is_open).collect()
        }
    }

    fn destination(host: &str) -> Destination {
        let uri = format!("http://{host}/").parse().expect("a URI");
        Destination::of(&uri).expect("a destination")
    }

    const START: Duration = Duration::from_secs(100);
    const NANOSECOND: Duration = Duration::from_nanos(1);

    #[test]
    fn the_limit_is_each_hosts_and_its_oldest_connection_gives_way() {
        let mut given = Given::with(ConnectOptions::new().pool_max_idle_per_host(2));
        for host in ["a", "b", "a", "b", "a", "c"] {
            given.put(host, START);
        }
        assert_eq!(given.open(), [1, 2, 3, 4, 5], "the first one to a");
        // The one that was used last is the least likely to have been closed by its server.
        assert_eq!(["a", "a", "a"].map(|host| given.take(host, START)), [Some(4), Some(2), None]);
        assert_eq!(["b", "b", "b"].map(|host| given.take(host, START)), [Some(3), Some(1), None]);
        assert_eq!(given.open(), [5], "the one to c");
    }

    #[test]
    fn a_limit_of_zero_keeps_none() {
        let mut given = Given::with(ConnectOptions::new().pool_max_idle_per_host(0));
        given.put("a", START);
        assert_eq!((given.open(), given.take("a", START)), (vec![], None));
    }

    #[test]
    fn all_hosts_together_have_a_limit_and_the_oldest_connection_gives_way() {
        let mut given = Given::with(ConnectOptions::new());
        for index in 0..MOST + 2 {
            given.put(&format!("host{index}"), START);
        }
        let open = given.open();
        assert_eq!((open.len(), open.first()), (MOST, Some(&2)));
    }

    #[test]
    fn connections_end_after_the_idle_timeout_whichever_host_the_next_request_is_for() {
        let limit = Duration::from_secs(5);
        for other in ["a", "b"] {
            let mut given = Given::with(ConnectOptions::new().pool_idle_timeout(limit));
            given.put("a", START);
            given.put("a", START + NANOSECOND);
            assert_eq!(given.take("c", START + limit - NANOSECOND), None);
            assert_eq!(given.open(), [0, 1], "not before");
            assert_eq!(given.take("c", START + limit), None);
            assert_eq!(given.open(), [1], "when a request begins");
            given.put(other, START + limit + NANOSECOND);
            assert_eq!(given.open(), [2], "when a request ends");
        }
    }

    #[test]
    fn without_an_idle_timeout_connections_stay() {
        let mut given = Given::with(ConnectOptions::new().pool_idle_timeout(None));
        given.put("a", START);
        assert_eq!(given.take("a", START + Duration::from_secs(86_400 * 365)), Some(0));
    }
}
