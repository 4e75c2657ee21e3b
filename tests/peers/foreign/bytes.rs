//! Answers that net/http's peer writes byte for byte: each is read as it has to be, or refused, and the request behind it
//! gets an answer of its own.

use std::time::Duration;

use drivetrain::{
    ErrorKind,
    http::{StatusCode, header},
};

use crate::site::{Scenario, Site, Verdict, ensure, fails, same};

/// What an answer is taken as.
enum Taken {
    /// The body of a 200.
    Text(&'static str),
    /// This status, without a body.
    Empty(StatusCode),
    /// An error of this kind.
    Refused(ErrorKind),
    /// A head whose body is an error of this kind.
    Unreadable(ErrorKind),
    /// A body and a header in ISO 8859-1.
    Latin1,
}

/// A scenario for each answer.
macro_rules! answers {
    ($($route:literal => $taken:expr),+ $(,)?) => {
        pub(crate) const EVERY: &[Scenario] = &[$(Scenario {
            name: concat!("answer", $route),
            routes: &[$route, "/says"],
            check: |site| Box::pin(answer(site, $route, $taken)),
        }),+];
    };
}

answers! {
    // HTTP/1.0 has no chunks: the framing is faulty (RFC 9112 section 6.1).
    "/10-chunked" => Taken::Refused(ErrorKind::Protocol),
    "/10" => Taken::Text("until the end"),
    "/10-length" => Taken::Text("four"),
    "/until-close" => Taken::Text("until the end"),
    "/no-reason" => Taken::Text("ok"),
    // A line may end with LF alone (RFC 9112 section 2.2).
    "/lf" => Taken::Text("ok"),
    // One length, said twice (RFC 9110 section 8.6).
    "/two-lengths" => Taken::Text("ok"),
    "/list-length" => Taken::Text("ok"),
    // Two lengths (RFC 9112 section 6.3).
    "/other-lengths" => Taken::Refused(ErrorKind::Protocol),
    "/204-length" => Taken::Empty(StatusCode::NO_CONTENT),
    "/304-length" => Taken::Empty(StatusCode::NOT_MODIFIED),
    "/chunk-extension" => Taken::Text("ok"),
    // A coding that was not asked for, and is not that of the bytes (RFC 9112 section 6.1).
    "/gzip-chunked" => Taken::Unreadable(ErrorKind::Protocol),
    "/latin1" => Taken::Latin1,
    "/folded" => Taken::Text("ok"),
    "/cut-header" => Taken::Refused(ErrorKind::Io),
    "/nothing-sent" => Taken::Refused(ErrorKind::Io),
    "/100s" => Taken::Text("ok"),
    // The request has no Upgrade; bytes of another protocol are no body.
    "/101" => Taken::Empty(StatusCode::SWITCHING_PROTOCOLS),
    // What follows an answer is none to the next request.
    "/extra" => Taken::Text("ok"),
    "/slow" => Taken::Text("hello"),
}

async fn answer(site: &Site, path: &str, taken: Taken) -> Verdict {
    for _ in 0..3 {
        let answer = site.client.get(site.http(path)).send();
        let answer = site.within(Duration::from_secs(60), answer).await?;
        match &taken {
            Taken::Text(text) => {
                let answer = answer?;
                same("the status", answer.status(), StatusCode::OK)?;
                same("the body", answer.text().await?, *text)?;
            }
            Taken::Empty(status) => {
                let answer = answer?;
                same("the status", answer.status(), *status)?;
                same("the body", answer.bytes().await?, "")?;
            }
            Taken::Refused(kind) => drop(fails(answer, *kind)?),
            Taken::Unreadable(kind) => drop(fails(answer?.bytes().await, *kind)?),
            Taken::Latin1 => {
                let answer = answer?;
                same("the header", answer.headers()["x-name"].as_bytes(), b"caf\xe9")?;
                same(
                    "its type",
                    &answer.headers()[header::CONTENT_TYPE],
                    "text/plain; charset=iso-8859-1",
                )?;
                same("the body", answer.bytes().await?, &b"caf\xe9"[..])?;
                // No character is replaced in silence.
                let answer = site.client.get(site.http(path)).send().await?;
                fails(answer.text().await, ErrorKind::Convert)?;
            }
        }
        let said = site.get("/says").await?;
        ensure(said.starts_with("GET HTTP/1.1 len=0"), format!("behind it came {said}"))?;
    }
    Ok(())
}
