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
    context::{Context, builder_for},
    expect::{echoes, fails},
    failure::{Failure, Verdict},
    peer::{Conn, EchoServer},
};

pub(super) fn cases() -> Vec<Case> {
    use Capability::{HandshakeHeaders, Http1, WebSockets};
    vec![
        case(a_request_is_repeated_once_with_a_new_token).needs(&[Http1]),
        case(a_handshake_is_repeated_once_with_a_new_token).needs(&[WebSockets, HandshakeHeaders]),
        case(a_token_that_is_refused_too_is_the_end).needs(&[Http1, WebSockets, HandshakeHeaders]),
        case(none_leaves_the_response).needs(&[Http1, WebSockets]),
        case(an_error_of_the_hooks_is_the_callers).needs(&[Http1]),
        case(dropping_the_call_drops_the_hook_and_the_connection).needs(&[Http1, WebSockets]),
        case(a_hook_that_does_not_end_is_within_the_time_limit).needs(&[Http1, WebSockets]),
        case(a_hook_that_panics_ends_its_call_alone).needs(&[Http1]),
        case(calls_at_the_same_time_ask_each_for_itself).needs(&[Http1]),
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

/// The hook is part of the call: neither the hook nor the call is left running.
async fn dropping_the_call_drops_the_hook_and_the_connection(cx: Context) -> Verdict {
    let server = cx.server(guarded);
    let (calls, client) = client(&cx, Answer::Never)?;
    let request = Box::pin(client.get(server.http_url("/get")).send());
    waits_in_the_hook(&cx, &calls, 1, request).await?;
    let connect = Box::pin(client.web_socket(server.ws_url("/echo")).connect());
    waits_in_the_hook(&cx, &calls, 2, connect).await?;
    drop(client);
    cx.until("the connections end", || server.open() == 0).await?;
    assert_eq!(server.requests(), 2);
    Ok(())
}

async fn waits_in_the_hook<T>(
    cx: &Context,
    calls: &AtomicUsize,
    count: usize,
    call: impl Future<Output = T> + Unpin,
) -> Verdict {
    let asked = Box::pin(cx.until("the hook is asked", || calls.load(Ordering::Relaxed) == count));
    match futures_util::future::select(call, asked).await {
        futures_util::future::Either::Left(_) => Err(Failure::new("the hook was not waited for")),
        futures_util::future::Either::Right((asked, _)) => asked,
    }
}

async fn a_hook_that_does_not_end_is_within_the_time_limit(cx: Context) -> Verdict {
    let server = cx.server(guarded);
    let (_, client) = client(&cx, Answer::Never)?;
    let short = std::time::Duration::from_millis(300);
    let request = client.get(server.http_url("/get")).timeout(short).send();
    fails(request.await, ErrorKind::Timeout)?;
    let connect = client.web_socket(server.ws_url("/echo")).handshake_timeout(short).connect();
    fails(connect.await, ErrorKind::Timeout)?;
    Ok(())
}

/// The panic belongs to the caller; the client stays usable.
async fn a_hook_that_panics_ends_its_call_alone(cx: Context) -> Verdict {
    let server = cx.server(guarded);
    let (_, client) = client(&cx, Answer::Panic)?;
    let call = std::panic::AssertUnwindSafe(client.get(server.http_url("/get")).send());
    assert!(futures_util::FutureExt::catch_unwind(call).await.is_err());
    let request = client.get(server.http_url("/get")).bearer_auth("new");
    assert_eq!(request.send().await?.status(), 200);
    Ok(())
}

async fn calls_at_the_same_time_ask_each_for_itself(cx: Context) -> Verdict {
    let server = cx.server(guarded);
    let (calls, client) = client(&cx, Answer::Right)?;
    let requests = (0..10).map(|_| client.get(server.http_url("/get")).send());
    for response in futures_util::future::join_all(requests).await {
        assert_eq!(response?.text().await?, "get");
    }
    assert_eq!((server.requests(), calls.load(Ordering::Relaxed)), (20, 10));
    Ok(())
}

/// What the hook gives.
#[derive(Clone, Copy)]
enum Answer {
    Right,
    Wrong,
    Nothing,
    Error,
    Never,
    Panic,
}

fn client(cx: &Context, answer: Answer) -> Verdict<(Arc<AtomicUsize>, HttpClient)> {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let client = builder_for(cx.engine()).on_unauthorized(move |unauthorized| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            assert_eq!(unauthorized.headers()["www-authenticate"], "Bearer");
            assert_eq!(unauthorized.uri().host(), Some("127.0.0.1"));
            match answer {
                Answer::Right => Ok(Some(HeaderValue::from_static("Bearer new"))),
                Answer::Wrong => Ok(Some(HeaderValue::from_static("Bearer wrong"))),
                Answer::Nothing => Ok(None),
                Answer::Error => Err(Error::other("no new token")),
                Answer::Never => std::future::pending().await,
                // A panic that is not printed.
                Answer::Panic => std::panic::resume_unwind(Box::new("as it should")),
            }
        }
    });
    let client = match cx.offers(Capability::WebSockets) {
        true => client.install(WebSockets::new()).build()?,
        false => client.build()?,
    };
    Ok((calls, client))
}

/// The default server for clients with the token.
fn guarded(conn: &mut Conn) -> io::Result<()> {
    EchoServer::serve_but(conn, |conn, request| {
        if request.header("authorization") == Some("Bearer new") {
            return Ok(false);
        }
        conn.respond(401, &[("www-authenticate", "Bearer")], "who are you?")?;
        Ok(true)
    })
}
