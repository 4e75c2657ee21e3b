//! Plain HTTP over the engine.

use std::{net::TcpListener, sync::mpsc, task::Context, time::Duration};

use crate::server::{Result, Server, expect, get, header, is_closed, read_head};
use ::http::{Request, StatusCode};
use bytes::Bytes;
use drivetrain_engine::{
    Body, Connector as _, Engine, Error, ErrorKind, Handshake, Replay, UPLOAD_GRACE,
};
use drivetrain_reqwest::{Reqwest, ReqwestConnector};
use http_body_util::BodyExt;

/// A body that yields what a channel brings.
fn channel_body() -> (tokio::sync::mpsc::Sender<Result<Bytes, Error>>, Body) {
    struct Channel(tokio::sync::mpsc::Receiver<Result<Bytes, Error>>);
    impl http_body::Body for Channel {
        type Data = Bytes;
        type Error = Error;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Error>>> {
            self.0.poll_recv(cx).map(|item| item.map(|item| item.map(http_body::Frame::data)))
        }
    }
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    (sender, Body::streaming(Channel(receiver)))
}

#[tokio::test]
async fn a_get_streams_its_response() -> Result {
    let (go, gone) = mpsc::channel::<()>();
    let server = Server::plain(move |stream| {
        read_head(stream)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nX-A: b\r\n\r\nfirst")?;
        gone.recv().ok();
        stream.write_all(b"later")
    });
    let response = Reqwest::new().execute(get(&server.url("http"))).await?;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-a"], "b");
    let mut body = response.into_body();
    assert_eq!(http_body::Body::size_hint(&body).exact(), Some(10));
    let first = body.frame().await.ok_or("no frame")??.into_data().map_err(|_| "no data")?;
    assert_eq!(first, "first", "the body is there before its end");
    go.send(())?;
    assert_eq!(body.collect().await?.to_bytes(), "later");
    Ok(())
}

#[tokio::test]
async fn a_body_in_memory_is_sent_with_its_length() -> Result {
    let (seen, sees) = mpsc::channel();
    let server = Server::plain(move |stream| {
        let head = read_head(stream)?;
        let mut body = [0; 5];
        stream.read_exact(&mut body)?;
        seen.send((head, body)).ok();
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
    });
    let request = Request::post(server.url("http")).body(Body::from("hello"))?;
    let response = Reqwest::new().execute(request).await?;
    assert_eq!(response.status(), 204);
    let (head, body) = expect(&sees);
    assert!(head.starts_with("POST /path?q=1 HTTP/1.1\r\n"), "{head}");
    assert_eq!((header(&head, "content-length"), &body), (Some("5"), b"hello"));
    assert_eq!(header(&head, "transfer-encoding"), None);
    Ok(())
}

#[tokio::test]
async fn a_request_body_streams_while_it_is_made() -> Result {
    let (seen, sees) = mpsc::channel();
    let server = Server::plain(move |stream| {
        seen.send(read_head(stream)?).ok();
        let mut chunk = [0; 10];
        stream.read_exact(&mut chunk)?;
        seen.send(String::from_utf8_lossy(&chunk).into_owned()).ok();
        let mut end = [0; 5];
        stream.read_exact(&mut end)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    });
    let (sender, body) = channel_body();
    let request = Request::post(server.url("http")).body(body)?;
    let engine = Reqwest::new();
    let response = tokio::spawn(async move { engine.execute(request).await });
    let head = tokio::task::spawn_blocking(move || (expect(&sees), sees)).await?;
    assert_eq!(header(&head.0, "transfer-encoding"), Some("chunked"));
    sender.send(Ok(Bytes::from("chunk"))).await?;
    let sees = head.1;
    let chunk = tokio::task::spawn_blocking(move || expect(&sees)).await?;
    assert_eq!(chunk, "5\r\nchunk\r\n", "a chunk is on the wire before the body's end");
    drop(sender);
    assert_eq!(response.await??.status(), 200);
    Ok(())
}

