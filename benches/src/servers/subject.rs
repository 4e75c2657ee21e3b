//! The servers that are measured, each as its documentation shows it.

use std::{convert::Infallible, net::TcpListener as StdTcpListener, time::Duration};

use axum::{
    Router,
    extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade},
    routing::any,
    serve::ListenerExt as _,
};
use drivetrain::{
    CloseReason, Session,
    engine::{FastWebSockets, Native, Tungstenite},
    server::{Broadcast, Lag, Sessions, ShutdownReport, Upgrader, serve},
};
use fastwebsockets::{FragmentCollector, OpCode, WebSocketError, upgrade::UpgradeFut};
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{Empty, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    sync::{broadcast, oneshot},
    task::JoinHandle,
    time,
};

use super::STALLED_LIMIT;
use crate::{Error, Result};

/// A server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// Ours, on each framing.
    Native,
    Tungstenite,
    FastWebSockets,
    /// The WebSockets of axum, which are tungstenite's. A subscriber is two tasks.
    Axum,
    /// The same with one task for each subscriber, which selects.
    AxumSelect,
    /// fastwebsockets' own handshake over hyper.
    RawFastWebSockets,
}

impl Subject {
    pub(crate) const ALL: [Self; 6] = [
        Self::Native,
        Self::Tungstenite,
        Self::FastWebSockets,
        Self::Axum,
        Self::AxumSelect,
        Self::RawFastWebSockets,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Tungstenite => "tungstenite",
            Self::FastWebSockets => "fastwebsockets",
            Self::Axum => "axum",
            Self::AxumSelect => "axum, select",
            Self::RawFastWebSockets => "raw fastwebsockets",
        }
    }

    pub(crate) fn named(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|subject| subject.name() == name);
        found.ok_or_else(|| format!("no server is called {name}").into())
    }

    pub(crate) fn is_ours(self) -> bool {
        !matches!(self, Self::Axum | Self::AxumSelect | Self::RawFastWebSockets)
    }

    /// Whether it comes with a broadcast, or its runtime does.
    pub(crate) fn broadcasts(self) -> bool {
        self != Self::RawFastWebSockets
    }

    /// Begins to serve, inside a runtime.
    pub(crate) fn start(self, listener: StdTcpListener) -> Result<Serving> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        match self {
            Self::Native => Ok(ours(listener, Upgrader::new(Native::new()))),
            Self::Tungstenite => Ok(ours(listener, Upgrader::new(Tungstenite::new()))),
            Self::FastWebSockets => Ok(ours(listener, Upgrader::new(FastWebSockets::new()))),
            Self::Axum => Ok(of_axum(listener, axum_follow)),
            Self::AxumSelect => Ok(of_axum(listener, axum_select)),
            Self::RawFastWebSockets => Ok(of_fastwebsockets(listener)),
        }
    }
}

/// A server that runs.
pub(crate) struct Serving {
    hub: Hub,
    pub(crate) sessions: Option<Sessions>,
    pub(crate) stop: Option<oneshot::Sender<()>>,
    pub(crate) stopped: Option<JoinHandle<Result<ShutdownReport>>>,
}

/// Where messages to all go.
#[derive(Clone)]
pub(crate) enum Hub {
    Ours(Broadcast),
    Axum(broadcast::Sender<Utf8Bytes>),
    None,
}

impl Serving {
    pub(crate) fn hub(&self) -> Hub {
        self.hub.clone()
    }

    /// One that is never stopped.
    fn running(hub: Hub) -> Self {
        Self { hub, sessions: None, stop: None, stopped: None }
    }
}

impl Hub {
    /// Sends a text this many times to all. Returns how many deliveries were dropped.
    pub(crate) fn publish(&self, times: usize, size: usize) -> usize {
        let text = "x".repeat(size);
        match self {
            Self::Ours(hub) => {
                let text = drivetrain::Frame::from(text);
                (0..times).map(|_| hub.publish(text.clone()).dropped).sum()
            }
            Self::Axum(sender) => {
                let text = Utf8Bytes::from(text);
                (0..times).filter(|_| sender.send(text.clone()).is_err()).count()
            }
            Self::None => 0,
        }
    }
}

