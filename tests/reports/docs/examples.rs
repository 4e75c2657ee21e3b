//! The tests that pages show, run.

use std::time::Duration;

use drivetrain::{
    ErrorKind, HttpClient, WebSockets,
    http::Method,
    testing::{MockEngine, Script},
};

#[tokio::test]
async fn says_hello() {
    let mock = MockEngine::new();
    mock.web_socket("/").script(Script::new().expect("hello").send("hi").expect_close());
    let client = HttpClient::new(mock.clone());

    let mut session = client.web_socket("ws://example.com/").connect().await.unwrap();
    session.send("hello").await.unwrap();
    assert_eq!(session.receive().await.unwrap().unwrap().read_text(), Some("hi"));
    session.close(drivetrain::CloseReason::normal()).await.unwrap();
    mock.assert_done();
}

#[tokio::test]
async fn a_dead_server_is_noticed() {
    let mock = MockEngine::new();
    mock.on(Method::GET, "/token").respond("secret");
    mock.web_socket("/feed").silent().script(Script::new().expect("subscribe").send("one").stall());
    let ping = WebSockets::new().ping_interval(Duration::from_secs(20));
    let client = HttpClient::builder(mock.clone()).install(ping).build().unwrap();

    let token = client.get("https://example.com/token").send().await.unwrap().text().await.unwrap();
    let mut session =
        client.web_socket("wss://example.com/feed").bearer_auth(token).connect().await.unwrap();
    session.send("subscribe").await.unwrap();
    assert_eq!(session.receive().await.unwrap().unwrap().read_text(), Some("one"));
    mock.clock().advance(Duration::from_secs(60)).await; // in microseconds
    assert_eq!(session.receive().await.unwrap_err().kind(), ErrorKind::Timeout);

    assert_eq!(mock.requests()[1].header("authorization"), Some("Bearer secret"));
    mock.assert_done();
}