#[tokio::test]
async fn an_error_of_the_callers_body_comes_back_as_it_is() -> Result {
    let server = Server::plain(|stream| {
        is_closed(stream);
        Ok(())
    });
    let (sender, body) = channel_body();
    sender.send(Err(Error::new(ErrorKind::Convert, "no more rows"))).await?;
    let request = Request::post(server.url("http")).body(body)?;
    let error = Reqwest::new().execute(request).await.expect_err("the body fails");
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Convert, "no more rows".into()));
    assert_eq!(error.engine(), Some("reqwest"));
    Ok(())
}

#[tokio::test]
async fn a_redirect_is_a_response() -> Result {
    let server = Server::plain(|stream| {
        read_head(stream)?;
        stream.write_all(b"HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n")
    });
    // A hook cannot switch it on.
    let engine =
        Reqwest::new().configure(|builder| builder.redirect(reqwest::redirect::Policy::limited(5)));
    let response = engine.execute(get(&server.url("http"))).await?;
    assert_eq!((response.status().as_u16(), server.connections()), (302, 1));
    Ok(())
}

#[tokio::test]
async fn the_retries_of_a_hook_are_in_force() -> Result {
    let (seen, sees) = mpsc::channel();
    let server = Server::plain(move |stream| {
        for answer in ["503 Busy", "503 Busy", "200 OK"] {
            seen.send(read_head(stream)?).ok();
            let head = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(head.as_bytes())?;
        }
        Ok(())
    });
    let engine = Reqwest::new().configure(|builder| {
        let twice = reqwest::retry::for_host("localhost").no_budget().max_retries_per_request(2);
        builder.retry(twice.classify_fn(|answer| match answer.status() {
            Some(StatusCode::SERVICE_UNAVAILABLE) => answer.retryable(),
            _ => answer.success(),
        }))
    });
    let response = engine.execute(get(&server.url("http"))).await?;
    assert_eq!((response.status().as_u16(), sees.try_iter().count()), (200, 3));
    Ok(())
}

/// reqwest's own policy would repeat a refused stream, which the client above does.
#[tokio::test]
async fn without_retries_of_a_hook_a_request_is_sent_once() -> Result {
    for engine in [Reqwest::new(), Reqwest::new().configure(|builder| builder.user_agent("mine"))] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/", listener.local_addr()?);
        let (seen, sees) = mpsc::channel();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let mut connection = h2::server::handshake(socket).await.expect("HTTP/2");
                while let Some(Ok((_, mut answer))) = connection.accept().await {
                    seen.send(()).ok();
                    answer.send_reset(h2::Reason::REFUSED_STREAM);
                }
            }
        });
        let error = engine.http2_prior_knowledge().execute(get(&url)).await.expect_err("refused");
        let sent = sees.try_iter().count();
        assert_eq!((error.replay(), sent), (Some(Replay::NotProcessed), 1), "{error:?}");
    }
    Ok(())
}

#[tokio::test]
async fn connections_are_reused_and_clones_share_them() -> Result {
    let server = Server::plain(|stream| {
        while read_head(stream).is_ok() {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        }
        Ok(())
    });
    let engine = Reqwest::new();
    engine.execute(get(&server.url("http"))).await?;
    tokio::time::sleep(Duration::from_millis(20)).await;
    engine.clone().execute(get(&server.url("http"))).await?;
    assert_eq!(server.connections(), 1);
    Ok(())
}

