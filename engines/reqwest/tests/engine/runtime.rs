//! Tokio's tasks and time.

use std::{future::poll_fn, sync::mpsc, time::Duration};

use drivetrain_engine::{Instant, Result};
use drivetrain_reqwest::Tokio;

#[tokio::test(start_paused = true)]
async fn the_clock_and_the_timer_follow_tokios_time() -> Result<()> {
    let runtime = Tokio::current("test")?;
    let start = runtime.now();
    let mut timer = runtime.timer(start + Duration::from_secs(60));
    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!(runtime.now().saturating_since(start), Duration::from_secs(30));
    assert!(poll_fn(|cx| std::task::Poll::Ready(timer.poll(cx).is_pending())).await);
    poll_fn(|cx| timer.poll(cx)).await;
    assert!(runtime.now() >= start + Duration::from_secs(60));

    let again = runtime.now() + Duration::from_secs(5);
    timer.reset(again);
    assert!(poll_fn(|cx| std::task::Poll::Ready(timer.poll(cx).is_pending())).await);
    poll_fn(|cx| timer.poll(cx)).await;
    assert!(runtime.now() >= again);
    assert!(poll_fn(|cx| std::task::Poll::Ready(timer.poll(cx).is_ready())).await, "and stays so");
    timer.reset(Instant::from_origin(Duration::MAX));
    assert!(poll_fn(|cx| std::task::Poll::Ready(timer.poll(cx).is_pending())).await);
    Ok(())
}

#[test]
fn timers_and_tasks_are_made_outside_the_runtime_too() -> Result<()> {
    let tokio =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let runtime = tokio.block_on(async { Tokio::current("test") })?;
    let (done, dones) = mpsc::channel();
    let mut timer = runtime.timer(runtime.now() + Duration::from_millis(5));
    runtime.spawn(Box::pin(async move {
        poll_fn(|cx| timer.poll(cx)).await;
        done.send(()).ok();
    }));
    assert!(dones.recv_timeout(Duration::from_secs(5)).is_ok());
    drop(tokio);
    // The runtime is gone: the future is dropped, nothing panics.
    runtime.spawn(Box::pin(async {}));
    Ok(())
}