fn ours(listener: TcpListener, sockets: Upgrader) -> Serving {
    let (hub, sessions) = (Broadcast::new(), Sessions::new());
    let sockets = sockets.sessions(&sessions);
    let news = hub.clone();
    let app = tower::service_fn(move |mut request: Request<Incoming>| {
        let news = news.clone();
        let response = match sockets.upgrade(&mut request) {
            Ok(upgrade) => match request.uri().path() {
                "/news" => upgrade.run(|session| follow(session, news, Lag::disconnect(4 << 20))),
                "/stalled" => {
                    upgrade.run(|session| follow(session, news, Lag::drop_newest(STALLED_LIMIT)))
                }
                "/busy" => upgrade.run(busy),
                "/closing" => upgrade.run(closing),
                _ => upgrade.run(echo),
            },
            Err(refusal) => refusal.response(),
        };
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let (stop, stopped) = oneshot::channel();
    let server = serve(listener, app).sessions(&sessions).until(async {
        // The sender is kept until it is used.
        let _ = stopped.await;
    });
    let stopped = tokio::spawn(async { server.await.map_err(Error::from) });
    Serving {
        hub: Hub::Ours(hub),
        sessions: Some(sessions),
        stop: Some(stop),
        stopped: Some(stopped),
    }
}

async fn echo(mut session: Session) -> drivetrain::Result<()> {
    while let Some(frame) = session.receive().await? {
        session.send(frame).await?;
    }
    Ok(())
}

async fn follow(mut session: Session, hub: Broadcast, lag: Lag) -> drivetrain::Result<()> {
    let _subscription = hub.subscribe(&session, lag);
    while session.receive().await?.is_some() {}
    Ok(())
}

/// Something else to do for a while.
async fn busy(_session: Session) -> drivetrain::Result<()> {
    time::sleep(Duration::from_secs(2)).await;
    Ok(())
}

async fn closing(session: Session) -> drivetrain::Result<()> {
    session.close(CloseReason::normal()).await?;
    Ok(())
}

fn of_axum<F, Fut>(listener: TcpListener, follow: F) -> Serving
where
    F: Fn(WebSocket, broadcast::Receiver<Utf8Bytes>) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    // A message that is not taken by then would be one too few for its subscriber.
    let (hub, _) = broadcast::channel(1024);
    let news = hub.clone();
    let app = Router::new()
        .route("/echo", any(async |upgrade: WebSocketUpgrade| upgrade.on_upgrade(axum_echo)))
        .route(
            "/news",
            any(async move |upgrade: WebSocketUpgrade| {
                upgrade.on_upgrade(move |socket| follow(socket, news.subscribe()))
            }),
        );
    let listener = listener.tap_io(|socket| {
        // Without it the peer would look worse than it is.
        let _ = socket.set_nodelay(true);
    });
    tokio::spawn(async { axum::serve(listener, app).await });
    Serving::running(Hub::Axum(hub))
}

async fn axum_echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if matches!(message, Message::Text(_) | Message::Binary(_))
            && socket.send(message).await.is_err()
        {
            return;
        }
    }
}

/// As axum's example of a chat: one task sends, another receives.
async fn axum_follow(socket: WebSocket, mut news: broadcast::Receiver<Utf8Bytes>) {
    let (mut outgoing, mut incoming) = socket.split();
    let sends = tokio::spawn(async move {
        while let Ok(text) = news.recv().await {
            if outgoing.send(Message::Text(text)).await.is_err() {
                return;
            }
        }
    });
    while let Some(Ok(_)) = incoming.next().await {}
    sends.abort();
}

async fn axum_select(mut socket: WebSocket, mut news: broadcast::Receiver<Utf8Bytes>) {
    loop {
        tokio::select! {
            text = news.recv() => {
                let Ok(text) = text else { return };
                if socket.send(Message::Text(text)).await.is_err() {
                    return;
                }
            }
            message = socket.recv() => {
                let Some(Ok(_)) = message else { return };
            }
        }
    }
}

/// As its example of an echo server.
fn of_fastwebsockets(listener: TcpListener) -> Serving {
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // As above.
            let _ = stream.set_nodelay(true);
            tokio::spawn(async move {
                let io = TokioIo::new(stream);
                http1::Builder::new()
                    .serve_connection(io, service_fn(upgrade))
                    .with_upgrades()
                    .await
            });
        }
    });
    Serving::running(Hub::None)
}

async fn upgrade(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, WebSocketError> {
    let Ok((response, upgraded)) = fastwebsockets::upgrade::upgrade(&mut request) else {
        let mut refusal = Response::new(Full::default());
        *refusal.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(refusal);
    };
    tokio::spawn(tokio::task::unconstrained(raw_echo(upgraded)));
    Ok(response.map(|_: Empty<Bytes>| Full::default()))
}

async fn raw_echo(upgraded: UpgradeFut) -> Result<(), WebSocketError> {
    let mut socket = FragmentCollector::new(upgraded.await?);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            _ => {}
        }
    }
}
