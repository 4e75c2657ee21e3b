//! What a request says of its body and of its host.

use drivetrain::{Capability, ErrorKind, http::Method};
use serde_json::{Value, json};

use crate::{
    case::{Case, case},
    context::Context,
    expect::fails,
    failure::Verdict,
};

pub(super) fn cases() -> Vec<Case> {
    use Capability::Http1;
    let mut cases = Vec::new();
    for method in [Method::POST, Method::PUT, Method::PATCH] {
        let name = method.as_str().to_lowercase();
        cases.push(
            case(move |cx| an_empty_body_has_its_length(cx, method.clone()))
                .named("reports::handshake", format_args!("an_empty_{name}_says_its_length")),
        );
    }
    let named = |case: Case, name: &str| case.named("reports::handshake", name);
    cases.push(named(case(others_say_no_length), "other_methods_without_a_body_say_no_length"));
    cases.push(named(case(a_wrong_length_is_refused), "a_length_that_contradicts_is_refused"));
    cases.push(named(case(a_right_length_is_sent), "a_length_that_is_right_is_sent_once"));
    cases.into_iter().map(|case| case.needs(&[Http1])).collect()
}

/// Zero where the method expects something (RFC 9110 section 8.6).
async fn an_empty_body_has_its_length(cx: Context, method: Method) -> Verdict {
    let (server, client) = (cx.echo(), cx.client());
    for with_body in [false, true] {
        let request = client.request(method.clone(), server.http_url("/anything"));
        let request = if with_body { request.body("") } else { request };
        let seen: Value = request.send().await?.json().await?;
        assert_eq!(seen["headers"]["content-length"], json!(["0"]), "{seen}");
        assert_eq!(seen["headers"]["transfer-encoding"], Value::Null, "{seen}");
    }
    Ok(())
}

async fn others_say_no_length(cx: Context) -> Verdict {
    let (server, client) = (cx.echo(), cx.client());
    for method in [Method::GET, Method::DELETE, Method::OPTIONS] {
        let request = client.request(method, server.http_url("/anything"));
        let seen: Value = request.send().await?.json().await?;
        assert_eq!(seen["headers"]["content-length"], Value::Null, "{seen}");
    }
    Ok(())
}

async fn a_wrong_length_is_refused(cx: Context) -> Verdict {
    let (server, client) = (cx.echo(), cx.client());
    for (body, length) in
        [("some", "3"), ("some", "5"), ("some", "0"), ("some", "four"), ("some", "4, 4"), ("", "1")]
    {
        let request = client.post(server.http_url("/anything")).body(body);
        let send = request.header("content-length", length).send();
        let error = fails(send.await, ErrorKind::InvalidInput)?;
        assert!(error.to_string().contains("content-length"), "{error}");
    }
    let twice = client.post(server.http_url("/anything")).body("some");
    let twice = twice.header("content-length", "4").header("content-length", "5");
    fails(twice.send().await, ErrorKind::InvalidInput)?;
    let both = client.post(server.http_url("/anything")).body("some");
    let both = both.header("content-length", "4").header("transfer-encoding", "chunked");
    fails(both.send().await, ErrorKind::InvalidInput)?;
    let get = client.get(server.http_url("/anything")).header("content-length", "1");
    fails(get.send().await, ErrorKind::InvalidInput)?;
    assert_eq!(server.connections(), 0, "it was dialled");
    Ok(())
}

async fn a_right_length_is_sent(cx: Context) -> Verdict {
    let (server, client) = (cx.echo(), cx.client());
    let request = client.post(server.http_url("/anything")).body("some");
    let seen: Value = request.header("content-length", "4").send().await?.json().await?;
    assert_eq!(seen["headers"]["content-length"], json!(["4"]), "{seen}");
    Ok(())
}
