//! `https` and `wss`.

use drivetrain::{Capability, ErrorKind, HttpClient, TlsVersion};
use serde_json::{Value, json};

use super::{handshake::described, messages::pattern};
use crate::{
    case::{Case, case},
    context::{Context, client_for},
    expect::{echoes, fails},
    failure::{Failure, Verdict},
    peer::{EchoServer, Server, TestCa},
    watched::Watched,
};

pub(super) fn cases() -> Vec<Case> {
    use Capability::{ClientCertificates, Http1, Tls, WebSockets};
    vec![
        case(https_trusts_a_root_of_the_callers).needs(&[Http1, Tls]),
        case(https_refuses_an_unknown_root).needs(&[Http1, Tls]),
        case(https_to_a_plain_server_is_a_tls_error).needs(&[Http1, Tls]),
        case(https_presents_a_client_certificate).needs(&[Http1, Tls, ClientCertificates]),
        case(wss_trusts_a_root_of_the_callers).needs(&[WebSockets, Tls]),
        case(wss_refuses_an_unknown_root).needs(&[WebSockets, Tls]),
        case(wss_to_a_plain_server_is_a_tls_error).needs(&[WebSockets, Tls]),
        case(wss_offers_http_1_1_only).needs(&[WebSockets, Tls]),
        case(wss_presents_a_client_certificate).needs(&[WebSockets, Tls, ClientCertificates]),
        case(a_missing_client_certificate_is_an_error).needs(&[WebSockets, Tls]),
        case(large_and_many_messages_pass_through_tls).needs(&[WebSockets, Tls]),
        case(a_tls_session_closes_cleanly).needs(&[WebSockets, Tls]),
        case(https_says_the_name_and_what_it_speaks).needs(&[Http1, Tls]),
        case(https_keeps_the_minimum_version).needs(&[Http1, Tls]),
        case(wss_keeps_the_minimum_version).needs(&[WebSockets, Tls]),
        case(https_accepts_any_certificate_if_told_so).needs(&[Http1, Tls]),
        case(wss_accepts_any_certificate_if_told_so).needs(&[WebSockets, Tls]),
    ]
}

/// A certificate of a private authority is accepted if that is a root.
pub(super) async fn https_trusts_a_root_of_the_callers(cx: Context) -> Verdict {
    let (ca, server) = echo_tls(&cx);
    let response = client(trusting(&cx, &ca)?).get(server.http_url("/get")).send().await?;
    assert_eq!(response.text().await?, "get");
    Ok(())
}

/// A certificate of an unknown authority is `Tls`, and no request is sent.
async fn https_refuses_an_unknown_root(cx: Context) -> Verdict {
    let (_, server) = echo_tls(&cx);
    fails(cx.client().get(server.http_url("/get")).send().await, ErrorKind::Tls)?;
    let others = trusting(&cx, &TestCa::new())?;
    fails(client(others).get(server.http_url("/get")).send().await, ErrorKind::Tls)?;
    assert_eq!(server.requests(), 0);
    Ok(())
}

/// An answer that is not TLS is `Tls`.
async fn https_to_a_plain_server_is_a_tls_error(cx: Context) -> Verdict {
    let url = plain(&cx).http_url("/").replace("http:", "https:");
    fails(cx.client().get(url).send().await, ErrorKind::Tls)?;
    Ok(())
}

/// The certificate reaches a server that asks for one.
pub(super) async fn https_presents_a_client_certificate(cx: Context) -> Verdict {
    let (engine, server) = mutual(&cx)?;
    let response = client(engine).get(server.http_url("/anything")).send().await?;
    assert_eq!(response.json::<Value>().await?["tls"]["client_certificate"], true);
    Ok(())
}

/// As for `https`, with the host's name in the TLS handshake.
pub(super) async fn wss_trusts_a_root_of_the_callers(cx: Context) -> Verdict {
    let (ca, server) = echo_tls(&cx);
    let request = client(trusting(&cx, &ca)?).web_socket(server.ws_url("/headers"));
    assert_eq!(described(request).await?["tls"]["server_name"], "localhost");
    Ok(())
}

