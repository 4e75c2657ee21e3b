//! The routes for HTTP that the servers of WebSockets have.

use drivetrain::{CookieJar, ErrorKind, http::StatusCode};

use crate::site::{Site, Verdict, ensure, fails, same, scenarios, text};

scenarios!(EVERY:
    hello ["/hello"],
    an_empty_post_has_a_length ["/empty"],
    a_cookie_is_kept ["/cookie"],
    a_cookie_comes_back ["/cookie", "ws:/cookie-echo"],
    five_events ["/events"],
);

scenarios!(
    /// Those that open no WebSocket.
    PAGES:
    hello ["/hello"],
    an_empty_post_has_a_length ["/empty"],
    a_cookie_is_kept ["/cookie"],
    five_events ["/events"],
);

scenarios!(
    /// Where there are no pages.
    COOKIE_ECHO:
    a_cookie_of_the_callers_is_sent ["ws:/cookie-echo"],
);

scenarios!(JAVA:
    bodies_are_counted ["/count"],
    an_early_refusal_is_read ["/reject/{status}"],
    any_status_is_a_response ["/status/{code}"],
    long_texts ["/text/{n}"],
    many_headers ["/headers/{n}"],
    a_body_in_pieces ["/chunks/{n}/{ms}"],
    trailers_are_no_body ["/trailers"],
    a_redirect_with_a_body ["/goto/{status}/{route}"],
    an_end_within_a_body ["/half", "/broken"],
    a_handler_that_throws ["/throws", "/hello"],
    a_late_answer ["/slow/{ms}"],
);

async fn hello(site: &Site) -> Verdict {
    for _ in 0..3 {
        same("the body", site.get("/hello").await?, "hello")?;
    }
    Ok(())
}

/// RFC 9110 section 8.6.
async fn an_empty_post_has_a_length(site: &Site) -> Verdict {
    let length = async |body: Option<&'static str>| -> Verdict<String> {
        let request = site.client.post(site.http("/empty"));
        let request = match body {
            Some(body) => request.body(body),
            None => request,
        };
        Ok(request.send().await?.error_for_status().await?.text().await?)
    };
    same("with a body", length(Some("four")).await?, "length=4")?;
    same("with an empty body", length(Some("")).await?, "length=0")?;
    same("without a body", length(None).await?, "length=0")
}

async fn a_cookie_is_kept(site: &Site) -> Verdict {
    let jar = CookieJar::new();
    let client = site.builder().cookie_jar(jar.clone()).build()?;
    let url = site.http("/cookie");
    let response = client.get(&url).send().await?.error_for_status().await?;
    let cookie = response.headers().get("set-cookie").ok_or("no cookie is set")?.to_str()?;
    ensure(cookie.starts_with("session=s1"), cookie)?;
    same("what the jar has", jar.cookies(&url)?.as_deref(), Some("session=s1"))
}

async fn a_cookie_comes_back(site: &Site) -> Verdict {
    let client = site.with_cookies()?;
    client.get(site.http("/cookie")).send().await?.error_for_status().await?.bytes().await?;
    let mut session = client.web_socket(site.ws("/cookie-echo")).connect().await?;
    same("the cookie", text(&mut session).await?, "cookie=s1")
}

async fn a_cookie_of_the_callers_is_sent(site: &Site) -> Verdict {
    let jar = CookieJar::new();
    let url = site.ws("/cookie-echo");
    jar.set(&url, "session=s1")?;
    let client = site.builder().cookie_jar(jar).build()?;
    let mut session = client.web_socket(url).connect().await?;
    same("the cookie", text(&mut session).await?, "cookie=s1")
}

async fn five_events(site: &Site) -> Verdict {
    let mut events = site.client.sse(site.http("/events")).reconnect(None).connect().await?;
    for number in 0..5 {
        let event = events.next().await?.ok_or("the stream has ended")?;
        same("its data", &*event.data, &*format!("line {number}\nsecond"))?;
        same("its type", &*event.event, "tick")?;
        same("its id", event.id.as_deref(), Some(&*number.to_string()))?;
    }
    ensure(events.next().await?.is_none(), "a sixth event")
}

async fn bodies_are_counted(site: &Site) -> Verdict {
    for size in [0, 1, 1000, 1_000_000] {
        let sent = site.client.post(site.http("/count")).body(vec![b'x'; size]).send().await?;
        let said = sent.error_for_status().await?.text().await?;
        ensure(said.starts_with(&format!("bytes={size}")), format!("{size} bytes: {said}"))?;
    }
    Ok(())
}

async fn an_early_refusal_is_read(site: &Site) -> Verdict {
    for _ in 0..5 {
        // Jetty does not say that it closes behind such an answer: no connection is used again.
        let request = site.client.post(site.http("/reject/413")).header("connection", "close");
        let sent = request.body(vec![b'x'; 900_000]).send();
        same("the status", sent.await?.status(), StatusCode::PAYLOAD_TOO_LARGE)?;
    }
    Ok(())
}

async fn any_status_is_a_response(site: &Site) -> Verdict {
    for status in [200, 204, 304, 404, 418, 500, 503] {
        let response = site.client.get(site.http(&format!("/status/{status}"))).send().await?;
        same("the status", response.status().as_u16(), status)?;
        response.bytes().await?;
    }
    Ok(())
}

async fn long_texts(site: &Site) -> Verdict {
    for size in [0, 100, 10_000, 1_000_000] {
        same("the length", site.get(&format!("/text/{size}")).await?.len(), size)?;
    }
    Ok(())
}

async fn many_headers(site: &Site) -> Verdict {
    for count in [10, 90, 150] {
        let response = site.client.get(site.http(&format!("/headers/{count}"))).send().await?;
        let is_one = |name: &&drivetrain::http::HeaderName| name.as_str().starts_with("x-h");
        same("how many came", response.headers().keys().filter(is_one).count(), count)?;
    }
    Ok(())
}

async fn a_body_in_pieces(site: &Site) -> Verdict {
    ensure(!site.get("/chunks/5/20").await?.is_empty(), "nothing came")
}

async fn trailers_are_no_body(site: &Site) -> Verdict {
    let body = site.get("/trailers").await?;
    ensure(!body.to_lowercase().contains("x-"), format!("a trailer is in the body: {body}"))
}

async fn a_redirect_with_a_body(site: &Site) -> Verdict {
    for status in [301, 302, 303, 307, 308] {
        same("the body", site.get(&format!("/goto/{status}/hello")).await?, "hello")?;
    }
    Ok(())
}

async fn an_end_within_a_body(site: &Site) -> Verdict {
    for path in ["/half", "/broken"] {
        let response = site.client.get(site.http(path)).send().await?;
        fails(response.bytes().await, ErrorKind::Io)?;
    }
    Ok(())
}

async fn a_handler_that_throws(site: &Site) -> Verdict {
    for _ in 0..3 {
        let response = site.client.get(site.http("/throws")).send().await?;
        same("the status", response.status(), StatusCode::INTERNAL_SERVER_ERROR)?;
        let error = fails(response.error_for_status().await, ErrorKind::Status)?;
        ensure(error.response().is_some(), "the error has no response")?;
        same("the next answer", site.get("/hello").await?, "hello")?;
    }
    Ok(())
}

async fn a_late_answer(site: &Site) -> Verdict {
    ensure(site.get("/slow/300").await.is_ok(), "it did not come")
}
