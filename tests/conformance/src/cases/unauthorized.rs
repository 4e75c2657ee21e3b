//! The answer to a 401.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use drivetrain::{Capability, Error, ErrorKind, HttpClient, WebSockets, http::HeaderValue};

use crate::{
    case::{Case, case},
    context::Context,
    expect::{echoes, fails},
    failure::Verdict,
    peer::{Conn, EchoServer},
};

pub(super) fn cases() -> Vec<Case> {
    use Capability::{Http1, WebSockets};
    vec![
        case(a_request_is_repeated_once_with_a_new_token).needs(&[Http1]),
        case(a_handshake_is_repeated_once_with_a_new_token).needs(&[WebSockets]),
        case(a_token_that_is_refused_too_is_the_end).needs(&[Http1, WebSockets]),
        case(none_leaves_the_response).needs(&[Http1, WebSockets]),
        case(an_error_of_the_hooks_is_the_callers).needs(&[Http1]),
    ]
}

async fn a_request_is_repeated_once_with_a_new_token(cx: Context) -> Verdict {
    let server = cx.server(guarded);
    let (calls, client) = client(&cx, Answer::Right)?;
    let request = client.post(server.http_url("/echo")).bearer_auth("old").body("the body");
    assert_eq!(request.send().await?.text().await?, "the body");
    assert_eq!((server.requests(), calls.load(Ordering::Relaxed)), (2, 1));
    Ok(())
}

async fn a_handshake_is_repeated_once_with_a_new_token(cx: Context) -> Verdict {
    let server = cx.server(guarded);
    let (calls, client) = client(&cx, Answer::Right)?;
    let mut session =
        client.web_socket(server.ws_url("/echo")).bearer_auth("old").connect().await?;
    echoes(&mut session, "hello").await?;
    session.close(drivetrain::CloseReason::normal()).await?;
    assert_eq!((server.requests(), calls.load(Ordering::Relaxed)), (2, 1));
    Ok(())
}

async fn a_token_that_is_refused_too_is_the_end(cx: Context) -> Verdict {
    let server = cx.server(guarded);
    let (calls, client) = client(&cx, Answer::Wrong)?;
    assert_eq!(client.get(server.http_url("/get")).send().await?.status(), 401);
    let connect = client.web_socket(server.ws_url("/echo")).connect();
    let error = fails(connect.await, ErrorKind::Rejected)?;
    assert_eq!(error.response().map(|response| response.status().as_u16()), Some(401));
    assert_eq!((server.requests(), calls.load(Ordering::Relaxed)), (4, 2));
    Ok(())
}

async fn none_leaves_the_response(cx: Context) -> Verdict {
    let server = cx.server(guarded);
    let (calls, client) = client(&cx, Answer::Nothing)?;
    let response = client.get(server.http_url("/get")).send().await?;
    assert_eq!(
        (response.status().as_u16(), response.text().await?.as_str()),
        (401, "who are you?")
    );
    let connect = client.web_socket(server.ws_url("/echo")).connect();
    fails(connect.await, ErrorKind::Rejected)?;
    assert_eq!((server.requests(), calls.load(Ordering::Relaxed)), (2, 2));
    Ok(())
}

async fn an_error_of_the_hooks_is_the_callers(cx: Context) -> Verdict {
    let server = cx.server(guarded);
    let (_, client) = client(&cx, Answer::Error)?;
    let error = fails(client.get(server.http_url("/get")).send().await, ErrorKind::Other)?;
    assert!(error.to_string().contains("no new token"), "{error}");
    assert_eq!(server.requests(), 1);
    Ok(())
}

/// What the hook gives.
#[derive(Clone, Copy)]
enum Answer {
    Right,
    Wrong,
    Nothing,
    Error,
}

fn client(cx: &Context, answer: Answer) -> Verdict<(Arc<AtomicUsize>, HttpClient)> {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let client = HttpClient::builder(cx.engine()).on_unauthorized(move |unauthorized| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            assert_eq!(unauthorized.headers()["www-authenticate"], "Bearer");
            assert_eq!(unauthorized.uri().host(), Some("127.0.0.1"));
            match answer {
                Answer::Right => Ok(Some(HeaderValue::from_static("Bearer new"))),
                Answer::Wrong => Ok(Some(HeaderValue::from_static("Bearer wrong"))),
                Answer::Nothing => Ok(None),
                Answer::Error => Err(Error::other("no new token")),
            }
        }
    });
    let client = match cx.offers(Capability::WebSockets) {
        true => client.install(WebSockets::new()).build()?,
        false => client.build()?,
    };
    Ok((calls, client))
}

/// The ready-made server for whoever has the token.
fn guarded(conn: &mut Conn) -> io::Result<()> {
    EchoServer::serve_but(conn, |conn, request| {
        if request.header("authorization") == Some("Bearer new") {
            return Ok(false);
        }
        conn.respond(401, &[("www-authenticate", "Bearer")], "who are you?")?;
        Ok(true)
    })
}
