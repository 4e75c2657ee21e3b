//! Tokio's tasks and time, and calls outside of it.

use std::{
    future::poll_fn,
    pin::pin,
    sync::mpsc,
    task::{Context, Waker},
    time::Duration,
};

use crate::server::{PATIENCE, Result, Server, get, read_head};
use drivetrain_engine::{Connector as _, Engine, ErrorKind, Handshake, Instant};
use drivetrain_reqwest::{Reqwest, ReqwestConnector, Tokio};
use http_body_util::BodyExt;

#[tokio::test(start_paused = true)]
async fn the_clock_and_the_timer_follow_tokios_time() -> Result {
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
fn timers_and_tasks_are_made_outside_the_runtime_too() -> Result {
    let tokio =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let runtime = tokio.block_on(async { Tokio::current("test") })?;
    let (done, dones) = mpsc::channel();
    let mut timer = runtime.timer(runtime.now() + Duration::from_millis(5));
    runtime.spawn(Box::pin(async move {
        poll_fn(|cx| timer.poll(cx)).await;
        done.send(()).ok();
    }));
    assert!(dones.recv_timeout(PATIENCE).is_ok());
    drop(tokio);
    // The runtime is gone: the future is dropped, nothing panics.
    runtime.spawn(Box::pin(async {}));
    Ok(())
}

#[test]
fn outside_a_runtime_every_call_is_an_error_that_names_the_engine() -> Result {
    let engine = Reqwest::new();
    let connector = ReqwestConnector::new("outer", engine.clone());
    let handshake = Handshake::new("ws://127.0.0.1:1/".parse()?)?;
    let (near, _far) = tokio::io::duplex(64);

    let mut execute = pin!(engine.execute(get("http://127.0.0.1:1/")));
    let mut open = pin!(connector.upgrade(&handshake));
    let over = ReqwestConnector::over("outer", near);
    let mut open_over = pin!(over.upgrade(&handshake));
    let errors = [
        ("reqwest", execute.as_mut().poll_once().and_then(Result::err)),
        ("outer", open.as_mut().poll_once().and_then(Result::err)),
        ("outer", open_over.as_mut().poll_once().and_then(Result::err)),
        ("reqwest", engine.runtime().err()),
    ];
    for (name, error) in errors {
        let error = error.ok_or("no error")?;
        assert_eq!((error.kind(), error.engine()), (ErrorKind::Other, Some(name)));
        assert_eq!(
            error.to_string(),
            format!(
                "engine `{name}` needs a tokio runtime: call it from within one, such as under \
                 #[tokio::main]"
            )
        );
    }
    Ok(())
}

#[test]
fn a_request_begun_inside_may_be_polled_read_and_dropped_outside() -> Result {
    let server = Server::plain(|stream| {
        while read_head(stream).is_ok() {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")?;
        }
        Ok(())
    });
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let engine = Reqwest::new().configure(|b| b.read_timeout(PATIENCE));
    for _ in 0..2 {
        let url = server.url("http");
        let request = engine.execute(get(&url));
        let mut request = Box::pin(request);
        let polled = {
            let _entered = runtime.enter();
            request.as_mut().poll_once()
        };
        // A kept connection may have brought the answer within the one poll.
        let response = match polled {
            Some(response) => response?,
            None => block_on(request)?,
        };
        assert_eq!(block_on(response.into_body().collect())?.to_bytes(), "hello");
        let mut dropped = Box::pin(engine.execute(get(&url)));
        {
            let _entered = runtime.enter();
            dropped.as_mut().poll_once();
        }
        drop(dropped);
    }
    Ok(())
}

/// Polls without tokio.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(std::sync::Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        if let std::task::Poll::Ready(output) =
            future.as_mut().poll(&mut Context::from_waker(&waker))
        {
            return output;
        }
        std::thread::park();
    }
}

trait PollOnce: Future {
    fn poll_once(self: std::pin::Pin<&mut Self>) -> Option<Self::Output> {
        match self.poll(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }
}

impl<F: Future> PollOnce for F {}
