//! Sends a text to an echo server and prints the echo: with drivetrain.
#![allow(clippy::print_stdout, reason = "a program that reports")]

use drivetrain::{CloseReason, HttpClient};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("which URL?")?;
    let mut session = HttpClient::default().web_socket(url).connect().await?;
    session.send("hello").await?;
    if let Some(frame) = session.receive().await? {
        println!("{}", frame.read_text().unwrap_or_default());
    }
    session.close(CloseReason::normal()).await?;
    Ok(())
}
