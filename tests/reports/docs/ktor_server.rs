//! The snippets of `docs/how-to/ktor-server.md`, run. A test compares them with the page.

use std::net::SocketAddr;

use axum::{Router, routing::any};
use drivetrain::{
    HttpClient, RawSession, Result, Session,
    engine::Native,
    server::{Upgrader, web_socket},
};

async fn start(app: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

fn app<F, Fut>(handler: F) -> Router
where
    F: Fn(Session) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    Router::new().route("/", any(web_socket(handler))).with_state(Upgrader::new(Native::new()))
}

async fn connect(address: SocketAddr, path: &str) -> Session {
    let client = HttpClient::new(Native::new());
    client.web_socket(format!("ws://{address}{path}")).connect().await.expect("a session")
}

async fn connect_raw(address: SocketAddr, path: &str) -> RawSession {
    let client = HttpClient::new(Native::new());
    client.web_socket(format!("ws://{address}{path}")).connect_raw().await.expect("a raw session")
}

async fn text(session: &mut Session) -> String {
    let frame = session.receive().await.expect("a frame").expect("no close");
    frame.read_text().expect("a text").to_owned()
}

#[test]
fn the_page_shows_what_is_run() {
    let squeeze = |text: &str| text.split_whitespace().collect::<String>().replace(",}", "}");
    let source = squeeze(&super::read("tests/reports/docs/ktor_server.rs"));
    let page = super::read("docs/how-to/ktor-server.md");
    let snippets: Vec<_> = page.split("```rust,no_run").skip(1).collect();
    assert_eq!(snippets.len(), 5);
    for snippet in snippets {
        let (snippet, _) = snippet.split_once("```").expect("an end");
        let items = snippet.split("\n\n").filter(|item| !item.trim_start().starts_with("use "));
        for item in items {
            assert!(source.contains(&squeeze(item)), "not run: {item}");
        }
    }
}

mod configure {
    use drivetrain::{WebSockets, engine::Native, server::Upgrader};
    use std::time::Duration;

    fn sockets() -> Upgrader {
        Upgrader::new(Native::new()).install(
            WebSockets::new()
                .ping_interval(Duration::from_secs(15))
                .ping_timeout(Duration::from_secs(15))
                .max_frame_size(1 << 20),
        )
    }

    #[test]
    fn the_options_hold() {
        let sockets = sockets();
        sockets.check().expect("valid options");
        assert!(sockets.settings().to_string().contains("15s"), "{}", sockets.settings());
    }
}

mod handle {
    use axum::{Router, routing::any};
    use drivetrain::{
        CloseReason, Result, Session,
        server::{Upgrader, web_socket},
    };

    async fn greet(mut session: Session) -> Result<()> {
        session.send("Please enter your name").await?;
        while let Some(frame) = session.receive().await? {
            let Some(name) = frame.read_text() else { continue };
            if name.eq_ignore_ascii_case("bye") {
                session.close(CloseReason::new(1000, "Client said BYE")?).await?;
            } else {
                session.send(format!("Hi, {name}!")).await?;
            }
        }
        Ok(())
    }

    fn app(sockets: Upgrader) -> Router {
        Router::new().route("/echo", any(web_socket(greet))).with_state(sockets)
    }

    #[tokio::test]
    async fn a_guest_is_greeted() {
        let address = super::start(app(Upgrader::new(drivetrain::engine::Native::new()))).await;
        let mut session = super::connect(address, "/echo").await;
        assert_eq!(super::text(&mut session).await, "Please enter your name");
        session.send("Ada").await.expect("sent");
        assert_eq!(super::text(&mut session).await, "Hi, Ada!");
        session.send("BYE").await.expect("sent");
        assert!(session.receive().await.expect("a clean end").is_none());
        let reason = session.outcome().received.expect("the server's Close");
        assert_eq!(
            (reason.code(), reason.text()),
            (drivetrain::CloseCode::NORMAL, "Client said BYE")
        );
    }
}

mod several {
    use drivetrain::{
        Result, Session,
        server::{Broadcast, Lag},
    };

    async fn join(everybody: Broadcast, mut session: Session) -> Result<()> {
        session.send("You are connected to WebSocket!").await?;
        let _subscription = everybody.subscribe(&session, Lag::disconnect(256 << 10));
        while let Some(frame) = session.receive().await? {
            everybody.publish(frame);
        }
        Ok(())
    }

