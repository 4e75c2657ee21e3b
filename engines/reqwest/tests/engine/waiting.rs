//! Requests for which a connection of HTTP/2 has no stream yet.

use std::{sync::mpsc, time::Duration};

use crate::server::{Result, Server, Stream, expect};
use ::http::{Method, Request};
use drivetrain_engine::{Body, Engine, Error, ErrorKind, Replay};
use drivetrain_reqwest::Reqwest;
use tokio::task::JoinHandle;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;

/// SETTINGS_MAX_CONCURRENT_STREAMS, set to 1 (RFC 9113 section 6.5.2).
const ONE_STREAM: [u8; 6] = [0, 3, 0, 0, 0, 1];

/// What a server has seen.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// The client keeps to the limit, and this request is under way.
    Request(u32),
    Reset(u32),
}

fn send(stream: &mut dyn Stream, kind: u8, flags: u8, payload: &[u8]) -> std::io::Result<()> {
    let length = u8::try_from(payload.len()).expect("it is short");
    stream.write_all(&[&[0, 0, length, kind, flags, 0, 0, 0, 0], payload].concat())
}

/// A server that allows one stream a connection and answers nothing. It goes away when it is told to.
fn server() -> (Server, mpsc::Receiver<Seen>, mpsc::Sender<()>) {
    let (tells, seen) = mpsc::channel();
    let (leave, leaves) = mpsc::channel::<()>();
    let server = Server::plain(move |stream| {
        let mut preface = [0; 24];
        stream.read_exact(&mut preface)?;
        send(stream, SETTINGS, 0, &ONE_STREAM)?;
        let (mut is_limited, mut waiting) = (false, None);
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head)?;
            let [a, b, c, kind, flags, id @ ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            stream.read_exact(&mut payload)?;
            let id = u32::from_be_bytes(id);
            match kind {
                SETTINGS if flags & ACK == 0 => send(stream, SETTINGS, ACK, &[])?,
                SETTINGS => is_limited = true,
                HEADERS => waiting = Some(id),
                RST_STREAM => drop(tells.send(Seen::Reset(id))),
                _ => {}
            }
            if let (true, Some(id)) = (is_limited, waiting) {
                waiting = None;
                drop(tells.send(Seen::Request(id)));
                if leaves.recv().is_ok() {
                    send(stream, GOAWAY, 0, &[id.to_be_bytes(), [0; 4]].concat())?;
                }
            }
        }
    });
    (server, seen, leave)
}

fn execute(
    engine: &Reqwest,
    url: &str,
    method: Method,
    body: &'static str,
) -> JoinHandle<Result<(), Error>> {
    let request = Request::builder().method(method).uri(url).body(Body::from(body));
    let (engine, request) = (engine.clone(), request.expect("a request"));
    tokio::spawn(async move { engine.execute(request).await.map(drop) })
}

/// As the server says: whatever the method. Of a request without a body it is not known whether it was sent.
#[tokio::test]
async fn it_is_not_processed_when_the_connection_goes_away() -> Result {
    for (method, body, replay) in [
        (Method::POST, "a body", Some(Replay::NotProcessed)),
        (Method::PATCH, "a body", Some(Replay::NotProcessed)),
        (Method::POST, "", None),
        (Method::DELETE, "", None),
    ] {
        let (server, seen, leave) = server();
        let (engine, url) = (Reqwest::new().http2_prior_knowledge(), server.url("http"));
        let first = execute(&engine, &url, Method::POST, "first");
        assert_eq!(tokio::task::spawn_blocking(move || expect(&seen)).await?, Seen::Request(1));
        let second = execute(&engine, &url, method, body);
        // It is in the client's hands, of which nobody tells.
        tokio::time::sleep(Duration::from_millis(100)).await;
        leave.send(())?;
        let error = second.await?.expect_err("there is no stream for it");
        assert_eq!((error.kind(), error.replay()), (ErrorKind::Io, replay), "{error:?}");
        first.abort();
    }
    Ok(())
}

/// It may be one that its connection has forgotten. A request that has a stream is waited for.
#[tokio::test]
async fn it_is_not_waited_for_for_ever() -> Result {
    for (method, body) in [(Method::POST, "a body"), (Method::GET, "")] {
        let (server, seen, leave) = server();
        let (engine, url) = (Reqwest::new().http2_prior_knowledge(), server.url("http"));
        let first = execute(&engine, &url, method.clone(), body);
        let seen = tokio::task::spawn_blocking(move || {
            assert_eq!(expect(&seen), Seen::Request(1));
            seen
        });
        let seen = seen.await?;
        tokio::time::pause();
        let start = tokio::time::Instant::now();
        let error = execute(&engine, &url, method, body).await?.expect_err("it has no stream");
        let took = start.elapsed();
        tokio::time::resume();
        assert_eq!(
            (error.kind(), error.replay()),
            (ErrorKind::Timeout, Some(Replay::NotProcessed))
        );
        assert!((30..40).contains(&took.as_secs()), "{took:?}");
        assert!(!first.is_finished(), "it is under way");
        drop(leave);
        assert!(seen.recv_timeout(Duration::from_millis(100)).is_err(), "nothing was sent");
        first.abort();
    }
    Ok(())
}
