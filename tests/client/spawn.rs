//! What callers can write around `run` and `connect`: tasks, generic helpers, errors of their own.
#![cfg(feature = "tungstenite")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{future::Future, sync::Arc};

use drivetrain::{CloseReason, Error, ErrorKind, Frame, HttpClient, Result, Session};
use drivetrain_conformance::peer::EchoServer;

/// The block's future is `Send` because a session is `Send + Sync`.
#[tokio::test]
async fn run_can_be_spawned() {
    let server = EchoServer::start();
    let client = HttpClient::default();
    let greeting = Arc::new("borrowed by the block".to_owned());
    let task = tokio::spawn(client.web_socket(server.ws_url("/echo")).run(async move |session| {
        session.send(greeting.as_str()).await?;
        let answer = session.receive().await?;
        Ok(answer.and_then(Frame::into_text).map(|text| text.to_string()))
    }));
    assert_eq!(task.await.unwrap().unwrap().as_deref(), Some("borrowed by the block"));
}

#[tokio::test]
async fn a_block_may_borrow_from_its_caller() {
    let server = EchoServer::start();
    let client = HttpClient::default();
    let mut seen = Vec::new();
    let run = client.web_socket(server.ws_url("/echo")).run(async |session| {
        session.send("hello").await?;
        seen.extend(session.receive().await?);
        Ok(seen.len())
    });
    assert_eq!(run.await.unwrap(), 1);
    assert_eq!(seen, [Frame::from("hello")]);
}

/// Stable Rust cannot ask for the future of an `AsyncFnOnce` to be `Send`; this form can.
async fn with_session<T, Fut>(
    client: &HttpClient,
    url: String,
    block: impl FnOnce(Session) -> Fut + Send + 'static,
) -> Result<T>
where
    T: Send + 'static,
    Fut: Future<Output = Result<T>> + Send + 'static,
{
    let session = client.web_socket(url).connect().await?;
    tokio::spawn(block(session)).await.map_err(Error::other)?
}

#[tokio::test]
async fn a_generic_helper_takes_connect_and_a_closure_that_returns_a_future() {
    let server = EchoServer::start();
    let client = HttpClient::default();
    let clean = with_session(&client, server.ws_url("/echo"), |session| async move {
        session.send("x").await?;
        Ok(session.close(CloseReason::normal()).await?.clean)
    });
    assert!(clean.await.unwrap());
}

#[tokio::test]
async fn an_error_of_the_blocks_own_comes_out_of_run() {
    #[derive(Debug, thiserror::Error)]
    #[error("out of cheese")]
    struct OutOfCheese;

    let server = EchoServer::start();
    let run = HttpClient::default()
        .web_socket(server.ws_url("/echo"))
        .run(async |_| Err::<(), _>(Error::other(OutOfCheese)));
    let error = run.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other);
    assert!(std::error::Error::source(&error).unwrap().is::<OutOfCheese>());
}

#[test]
fn outside_the_runtime_that_an_engine_needs_there_is_an_error_and_no_panic() {
    let client = HttpClient::default();
    let mut connect = std::pin::pin!(client.web_socket("ws://127.0.0.1:1/").connect());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(result) = connect.as_mut().poll(&mut cx) else {
        panic!("it waits for a runtime that is not there")
    };
    let error = result.unwrap_err();
    assert_eq!(error.engine(), Some("tungstenite"));
    assert!(error.to_string().contains("tokio"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_dropped_outside_the_runtime_does_no_harm() {
    let server = EchoServer::start();
    let session = HttpClient::default().web_socket(server.ws_url("/echo")).connect().await.unwrap();
    session.send("pending").await.unwrap();
    std::thread::spawn(move || drop(session)).join().unwrap();
    assert!(server.wait_until_idle(std::time::Duration::from_secs(60)));
}
