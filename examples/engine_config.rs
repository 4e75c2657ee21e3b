//! The place of an option decides who applies it: engine, plugin, request, and an engine without the capability.
//!
//! `cargo run --example engine_config --features full`
#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::time::Duration;

use drivetrain::{
    Capability, CloseReason, ErrorKind, HttpClient, Result, WebSockets,
    engine::{Reqwest, Tungstenite, tungstenite::WebSocketConfig},
};
use drivetrain_conformance::peer::EchoServer;

#[tokio::main]
async fn main() -> Result<()> {
    let server = EchoServer::start();

    // The engine value is its configuration: drivetrain's options, the library's options as typed methods,
    // and a native object made elsewhere.
    let preconfigured = WebSocketConfig::default().max_message_size(Some(1 << 20));
    let engine = Tungstenite::new()
        .ping_interval(Duration::from_millis(50))
        .read_buffer_size(64 << 10)
        .preconfigured(preconfigured)
        .http(Reqwest::new().tcp_keepalive(Duration::from_secs(30)).http1_only());
    let client = HttpClient::builder(engine)
        .install(
            WebSockets::new()
                .ping_interval(Duration::from_secs(20))
                .ping_timeout(Duration::from_secs(20))
                .max_message_size(4 << 20),
        )
        .build()?;
    println!("The engine's ping interval wins over the plugin's; of limits the smallest wins:\n");
    println!("{}", client.settings());

    // The session sends pings: a round trip is known without a message from this program.
    let mut session = client.web_socket(server.ws_url("/echo")).connect().await?;
    while session.latency().is_none() {
        // The server sends no messages; receiving reads the pongs.
        let received = tokio::time::timeout(Duration::from_millis(100), session.receive()).await;
        assert!(received.is_err(), "an echo server does not begin");
    }
    println!("round trip of the latest ping: {:?}", session.latency());
    session.close(CloseReason::normal()).await?;

    // One request overrides both.
    let quiet = client.web_socket(server.ws_url("/echo")).ping_interval(None).connect().await?;
    if let Some(setting) = quiet.settings().get("ping_interval") {
        println!(
            "{} on this session: {}, set by {:?}",
            setting.name, setting.value, setting.set_by
        );
    }
    quiet.close(CloseReason::normal()).await?;

    // A missing capability is refused by name, before a byte is sent.
    let refused = HttpClient::builder(Reqwest::new()).install(WebSockets::new()).build();
    let error = refused.expect_err("reqwest alone has no WebSockets");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.capability(), Some(Capability::WebSockets));
    println!("refused: {error}");
    Ok(())
}
