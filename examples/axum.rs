//! A WebSocket beside other routes of an axum application, with extractors: `cargo run --example axum --features full`.
#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use axum::{
    Router,
    extract::{FromRef, Path, State},
    response::{IntoResponse as _, Response},
    routing::{any, get},
};
use drivetrain::{
    Result, Session, WebSockets,
    engine::Native,
    server::{Lag, Refusal, Sessions, Topics, Upgrader, WebSocketUpgrade, web_socket},
};
use tokio::net::TcpListener;

/// The state of the application: the sockets, and whatever else there is.
#[derive(Clone)]
struct App {
    sockets: Upgrader,
    rooms: Topics<String>,
}

impl FromRef<App> for Upgrader {
    fn from_ref(app: &App) -> Self {
        app.sockets.clone()
    }
}

impl FromRef<App> for Topics<String> {
    fn from_ref(app: &App) -> Self {
        app.rooms.clone()
    }
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let sessions = Sessions::new();
    let sockets = Upgrader::new(Native::new())
        .install(WebSockets::new().max_message_size(1 << 20))
        .sessions(&sessions);
    sockets.check()?;
    let app = Router::new()
        .route("/", get(async || "try /echo and /rooms/{room}\n"))
        .route("/echo", any(web_socket(echo)))
        .route("/rooms/{room}", any(room))
        .with_state(App { sockets, rooms: Topics::new() });
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    println!("listening on http://{}", listener.local_addr()?);
    let closing = sessions.clone();
    axum::serve(listener, app)
        .with_graceful_shutdown(async move {
            let _ = tokio::signal::ctrl_c().await;
            // axum does not know of sessions: they are closed here, while it answers the last requests.
            closing.shutdown(std::time::Duration::from_secs(10)).await;
        })
        .await?;
    Ok(())
}

async fn echo(mut session: Session) -> Result<()> {
    while let Some(frame) = session.receive().await? {
        session.send(frame).await?;
    }
    Ok(())
}

/// With a path parameter, state, and the refusal in hand.
async fn room(
    Path(room): Path<String>,
    State(rooms): State<Topics<String>>,
    upgrade: std::result::Result<WebSocketUpgrade, Refusal>,
) -> Response {
    match upgrade {
        Ok(upgrade) => upgrade
            .run(move |mut session| async move {
                let _seat = rooms.subscribe(room.clone(), &session, Lag::drop_oldest(64 << 10));
                while let Some(frame) = session.receive().await? {
                    rooms.publish(&room, frame);
                }
                Ok(())
            })
            .into_response(),
        Err(refusal) => refusal.into_response(),
    }
}