/// As for `https`.
async fn wss_refuses_an_unknown_root(cx: Context) -> Verdict {
    let (_, server) = echo_tls(&cx);
    fails(cx.client().web_socket(server.ws_url("/echo")).connect().await, ErrorKind::Tls)?;
    let others = client(trusting(&cx, &TestCa::new())?);
    fails(others.web_socket(server.ws_url("/echo")).connect().await, ErrorKind::Tls)?;
    assert_eq!(server.requests(), 0);
    Ok(())
}

/// As for `https`.
async fn wss_to_a_plain_server_is_a_tls_error(cx: Context) -> Verdict {
    let url = plain(&cx).ws_url("/").replace("ws:", "wss:");
    fails(cx.client().web_socket(url).connect().await, ErrorKind::Tls)?;
    Ok(())
}

/// A handshake of RFC 6455 needs HTTP/1.1: ALPN offers that and nothing else.
async fn wss_offers_http_1_1_only(cx: Context) -> Verdict {
    let (ca, server) = echo_tls(&cx);
    let request = client(trusting(&cx, &ca)?).web_socket(server.ws_url("/headers"));
    assert_eq!(described(request).await?["tls"]["offered_alpn"], json!(["http/1.1"]));
    Ok(())
}

/// As for `https`.
pub(super) async fn wss_presents_a_client_certificate(cx: Context) -> Verdict {
    let (engine, server) = mutual(&cx)?;
    let seen = described(client(engine).web_socket(server.ws_url("/headers"))).await?;
    assert_eq!(seen["tls"]["client_certificate"], true);
    Ok(())
}

/// A server that wants a certificate and gets none refuses. With TLS 1.3 it says so when the handshake is
/// over for the client, so that to some libraries it is a connection that fails.
async fn a_missing_client_certificate_is_an_error(cx: Context) -> Verdict {
    let ca = TestCa::new();
    let server = cx.keep(Server::start_mutual_tls(EchoServer::serve, &ca));
    let connect = client(trusting(&cx, &ca)?).web_socket(server.ws_url("/echo")).connect();
    match connect.await {
        Err(error) if matches!(error.kind(), ErrorKind::Tls | ErrorKind::Io) => {}
        other => return Err(Failure::new(format_args!("Tls or Io was expected: {other:?}"))),
    }
    assert_eq!(server.requests(), 0);
    Ok(())
}

/// Records split and join frames.
async fn large_and_many_messages_pass_through_tls(cx: Context) -> Verdict {
    let (ca, server) = echo_tls(&cx);
    let client = client(trusting(&cx, &ca)?);
    let mut session = client.web_socket(server.ws_url("/echo")).connect().await?;
    echoes(&mut session, pattern(1 << 20)).await?;
    for i in 0..500 {
        session.feed(i.to_string()).await?;
    }
    for i in 0..500 {
        assert_eq!(crate::expect::text(&mut session).await?, i.to_string());
    }
    Ok(())
}

/// Close frames and TLS's own end.
async fn a_tls_session_closes_cleanly(cx: Context) -> Verdict {
    let (ca, server) = echo_tls(&cx);
    let client = client(trusting(&cx, &ca)?);
    let session = client.web_socket(server.ws_url("/echo")).connect().await?;
    let outcome = session.close(drivetrain::CloseReason::normal()).await?;
    assert!(outcome.clean, "{outcome:?}");
    let mut dropped = client.web_socket(server.ws_url("/echo")).connect().await?;
    echoes(&mut dropped, "works").await
}

/// SNI is the host's name; ALPN is HTTP/2 where the engine has it, and HTTP/1.1.
async fn https_says_the_name_and_what_it_speaks(cx: Context) -> Verdict {
    let (ca, server) = echo_tls(&cx);
    let request = client(trusting(&cx, &ca)?).get(server.http_url("/anything"));
    let seen: Value = request.send().await?.json().await?;
    assert_eq!(seen["tls"]["server_name"], "localhost");
    let offered = match cx.offers(Capability::Http2) {
        true => json!(["h2", "http/1.1"]),
        false => json!(["http/1.1"]),
    };
    assert_eq!(seen["tls"]["offered_alpn"], offered);
    Ok(())
}

