//! The beginning of an error response's body.

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use bytes::Bytes;
use drivetrain_engine::{Body, Instant, Runtime};

/// The most bytes that are read.
const MOST: usize = 64 << 10;

/// How long the body may pause. A server sends its reason along with the head; a body that comes later or never ends
/// must not delay the status.
const PAUSE: Duration = Duration::from_secs(2);

/// The beginning of the body of a response that is an error: up to its end, its failure, 64 KiB, a pause
/// of 2 s, or the deadline.
pub(crate) async fn start(mut body: Body, runtime: &dyn Runtime, deadline: Instant) -> Bytes {
    let until = |now: Instant| deadline.min(now + PAUSE);
    let mut timer = runtime.timer(until(runtime.now()));
    let mut seen = Vec::new();
    poll_fn(|cx| {
        while let Poll::Ready(frame) = http_body::Body::poll_frame(Pin::new(&mut body), cx) {
            // A failure of the body must not hide the status: keep the bytes read so far.
            let Some(Ok(frame)) = frame else { return Poll::Ready(()) };
            if let Ok(data) = frame.into_data() {
                let room = MOST - seen.len();
                seen.extend_from_slice(&data[..data.len().min(room)]);
                if seen.len() == MOST {
                    return Poll::Ready(());
                }
            }
            timer.reset(until(runtime.now()));
        }
        timer.poll(cx)
    })
    .await;
    seen.into()
}
