//! Server-sent events that survive their connection: the server ends it after two events, and the stream
//! resumes at the next event.
//!
//! `cargo run --example events --features full`
#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::{io, time::Duration};

use drivetrain::{HttpClient, Result, engine::Tungstenite, sse::Reconnect};
use drivetrain_conformance::peer::{Conn, Server};

#[tokio::main]
async fn main() -> Result<()> {
    let server = Server::start(count_to_six);
    let client = HttpClient::new(Tungstenite::new());
    let mut events = client
        .sse(server.http_url("/"))
        .reconnect(Reconnect::new().delay(Duration::from_millis(100)))
        .connect()
        .await?;
    while let Some(event) = events.next().await? {
        println!("{}: {} (id {:?})", event.event, event.data, event.id);
    }
    println!("the server ended the stream after {} requests", server.requests());
    Ok(())
}

/// Sends the events after the client's last event; 204 at the end.
fn count_to_six(conn: &mut Conn) -> io::Result<()> {
    while let Some(request) = conn.read_request()? {
        let seen = request.header("last-event-id").and_then(|id| id.parse().ok()).unwrap_or(0);
        if seen >= 6 {
            conn.respond(204, &[], "")?;
            continue;
        }
        conn.begin_chunked(200, &[("content-type", "text/event-stream")])?;
        for n in seen + 1..=seen + 2 {
            conn.send_chunk(format!("id: {n}\nevent: count\ndata: {n}\n\n").as_bytes())?;
        }
        conn.end_chunked()?;
    }
    Ok(())
}
