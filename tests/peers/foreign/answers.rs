//! The pages of Go's net/http: on its plain port, with TLS, and behind its reverse proxy.

use std::{io, sync::LazyLock, time::Duration};

use drivetrain::{
    Body, Bytes, CloseReason, ErrorKind, Redirects,
    http::{HeaderName, StatusCode, Version, header},
};
use futures_util::{StreamExt as _, lock::Mutex};
use smol::channel;

use crate::site::{Place, Site, Verdict, echo, ensure, fails, next, same, scenarios};

scenarios!(EVERY:
    what_was_sent_is_seen ["/says"],
    early_hints_are_no_answer ["/early"],
    trailers_are_no_body ["/trailers"],
    a_body_in_pieces ["/chunks/{n}?ms"],
    an_upload_comes_back ["/duplex"],
    statuses ["/status/{code}"],
    redirects_of_every_kind ["/redirect/{code}?to", "/says"],
    a_loop_has_an_end ["/loop"],
    gzip_of_one_member_and_of_many ["/gzip?members&flush&empty&name"],
    gzip_that_is_cut_off ["/gzip?cut"],
    parts_of_a_file ["/file"],
    parts_of_an_encoded_file ["/file.gz"],
    many_headers ["/headers/{n}/{size}"],
    long_headers ["/headers/{n}/{size}"],
    a_body_that_is_cut_off ["/cut/{n}", "/cut-chunks"],
    a_server_that_hangs_up ["/hangs-up", "/says"],
    every_second_request_is_hung_up_on ["/once-hangs-up", "/says"],
    a_connection_that_is_closed_after_each ["/bye"],
    a_long_body ["/bytes/{n}"],
    events_that_are_compressed ["/events"],
    a_web_socket_beside_the_pages ["ws:/echo"],
);

scenarios!(
    /// What a reverse proxy does not hand on: it reads no more of a request that it has refused, or answers.
    DIRECT:
    refusals_before_the_body_is_read ["/refuses", "/413"],
    both_directions_at_once ["/duplex"],
);

scenarios!(
    /// Where the server ends a connection that is idle for 150 ms.
    PLAIN:
    idle_connections_that_the_server_closes ["/bytes/{n}"],
);

async fn what_was_sent_is_seen(site: &Site) -> Verdict {
    // The reverse proxy speaks HTTP/1.1 to the page.
    let version = if site.version() == Version::HTTP_2 { "HTTP/2.0" } else { "HTTP/1.1" };
    let said = site.get("/says").await?;
    ensure(said.starts_with(&format!("GET {version} len=0")), said)?;
    let sent = site.client.post(site.http("/says")).body("four").send().await?.text().await?;
    ensure(sent.starts_with(&format!("POST {version} len=4 cl=4")), sent)?;
    let sent = site.client.put(site.http("/says")).body(pieces(&["five", "six"])).send().await?;
    let sent = sent.text().await?;
    ensure(sent.starts_with(&format!("PUT {version} len=7 cl=-1")), sent)?;
    let response = site.client.get(site.http("/says")).send().await?;
    same("the version", response.version(), site.version())
}

/// A body whose length is not said.
fn pieces(pieces: &'static [&'static str]) -> Body {
    Body::from_stream(futures_util::stream::iter(pieces).map(|piece| Ok::<_, io::Error>(*piece)))
}

async fn early_hints_are_no_answer(site: &Site) -> Verdict {
    let response = site.client.get(site.http("/early")).send().await?;
    same("the status", response.status(), StatusCode::OK)?;
    ensure(response.text().await?.starts_with("GET HTTP/"), "it is not what was sent")
}

async fn refusals_before_the_body_is_read(site: &Site) -> Verdict {
    for (path, status) in [("/refuses", 403), ("/413", 413)] {
        for _ in 0..10 {
            let request = site.client.post(site.http(path)).body(vec![0; 8 << 20]);
            same("the status", request.send().await?.status().as_u16(), status)?;
        }
    }
    Ok(())
}

async fn trailers_are_no_body(site: &Site) -> Verdict {
    same("the body", site.get("/trailers").await?, "piece 0;piece 1;piece 2;")
}

async fn a_body_in_pieces(site: &Site) -> Verdict {
    same("the body", site.get("/chunks/4?ms=20").await?, "0\n1\n2\n3\n")
}

async fn an_upload_comes_back(site: &Site) -> Verdict {
    for body in ["", "x", "three pieces"] {
        let response = site.client.post(site.http("/duplex")).body(body).send().await?;
        same("the body", response.text().await?, body)?;
    }
    Ok(())
}

