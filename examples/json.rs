//! Values instead of messages: a typed exchange with the `Json` converter, and each way it can fail.
//!
//! `cargo run --example json --features full`
#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::error::Error as _;

use drivetrain::{
    CloseReason, ConvertError, Error, ErrorKind, HttpClient, Json, Result, WebSockets,
    engine::Tungstenite,
};
use drivetrain_conformance::peer::EchoServer;
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    item: String,
    count: u32,
}

#[tokio::main]
async fn main() -> Result<()> {
    let server = EchoServer::start();
    let client = HttpClient::builder(Tungstenite::new())
        .install(WebSockets::new().converter(Json))
        .build()?;
    let mut session = client.web_socket(server.ws_url("/echo")).connect().await?;

    let order = Order { item: "tea".into(), count: 2 };
    session.send_serialized(&order).await?;
    let back: Order = session.receive_deserialized().await?;
    println!("echoed: {back:?}");

    // The server's echo is not always an order. Each failure consumes its message; the
    // session stays open.
    for text in [r#"{"item": "tea"}"#, "not JSON", "null"] {
        session.send(text).await?;
        match session.receive_deserialized::<Order>().await {
            Ok(order) => println!("{text}: {order:?}"),
            Err(error) => println!("{text}: {}", explain(&error)?),
        }
    }
    // `null` is a value where the type allows it.
    session.send("null").await?;
    println!("null, if it may be: {:?}", session.receive_deserialized::<Option<Order>>().await?);

    let outcome = session.close(CloseReason::normal()).await?;
    println!("{outcome}");
    // After the close, receiving fails because the session is closed, not because of a conversion.
    let error = session.receive_deserialized::<Order>().await.expect_err("it is closed");
    assert_eq!(error.kind(), ErrorKind::Closed);
    Ok(())
}

/// Describes the fault of a message; returns any other error.
fn explain(error: &Error) -> Result<String> {
    match error.source().and_then(|source| source.downcast_ref::<ConvertError>()) {
        Some(ConvertError::Malformed(cause)) => Ok(format!("no JSON at all: {cause}")),
        Some(ConvertError::WrongType(cause)) => Ok(format!("JSON, but no order: {cause}")),
        Some(other) => Ok(other.to_string()),
        None => Err(error.clone()),
    }
}
