//! Requests, bodies and event streams.

mod streams;

use drivetrain::ErrorKind;
use drivetrain_engine::Capability;

use crate::{
    case::{Case, case},
    cases::{redirects::escaped, tls::trusting},
    context::{Context, client_for},
    expect::fails,
    failure::Verdict,
    peer::{EchoServer, Server, TestCa},
};

pub(super) fn cases() -> Vec<Case> {
    use Capability::{Http1, Tls, WebSockets};
    let mut cases = streams::cases();
    cases.extend([
        case(a_fragment_survives_a_redirect).needs(&[Http1]),
        case(json_may_begin_with_a_byte_order_mark).needs(&[Http1]),
        case(a_url_with_too_many_slashes_is_refused).needs(&[Http1, WebSockets]),
        case(a_certificate_of_an_authority_is_refused_with_what_to_do)
            .needs(&[Http1, WebSockets, Tls]),
        case(a_self_signed_certificate_of_a_server_may_be_its_own_root).needs(&[Http1, Tls]),
        case(an_unknown_issuer_is_refused_with_what_to_do).needs(&[Http1, Tls]),
    ]);
    cases
}

/// RFC 9110 section 10.2.2: a `Location` without a fragment inherits the one before it.
async fn a_fragment_survives_a_redirect(cx: Context) -> Verdict {
    let (server, client) = (cx.echo(), cx.client());
    let twice = format!("/redirect?to={}", escaped("/redirect?to=/get"));
    for (from, ends) in [
        ("/get#a", "/get#a".to_owned()),
        ("/redirect?to=/get#a", "/get#a".to_owned()),
        (&format!("{twice}#a"), "/get#a".to_owned()),
        ("/redirect?to=/get%23b#a", "/get#b".to_owned()),
        ("/redirect?to=/get%23b", "/get#b".to_owned()),
        ("/redirect?to=/redirect%3Fto=/get%23b#a", "/get#b".to_owned()),
        ("/redirect?to=/get", "/get".to_owned()),
    ] {
        let response = client.get(server.http_url(from)).send().await?;
        assert_eq!(response.url().as_str(), server.http_url(&ends), "{from}");
        assert_eq!(response.text().await?, "get");
    }
    Ok(())
}

/// RFC 8259 section 8.1 lets a parser pass it over, and some servers send it.
async fn json_may_begin_with_a_byte_order_mark(cx: Context) -> Verdict {
    let (server, client) = (cx.echo(), cx.client());
    for (body, value) in
        [("\u{feff}[1]", Some(vec![1])), ("[1]", Some(vec![1])), ("\u{feff}", None)]
    {
        let response = client.post(server.http_url("/echo")).body(body).send().await?;
        match value {
            Some(value) => assert_eq!(response.json::<Vec<u8>>().await?, value),
            None => drop(fails(response.json::<Vec<u8>>().await, ErrorKind::Convert)?),
        }
    }
    let response = client.post(server.http_url("/echo")).body("\u{feff}text").send().await?;
    assert_eq!(response.text().await?, "\u{feff}text", "text is left as it is");
    Ok(())
}

/// A parser of URLs may take the path's first segment for a host.
async fn a_url_with_too_many_slashes_is_refused(cx: Context) -> Verdict {
    let (server, client) = (cx.echo(), cx.client());
    let address = server.addr();
    for url in [
        format!("ws:///{address}/echo"),
        format!("ws:/{address}/echo"),
        format!("ws:{address}/echo"),
        format!("ws:\\\\{address}/echo"),
        format!("ws://\\{address}/echo"),
        format!("ws:////{address}/echo"),
    ] {
        fails(client.web_socket(&url).connect().await, ErrorKind::InvalidInput)?;
        let url = url.replacen("ws", "http", 1);
        fails(client.get(url).send().await, ErrorKind::InvalidInput)?;
    }
    assert_eq!(server.connections(), 0);
    Ok(())
}

/// It is its own root, and no server's: rustls refuses it, other libraries do not.
async fn a_certificate_of_an_authority_is_refused_with_what_to_do(cx: Context) -> Verdict {
    let ca = TestCa::self_signed(true);
    let server = cx.keep(Server::start_tls(EchoServer::serve, &ca));
    let client = client_for(trusting(&cx, &ca)?);
    for error in [
        fails(client.get(server.http_url("/get")).send().await, ErrorKind::Tls)?,
        fails(client.web_socket(server.ws_url("/echo")).connect().await, ErrorKind::Tls)?,
    ] {
        let message = error.to_string();
        assert!(message.contains("CA:TRUE") && message.contains("CA:FALSE"), "{message}");
    }
    Ok(())
}

/// What the message says to do works.
async fn a_self_signed_certificate_of_a_server_may_be_its_own_root(cx: Context) -> Verdict {
    let ca = TestCa::self_signed(false);
    let server = cx.keep(Server::start_tls(EchoServer::serve, &ca));
    let client = client_for(trusting(&cx, &ca)?);
    assert_eq!(client.get(server.http_url("/get")).send().await?.text().await?, "get");
    Ok(())
}

async fn an_unknown_issuer_is_refused_with_what_to_do(cx: Context) -> Verdict {
    let server = cx.keep(Server::start_tls(EchoServer::serve, &TestCa::new()));
    let client = client_for(trusting(&cx, &TestCa::self_signed(true))?);
    let error = fails(client.get(server.http_url("/get")).send().await, ErrorKind::Tls)?;
    assert!(error.to_string().contains("root_certificate_pem"), "{error}");
    Ok(())
}
