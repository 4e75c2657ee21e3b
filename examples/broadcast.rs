//! One message to many sessions, with a policy for slow ones: three clients get every price, since the feed waits for them.
//! A fourth reads nothing and is disconnected, which nobody else notices. The example ends by itself.
//!
//! `cargo run --example broadcast --features full`
#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::time::Duration;

use drivetrain::{
    CloseReason, HttpClient, Result, Session,
    engine::Native,
    server::{Broadcast, Lag, Sessions, Upgrader, serve},
};
use tokio::net::TcpListener;

/// How many bytes may wait for one subscriber.
const LIMIT: usize = 64 << 10;

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let (prices, sessions) = (Broadcast::new(), Sessions::new());
    let sockets = Upgrader::new(Native::new()).keep_requests().sessions(&sessions);
    let feed = prices.clone();
    let app = sockets.service(move |session: Session| follow(feed.clone(), session));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(serve(listener, app).into_future());

    let client = HttpClient::new(Native::new());
    let mut readers = Vec::new();
    for name in ["ann", "bob", "cid"] {
        let session = client.web_socket(format!("ws://{address}/every")).connect().await?;
        readers.push(tokio::spawn(read(name, session)));
    }
    let never_reads = client.web_socket(format!("ws://{address}/live")).connect().await?;
    while prices.len() < 4 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    // Until more than the limit waits for the one that does not read.
    let mut published = 0;
    while prices.disconnected() == 0 {
        published += 1;
        prices.publish_and_wait(format!("{published} {}", "x".repeat(4000))).await;
    }
    prices.publish_and_wait("end").await;
    println!("the subscriber that reads nothing was disconnected");
    for reader in readers {
        let (name, count) = reader.await??;
        assert_eq!(count, published);
        println!("{name} got every price");
    }
    drop(never_reads);
    let report = sessions.shutdown(Duration::from_secs(10)).await;
    println!("shut down, {} sessions cut off", report.aborted);
    server.abort();
    Ok(())
}

/// Follows the feed until the client leaves.
async fn follow(prices: Broadcast, mut session: Session) -> Result<()> {
    let path = session.request().map(|request| request.uri().path());
    let lag = match path {
        Some("/every") => Lag::wait(LIMIT),
        _ => Lag::disconnect(LIMIT),
    };
    let _subscription = prices.subscribe(&session, lag);
    while session.receive().await?.is_some() {}
    Ok(())
}

/// Counts prices up to the end of the feed.
async fn read(name: &'static str, mut session: Session) -> Result<(&'static str, usize)> {
    let mut count = 0;
    while let Some(price) = session.receive().await? {
        if price.read_text() == Some("end") {
            session.close(CloseReason::normal()).await?;
            break;
        }
        count += 1;
    }
    Ok((name, count))
}
