//! A chat with rooms, in the browser: `cargo run --example chat-server --features full`, then open the address that it
//! prints, in two windows.
//!
//! | route | what it does |
//! |---|---|
//! | `GET /` | the page |
//! | `/rooms/{room}?name={name}` | a WebSocket: each text goes to everybody in the room |
//! | `GET /rooms/{room}/history` | the last messages of the room, as server-sent events |
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    env, future,
    sync::{Arc, Mutex, PoisonError},
};

use drivetrain::{
    Result, Session, WebSockets,
    engine::Native,
    server::{Events, Lag, Peer, ServerEvent, Sessions, Topics, Upgrader, serve},
};
use futures_util::{TryFutureExt as _, stream};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Incoming};
use serde_json::json;
use tokio::net::TcpListener;
use tower::service_fn;

/// How many messages of a room are kept, and how long one may be.
const KEPT: usize = 50;
const LONGEST: usize = 4 << 10;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// The rooms: who is there, and what was said last. A room without people is forgotten.
#[derive(Clone, Default)]
struct Chat {
    topics: Topics<String>,
    said: Arc<Mutex<HashMap<String, VecDeque<String>>>>,
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".into());
    let sessions = Sessions::new().max_sessions(10_000);
    let sockets = Upgrader::new(Native::new())
        .install(WebSockets::new().max_message_size(LONGEST))
        .sessions(&sessions);
    sockets.check()?;
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let chat = Chat::default();
    let registry = sessions.clone();
    let app = service_fn(move |request| {
        future::ready(Ok::<_, Infallible>(answer(&chat, &sockets, &registry, request)))
    });
    // Ctrl-C: everybody gets a Close 1001, and the page reconnects when there is a server again.
    let ends = tokio::signal::ctrl_c().unwrap_or_else(|error| eprintln!("no Ctrl-C: {error}"));
    let report = serve(listener, app).sessions(&sessions).until(ends).await?;
    println!("{} left, {} cut off", report.drained, report.aborted);
    Ok(())
}

fn answer(
    chat: &Chat,
    sockets: &Upgrader,
    sessions: &Sessions,
    mut request: Request<Incoming>,
) -> Answer {
    let path = request.uri().path().to_owned();
    let Some(room) = path.strip_prefix("/rooms/") else {
        return match path.as_str() {
            "/" => page(),
            _ => text(StatusCode::NOT_FOUND, "there is nothing here\n"),
        };
    };
    if let Some(room) = room.strip_suffix("/history") {
        let events = chat.last_said(room).into_iter().map(ServerEvent::new);
        // A browser reconnects after the end of a stream, unless the page closes it when it is told.
        let events = stream::iter(events.chain([ServerEvent::new("").event("done")]));
        return Events::new(events).answer(&request, sessions).map(BodyExt::boxed_unsync);
    }
    let name = name(&request);
    let (chat, room) = (chat.clone(), room.to_owned());
    match sockets.upgrade(&mut request) {
        Ok(upgrade) => upgrade
            .label(name.clone())
            .run(move |session| async move { chat.join(&room, &name, session).await })
            .map(BodyExt::boxed_unsync),
        Err(refusal) => refusal.response().map(BodyExt::boxed_unsync),
    }
}

impl Chat {
    /// One person in a room, from entering to leaving.
    async fn join(&self, room: &str, name: &str, mut session: Session) -> Result<()> {
        // A client that does not read is disconnected, and reconnects.
        let seat = self.topics.subscribe(room.to_owned(), &session, Lag::disconnect(64 << 10));
        self.tell(room, json!({ "joined": name, "present": self.present(room) }));
        let talked = self.talk(room, name, &mut session).await;
        drop(seat);
        self.tell(room, json!({ "left": name, "present": self.present(room) }));
        if self.present(room) == 0 {
            self.said.lock().unwrap_or_else(PoisonError::into_inner).remove(room);
        }
        talked
    }

    async fn talk(&self, room: &str, name: &str, session: &mut Session) -> Result<()> {
        while let Some(frame) = session.receive().await? {
            let Some(said) = frame.read_text() else { continue };
            let message = json!({ "from": name, "said": said });
            self.keep(room, message.to_string());
            self.tell(room, message);
        }
        Ok(())
    }

    fn tell(&self, room: &str, message: serde_json::Value) {
        self.topics.publish(room, message.to_string());
    }

    fn present(&self, room: &str) -> usize {
        self.topics.get(room).map_or(0, |topic| topic.len())
    }

    fn keep(&self, room: &str, message: String) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let said = said.entry(room.to_owned()).or_default();
        if said.len() == KEPT {
            said.pop_front();
        }
        said.push_back(message);
    }

    fn last_said(&self, room: &str) -> Vec<String> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.get(room).map(|said| said.iter().cloned().collect()).unwrap_or_default()
    }
}

/// What the person calls himself or herself, or else the address.
fn name<B>(request: &Request<B>) -> String {
    let query = request.uri().query().unwrap_or_default();
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    let name = pairs.into_iter().find(|(key, _)| key == "name").map(|(_, name)| name);
    let name: String = name.unwrap_or_default().chars().take(30).collect();
    match (name.trim(), request.extensions().get::<Peer>()) {
        ("", Some(Peer(address))) => address.to_string(),
        ("", None) => "somebody".into(),
        (name, _) => name.to_owned(),
    }
}

fn page() -> Answer {
    let mut response = text(StatusCode::OK, include_str!("index.html"));
    let html = header::HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, html);
    response
}

fn text(status: StatusCode, text: &'static str) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())).boxed_unsync());
    *response.status_mut() = status;
    response
}
