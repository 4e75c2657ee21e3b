//! Event streams that end, and responses that are errors.

use std::{io, sync::Arc, time::Duration};

use drivetrain::{ErrorKind, http::Method, sse::Reconnect};
use drivetrain_engine::Capability;

use crate::{
    case::{Case, case},
    context::{Context, PATIENCE},
    expect::fails,
    failure::{Failure, Verdict},
    peer::{Conn, Server},
};

/// What is kept of the body of an error.
const MOST: usize = 64 << 10;

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case(only_get_and_head_event_streams_connect_again),
        case(a_post_event_stream_connects_again_if_that_is_asked_for),
        case(max_tries_holds_when_a_server_answers_and_hangs_up),
        case(a_refused_event_stream_keeps_the_body),
        case(error_for_status_keeps_the_body),
    ];
    cases.into_iter().map(|case| case.needs(&[Capability::Http1])).collect()
}

/// Whether the response ends or is cut.
async fn only_get_and_head_event_streams_connect_again(cx: Context) -> Verdict {
    for is_cut in [false, true] {
        let server = answering(&cx, "retry: 1\nid: 1\ndata: x\n\n", is_cut);
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"] {
            let before = server.requests();
            let method = Method::from_bytes(method.as_bytes())?;
            let request = cx.client().request(method.clone(), server.http_url("/")).body("paid");
            let mut events = request.sse().connect().await?;
            assert!(events.next().await?.is_some());
            match is_cut {
                false => assert_eq!(events.next().await?, None, "{method}"),
                true => drop(fails(events.next().await, ErrorKind::Io)?),
            }
            assert_eq!(server.requests() - before, 1, "{method}");
        }
        let before = server.requests();
        let mut events = cx.client().sse(server.http_url("/")).connect().await?;
        for _ in 0..3 {
            let event = cx.within(PATIENCE, "an event comes", events.next()).await??;
            assert!(event.is_some());
        }
        assert_eq!(server.requests() - before, 3, "GET");
    }
    Ok(())
}

async fn a_post_event_stream_connects_again_if_that_is_asked_for(cx: Context) -> Verdict {
    let server = answering(&cx, "retry: 1\ndata: x\n\n", false);
    let request = cx.client().post(server.http_url("/")).body("again");
    let mut events = request.sse().reconnect(Reconnect::new()).connect().await?;
    for _ in 0..3 {
        let event = cx.within(PATIENCE, "an event comes", events.next()).await??;
        assert!(event.is_some());
    }
    assert_eq!(server.requests(), 3);
    Ok(())
}

/// Whatever it says, unless it is an event.
async fn max_tries_holds_when_a_server_answers_and_hangs_up(cx: Context) -> Verdict {
    let said = ["", ": a comment\n\n", "retry: 1\n\n", "id: 1\n\n", "event: x\n\n", "data: half\n"];
    for (text, is_cut) in said.into_iter().flat_map(|text| [(text, false), (text, true)]) {
        let server = answering(&cx, text, is_cut);
        let policy = Reconnect::new().delay(Duration::from_millis(1)).max_tries(3);
        let mut events = cx.client().sse(server.http_url("/")).reconnect(policy).connect().await?;
        let end = cx.within(PATIENCE, "it gives up", events.next()).await?;
        match is_cut {
            false => assert_eq!(end?, None, "{text:?}"),
            true => drop(fails(end, ErrorKind::Io)?),
        }
        assert_eq!(server.requests(), 4, "{text:?}");
    }
    Ok(())
}

/// What a server says about a refusal is in its body; nothing that happens there hides the status.
async fn a_refused_event_stream_keeps_the_body(cx: Context) -> Verdict {
    let bodies = Refusal::ALL.map(|body| (429, body));
    for (status, body) in bodies.into_iter().chain([(503, Refusal::Whole), (200, Refusal::Whole)]) {
        let kind = if status == 200 { ErrorKind::Protocol } else { ErrorKind::Status };
        let server = refusing(&cx, status, body);
        let connect = cx.client().sse(server.http_url("/")).connect();
        let error = fails(connect.await, kind)?;
        body.is_kept_in(&error, status)?;
    }
    Ok(())
}

async fn error_for_status_keeps_the_body(cx: Context) -> Verdict {
    for body in Refusal::ALL {
        let server = refusing(&cx, 422, body);
        let response = cx.client().get(server.http_url("/")).send().await?;
        let error = fails(response.error_for_status().await, ErrorKind::Status)?;
        body.is_kept_in(&error, 422)?;
    }
    Ok(())
}

/// The body of a refusal.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    Whole,
    Long,
    /// The connection stays open, and nothing more comes.
    Stalls,
    Cut,
}

impl Refusal {
    const ALL: [Self; 4] = [Self::Whole, Self::Long, Self::Stalls, Self::Cut];
    const TEXT: &str = "{\"error\": \"no money\"}";

    fn is_kept_in(self, error: &drivetrain::Error, status: u16) -> Verdict {
        let response = error.response().ok_or_else(|| Failure::new("it has no response"))?;
        assert_eq!(response.status(), status, "{self:?}");
        match self {
            Self::Long => assert_eq!(response.body().len(), MOST),
            _ => assert_eq!(response.body(), Self::TEXT, "{self:?}"),
        }
        Ok(())
    }
}

fn refusing(cx: &Context, status: u16, body: Refusal) -> Arc<Server> {
    cx.server(move |conn| {
        while conn.read_request()?.is_some() {
            let headers = [("content-type", "application/json")];
            match body {
                Refusal::Whole => conn.respond(status, &headers, Refusal::TEXT)?,
                Refusal::Long => {
                    // The client does not read all of it.
                    let _ = conn.respond(status, &headers, "x".repeat(3 * MOST));
                    return Ok(());
                }
                Refusal::Stalls | Refusal::Cut => {
                    // In one write: the client waits for two seconds at most for a body that comes later.
                    let [kind] = headers;
                    let headers = [kind, ("transfer-encoding", "chunked")];
                    let chunk = format!("{:x}\r\n{}\r\n", Refusal::TEXT.len(), Refusal::TEXT);
                    conn.respond(status, &headers, chunk)?;
                    return if matches!(body, Refusal::Cut) { Ok(()) } else { conn.drain() };
                }
            }
        }
        Ok(())
    })
}

/// A server of event streams that say this, and end or are cut.
fn answering(cx: &Context, text: &'static str, is_cut: bool) -> Arc<Server> {
    cx.server(move |conn| {
        while conn.read_request()?.is_some() {
            stream(conn, text)?;
            match is_cut {
                true => return Ok(()),
                false => conn.end_chunked()?,
            }
        }
        Ok(())
    })
}

fn stream(conn: &mut Conn, text: &str) -> io::Result<()> {
    conn.begin_chunked(200, &[("content-type", "text/event-stream")])?;
    match text {
        "" => Ok(()),
        text => conn.send_chunk(text.as_bytes()),
    }
}
