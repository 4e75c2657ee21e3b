//! The pages of Go's net/http, and answers that are written byte for byte.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use drivetrain::{ErrorKind, Redirects, http::StatusCode};
use futures_util::lock::Mutex;

use crate::site::{Site, Verdict, ensure, fails, same, scenarios};

scenarios!(EVERY:
    what_was_sent_is_seen,
    early_hints_are_no_answer,
    refusals_before_the_body_is_read,
    trailers_are_no_body,
    a_body_in_pieces,
    statuses,
    redirects_of_every_kind,
    a_loop_has_an_end,
    gzip_of_one_member_and_of_many,
    gzip_that_is_cut_off,
    many_headers,
    long_headers,
    a_body_that_is_cut_off,
    a_server_that_hangs_up,
    every_second_request_is_hung_up_on,
    a_connection_that_is_closed_after_each,
    a_long_body,
    events_that_are_compressed,
    answers_that_are_read,
    answers_that_are_refused,
    idle_connections_that_the_server_closes,
);

async fn what_was_sent_is_seen(site: &Site) -> Verdict {
    let said = site.get("/says").await?;
    ensure(said.starts_with("GET HTTP/1.1 len=0"), said)?;
    let sent = site.client.post(site.http("/says")).body("four").send().await?.text().await?;
    ensure(sent.starts_with("POST HTTP/1.1 len=4 cl=4"), sent)
}

async fn early_hints_are_no_answer(site: &Site) -> Verdict {
    let response = site.client.get(site.http("/early")).send().await?;
    same("the status", response.status(), StatusCode::OK)
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

async fn statuses(site: &Site) -> Verdict {
    for status in [200, 204, 206, 304, 400, 418, 500, 599] {
        let response = site.client.get(site.http(&format!("/status/{status}"))).send().await?;
        same("the status", response.status().as_u16(), status)?;
        response.bytes().await?;
    }
    Ok(())
}

async fn redirects_of_every_kind(site: &Site) -> Verdict {
    for status in [301, 302, 303, 307, 308] {
        let url = site.http(&format!("/redirect/{status}?to=/says"));
        let said = site.client.post(url).body("four").send().await?.text().await?;
        let expected = if status < 307 { "GET HTTP/1.1 len=0" } else { "POST HTTP/1.1 len=4" };
        ensure(said.starts_with(expected), format!("{status}: {said}"))?;
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

async fn many_headers(site: &Site) -> Verdict {
    for count in [10, 90, 200] {
        let response = site.client.get(site.http(&format!("/headers/{count}/20"))).send().await?;
        let is_one = |name: &&drivetrain::http::HeaderName| name.as_str().starts_with("x-");
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

async fn a_server_that_hangs_up(site: &Site) -> Verdict {
    fails(site.client.get(site.http("/hangs-up")).send().await, ErrorKind::Io)?;
    Ok(())
}

/// A GET on a reused connection that ends before its answer goes out once more (RFC 9110 section 9.2.2).
async fn every_second_request_is_hung_up_on(site: &Site) -> Verdict {
    // The server counts the requests of all clients: two engines at once get each other's turns.
    static TURNS: LazyLock<Mutex<()>> = LazyLock::new(Mutex::default);
    let _turns = TURNS.lock().await;
    let mut failed = 0;
    for _ in 0..10 {
        site.get("/says").await?;
        failed += usize::from(site.get("/once-hangs-up").await.is_err());
    }
    same("requests that failed", failed, 0)
}

async fn a_connection_that_is_closed_after_each(site: &Site) -> Verdict {
    for _ in 0..10 {
        site.get("/bye").await?;
    }
    Ok(())
}

async fn a_long_body(site: &Site) -> Verdict {
    let response = site.client.get(site.http("/bytes/5000000")).send().await?;
    same("its length", response.bytes().await?.len(), 5_000_000)
}

async fn events_that_are_compressed(site: &Site) -> Verdict {
    let mut events = site.client.sse(site.http("/events")).reconnect(None).connect().await?;
    ensure(events.next().await?.is_some(), "no event came")
}

async fn answers_that_are_read(site: &Site) -> Verdict {
    for (path, body) in [
        ("/10", "until the end"),
        ("/10-length", "four"),
        ("/until-close", "until the end"),
        ("/no-reason", "ok"),
        ("/two-lengths", "ok"),
        ("/chunk-extension", "ok"),
        ("/folded", "ok"),
        ("/extra", "ok"),
        ("/slow", "hello"),
        ("/100s", "ok"),
    ] {
        let got = site.get(path).await.map_err(|error| format!("{path}: {error}"))?;
        ensure(got.starts_with(body), format!("{path}: {got:?}"))?;
    }
    same(
        "the status",
        site.client.get(site.http("/204-length")).send().await?.status(),
        StatusCode::NO_CONTENT,
    )?;
    same(
        "the status",
        site.client.get(site.http("/304-length")).send().await?.status(),
        StatusCode::NOT_MODIFIED,
    )
}

/// What is ambiguous (RFC 9112 section 6.3) or no answer.
async fn answers_that_are_refused(site: &Site) -> Verdict {
    let begin = Instant::now();
    for path in ["/other-lengths", "/cut-header", "/nothing-sent"] {
        let answer = site.client.get(site.http(path)).send().await;
        ensure(answer.is_err(), format!("{path} was taken: {answer:?}"))?;
    }
    ensure(begin.elapsed() < Duration::from_secs(60), "it took too long")
}

/// The plain port ends a connection that is idle for 150 ms.
async fn idle_connections_that_the_server_closes(site: &Site) -> Verdict {
    for round in 0..12 {
        same("the length", site.get("/bytes/5").await?.len(), 5)?;
        site.sleep(Duration::from_millis(146 + round)).await;
    }
    Ok(())
}