    #[tokio::test]
    async fn everybody_hears_everybody() {
        let everybody = Broadcast::new();
        let handler = move |session| join(everybody.clone(), session);
        let address = super::start(super::app(handler)).await;
        let mut two = [super::connect(address, "/").await, super::connect(address, "/").await];
        for session in &mut two {
            assert_eq!(super::text(session).await, "You are connected to WebSocket!");
        }
        // A guest is subscribed once its own message is echoed.
        two[0].send("one").await.expect("sent");
        assert_eq!(super::text(&mut two[0]).await, "one");
        two[1].send("two").await.expect("sent");
        assert_eq!(super::text(&mut two[0]).await, "two");
    }
}

mod events {
    use drivetrain::{Result, Session};

    async fn observe(mut session: Session, mut log: impl FnMut(String)) -> Result<()> {
        log("onConnect".to_owned());
        loop {
            match session.receive().await {
                Ok(Some(frame)) => log(format!("onMessage {:?}", frame.read_text())),
                Ok(None) => break log(format!("onClose {}", session.outcome())),
                Err(error) => break log(format!("onError {error}")),
            }
        }
        Ok(())
    }

    #[tokio::test]
    async fn the_ends_are_kept_apart() {
        let (sender, mut log) = tokio::sync::mpsc::unbounded_channel();
        let handler = move |session| {
            let sender = sender.clone();
            observe(session, move |line| drop(sender.send(line)))
        };
        let address = super::start(super::app(handler)).await;
        let session = super::connect(address, "/").await;
        session.send("hello").await.expect("sent");
        session.close(drivetrain::CloseReason::normal()).await.expect("closed");
        drop(super::connect_raw(address, "/").await); // a connection that is lost
        let mut seen = Vec::new();
        while seen.len() < 5 {
            seen.push(log.recv().await.expect("a line"));
        }
        assert_eq!(seen[..2], ["onConnect", "onMessage Some(\"hello\")"]);
        assert!(seen[2].starts_with("onClose"), "{seen:?}");
        assert_eq!(seen[3], "onConnect");
        assert!(seen[4].starts_with("onError"), "{seen:?}");
    }
}

mod others {
    use drivetrain::{
        Json, Result, Session, WebSockets,
        extension::PermessageDeflate,
        server::{RawSession, WebSocketUpgrade},
    };
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    struct Order {
        item: String,
    }

    async fn first_frame(upgrade: WebSocketUpgrade) -> impl axum::response::IntoResponse {
        upgrade.run_raw(async |mut raw: RawSession| {
            if let Some(frame) = raw.receive().await? {
                raw.send(frame).await?;
            }
            raw.close(drivetrain::CloseReason::normal()).await.map(drop)
        })
    }

    async fn order(mut session: Session) -> Result<()> {
        let order: Order = session.receive_deserialized().await?;
        session.send_serialized(&order).await
    }

    fn options() -> WebSockets {
        WebSockets::new().converter(Json).extension(PermessageDeflate::new())
    }

    #[tokio::test]
    async fn raw_typed_and_compressed() {
        let sockets =
            drivetrain::server::Upgrader::new(drivetrain::engine::Native::new()).install(options());
        let app = axum::Router::new()
            .route("/raw", axum::routing::any(first_frame))
            .route("/json", axum::routing::any(drivetrain::server::web_socket(order)))
            .with_state(sockets);
        let address = super::start(app).await;

        let mut session = super::connect(address, "/raw").await;
        session.send("as it is").await.expect("sent");
        assert_eq!(super::text(&mut session).await, "as it is");

        let client = drivetrain::HttpClient::builder(drivetrain::engine::Native::new());
        let client = client.install(options()).build().expect("a client");
        let mut session =
            client.web_socket(format!("ws://{address}/json")).connect().await.expect("a session");
        assert_eq!(session.extensions().len(), 1, "permessage-deflate");
        session.send_serialized(&Order { item: "tea".to_owned() }).await.expect("sent");
        let order: Order = session.receive_deserialized().await.expect("an order");
        assert_eq!(order.item, "tea");
    }
}
