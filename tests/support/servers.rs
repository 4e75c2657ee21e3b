//! hyper's servers on each runtime, for tests. What is served is a function from requests to answers.
#![allow(dead_code, reason = "each program uses a part")]

use std::{
    convert::Infallible,
    future::{self, Future},
    net::SocketAddr,
    pin::Pin,
    sync::LazyLock,
    time::Duration,
};

use drivetrain::{
    Bytes,
    http::{Request, Response},
    server::serve,
};
use drivetrain_connect::IntoTokio;
use futures_util::{AsyncRead, AsyncWrite};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, runtime::Runtime};

/// Answers a request.
pub(crate) trait Answers:
    Fn(&mut Request<Incoming>) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static
{
}

impl<F> Answers for F where
    F: Fn(&mut Request<Incoming>) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static
{
}

/// The version of HTTP that a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Http {
    One,
    Two,
}

/// A server's address, and how to stop it.
pub(crate) type Served = (SocketAddr, Box<dyn FnOnce() + Send>);

/// One tokio runtime for all tests of a program.
pub(crate) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .expect("a runtime")
});

/// A listener on tokio.
pub(crate) fn listen() -> (TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a socket");
    let address = listener.local_addr().expect("an address");
    let _runtime = RUNTIME.enter();
    (TcpListener::from_std(listener).expect("a runtime"), address)
}

/// The server of this repository.
pub(crate) fn on_tokio(answers: impl Answers, header_read_timeout: Option<Duration>) -> Served {
    let (listener, address) = listen();
    let service = tower::service_fn(move |mut request: Request<Incoming>| {
        future::ready(Ok::<_, Infallible>(answers(&mut request)))
    });
    let mut server = serve(listener, service);
    if let Some(limit) = header_read_timeout {
        server = server.header_read_timeout(limit);
    }
    let task = RUNTIME.spawn(server.into_future());
    (address, Box::new(move || task.abort()))
}

/// axum's server.
pub(crate) fn on_axum(router: axum::Router) -> Served {
    let (listener, address) = listen();
    let task = RUNTIME.spawn(axum::serve(listener, router).into_future());
    (address, Box::new(move || task.abort()))
}

/// hyper on smol.
pub(crate) fn on_smol(answers: impl Answers, http: Http) -> Served {
    let listener = smol::block_on(smol::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
    let address = listener.local_addr().expect("an address");
    let spawn = Spawn(|task| smol::spawn(task).detach());
    let task = smol::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let _ = socket.set_nodelay(true);
            smol::spawn(connection(socket, answers.clone(), http, spawn)).detach();
        }
    });
    (address, Box::new(move || drop(task)))
}

/// hyper on async-std.
pub(crate) fn on_async_std(answers: impl Answers, http: Http) -> Served {
    let bound = async_std::net::TcpListener::bind("127.0.0.1:0");
    let listener = async_std::task::block_on(bound).expect("a port");
    let address = listener.local_addr().expect("an address");
    let spawn = Spawn(|task| drop(async_std::task::spawn(task)));
    let task = async_std::task::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let _ = socket.set_nodelay(true);
            async_std::task::spawn(connection(socket, answers.clone(), http, spawn));
        }
    });
    (
        address,
        Box::new(move || {
            async_std::task::block_on(task.cancel());
        }),
    )
}

/// One connection, over any stream and without a timer.
async fn connection<S>(stream: S, answers: impl Answers, http: Http, spawn: Spawn)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stream = TokioIo::new(IntoTokio(stream));
    let service = service_fn(move |mut request: Request<Incoming>| {
        future::ready(Ok::<_, Infallible>(answers(&mut request)))
    });
    // How a connection ends is what the tests look at, from the other side.
    match http {
        Http::One => {
            let _ = http1::Builder::new().serve_connection(stream, service).with_upgrades().await;
        }
        Http::Two => {
            let mut builder = http2::Builder::new(spawn);
            let _ = builder.enable_connect_protocol().serve_connection(stream, service).await;
        }
    }
}

/// Where hyper's tasks run.
#[derive(Clone, Copy)]
struct Spawn(fn(Pin<Box<dyn Future<Output = ()> + Send>>));

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Spawn {
    fn execute(&self, future: F) {
        (self.0)(Box::pin(future));
    }
}
