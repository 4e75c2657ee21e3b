//! WebSockets over streams that the caller brings: a UNIX socket, and a pipe in memory.
#![cfg(all(
    unix,
    feature = "tungstenite",
    feature = "fastwebsockets",
    feature = "async-std",
    feature = "native",
    feature = "native-async-std",
    feature = "native-smol",
    feature = "smol"
))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    env, fs, io,
    net::{Shutdown, SocketAddr, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process,
    sync::Arc,
    thread::{self, JoinHandle},
};

use drivetrain::{
    Capability, CloseReason, ErrorKind, HttpClient,
    engine::{self, Engine},
};
use drivetrain_conformance::peer::EchoServer;
use tokio::io::DuplexStream;
use tokio_util::compat::TokioAsyncReadCompatExt as _;

type Made = Arc<dyn Engine>;

/// An engine over each kind of stream.
struct Over {
    name: &'static str,
    unix: fn(&Path) -> Made,
    pipe: fn(DuplexStream) -> Made,
}

fn engines() -> Vec<Over> {
    let mut engines = Vec::new();
    macro_rules! push {
        (futures $connect:ident, $Engine:ident, $name:literal) => {
            engines.push(Over {
                name: $name,
                unix: |path| Arc::new(engine::$Engine::over($connect(path))),
                pipe: |pipe| Arc::new(engine::$Engine::over(pipe.compat())),
            });
        };
        (tokio, $Engine:ident, $name:literal) => {
            engines.push(Over {
                name: $name,
                unix: |path| Arc::new(engine::$Engine::over(tokio(path))),
                pipe: |pipe| Arc::new(engine::$Engine::over(pipe)),
            });
        };
        (http, $Engine:ident, $name:literal) => {};
    }
    for_each_engine!(push);
    engines
}

#[test]
fn every_engine_that_takes_a_stream_is_here() {
    let built = engine::all();
    let take = built.iter().filter(|engine| engine.support(Capability::CallerStream).is_offered());
    assert!(take.map(|engine| engine.name()).eq(engines().iter().map(|over| over.name)));
}

#[tokio::test]
async fn a_unix_socket_carries_a_web_socket() {
    let server = EchoServer::start();
    for over in engines() {
        let socket = Socket::bridged_to(server.addr(), over.name);
        talk((over.unix)(&socket.path)).await;
        // The session's task lets go of the socket, on this thread if the engine's runtime is this one.
        tokio::task::spawn_blocking(|| socket.join()).await.unwrap();
    }
}

#[tokio::test]
async fn a_pipe_in_memory_carries_a_web_socket() {
    let server = EchoServer::start();
    for over in engines() {
        let (near, mut far) = tokio::io::duplex(1000);
        let addr = server.addr();
        let bridge = tokio::spawn(async move {
            let mut tcp = tokio::net::TcpStream::connect(addr).await?;
            tokio::io::copy_bidirectional(&mut far, &mut tcp).await
        });
        talk((over.pipe)(near)).await;
        bridge.await.unwrap().unwrap();
    }
}

/// One session from the handshake to its clean end, with messages that do not fit any buffer on the way.
async fn talk(engine: Made) {
    let name = engine.name().to_owned();
    let client = HttpClient::new(engine);
    let mut session = client.web_socket("ws://localhost/echo").connect().await.unwrap();
    for size in [0, 1, 5000, 300_000] {
        let sent = "x".repeat(size);
        session.send(sent.as_str()).await.unwrap();
        let frame = session.receive().await.unwrap().unwrap();
        assert_eq!(frame.read_text().map(str::len), Some(size), "{name}");
    }
    let outcome = session.close(CloseReason::normal()).await.unwrap();
    assert!(outcome.clean, "{name}: {outcome:?}");
    drop(session);
    let again = client.web_socket("ws://localhost/echo").connect().await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Connect, "{name}: {again}");
}

fn async_std(path: &Path) -> ::async_std::os::unix::net::UnixStream {
    ::async_std::task::block_on(::async_std::os::unix::net::UnixStream::connect(path)).unwrap()
}

fn smol(path: &Path) -> ::smol::net::unix::UnixStream {
    ::smol::block_on(::smol::net::unix::UnixStream::connect(path)).unwrap()
}

fn tokio(path: &Path) -> ::tokio::net::UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_nonblocking(true).unwrap();
    ::tokio::net::UnixStream::from_std(stream).unwrap()
}

/// A UNIX socket whose one connection is carried on to a server.
struct Socket {
    path: PathBuf,
    bridge: JoinHandle<io::Result<()>>,
}

impl Socket {
    fn bridged_to(server: SocketAddr, name: &str) -> Self {
        let path = env::temp_dir().join(format!("drivetrain-{}-{name}", process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let bridge = thread::spawn(move || {
            let (unix, _) = listener.accept()?;
            let tcp = TcpStream::connect(server)?;
            let (from, to) = (tcp.try_clone()?, unix.try_clone()?);
            let back = thread::spawn(move || {
                io::copy(&mut &from, &mut &to)?;
                to.shutdown(Shutdown::Write)
            });
            io::copy(&mut &unix, &mut &tcp)?;
            tcp.shutdown(Shutdown::Write)?;
            back.join().unwrap()
        });
        Self { path, bridge }
    }

    fn join(self) {
        self.bridge.join().unwrap().unwrap();
        fs::remove_file(&self.path).unwrap();
    }
}
