//! Opening WebSockets: over the connector's own connection and over streams that a caller brings.

use std::{sync::mpsc, time::Duration};

use crate::server::{Result, Server, Stream, expect, header, is_closed, read_head, switching};
use drivetrain_engine::{BoxStream, Connector as _, ErrorKind, Handshake, UpgradeResult};
use drivetrain_reqwest::{Reqwest, ReqwestConnector};
use futures_util::{AsyncReadExt as _, AsyncWriteExt as _};
use http_body_util::BodyExt;
use tokio::net::TcpStream;

fn connector() -> ReqwestConnector {
    ReqwestConnector::new("outer", Reqwest::new())
}

fn custom(stream: TcpStream) -> ReqwestConnector {
    ReqwestConnector::over("outer", stream)
}

/// Reads until there are this many bytes.
async fn filled(stream: &mut BoxStream, read_ahead: &[u8], most: usize) -> Result<Vec<u8>> {
    let mut bytes = read_ahead.to_vec();
    let mut chunk = [0; 64];
    while bytes.len() < most {
        let read = stream.read(&mut chunk).await?;
        bytes.extend_from_slice(&chunk[..read]);
        if read == 0 {
            return Err("the stream ended".into());
        }
    }
    Ok(bytes)
}

fn handshake(server: &Server) -> Result<Handshake> {
    Ok(Handshake::new(server.url("ws").parse()?)?.subprotocol("chat")?)
}

/// Answers as `answer` says and yields the head it saw; then whether the client went away.
fn answering(
    answer: impl Fn(&str) -> Vec<u8> + Send + 'static,
) -> (Server, mpsc::Receiver<String>, mpsc::Receiver<bool>) {
    let (seen, sees) = mpsc::channel();
    let (closed, closes) = mpsc::channel();
    let server = Server::plain(move |stream: &mut dyn Stream| {
        let head = read_head(stream)?;
        stream.write_all(&answer(&head))?;
        seen.send(head).ok();
        closed.send(is_closed(stream)).ok();
        Ok(())
    });
    (server, sees, closes)
}

async fn soon<T: Send + 'static>(receiver: mpsc::Receiver<T>) -> Result<T> {
    Ok(tokio::task::spawn_blocking(move || expect(&receiver)).await?)
}

