//! The same under every executor: nobody has to poll the mock.

use std::{future::Future, time::Duration};

use drivetrain::{
    CloseReason, ErrorKind, Frame, HttpClient, WebSockets,
    testing::{MockEngine, Script},
};

use super::{SECOND, connect};

/// What a user's test does, without a word about the mock's tasks.
async fn a_usual_test() {
    let mock = MockEngine::new();
    let plugin = WebSockets::new().ping_interval(20 * SECOND).ping_timeout(10 * SECOND);
    let client = HttpClient::builder(mock.clone()).install(plugin).build().unwrap();
    let greeting = Script::new().expect("a").expect("b").send("c").expect_close();
    mock.web_socket("/chat").times(50).script(greeting);
    for _ in 0..50 {
        let mut session = connect(&client).await.unwrap();
        session.send("a").await.unwrap();
        session.send("b").await.unwrap(); // written by the session's own task
        assert_eq!(session.receive().await.unwrap(), Some(Frame::from("c")));
        assert!(session.close(CloseReason::normal()).await.unwrap().clean);
    }
    mock.assert_done();

    mock.web_socket("/chat").silent().open();
    let mut session = connect(&client).await.unwrap();
    let peer = mock.accept().await.unwrap();
    mock.clock().advance(29 * SECOND).await;
    assert!(!peer.is_dropped());
    mock.clock().advance(SECOND).await;
    assert!(peer.is_dropped());
    assert_eq!(session.receive().await.unwrap_err().kind(), ErrorKind::Timeout);
}

/// A program's own task, which wakes only to wait again.
async fn counts(client: HttpClient, tries: u32) -> Duration {
    let mut events = client.sse("http://example.com/").connect().await.unwrap();
    for _ in 0..tries {
        events.next().await.unwrap().unwrap();
    }
    Duration::ZERO
}

/// A task of the executor beside a clock that goes an hour at once: it gets each of its moments.
async fn a_task_of_the_program<F, J>(spawn: impl FnOnce(F) -> J, make: impl FnOnce(HttpClient) -> F)
where
    F: Future,
    J: Future,
{
    use drivetrain::{http::Method, testing::Reply};
    let mock = MockEngine::new();
    let moments = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let (clock, seen) = (mock.clock().clone(), moments.clone());
    mock.on(Method::GET, "/").respond_with(move |_| {
        seen.lock().unwrap().push(clock.elapsed().as_secs());
        async { Reply::event_stream().body("data: x\n\n") }
    });
    let task = spawn(make(HttpClient::new(mock.clone())));
    mock.clock().advance(3600 * SECOND).await;
    let moments = moments.lock().unwrap().clone();
    assert_eq!(moments.len(), 1200, "one request each 3 s");
    assert!(moments.iter().zip(0..).all(|(&at, n)| at == n * 3), "{moments:?}");
    task.await;
}

#[tokio::test]
async fn tokio_on_one_thread() {
    a_usual_test().await;
    a_task_of_the_program(tokio::spawn, |client| counts(client, 1200)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokio_on_several_threads() {
    a_usual_test().await;
}

#[test]
fn smol() {
    smol::block_on(a_usual_test());
    let executor = smol::LocalExecutor::new();
    let spawn = |future| executor.spawn(future);
    let test = a_task_of_the_program(spawn, |client| counts(client, 1200));
    smol::block_on(executor.run(test));
}

#[test]
fn async_std() {
    async_std::task::block_on(a_usual_test());
}

#[test]
fn its_own() {
    // The clock of one mock runs the test of another.
    MockEngine::new().clock().block_on(async {});
    let test = std::thread::spawn(|| smol::block_on(a_usual_test()));
    test.join().unwrap();
}

/// Between two of its requests a program's tasks take turns that the mock knows nothing of.
#[tokio::test]
async fn what_a_program_does_in_between_is_waited_for() {
    use drivetrain::http::Method;
    let mock = MockEngine::new();
    mock.on(Method::GET, "/").times(2).respond("");
    let client = HttpClient::new(mock.clone());
    let task = tokio::spawn(async move {
        for _ in 0..2 {
            client.get("http://example.com/").send().await.unwrap();
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        }
    });
    mock.clock().settle().await;
    assert!(task.is_finished());
    mock.assert_done();
}

/// Joined futures are polled as often as spawned ones.
#[tokio::test]
async fn joined_with_the_clock() {
    let mock = MockEngine::new();
    mock.web_socket("/chat").silent().open();
    let client = HttpClient::new(mock.clone());
    let session = connect(&client).await.unwrap();
    let _peer = mock.accept().await.unwrap();
    let (closed, ()) =
        tokio::join!(session.close(CloseReason::normal()), mock.clock().advance(5 * SECOND));
    let outcome = match closed {
        Ok(outcome) => outcome,
        Err(error) => error.outcome().cloned().unwrap(),
    };
    assert_eq!(outcome.error.unwrap().kind(), ErrorKind::Timeout);
}
