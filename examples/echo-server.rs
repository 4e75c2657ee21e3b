//! A server for clients to try themselves on: echo, fragments, closing, a subprotocol, and plain HTTP.
//!
//! `cargo run --example echo-server --features full -- 127.0.0.1:8080`; with port 0 the system chooses one. The first line
//! that is printed names the address. SIGTERM or Ctrl-C ends every session with 1001, and the last line says how many ended
//! in time. A second argument chooses the library that frames: `native`, `tungstenite` or `fastwebsockets`.
//!
//! | route | what it does |
//! |---|---|
//! | `/`, `/echo` | sends each message back |
//! | `/fragments` | sends `ABC`, a Ping, `12` and `3`: one text message |
//! | `/close/{code}` | closes with the code, and `because` |
//! | `/chat` | has subprotocol `chat`, and sends `chat` |
//! | `GET /hello` | says `hello` |
#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::{convert::Infallible, env, future};

use drivetrain::{
    CloseReason, Frame, MessageKind, Result, Session, WebSockets,
    engine::Native,
    extension::PermessageDeflate,
    server::{Origins, Sessions, Upgrader, serve},
};
use futures_util::AsyncWriteExt as _;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use tokio::net::TcpListener;
use tower::service_fn;

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".into());
    let framing = env::args().nth(2).unwrap_or_else(|| "native".into());
    run(&address, &framing).await
}

/// Serves until a signal comes.
pub(crate) async fn run(
    address: &str,
    framing: &str,
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let sessions = Sessions::new();
    // There is nothing here that a page of another origin could not have from elsewhere.
    let sockets = upgrader(framing)?.origins(Origins::any()).sessions(&sessions);
    sockets.check()?;
    let listener = TcpListener::bind(address).await?;
    println!("listening on ws://{}", listener.local_addr()?);
    let app =
        service_fn(move |request| future::ready(Ok::<_, Infallible>(answer(&sockets, request))));
    let ended = serve(listener, app).sessions(&sessions).until(ends()).await?;
    println!("ended: {} of {} sessions in time", ended.drained, ended.sessions);
    Ok(())
}

/// What accepts sessions whose frames this library reads and writes; with compression, where it can.
fn upgrader(framing: &str) -> std::result::Result<Upgrader, String> {
    let compressing = WebSockets::new().extension(PermessageDeflate::new());
    match framing {
        "native" => Ok(Upgrader::new(Native::new()).install(compressing)),
        #[cfg(feature = "tungstenite")]
        "tungstenite" => {
            Ok(Upgrader::new(drivetrain::engine::Tungstenite::new()).install(compressing))
        }
        #[cfg(feature = "fastwebsockets")]
        "fastwebsockets" => Ok(Upgrader::new(drivetrain::engine::FastWebSockets::new())),
        other => Err(format!("no framing is named {other}")),
    }
}

fn answer(sockets: &Upgrader, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    let sockets = match path.as_str() {
        "/hello" => return text(StatusCode::OK, "hello"),
        "/chat" => sockets.clone().subprotocols(["chat"]).require_subprotocol(),
        "/" | "/echo" | "/fragments" => sockets.clone(),
        path if path.starts_with("/close/") => sockets.clone(),
        _ => return text(StatusCode::NOT_FOUND, "there is nothing here\n"),
    };
    let upgrade = match sockets.upgrade(&mut request) {
        Ok(upgrade) => upgrade,
        Err(refusal) => return refusal.response(),
    };
    match path.strip_prefix("/close/").map(|code| code.parse::<u16>()) {
        Some(Ok(code)) => match CloseReason::new(code, "because") {
            Ok(reason) => upgrade.run(move |session| close(session, reason)),
            Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        },
        Some(Err(_)) => text(StatusCode::BAD_REQUEST, "a close code is a number\n"),
        None => match path.as_str() {
            "/fragments" => upgrade.run(fragments),
            "/chat" => upgrade.run(chat),
            _ => upgrade.run(echo),
        },
    }
}

async fn echo(mut session: Session) -> Result<()> {
    while let Some(frame) = session.receive().await? {
        session.send(frame).await?;
    }
    Ok(())
}

async fn fragments(mut session: Session) -> Result<()> {
    let mut writer = session.send_stream(MessageKind::Text).await?;
    writer.write_chunk("ABC").await?;
    writer.flush().await?;
    session.send(Frame::Ping("between".into())).await?;
    writer.write_chunk("12").await?;
    writer.flush().await?;
    writer.write_chunk("3").await?;
    writer.finish().await?;
    until_closed(&mut session).await
}

async fn chat(mut session: Session) -> Result<()> {
    session.send("chat").await?;
    until_closed(&mut session).await
}

async fn close(session: Session, reason: CloseReason) -> Result<()> {
    session.close(reason).await.map(drop)
}

async fn until_closed(session: &mut Session) -> Result<()> {
    while session.receive().await?.is_some() {}
    Ok(())
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response
}

/// SIGTERM or Ctrl-C.
async fn ends() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminated) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminated.recv() => return,
                _ = tokio::signal::ctrl_c() => return,
            }
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}
