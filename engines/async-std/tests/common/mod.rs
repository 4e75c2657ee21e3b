//! Servers on plain threads, and what every test says to them.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    future::Future,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use drivetrain_async_std::AsyncStd;
#[cfg(feature = "smol")]
use drivetrain_async_std::Smol;
use drivetrain_engine::{Body, Engine, RawFrame, Result, Transport};
use http_body_util::BodyExt;
use sha1::{Digest, Sha1};

/// How long a test waits for what must come: a guard against hanging.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Factors of a time that a machine may be too slow for: then the next one is tried.
pub(crate) const FACTORS: [u32; 3] = [1, 10, 60];

/// The engine on each runtime of the build.
pub(crate) fn engines() -> Vec<Box<dyn Engine>> {
    vec![
        Box::new(AsyncStd::new()),
        #[cfg(feature = "smol")]
        Box::new(Smol::new()),
    ]
}

/// Any executor will do.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    async_io::block_on(future)
}

/// A server on a port of its own; its thread ends with the last connection it was made for.
pub(crate) struct Server<T> {
    pub(crate) port: u16,
    accepted: Arc<AtomicUsize>,
    thread: JoinHandle<Vec<T>>,
}

impl<T: Send + 'static> Server<T> {
    /// Serves this many connections, one after the other.
    pub(crate) fn new(
        connections: usize,
        serve: impl Fn(usize, TcpStream) -> T + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        let thread = thread::spawn(move || {
            (0..connections)
                .map(|index| {
                    let (stream, _) = listener.accept().expect("accepted");
                    count.fetch_add(1, Ordering::SeqCst);
                    stream.set_read_timeout(Some(PATIENCE)).expect("set");
                    serve(index, stream)
                })
                .collect()
        });
        Self { port, accepted, thread }
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// The result of each connection.
    pub(crate) fn finish(self) -> Vec<T> {
        self.thread.join().expect("the server's checks hold")
    }
}

/// The head of a request, read to its empty line.
pub(crate) fn head(reader: &mut impl BufRead) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).expect("a line"), 0, "cut off: {head}");
    }
    head
}

/// Reads one request without a body from a stream on which nothing follows.
pub(crate) fn request_on(mut stream: impl Read) -> String {
    head(&mut BufReader::with_capacity(1, &mut stream))
}

pub(crate) fn write(mut stream: impl Write, bytes: impl AsRef<[u8]>) {
    stream.write_all(bytes.as_ref()).expect("written");
    stream.flush().expect("flushed");
}

/// Whether the peer has ended its direction, however.
pub(crate) fn is_ended(mut stream: impl Read) -> bool {
    // A process that was stopped has its reads interrupted.
    loop {
        match stream.read(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return matches!(read, Ok(0)),
        }
    }
}

/// The 101 that answers this request.
pub(crate) fn switch(request: &str) -> String {
    let key =
        request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("a key");
    let accept = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {}\r\n\r\n",
        BASE64.encode(accept)
    )
}

pub(crate) fn request(
    method: &str,
    uri: impl AsRef<str>,
    body: impl Into<Body>,
) -> http::Request<Body> {
    http::Request::builder().method(method).uri(uri.as_ref()).body(body.into()).expect("a request")
}

pub(crate) async fn text(response: http::Response<Body>) -> Result<String> {
    let bytes = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(bytes.to_vec()).expect("text"))
}

pub(crate) async fn receive(transport: &mut dyn Transport) -> Result<Option<RawFrame>> {
    std::future::poll_fn(|cx| transport.poll_receive(cx, 1 << 20)).await
}

pub(crate) async fn close(transport: &mut dyn Transport) -> Result<()> {
    std::future::poll_fn(|cx| transport.poll_close(cx)).await
}
