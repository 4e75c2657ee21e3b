//! Server-sent events (WHATWG HTML, section 9.2): a stream of events that reconnects when its connection is lost.
//!
//! ```no_run
//! # async fn example(client: drivetrain::HttpClient) -> drivetrain::Result<()> {
//! let mut events = client.sse("https://example.com/events").connect().await?;
//! while let Some(event) = events.next().await? {
//!     println!("{}: {}", event.event, event.data);
//! }
//! # Ok(()) }
//! ```

mod attempt;
mod event;
mod reconnect;
mod request;
mod stream;

pub use event::ServerSentEvent;
pub use reconnect::Reconnect;
pub use request::SseRequest;
pub use stream::EventStream;