#[tokio::test]
async fn an_accepted_handshake_yields_the_stream_and_what_was_sent_behind_the_answer() -> Result {
    let answer = |head: &str| {
        let accepted = switching(head).replace("X-Seen", "Sec-WebSocket-Protocol: chat\r\nX-Seen");
        [accepted.as_bytes(), b"\x81\x05early"].concat()
    };
    let (server, sees, closes) = answering(answer);
    let UpgradeResult::Upgraded { mut stream, read_ahead, response, accepted, .. } =
        connector().upgrade(&handshake(&server)?).await?
    else {
        return Err("refused".into());
    };
    assert_eq!(filled(&mut stream, &read_ahead, 7).await?, b"\x81\x05early");
    assert_eq!((response.status().as_u16(), &response.headers()["x-seen"]), (101, &"yes".parse()?));
    assert_eq!(accepted.subprotocol.as_deref(), Some("chat"));

    let head = expect(&sees);
    assert!(head.starts_with("GET /path?q=1 HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "upgrade"), Some("websocket"));
    assert_eq!(header(&head, "connection"), Some("Upgrade"));
    assert_eq!(header(&head, "content-length"), None);
    assert_eq!(header(&head, "host"), Some(&*format!("localhost:{}", server.address.port())));
    stream.write_all(b"x").await?;
    drop(stream);
    assert!(soon(closes).await?, "dropping the stream closes the socket");
    Ok(())
}

#[tokio::test]
async fn over_a_stream_of_the_callers_it_is_the_same() -> Result {
    let answer = |head: &str| [switching(head).as_bytes(), b"\x81\x05early"].concat();
    let (server, sees, closes) = answering(answer);
    let stream = TcpStream::connect(server.address).await?;
    let opened = custom(stream).upgrade(&handshake(&server)?).await?;
    let UpgradeResult::Upgraded { mut stream, read_ahead, response, .. } = opened else {
        return Err("refused".into());
    };
    assert_eq!(filled(&mut stream, &read_ahead, 7).await?, b"\x81\x05early");
    assert_eq!(response.status(), 101);
    let head = expect(&sees);
    assert!(head.starts_with("GET /path?q=1 HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "host"), Some(&*format!("localhost:{}", server.address.port())));
    drop(stream);
    assert!(soon(closes).await?);
    Ok(())
}

#[tokio::test]
async fn a_refusal_is_a_response_whose_body_streams_after_open() -> Result {
    for over in [false, true] {
        let (go, gone) = mpsc::channel::<()>();
        let (closed, closes) = mpsc::channel();
        let server = Server::plain(move |stream| {
            read_head(stream)?;
            stream.write_all(
                b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 10\r\n\r\n",
            )?;
            gone.recv().ok();
            stream.write_all(b"go")?;
            std::thread::sleep(Duration::from_millis(20));
            stream.write_all(b" away now")?;
            closed.send(is_closed(stream)).ok();
            Ok(())
        });
        let response = if over {
            let stream = TcpStream::connect(server.address).await?;
            match custom(stream).upgrade(&handshake(&server)?).await? {
                UpgradeResult::Refused(response) => response,
                _ => return Err("upgraded".into()),
            }
        } else {
            match connector().upgrade(&handshake(&server)?).await? {
                UpgradeResult::Refused(response) => response,
                _ => return Err("upgraded".into()),
            }
        };
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        go.send(())?;
        assert_eq!(response.into_body().collect().await?.to_bytes(), "go away no");
        assert!(soon(closes).await?, "the connection is not kept");
    }
    Ok(())
}

#[tokio::test]
async fn a_dropped_refusal_frees_the_socket() -> Result {
    for over in [false, true] {
        let (server, _sees, closes) = answering(|_| {
            b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 1000\r\n\r\npart".to_vec()
        });
        if over {
            let stream = TcpStream::connect(server.address).await?;
            drop(custom(stream).upgrade(&handshake(&server)?).await?);
        } else {
            drop(connector().upgrade(&handshake(&server)?).await?);
        }
        assert!(soon(closes).await?);
    }
    Ok(())
}

#[tokio::test]
async fn a_wrong_answer_is_a_protocol_error_and_frees_the_socket() -> Result {
    for over in [false, true] {
        let (server, _sees, closes) = answering(|head| {
            switching(head)
                .replace("Sec-WebSocket-Accept: ", "Sec-WebSocket-Accept: A")
                .into_bytes()
        });
        let error = if over {
            let stream = TcpStream::connect(server.address).await?;
            custom(stream).upgrade(&handshake(&server)?).await.err()
        } else {
            connector().upgrade(&handshake(&server)?).await.err()
        };
        let error = error.ok_or("accepted")?;
        assert_eq!((error.kind(), error.engine()), (ErrorKind::Protocol, Some("outer")));
        assert_eq!(error.response().map(|response| response.status().as_u16()), Some(101));
        assert!(soon(closes).await?);
    }
    Ok(())
}

#[tokio::test]
async fn a_dropped_open_frees_the_socket() -> Result {
    for over in [false, true] {
        let (server, sees, closes) = answering(|_| Vec::new());
        let shake = handshake(&server)?;
        let address = server.address;
        let open = async {
            if over {
                let stream = TcpStream::connect(address).await?;
                custom(stream).upgrade(&shake).await.map(drop)?;
            } else {
                connector().upgrade(&shake).await.map(drop)?;
            }
            Result::<()>::Ok(())
        };
        tokio::select! {
            opened = open => return Err(format!("nobody answered, but {opened:?}").into()),
            seen = soon(sees) => drop(seen?),
        }
        assert!(soon(closes).await?);
    }
    Ok(())
}

#[tokio::test]
async fn an_early_end_and_nonsense_are_errors() -> Result {
    for (answer, kind) in [(&b""[..], ErrorKind::Io), (b"SSH-2.0-x\r\n\r\n", ErrorKind::Protocol)] {
        for over in [false, true] {
            let server = Server::plain(move |stream| {
                read_head(stream)?;
                stream.write_all(answer)
            });
            let error = if over {
                let stream = TcpStream::connect(server.address).await?;
                custom(stream).upgrade(&handshake(&server)?).await.err()
            } else {
                connector().upgrade(&handshake(&server)?).await.err()
            };
            let error = error.ok_or("accepted")?;
            assert_eq!((error.kind(), error.engine()), (kind, Some("outer")), "{over} {error:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_handshake_has_a_connection_of_its_own() -> Result {
    let server = Server::plain(|stream| {
        while read_head(stream).is_ok() {
            stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")?;
        }
        Ok(())
    });
    let connector = connector();
    for _ in 0..3 {
        connector.upgrade(&handshake(&server)?).await?;
    }
    assert_eq!(server.connections(), 3);
    Ok(())
}

#[test]
fn the_futures_can_be_spawned() {
    fn sendable<T: Send>(_: T) {}
    let connector = connector();
    let shake = Handshake::new("ws://localhost/".parse().expect("a URL")).expect("a handshake");
    sendable(connector.upgrade(&shake));
    sendable(ReqwestConnector::over("outer", tokio::io::duplex(1).0).upgrade(&shake));
}
