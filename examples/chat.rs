//! A chat with a WebSocket server: sends your input and prints the server's messages.
//!
//! `cargo run --example chat --features full -- wss://host/path` talks to that server; without a URL it
//! starts an echo server on loopback. The end of the input (ctrl-d) closes the session.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]

use std::{io, thread, time::Duration};

use drivetrain::{
    CloseReason, Frame, HttpClient, Result, Session, WebSockets, engine::Tungstenite,
};
use drivetrain_conformance::peer::EchoServer;
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> Result<()> {
    // Dropping the server stops it; `None` is the user's own server.
    let mut server = None;
    let url = match std::env::args().nth(1) {
        Some(url) => url,
        None => server.insert(EchoServer::start()).ws_url("/echo"),
    };
    let client = HttpClient::builder(Tungstenite::new())
        .install(WebSockets::new().ping_interval(Duration::from_secs(20)))
        .build()?;
    let mut session = client.web_socket(&url).connect().await?;
    eprintln!("connected to {url}; ctrl-d ends it");

    let mut lines = lines();
    loop {
        // Both futures are cancel-safe: the cancelled one loses nothing.
        tokio::select! {
            line = lines.recv() => match line {
                Some(line) => session.send(line).await?,
                None => break,
            },
            frame = session.receive() => match frame? {
                Some(frame) => print(&frame),
                None => break,
            },
        }
    }
    end(session).await
}

/// Closes the session and prints the remaining messages. A session that the server has closed keeps
/// its outcome.
async fn end(mut session: Session) -> Result<()> {
    let outcome = session.close(CloseReason::normal()).await?;
    while let Some(frame) = session.receive().await? {
        print(&frame);
    }
    eprintln!("{outcome}");
    Ok(())
}

fn print(frame: &Frame) {
    match frame.read_text() {
        Some(text) => println!("{text}"),
        None => println!("({} bytes)", frame.read_bytes().len()),
    }
}

/// The lines of the standard input, read on a separate thread: a read that waits for a
/// terminal would keep a runtime from ending.
fn lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(16);
    thread::spawn(move || {
        for line in io::stdin().lines().map_while(io::Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}
