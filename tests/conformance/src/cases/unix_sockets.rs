//! Unix sockets: everything goes to one, whatever host a URL names.

use std::path::Path;

use drivetrain::{Capability, ErrorKind, Frame, HttpClient, HttpClientBuilder, WebSockets};
use serde_json::Value;

use crate::{
    case::{Case, case},
    context::{Context, builder_for},
    expect::fails,
    failure::{Failure, Verdict},
    peer::{EchoServer, Server, TestCa, UnixRelay},
    watched::Watched,
};

/// A name that nothing resolves; the test authority's server certificate has it.
const NAME: &str = TestCa::PRIVATE_NAME;

pub(super) fn cases() -> Vec<Case> {
    let schemes = [
        ("http", vec![Capability::Http1]),
        ("https", vec![Capability::Http1, Capability::Tls]),
        ("ws", vec![Capability::WebSockets]),
        ("wss", vec![Capability::WebSockets, Capability::Tls]),
    ];
    let mut cases = Vec::new();
    for (scheme, needs) in schemes {
        let needs = [needs, vec![Capability::UnixSockets]].concat();
        let mut add = |name: String, case: Case| {
            cases.push(case.named("unix_sockets", name).needs(&needs));
        };
        add(format!("{scheme}_goes_over_one"), case(move |cx| goes_over_one(cx, scheme)));
        let missing = case(move |cx| a_missing_one_is_an_error(cx, scheme));
        add(format!("{scheme}_fails_where_there_is_none"), missing);
    }
    let more = [
        case(a_redirect_stays_on_it).needs(&[Capability::Http1]),
        case(requests_share_its_connection)
            .needs(&[Capability::Http1, Capability::ConnectionReuse]),
        case(what_it_excludes_is_refused),
    ];
    cases.extend(more.into_iter().map(|case| case.needs(&[Capability::UnixSockets])));
    cases
}

/// The row of the table: by whatever the engine has.
pub(super) async fn works(cx: Context) -> Verdict {
    for (scheme, need) in [("http", Capability::Http1), ("ws", Capability::WebSockets)] {
        if cx.offers(need) {
            goes_over_one(cx.clone(), scheme).await?;
        }
    }
    Ok(())
}

/// The server sees the URL's host, which no resolver knows, and TLS with that name.
async fn goes_over_one(cx: Context, scheme: &'static str) -> Verdict {
    let ca = TestCa::new();
    let is_secure = ["https", "wss"].contains(&scheme);
    let (server, engine) = match is_secure {
        true => {
            let engine = cx.engine_with_root(&ca).ok_or_else(|| Failure::new("it has no TLS"))?;
            (Server::start_tls(EchoServer::serve, &ca), engine)
        }
        false => (Server::start(EchoServer::serve), cx.engine()),
    };
    let server = cx.keep(server);
    let relay = UnixRelay::start(server.addr())?;
    let client = builder(engine, scheme, relay.path()).build()?;
    let seen = seen(&client, scheme).await?;
    assert_eq!(seen["headers"]["host"][0], NAME, "{seen}");
    if is_secure {
        assert_eq!(seen["tls"]["server_name"], NAME, "{seen}");
    }
    assert_eq!((relay.connections(), server.connections()), (1, 1));
    let row = client.settings().get("unix_socket").map(|setting| setting.value.clone());
    assert_eq!(row.as_deref(), relay.path().to_str());
    Ok(())
}

/// An error of connecting, which names the socket.
async fn a_missing_one_is_an_error(cx: Context, scheme: &'static str) -> Verdict {
    let path = UnixRelay::free_path();
    let engine = match scheme {
        "https" | "wss" => cx.engine_with_root(&TestCa::new()),
        _ => Some(cx.engine()),
    };
    let engine = engine.ok_or_else(|| Failure::new("it has no TLS"))?;
    let client = builder(engine, scheme, &path).build()?;
    let error = match seen(&client, scheme).await {
        Ok(seen) => return Err(Failure::new(format_args!("it reached {seen}"))),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::Connect, "{error:?}");
    assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
    Ok(())
}

/// A redirect changes the host that is asked for, and not the socket.
async fn a_redirect_stays_on_it(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        while let Some(request) = conn.read_request()? {
            let host = request.header("host").unwrap_or_default().to_owned();
            match request.target.as_str() {
                "/first" => {
                    let location = format!("http://other.{NAME}/second");
                    conn.respond(302, &[("location", &location)], "")?;
                }
                _ => conn.respond(200, &[], &host)?,
            }
        }
        Ok(())
    });
    let relay = UnixRelay::start(server.addr())?;
    let client = builder(cx.engine(), "http", relay.path()).build()?;
    let response = client.get(format!("http://{NAME}/first")).send().await?;
    assert_eq!(response.text().await?, format!("other.{NAME}"));
    Ok(())
}

/// Not each need: a library may take a moment to see that one is idle.
async fn requests_share_its_connection(cx: Context) -> Verdict {
    let relay = UnixRelay::start(cx.echo().addr())?;
    let client = builder(cx.engine(), "http", relay.path()).build()?;
    for sent in 1..50 {
        client.get(format!("http://{NAME}/get")).send().await?.bytes().await?;
        if relay.connections() < sent {
            return Ok(());
        }
    }
    Err(Failure::new("each request has its own connection"))
}

/// A proxy beside it, and a path that cannot be one.
async fn what_it_excludes_is_refused(cx: Context) -> Verdict {
    let builder = |path: &str| builder_for(cx.engine()).unix_socket(path);
    if cx.offers(Capability::Proxies) {
        let with_proxy = builder("/run/test.sock").proxy("http://127.0.0.1:1").build();
        let error = fails(with_proxy, ErrorKind::InvalidInput)?;
        assert!(error.to_string().contains("proxy"), "{error}");
    }
    for path in ["", "a\0b", &"a".repeat(500)] {
        fails(builder(path).build(), ErrorKind::InvalidInput)?;
    }
    Ok(())
}

fn builder(engine: Watched, scheme: &str, path: &Path) -> HttpClientBuilder {
    let builder = builder_for(engine).unix_socket(path);
    match scheme.starts_with("ws") {
        true => builder.install(WebSockets::new()),
        false => builder,
    }
}

/// What the server has seen of a request or a handshake.
async fn seen(client: &HttpClient, scheme: &str) -> drivetrain::Result<Value> {
    if !scheme.starts_with("ws") {
        return client.get(format!("{scheme}://{NAME}/anything")).send().await?.json().await;
    }
    let mut session = client.web_socket(format!("{scheme}://{NAME}/headers")).connect().await?;
    let frame = session.receive().await?;
    let text = frame.as_ref().and_then(Frame::read_text).unwrap_or_default();
    serde_json::from_str(text).map_err(drivetrain::Error::other)
}