async fn https_keeps_the_minimum_version(cx: Context) -> Verdict {
    for (version, is_old, works) in VERSIONS {
        let (engine, server) = with_versions(&cx, version, is_old)?;
        let answer = client(engine).get(server.http_url("/get")).send().await;
        match works {
            true => assert_eq!(answer?.text().await?, "get"),
            false => drop(fails(answer, ErrorKind::Tls)?),
        }
        assert_eq!(server.requests(), usize::from(works));
    }
    Ok(())
}

async fn wss_keeps_the_minimum_version(cx: Context) -> Verdict {
    for (version, is_old, works) in VERSIONS {
        let (engine, server) = with_versions(&cx, version, is_old)?;
        let answer = client(engine).web_socket(server.ws_url("/echo")).connect().await;
        match works {
            true => echoes(&mut answer?, "works").await?,
            false => drop(fails(answer, ErrorKind::Tls)?),
        }
        assert_eq!(server.requests(), usize::from(works));
    }
    Ok(())
}

/// The least that the client takes, whether the server has TLS 1.2 alone, and whether they get on.
const VERSIONS: [(TlsVersion, bool, bool); 4] = [
    (TlsVersion::V1_2, true, true),
    (TlsVersion::V1_2, false, true),
    (TlsVersion::V1_3, true, false),
    (TlsVersion::V1_3, false, true),
];

fn with_versions(
    cx: &Context,
    version: TlsVersion,
    is_old: bool,
) -> Verdict<(Watched, std::sync::Arc<Server>)> {
    let ca = TestCa::new();
    let config = if is_old { ca.tls_1_2_server_config() } else { ca.server_config() };
    let server = cx.keep(Server::start_with_tls(EchoServer::serve, config));
    let engine = cx.engine_with_min_tls_version(&ca, version);
    let lacking = "it offers TLS, and with_min_tls_version lacks it";
    Ok((engine.ok_or_else(|| Failure::new(lacking))?, server))
}

/// Also a certificate of an unknown authority; the settings say so.
async fn https_accepts_any_certificate_if_told_so(cx: Context) -> Verdict {
    let (_, server) = echo_tls(&cx);
    let client = client(accepting_any(&cx)?);
    assert_eq!(client.get(server.http_url("/get")).send().await?.text().await?, "get");
    assert!(client.settings().get("danger_accept_any_certificate").is_some());
    Ok(())
}

/// As for `https`.
async fn wss_accepts_any_certificate_if_told_so(cx: Context) -> Verdict {
    let (_, server) = echo_tls(&cx);
    let client = client(accepting_any(&cx)?);
    echoes(&mut client.web_socket(server.ws_url("/echo")).connect().await?, "works").await
}

fn accepting_any(cx: &Context) -> Verdict<Watched> {
    let engine = cx.engine_accepting_any_certificate();
    engine.ok_or_else(|| Failure::new("it offers TLS, and accepting_any_certificate lacks it"))
}

/// The ready-made server with TLS, and the authority that it has its certificate from.
pub(super) fn echo_tls(cx: &Context) -> (TestCa, std::sync::Arc<Server>) {
    let ca = TestCa::new();
    let server = cx.keep(Server::start_tls(EchoServer::serve, &ca));
    (ca, server)
}

/// The engine that trusts this authority.
pub(super) fn trusting(cx: &Context, ca: &TestCa) -> Verdict<Watched> {
    cx.engine_with_root(ca).ok_or_else(|| Failure::new("it offers TLS, and with_root lacks it"))
}

fn client(engine: Watched) -> HttpClient {
    client_for(engine)
}

fn mutual(cx: &Context) -> Verdict<(Watched, std::sync::Arc<Server>)> {
    let ca = TestCa::new();
    let server = cx.keep(Server::start_mutual_tls(EchoServer::serve, &ca));
    let engine = cx.engine_with_client_certificate(&ca);
    let lacking = "it offers client certificates, and with_client_certificate lacks them";
    Ok((engine.ok_or_else(|| Failure::new(lacking))?, server))
}

/// A server that answers TLS as a plain one does.
fn plain(cx: &Context) -> std::sync::Arc<Server> {
    cx.server(|conn| {
        conn.read_some(&mut [0; 1000])?;
        conn.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
    })
}
