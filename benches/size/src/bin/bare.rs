//! Sends a text to an echo server and prints the echo: with tokio-tungstenite alone.
#![allow(clippy::print_stdout, reason = "a program that reports")]

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::Message;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[cfg(feature = "bare-rustls")]
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return Err("there is a provider already".into());
    }
    let url = std::env::args().nth(1).ok_or("which URL?")?;
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await?;
    socket.send(Message::text("hello")).await?;
    if let Some(message) = socket.next().await {
        println!("{}", message?.into_text()?);
    }
    Ok(socket.close(None).await?)
}
