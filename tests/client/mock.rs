//! `MockEngine`: what a test of a program can say, every fault, and that it is told when something else happens.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod capabilities;
mod executors;
mod faults;
mod garbage;
mod http;
mod scripts;
mod time;
mod web_sockets;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use drivetrain::{Frame, HttpClient, Result, Session, testing::MockEngine};

const SECOND: Duration = Duration::from_secs(1);
const URL: &str = "ws://example.com/chat";

/// A client of a mock, and the mock.
fn client() -> (HttpClient, MockEngine) {
    let mock = MockEngine::new();
    (HttpClient::new(mock.clone()), mock)
}

fn on<T>(mock: &MockEngine, future: impl Future<Output = Result<T>>) -> Result<T> {
    mock.clock().block_on(future)
}

/// Opens a session at `/chat`.
async fn connect(client: &HttpClient) -> Result<Session> {
    client.web_socket(URL).connect().await
}

/// The problems of a mock that was not used as expected.
fn problems(mock: &MockEngine) -> String {
    mock.verify().expect_err("something is wrong").to_string()
}

/// A future beside a clock that moves step by step: its value, and how far the clock went.
async fn while_time_passes<T>(
    mock: &MockEngine,
    step: Duration,
    future: impl Future<Output = T>,
) -> (T, Duration) {
    let clock = mock.clock();
    let begin = clock.elapsed();
    let mut future = pin!(future);
    let mut moving = pin!(async {
        for _ in 0..100_000 {
            clock.advance(step).await;
        }
        panic!("it takes for ever");
    });
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready((value, clock.elapsed() - begin)),
        Poll::Pending => moving.as_mut().poll(cx),
    })
    .await
}

fn text(frame: Option<Frame>) -> String {
    frame.unwrap().into_text().unwrap().to_string()
}