/// The answer begins before the request ends: each chunk is echoed before the next one is sent.
async fn both_directions_at_once(site: &Site) -> Verdict {
    let (upload, pieces) = channel::bounded::<io::Result<Bytes>>(1);
    let request = site.client.post(site.http("/duplex")).body(Body::from_stream(pieces));
    upload.send(Ok("first".into())).await?;
    let mut download = request.send().await?.bytes_stream();
    let mut back = Vec::new();
    let mut sent = b"first".to_vec();
    for number in 0..20 {
        while back.len() < sent.len() {
            back.extend_from_slice(&download.next().await.ok_or("the answer has ended")??);
        }
        same("the echo", &*back, &*sent)?;
        let piece = vec![number; 1000 * usize::from(number) + 1];
        sent.extend_from_slice(&piece);
        upload.try_send(Ok(piece.into()))?;
    }
    drop(upload);
    while let Some(piece) = download.next().await {
        back.extend_from_slice(&piece?);
    }
    ensure(back == sent, "the echo differs")
}

async fn statuses(site: &Site) -> Verdict {
    for status in [200, 204, 206, 304, 400, 418, 500, 599] {
        let url = site.http(&format!("/status/{status}"));
        for request in [site.client.get(&url), site.client.head(&url)] {
            let response = request.send().await?;
            same("the status", response.status().as_u16(), status)?;
            response.bytes().await?;
        }
    }
    Ok(())
}

async fn redirects_of_every_kind(site: &Site) -> Verdict {
    for status in [301, 302, 303, 307, 308] {
        let url = site.http(&format!("/redirect/{status}?to=/says"));
        let response = site.client.post(url).body("four").send().await?;
        ensure(response.url().as_str() == site.http("/says"), format!("{}", response.url()))?;
        let said = response.text().await?;
        let (method, length) = if status < 307 { ("GET", 0) } else { ("POST", 4) };
        ensure(said.starts_with(&format!("{method} HTTP/")), format!("{status}: {said}"))?;
        ensure(said.contains(&format!(" len={length} ")), format!("{status}: {said}"))?;
    }
    Ok(())
}

async fn a_loop_has_an_end(site: &Site) -> Verdict {
    let client = site.builder().redirects(Redirects::new().limit(5)).build()?;
    ensure(client.get(site.http("/loop")).send().await.is_err(), "it is not followed for ever")
}

async fn gzip_of_one_member_and_of_many(site: &Site) -> Verdict {
    for (query, members) in [
        ("members=1", 1),
        ("members=2", 2),
        ("members=5", 5),
        ("members=3&flush=1", 3),
        ("members=3&empty=1", 0),
        ("members=3&name=x-gzip", 3),
        ("name=GZIP", 3),
    ] {
        // Each member has as much.
        let text = site.get(&format!("/gzip?{query}")).await?;
        ensure(text.len() == members * 1000, format!("{query}: {} bytes", text.len()))?;
    }
    Ok(())
}

async fn gzip_that_is_cut_off(site: &Site) -> Verdict {
    let response = site.client.get(site.http("/gzip?cut=10")).send().await?;
    ensure(response.bytes().await.is_err(), "it was taken as whole")
}

/// RFC 9110 sections 13 and 14: ranges and conditions are the caller's, and so are the answers to them.
async fn parts_of_a_file(site: &Site) -> Verdict {
    let whole = "0123456789".repeat(1000);
    let url = site.http("/file");
    let get = async |headers: &[(&str, &str)]| -> Verdict<(u16, Option<String>, String)> {
        let request = site.client.get(&url);
        let request = headers.iter().fold(request, |request, (name, value)| {
            request.header(HeaderName::try_from(*name).expect("a name"), *value)
        });
        let response = request.send().await?;
        let range = response.headers().get(header::CONTENT_RANGE);
        let range = range.map(|range| range.to_str().map(str::to_owned)).transpose()?;
        Ok((response.status().as_u16(), range, response.text().await?))
    };
    let part =
        |range: &str, body: &str| (206, Some(format!("bytes {range}/10000")), body.to_owned());
    same("the file", get(&[]).await?, (200, None, whole.clone()))?;
    same("a range", get(&[("range", "bytes=0-9")]).await?, part("0-9", "0123456789"))?;
    same("its end", get(&[("range", "bytes=9995-")]).await?, part("9995-9999", "56789"))?;
    same("its last bytes", get(&[("range", "bytes=-3")]).await?, part("9997-9999", "789"))?;
    let behind = get(&[("range", "bytes=20000-")]).await?;
    same("the status", (behind.0, behind.1.as_deref()), (416, Some("bytes */10000")))?;
    let (status, _, several) = get(&[("range", "bytes=0-1,5-6")]).await?;
    same("the status", status, 206)?;
    ensure(several.contains("bytes 0-1/10000") && several.contains("\r\n\r\n56\r\n"), several)?;
    let unchanged = [("range", "bytes=0-9"), ("if-range", "\"1\"")];
    same("a range of this version", get(&unchanged).await?, part("0-9", "0123456789"))?;
    let changed = [("range", "bytes=0-9"), ("if-range", "\"2\"")];
    same("a range of another version", get(&changed).await?, (200, None, whole))?;
    same("the known version", get(&[("if-none-match", "\"1\"")]).await?.0, 304)?;
    same("another version", get(&[("if-match", "\"2\"")]).await?.0, 412)?;
    let head = site.client.head(&url).send().await?;
    same("its length", &head.headers()[header::CONTENT_LENGTH], "10000")?;
    same("the body", head.bytes().await?, "")
}