/// The first upload is over in time. The second waits for a server that takes its time.
#[tokio::test]
async fn a_connection_that_is_used_again_is_not_ended_by_the_grace_of_an_upload() -> Result {
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let server = Server::plain(|stream| {
        read_head(stream)?;
        stream.write_all(OK)?;
        // A body in chunks ends as a head does.
        read_head(stream)?;
        read_head(stream)?;
        std::thread::sleep(UPLOAD_GRACE + Duration::from_millis(300));
        let (mut body, mut block) = (Vec::new(), vec![0; 1 << 16]);
        while !body.ends_with(b"\r\n\r\n") {
            let read = stream.read(&mut block)?;
            assert!(read > 0, "the body ends early");
            body.extend_from_slice(&block[..read]);
        }
        stream.write_all(OK)
    });
    let engine = Reqwest::new();
    let post =
        |body| engine.execute(Request::post(server.url("http")).body(body).expect("a request"));
    let (sender, body) = channel_body();
    sender.send(Ok("first".into())).await?;
    post(body).await?;
    drop(sender);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (sender, body) = channel_body();
    let chunks = tokio::spawn(async move {
        for _ in 0..1000 {
            sender.send(Ok(vec![7; 16 << 10].into())).await?;
        }
        Ok::<_, tokio::sync::mpsc::error::SendError<_>>(())
    });
    assert_eq!(post(body).await?.status(), 200);
    chunks.await??;
    assert_eq!(server.connections(), 1);
    Ok(())
}

#[tokio::test]
async fn a_closed_port_is_a_connect_error() -> Result {
    let closed = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let url = format!("http://user:secret@127.0.0.1:{}/?token=secret", closed.port());
    for result in [
        Reqwest::new().execute(get(&url)).await.err(),
        ReqwestConnector::new("outer", Reqwest::new())
            .upgrade(&Handshake::new(url.parse()?)?)
            .await
            .err(),
    ] {
        let error = result.ok_or("it connected")?;
        assert_eq!(error.kind(), ErrorKind::Connect, "{error:?}");
        let printed = format!("{error} {error:?}");
        assert!(printed.contains(&closed.to_string()), "{printed}");
        assert!(!printed.contains("secret"), "{printed}");
    }
    Ok(())
}

#[tokio::test]
async fn an_unknown_name_is_a_connect_error() {
    let error = Reqwest::new().execute(get("http://no-such-host.invalid/")).await;
    let error = error.expect_err("the name does not exist");
    assert_eq!(error.kind(), ErrorKind::Connect, "{error:?}");
}

#[tokio::test]
async fn what_is_not_http_is_a_protocol_error() -> Result {
    let server = Server::plain(|stream| {
        read_head(stream)?;
        stream.write_all(b"220 mail.example ESMTP\r\n\r\n")
    });
    let error = Reqwest::new().execute(get(&server.url("http"))).await.expect_err("no HTTP");
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
    Ok(())
}

#[tokio::test]
async fn an_early_end_is_an_io_error() -> Result {
    let server = Server::plain(|stream| read_head(stream).map(|_| ()));
    let error = Reqwest::new().execute(get(&server.url("http"))).await.expect_err("no answer");
    assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");

    let server = Server::plain(|stream| {
        read_head(stream)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    });
    let response = Reqwest::new().execute(get(&server.url("http"))).await?;
    let error = response.into_body().collect().await.expect_err("half a body");
    assert_eq!((error.kind(), error.engine()), (ErrorKind::Io, Some("reqwest")), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn a_dropped_request_frees_the_socket() -> Result {
    let (seen, sees) = mpsc::channel();
    let server = Server::plain(move |stream| {
        read_head(stream)?;
        seen.send(true).ok();
        seen.send(is_closed(stream)).ok();
        Ok(())
    });
    let engine = Reqwest::new();
    let url = server.url("http");
    let request = tokio::spawn(async move { engine.execute(get(&url)).await.map(drop) });
    let sees = tokio::task::spawn_blocking(move || expect(&sees).then_some(sees)).await?;
    request.abort();
    let sees = sees.ok_or("it never arrived")?;
    assert!(tokio::task::spawn_blocking(move || expect(&sees)).await?);
    Ok(())
}

#[tokio::test]
async fn a_url_that_cannot_be_reached_is_invalid_input() {
    for url in ["ftp://localhost/", "/path", "localhost:80"] {
        let error = Reqwest::new().execute(get(url)).await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}: {error:?}");
    }
}
