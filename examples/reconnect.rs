//! A session that outlives its connection: the server restarts in the middle, and is busy once. The client
//! gets a report of possibly lost messages, and sends them again.
//!
//! `cargo run --example reconnect --features full`
#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::{collections::VecDeque, io, time::Duration};

use drivetrain::{
    CloseReason, Frame, HttpClient, Result,
    engine::Tungstenite,
    reconnect::{Backoff, Event},
};
use drivetrain_conformance::peer::{Conn, Message, Server};

#[tokio::main]
async fn main() -> Result<()> {
    let server = Server::start(restarting);
    let client = HttpClient::new(Tungstenite::new());
    let mut session = client
        .web_socket(server.ws_url("/"))
        .reconnect(Backoff::new().first_delay(Duration::from_millis(200)))
        .on_open(|session| Box::pin(async move { session.send("subscribe").await }))
        .connect()
        .await?;
    let mut again = VecDeque::<Frame>::new();
    for n in 1..=5 {
        let message = Frame::from(format!("message {n}"));
        // The connection may be lost in the middle.
        if session.send(message.clone()).await.is_err() {
            again.push_back(message);
        }
    }
    while let Some(event) = session.receive().await? {
        match event {
            Event::Message(frame) => {
                println!("received: {}", frame.read_text().unwrap_or_default());
                if frame.read_text() == Some("echo of message 5") {
                    session.close(CloseReason::normal()).await?;
                }
            }
            Event::Disconnected(lost) => {
                println!("disconnected ({}), {:?}", lost.outcome, lost.unacknowledged);
                again = lost.unacknowledged.into_frames().chain(again).collect();
            }
            Event::Retrying(retry) => println!("try {} in {:?}", retry.attempt, retry.delay),
            Event::Connected(_) => {
                println!("connected; sending {} messages again", again.len());
                // The connection may be lost again: unaccepted messages stay in the queue.
                while let Some(frame) = again.front() {
                    if session.send(frame.clone()).await.is_err() {
                        break;
                    }
                    again.pop_front();
                }
            }
        }
    }
    println!("closed, after {} handshakes", server.requests());
    Ok(())
}

/// Echoes two messages on the first connection and restarts, then is busy once, then echoes everything.
fn restarting(conn: &mut Conn) -> io::Result<()> {
    let request = conn.read_request()?.ok_or(io::ErrorKind::UnexpectedEof)?;
    if conn.id() == 2 {
        return conn.respond(503, &[("retry-after", "1")], "busy");
    }
    conn.accept(&request, &[])?;
    let mut echoed = 0;
    while let Some(message) = conn.receive_message()? {
        match message {
            Message::Text(text) if text == "subscribe" => {}
            Message::Text(text) => conn.send_text(&format!("echo of {text}"))?,
            Message::Binary(_) => {}
            Message::Close { code, .. } => return conn.send_close(code, ""),
        }
        echoed += 1;
        if conn.id() == 1 && echoed == 3 {
            return conn.send_close(1012, "restarting");
        }
    }
    Ok(())
}
