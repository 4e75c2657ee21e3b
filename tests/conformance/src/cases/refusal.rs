//! Handshakes that fail: refused, or with nobody there. Those that are answered wrongly, or not at all,
//! are in `hostile`.

use drivetrain::{Capability, ErrorKind};
use drivetrain_engine::Capability::Subprotocols;

use super::http::closed_port;
use crate::{
    case::{Case, case},
    context::Context,
    expect::fails,
    failure::{Failure, Verdict},
};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        case(a_body_is_cut_at_64_kib),
        case(a_subprotocol_nobody_offered_is_a_protocol_error).needs(&[Subprotocols]),
        case(a_closed_port_is_a_connect_error),
        case(an_unknown_host_is_a_connect_error),
    ];
    for status in [200, 201, 400, 401, 403, 404, 426, 429, 500, 503] {
        let refused = case(move |cx| a_refusal_is_given(cx, status));
        cases.push(refused.named("refusal", format_args!("status_{status}_is_given")));
    }
    cases.into_iter().map(|case| case.needs(&[Capability::WebSockets])).collect()
}

/// Another status is `Rejected` with status, headers and body.
async fn a_refusal_is_given(cx: Context, status: u16) -> Verdict {
    let url = cx.echo().ws_url(&format!("/refuse?status={status}"));
    let error = fails(cx.client().web_socket(url).connect().await, ErrorKind::Rejected)?;
    let response = error.response().ok_or_else(|| Failure::new("it has no response"))?;
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()["x-test"], "refused");
    assert_eq!(response.body(), &format!("refused with {status}"));
    assert_eq!(error.is_transient(), matches!(status, 429 | 500 | 503));
    assert!(error.engine().is_some());
    Ok(())
}

/// A refusal's body is read up to 64 KiB.
async fn a_body_is_cut_at_64_kib(cx: Context) -> Verdict {
    let url = cx.echo().ws_url("/refuse?size=1000000");
    let error = fails(cx.client().web_socket(url).connect().await, ErrorKind::Rejected)?;
    assert_eq!(error.response().map(|response| response.body().len()), Some(64 << 10));
    Ok(())
}

/// A subprotocol that is none of those offered is `Protocol`.
async fn a_subprotocol_nobody_offered_is_a_protocol_error(cx: Context) -> Verdict {
    let request = cx.client().web_socket(cx.echo().ws_url("/subprotocol?select=stranger"));
    let error = fails(request.subprotocol("chat").connect().await, ErrorKind::Protocol)?;
    assert!(error.to_string().contains("stranger"), "{error}");
    Ok(())
}

/// A port without a listener is `Connect`.
async fn a_closed_port_is_a_connect_error(cx: Context) -> Verdict {
    let connect = cx.client().web_socket(format!("ws://{}/", closed_port()?)).connect();
    let error = fails(connect.await, ErrorKind::Connect)?;
    assert!(error.is_transient() && error.engine().is_some(), "{error:?}");
    Ok(())
}

/// A name that does not exist (RFC 6761 section 6.4) is `Connect`.
async fn an_unknown_host_is_a_connect_error(cx: Context) -> Verdict {
    let connect = cx.client().web_socket("ws://drivetrain.invalid/").connect();
    fails(connect.await, ErrorKind::Connect)?;
    Ok(())
}
