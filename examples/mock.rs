//! Tests a program that uses drivetrain: without a network, without sleeping, with faults at exact times.
//!
//! `cargo run --example mock --features full`
//!
//! `prices` is the program; `main` does what its tests would do, and prints the results.
#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::time::Duration;

use drivetrain::{
    Error, ErrorKind, HttpClient, Result, WebSockets,
    http::{Method, StatusCode},
    testing::{MockEngine, Reply, Script},
};

/// The program: logs in, opens a WebSocket with the token, and adds up the prices.
async fn prices(client: &HttpClient) -> Result<u32> {
    let login = client.post("https://example.com/login").body("me").send().await?;
    let token = login.error_for_status().await?.text().await?;
    let mut session =
        client.web_socket("wss://example.com/prices").bearer_auth(token).connect().await?;
    session.send("subscribe").await?;
    let mut sum = 0;
    while let Some(frame) = session.receive().await? {
        let price = frame.read_text().unwrap_or_default();
        sum += price.parse::<u32>().map_err(Error::other)?;
    }
    Ok(sum)
}

async fn failure(client: &HttpClient) -> Error {
    prices(client).await.expect_err("it has to fail")
}

fn client(mock: &MockEngine) -> Result<HttpClient> {
    let ping = WebSockets::new().ping_interval(Duration::from_secs(20));
    HttpClient::builder(mock.clone()).install(ping).build()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    // Success.
    let mock = MockEngine::new();
    mock.on(Method::POST, "/login").respond("token");
    let day = Script::new()
        .expect("subscribe")
        .send("40")
        .send("2")
        .close(drivetrain::CloseReason::normal())
        .expect_close();
    mock.web_socket("/prices").script(day);
    println!("sum             {}", prices(&client(&mock)?).await?);
    println!("token           {:?}", mock.requests()[1].header("authorization"));
    mock.assert_done();

    // The server goes away in the middle of a frame.
    let mock = logged_in();
    let half = Script::new().expect("subscribe").send("40").send_raw(&b"\x81\x05he"[..]).eof();
    mock.web_socket("/prices").script(half);
    println!("cut             {}", failure(&client(&mock)?).await);

    // The server refuses the handshake.
    let mock = logged_in();
    mock.web_socket("/prices").respond(StatusCode::FORBIDDEN);
    println!("refused         {}", failure(&client(&mock)?).await);
    let mock = MockEngine::new();
    mock.on(Method::POST, "/login").respond(Reply::from("tok").cut());
    println!("half a token    {}", failure(&client(&mock)?).await);

    // The server is silent. The session notices after interval and timeout: a minute of mock time.
    let mock = logged_in();
    mock.web_socket("/prices").silent().script(Script::new().expect("subscribe").stall());
    let client_of_silence = client(&mock)?;
    let (silent, ()) =
        tokio::join!(prices(&client_of_silence), mock.clock().advance(Duration::from_secs(60)));
    let error = silent.expect_err("no answer");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    println!("after {:?}       {error}", mock.clock().elapsed());

    // The program does not follow the script: the session and the test both report it.
    let mock = logged_in();
    mock.web_socket("/prices").script(Script::new().expect("hello"));
    println!("mismatch        {}", failure(&client(&mock)?).await);
    println!("and for a test  {}", mock.verify().expect_err("it said hello"));
    Ok(())
}

fn logged_in() -> MockEngine {
    let mock = MockEngine::new();
    mock.on(Method::POST, "/login").respond("token");
    mock
}
