//! Time limits of the client.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use drivetrain_engine::{Error, ErrorKind, Result, Runtime};

/// The result of `future`, or [`ErrorKind::Timeout`] if `what` took longer than the limit.
pub(crate) async fn within<T>(
    runtime: &dyn Runtime,
    limit: Option<Duration>,
    what: &str,
    future: impl Future<Output = Result<T>>,
) -> Result<T> {
    let Some(limit) = limit else { return future.await };
    let mut timer = runtime.timer(runtime.now() + limit);
    let mut future = pin!(future);
    poll_fn(|cx| {
        if let Poll::Ready(result) = future.as_mut().poll(cx) {
            return Poll::Ready(result);
        }
        timer.poll(cx).map(|()| {
            Err(Error::new(ErrorKind::Timeout, format!("{what} took longer than {limit:?}")))
        })
    })
    .await
}