/// A part of a coded file is left as it is: it cannot be decoded.
async fn parts_of_an_encoded_file(site: &Site) -> Verdict {
    same("the file", site.get("/file.gz").await?, "0123456789".repeat(1000))?;
    let mut parts = Vec::new();
    for range in ["bytes=0-9", "bytes=10-"] {
        let request = site.client.get(site.http("/file.gz")).header(header::RANGE, range);
        let response = request.send().await?;
        same("the status", response.status(), StatusCode::PARTIAL_CONTENT)?;
        same("its coding", &response.headers()[header::CONTENT_ENCODING], "gzip")?;
        parts.extend_from_slice(&response.bytes().await?);
    }
    same("what it begins with", &parts[..2], [0x1f, 0x8b])?;
    let request = site.client.get(site.http("/file.gz")).header(header::ACCEPT_ENCODING, "gzip");
    same("both parts", parts, request.send().await?.bytes().await?)
}

async fn many_headers(site: &Site) -> Verdict {
    for count in [10, 90, 200] {
        let response = site.client.get(site.http(&format!("/headers/{count}/20"))).send().await?;
        let is_one = |name: &&HeaderName| name.as_str().starts_with("x-");
        same("how many came", response.headers().keys().filter(is_one).count(), count)?;
    }
    Ok(())
}

async fn long_headers(site: &Site) -> Verdict {
    let response = site.client.get(site.http("/headers/2/10000")).send().await?;
    same("its length", response.headers()["x-0"].len(), 10_000)
}

async fn a_body_that_is_cut_off(site: &Site) -> Verdict {
    for path in ["/cut/10", "/cut-chunks"] {
        let response = site.client.get(site.http(path)).send().await?;
        fails(response.bytes().await, ErrorKind::Io)?;
    }
    Ok(())
}

/// The server counts the requests that it hangs up on, or may: two engines at once would get each other's turns.
static TURNS: LazyLock<Mutex<()>> = LazyLock::new(Mutex::default);

/// The request fails, or the proxy says so, and the next one does not.
async fn a_server_that_hangs_up(site: &Site) -> Verdict {
    let _turns = TURNS.lock().await;
    for _ in 0..3 {
        let answer = site.client.get(site.http("/hangs-up")).send().await;
        if site.place() == Place::Reverse {
            same("the status", answer?.status(), StatusCode::BAD_GATEWAY)?;
        } else {
            fails(answer, ErrorKind::Io)?;
        }
        site.get("/says").await?;
    }
    Ok(())
}

/// A GET on a reused connection that ends before its answer goes out once more (RFC 9110 section 9.2.2). A stream of
/// HTTP/2 that is reset, and the proxy's answer, say that the server may have acted on it: these stay.
async fn every_second_request_is_hung_up_on(site: &Site) -> Verdict {
    let _turns = TURNS.lock().await;
    let is_repeated = site.place() != Place::Reverse && site.version() == Version::HTTP_11;
    let mut failed = 0;
    for _ in 0..10 {
        site.get("/says").await?;
        let answer = site.get("/once-hangs-up").await;
        failed += usize::from(answer.is_err());
    }
    // The proxy, whose connections are kept too, repeats some.
    let most = if is_repeated { 0 } else { 5 };
    ensure(failed <= most, format!("{failed} of ten requests failed"))
}

async fn a_connection_that_is_closed_after_each(site: &Site) -> Verdict {
    for _ in 0..10 {
        same("the body", site.get("/bye").await?, "bye")?;
    }
    Ok(())
}

async fn a_long_body(site: &Site) -> Verdict {
    let response = site.client.get(site.http("/bytes/5000000")).send().await?;
    same("its length", response.bytes().await?.len(), 5_000_000)
}

async fn events_that_are_compressed(site: &Site) -> Verdict {
    let mut events = site.client.sse(site.http("/events")).reconnect(None).connect().await?;
    for number in 0..5 {
        let event = events.next().await?.ok_or("the stream has ended")?;
        same("its data", event.data.to_string(), number.to_string())?;
    }
    ensure(events.next().await?.is_none(), "a sixth event")
}

async fn a_web_socket_beside_the_pages(site: &Site) -> Verdict {
    let mut session = site.open("/echo").await?;
    echo(&mut session, "beside the pages").await?;
    echo(&mut session, vec![7; 100_000]).await?;
    session.send("last").await?;
    same("the last message", next(&mut session).await?.read_text(), Some("last"))?;
    let outcome = session.close(CloseReason::new(4001, "bye")?).await?;
    ensure(outcome.clean, format!("the end is not clean: {outcome}"))
}

/// The plain port ends a connection that is idle for 150 ms.
async fn idle_connections_that_the_server_closes(site: &Site) -> Verdict {
    for round in 0..12 {
        // Which bytes is not said: they are whatever the server's buffer has had.
        let response = site.client.get(site.http("/bytes/5")).send().await?;
        same("the length", response.bytes().await?.len(), 5)?;
        site.sleep(Duration::from_millis(146 + round)).await;
    }
    Ok(())
}
