//! A status that is known is not lost, whatever happens to the body behind it.

use std::time::Duration;

use drivetrain::{Capability, Error, ErrorKind, WebSockets};

use crate::{
    case::{Case, case},
    context::{Context, FACTORS, PATIENCE},
    expect::fails,
    failure::{Failure, Verdict},
};

/// What a server does behind the beginning of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Waits,
    Leaves,
    Resets,
}

/// Name, status, the rest of the head, the sent body, the kept body, and the next step.
type Row = (&'static str, u16, &'static str, &'static str, &'static str, Then);

const ROWS: [Row; 9] = [
    ("a_401_without_a_length", 401, "", "who are you?", "who are you?", Then::Waits),
    ("a_403_without_a_body", 403, "", "", "", Then::Waits),
    ("a_503_without_a_length", 503, "retry-after: 1\r\n", "later", "later", Then::Waits),
    ("a_401_in_chunks", 401, "transfer-encoding: chunked\r\n", "3\r\nwho\r\n", "who", Then::Waits),
    ("a_404_that_promises_more", 404, "content-length: 1000\r\n", "not", "not", Then::Waits),
    (
        "a_200_with_an_event_stream",
        200,
        "content-type: text/event-stream\r\n",
        ": hello\n\n",
        ": hello\n\n",
        Then::Waits,
    ),
    ("a_404_that_is_cut", 404, "content-length: 1000\r\n", "not", "not", Then::Leaves),
    ("a_401_with_a_broken_chunk", 401, "transfer-encoding: chunked\r\n", "zz\r\n", "", Then::Waits),
    ("a_403_that_is_reset", 403, "content-length: 1000\r\n", "", "", Then::Resets),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for row in ROWS {
        cases.push(
            case(move |cx| its_status_is_told(cx, row, None))
                .named("reports::handshake", format_args!("{}_keeps_its_status", row.0)),
        );
    }
    let limit = Some(Duration::from_millis(500));
    cases.push(
        case(move |cx| its_status_is_told(cx, ROWS[0], limit))
            .named("reports::handshake", "a_refusal_without_an_end_is_told_at_the_deadline"),
    );
    cases.push(
        case(a_body_that_drips_is_cut_at_the_deadline)
            .named("reports::handshake", "a_refusal_that_drips_is_told_at_the_deadline"),
    );
    cases.into_iter().map(|case| case.needs(&[Capability::WebSockets])).collect()
}

/// At the time limit, if there is one: on a machine that is too slow for the status to come within it, at the next one.
async fn its_status_is_told(cx: Context, row: Row, limit: Option<Duration>) -> Verdict {
    let Some(limit) = limit else { return told(&cx, row, PATIENCE).await };
    for factor in FACTORS {
        let verdict = told(&cx, row, factor * limit).await;
        if verdict.is_ok() || factor == FACTORS[FACTORS.len() - 1] {
            return verdict;
        }
    }
    Ok(())
}

async fn told(cx: &Context, row: Row, limit: Duration) -> Verdict {
    let (_, status, head, body, kept, then) = row;
    let server = cx.server(move |conn| {
        conn.read_request()?;
        conn.write_all(
            format!("HTTP/1.1 {status} Refused\r\nx-test: refused\r\n{head}\r\n{body}").as_bytes(),
        )?;
        match then {
            Then::Waits => conn.drain(),
            Then::Leaves => Ok(()),
            Then::Resets => {
                // The head must arrive before the reset discards unread data.
                conn.pause(Duration::from_millis(300))?;
                conn.reset()
            }
        }
    });
    let plugin = WebSockets::new().handshake_timeout(limit);
    let connect = cx.client_with(plugin)?.web_socket(server.ws_url("/")).connect();
    let refused = cx.within(PATIENCE, "the refusal is told", connect).await?;
    let error = fails(refused, ErrorKind::Rejected)?;
    let response = error.response().ok_or_else(|| Failure::new("it has no response"))?;
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()["x-test"], "refused");
    assert_eq!(response.body(), kept);
    assert_eq!(error.is_transient(), status == 503, "{error:?}");
    Ok(())
}

/// A server that always has one more byte does not hold the handshake beyond its limit.
async fn a_body_that_drips_is_cut_at_the_deadline(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        conn.read_request()?;
        conn.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n")?;
        loop {
            conn.write_all(b".")?;
            conn.pause(Duration::from_millis(50))?;
        }
    });
    for limit in FACTORS.map(|factor| factor * Duration::from_millis(500)) {
        let plugin = WebSockets::new().handshake_timeout(limit);
        let connect = cx.client_with(plugin)?.web_socket(server.ws_url("/")).connect();
        let refused = cx.within(PATIENCE, "the refusal is told", connect).await?;
        let came = |error: &Error| error.response().is_some_and(|it| !it.body().is_empty());
        if !refused.as_ref().is_err_and(came) {
            continue; // too early for the status, or for any of its body
        }
        let error = fails(refused, ErrorKind::Rejected)?;
        assert_eq!(error.response().map(|response| response.status().as_u16()), Some(403));
        return Ok(());
    }
    Err(Failure::new("nothing of the refusal is told"))
}
