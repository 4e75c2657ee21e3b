//! The page's whole example, as it stands there.

use drivetrain::{Error, HttpClient, Result};

pub(crate) async fn chat(client: HttpClient) -> Result<()> {
    client
        .web_socket("ws://127.0.0.1:8080/chat")
        .run(async |session| {
            while let Some(frame) = session.receive().await? {
                let Some(text) = frame.read_text() else { continue };
                println!("{text}");
                let Some(line) = read_line().await? else { break };
                session.send(line).await?;
            }
            Ok(()) // the server has closed, or the input has ended
        })
        .await
}

/// The next line, `None` at the end of the input. Waiting for the user does not hold up a thread of the
/// runtime; pings are answered meanwhile.
async fn read_line() -> Result<Option<String>> {
    let read = || std::io::stdin().lines().next().transpose();
    tokio::task::spawn_blocking(read).await.map_err(Error::other)?.map_err(Error::other)
}
