//! Uploads whose answer is complete, to a server that neither reads nor closes: after a grace nothing of them is held.

use std::{
    fs, io,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use drivetrain::{Body, Bytes, HttpClient, engine::Engine};
use drivetrain_engine::UPLOAD_GRACE;
use futures_util::{StreamExt as _, stream};

const UPLOADS: usize = 50;

/// Where the system is left to notice such a peer, it takes 30 s (Linux, `TCP_USER_TIMEOUT`) or for ever.
/// The time that a machine may stand still is below that.
const AT_MOST: Duration = UPLOAD_GRACE.saturating_add(Duration::from_secs(20));

const ANSWER: &[u8] = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 9\r\n\r\ntoo large";

pub(crate) fn nothing_is_held_after_the_answers(engine: Arc<dyn Engine>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let served = Arc::new(Mutex::new(Vec::new()));
    let serving = Arc::clone(&served);
    thread::spawn(move || {
        for peer in listener.incoming() {
            serving.lock().unwrap().push(answered(peer.unwrap()).unwrap());
        }
    });
    let client = HttpClient::new(engine);
    let held = Arc::new(());
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let before = sockets();
        let uploads: Vec<_> = (0..UPLOADS)
            .map(|_| tokio::spawn(upload(client.clone(), url.clone(), Arc::clone(&held))))
            .collect();
        for upload in uploads {
            upload.await.unwrap();
        }
        let answered = Instant::now();
        loop {
            let sockets = sockets() - before - served.lock().unwrap().len();
            let bodies = Arc::strong_count(&held) - 1;
            if sockets + bodies == 0 {
                break;
            }
            let after = answered.elapsed();
            assert!(
                after < AT_MOST,
                "{sockets} sockets and {bodies} bodies are held {after:?} after the answers"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        println!(
            "{}: nothing is held {:?} after the answers",
            client.engine_name(),
            answered.elapsed()
        );
    });
}

/// Sends a body that never ends, until there is an answer.
async fn upload(client: HttpClient, url: String, held: Arc<()>) {
    let chunks = stream::repeat(()).map(move |()| {
        let _ = &held;
        io::Result::Ok(Bytes::from_static(&[7; 16 << 10]))
    });
    let request = client.post(url).body(Body::from_stream(chunks));
    assert_eq!(request.send().await.unwrap().text().await.unwrap(), "too large");
}

/// The connection, on which the head of the request was read and answered.
fn answered(mut peer: TcpStream) -> io::Result<TcpStream> {
    let mut last = [0; 4];
    while last != *b"\r\n\r\n" {
        last.rotate_left(1);
        peer.read_exact(&mut last[3..])?;
    }
    peer.write_all(ANSWER)?;
    Ok(peer)
}

/// The sockets of this process.
fn sockets() -> usize {
    let is_socket = |file: io::Result<fs::DirEntry>| {
        let target = file.and_then(|file| fs::read_link(file.path()));
        target.is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
    };
    fs::read_dir("/proc/self/fd").unwrap().map(is_socket).filter(|is| *is).count()
}
