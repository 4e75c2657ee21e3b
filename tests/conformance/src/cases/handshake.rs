//! Opening a WebSocket: the request, and valid answers.

use std::{
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use drivetrain::{
    Capability, ErrorKind, HandshakePhases, HttpTimeout, Proxy, WebSocketRequest, WebSockets,
};
use drivetrain_engine::Capability::{HandshakeHeaders, Subprotocols};
use serde_json::{Value, json};

use super::{accept_head, tls};
use crate::{
    case::{Case, case},
    context::{Context, PATIENCE, builder_for},
    expect::{echoes, ends_cleanly, message, text},
    failure::{Failure, Verdict},
    peer::{ProxyScript, WireFrame, http_proxy},
};

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case(the_request_is_as_the_rfc_asks),
        case(every_key_is_another),
        case(the_target_is_path_and_query),
        case(headers_of_the_callers_arrive).needs(&[HandshakeHeaders]),
        case(userinfo_becomes_basic_auth).needs(&[HandshakeHeaders]),
        case(basic_and_bearer_auth_arrive).needs(&[HandshakeHeaders]),
        case(the_chosen_subprotocol_is_given).needs(&[Subprotocols]),
        case(a_server_may_choose_no_subprotocol).needs(&[Subprotocols]),
        case(http_is_a_scheme_for_web_sockets),
        case(tokens_of_the_answer_are_read_as_tokens),
        case(frames_in_the_segment_of_the_answer_are_not_lost),
        case(a_large_tail_of_the_answer_is_not_lost),
        case(localhost_is_reached_over_ipv4_too),
        case(an_ipv6_address_is_a_host),
        case(small_messages_are_not_delayed_by_nagle),
        case(time_limits_of_http_do_not_apply_to_sessions),
        case(a_dropped_connect_frees_its_connection),
        case(many_sessions_share_a_client),
        case(its_phases_are_timed).needs(&[Capability::HandshakePhases]),
        case(a_refusal_has_its_phases).needs(&[Capability::HandshakePhases]),
        case(tls_and_a_proxy_are_phases).needs(&[
            Capability::HandshakePhases,
            Capability::Tls,
            Capability::Proxies,
        ]),
    ];
    cases.into_iter().map(|case| case.needs(&[Capability::WebSockets])).collect()
}

/// A GET with the headers of RFC 6455 section 4.1 and no others.
async fn the_request_is_as_the_rfc_asks(cx: Context) -> Verdict {
    let server = cx.echo();
    let seen = described(cx.client().web_socket(server.ws_url("/headers"))).await?;
    let headers = &seen["headers"];
    assert_eq!(seen["method"], "GET");
    assert_eq!(headers["host"], json!([server.addr().to_string()]));
    assert_eq!(headers["sec-websocket-version"], json!(["13"]));
    for (header, token) in [("upgrade", "websocket"), ("connection", "upgrade")] {
        let value = headers[header][0].as_str().unwrap_or_default().to_ascii_lowercase();
        assert!(value.split(',').any(|part| part.trim() == token), "{header}: {value}");
    }
    let key = headers["sec-websocket-key"][0].as_str().unwrap_or_default();
    assert_eq!(BASE64.decode(key)?.len(), 16);
    for absent in [
        "origin",
        "sec-websocket-protocol",
        "authorization",
        "cookie",
        "accept-encoding",
        "content-length",
        "transfer-encoding",
    ] {
        assert_eq!(headers[absent], Value::Null, "{absent}");
    }
    // A library that applies extensions by itself may offer its own.
    if cx.offers(Capability::RsvBits) {
        assert_eq!(headers["sec-websocket-extensions"], Value::Null);
    }
    Ok(())
}

/// The key is random.
async fn every_key_is_another(cx: Context) -> Verdict {
    let (client, server) = (cx.client(), cx.echo());
    let mut keys = Vec::new();
    for _ in 0..5 {
        let seen = described(client.web_socket(server.ws_url("/headers"))).await?;
        keys.push(seen["headers"]["sec-websocket-key"].to_string());
    }
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 5);
    Ok(())
}

/// Path and query travel as they are in the URL.
async fn the_target_is_path_and_query(cx: Context) -> Verdict {
    let server = cx.echo();
    let url = server.ws_url("/headers?a=b%20c&d=%C3%A9");
    assert_eq!(
        described(cx.client().web_socket(url)).await?["target"],
        "/headers?a=b%20c&d=%C3%A9"
    );
    let bare = server.ws_url("");
    let refused = cx.client().web_socket(bare).connect().await;
    let error = crate::expect::fails(refused, ErrorKind::Rejected)?;
    assert_eq!(error.response().map(|response| response.status().as_u16()), Some(404));
    Ok(())
}

/// The user's headers arrive, with several values, including `Origin`.
pub(super) async fn headers_of_the_callers_arrive(cx: Context) -> Verdict {
    let request = cx.client().web_socket(cx.echo().ws_url("/headers"));
    let request = request.header("x-list", "1").header("x-list", "2");
    let seen = described(request.header("origin", "https://a.example")).await?;
    assert_eq!(seen["headers"]["x-list"], json!(["1", "2"]));
    assert_eq!(seen["headers"]["origin"], json!(["https://a.example"]));
    Ok(())
}

/// The URL's user and password are basic auth.
async fn userinfo_becomes_basic_auth(cx: Context) -> Verdict {
    let url = cx.echo().ws_url("/headers").replace("://", "://Aladdin:open%20sesame@");
    let seen = described(cx.client().web_socket(url)).await?;
    assert_eq!(seen["headers"]["authorization"], json!(["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="]));
    assert!(!seen["headers"]["host"].to_string().contains('@'), "{seen}");
    Ok(())
}

/// `basic_auth` and `bearer_auth` set the header.
async fn basic_and_bearer_auth_arrive(cx: Context) -> Verdict {
    let server = cx.echo();
    let request = || cx.client().web_socket(server.ws_url("/headers"));
    let basic = described(request().basic_auth("Aladdin", Some("open sesame"))).await?;
    assert_eq!(basic["headers"]["authorization"], json!(["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="]));
    let bearer = described(request().bearer_auth("t0ken")).await?;
    assert_eq!(bearer["headers"]["authorization"], json!(["Bearer t0ken"]));
    Ok(())
}

/// Subprotocols are offered in order, and the one chosen is the session's.
pub(super) async fn the_chosen_subprotocol_is_given(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        let request = conn.read_request()?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        let offered: Vec<_> = request.header_values("sec-websocket-protocol").collect();
        let offered = offered.join(",");
        conn.accept(&request, &[("sec-websocket-protocol", "chat.v1")])?;
        conn.send_text(&offered)?;
        conn.drain()
    });
    let request = cx.client().web_socket(server.ws_url("/"));
    let mut session = request.subprotocol("chat.v2").subprotocol("chat.v1").connect().await?;
    assert_eq!(session.subprotocol(), Some("chat.v1"));
    assert_eq!(text(&mut session).await?.replace(' ', ""), "chat.v2,chat.v1");
    Ok(())
}

/// No subprotocol chosen is no error.
async fn a_server_may_choose_no_subprotocol(cx: Context) -> Verdict {
    let request = cx.client().web_socket(cx.echo().ws_url("/echo")).subprotocol("chat");
    let mut session = request.connect().await?;
    assert_eq!(session.subprotocol(), None);
    echoes(&mut session, "works").await
}

/// `http` means `ws`.
async fn http_is_a_scheme_for_web_sockets(cx: Context) -> Verdict {
    let mut session = cx.client().web_socket(cx.echo().http_url("/echo")).connect().await?;
    echoes(&mut session, "works").await
}

/// `Connection` is a list of tokens, and case does not matter.
async fn tokens_of_the_answer_are_read_as_tokens(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        accept_head(
            conn,
            &[
                "CONNECTION: keep-alive, UPGRADE",
                "Upgrade: WebSocket",
                "Sec-WebSocket-Accept: {accept}",
                "Server: test",
            ],
        )?;
        conn.send_text("welcome")?;
        conn.drain()
    });
    let mut session = cx.client().web_socket(server.ws_url("/")).connect().await?;
    assert_eq!(text(&mut session).await?, "welcome");
    Ok(())
}

/// Frames, and a Close, that come with the answer are received.
async fn frames_in_the_segment_of_the_answer_are_not_lost(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        let request = conn.read_request()?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        let frames = [WireFrame::text("one"), WireFrame::ping("?"), WireFrame::binary("two")];
        let close = WireFrame::close(4000, "enough");
        let tail = frames.iter().chain([&close]).flat_map(|frame| frame.encode(None));
        conn.accept_with_tail(&request, &[], &tail.collect::<Vec<_>>())?;
        conn.await_close()
    });
    let mut session = cx.client().web_socket(server.ws_url("/")).connect().await?;
    assert_eq!(text(&mut session).await?, "one");
    assert_eq!(message(&mut session).await?.into_bytes(), "two");
    ends_cleanly(&mut session).await?;
    Ok(())
}

/// More than a buffer's worth of frames that come with the answer are received, in order.
async fn a_large_tail_of_the_answer_is_not_lost(cx: Context) -> Verdict {
    const COUNT: usize = 20_000;
    let server = cx.server(|conn| {
        let request = conn.read_request()?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        let frames = (0..COUNT).map(|i| WireFrame::text(i.to_string()).encode(None));
        conn.accept_with_tail(&request, &[], &frames.collect::<Vec<_>>().concat())?;
        conn.drain()
    });
    let mut session = cx.client().web_socket(server.ws_url("/")).connect().await?;
    for i in 0..COUNT {
        assert_eq!(text(&mut session).await?, i.to_string());
    }
    Ok(())
}

/// A name with several addresses, the first of which may refuse, is reached.
async fn localhost_is_reached_over_ipv4_too(cx: Context) -> Verdict {
    let url = cx.echo().ws_url("/echo").replace("127.0.0.1", "localhost");
    let mut session = cx.client().web_socket(url).connect().await?;
    echoes(&mut session, "works").await
}

/// `[::1]` is dialled; on a machine without IPv6 it is `Connect`.
async fn an_ipv6_address_is_a_host(cx: Context) -> Verdict {
    let server = cx.echo();
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        let refused = cx.client().web_socket("ws://[::1]:9/").connect().await;
        return crate::expect::fails(refused, ErrorKind::Connect).map(drop);
    };
    let (addr, target) = (listener.local_addr()?, server.addr());
    let relay = thread::spawn(move || super::relay(&listener, target));
    let mut session = cx.client().web_socket(format!("ws://{addr}/echo")).connect().await?;
    echoes(&mut session, "works").await?;
    drop(session);
    let relayed = crate::context::blocking(move || relay.join()).await?;
    Ok(relayed.map_err(|_| Failure::new("the relay panicked"))??)
}

/// `TCP_NODELAY` is on: two small writes in a row do not wait for the peer's delayed ACK, 40 ms each.
async fn small_messages_are_not_delayed_by_nagle(cx: Context) -> Verdict {
    // The first dozen ACKs of a connection are not delayed.
    const ENOUGH: u32 = 100;
    const ROUNDS: u32 = 1000;
    let (_server, mut session) = cx.session("/echo").await?;
    // A slow machine has some rounds without a delay, too; with delayed ACKs each has one.
    let mut undelayed = 0;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for half in ["a", "b"] {
            session.send(half).await?;
            session.flush().await?;
        }
        message(&mut session).await?;
        message(&mut session).await?;
        undelayed += u32::from(start.elapsed() < Duration::from_millis(30));
        if undelayed == ENOUGH {
            return Ok(());
        }
    }
    Err(Failure::new(format_args!("only {undelayed} of {ROUNDS} rounds are without a delay")))
}

/// The request and socket timeouts of HTTP end no session.
async fn time_limits_of_http_do_not_apply_to_sessions(cx: Context) -> Verdict {
    let limit = Duration::from_millis(100);
    let timeout = HttpTimeout::new().request(limit).socket(limit);
    let client = builder_for(cx.engine()).install(timeout).install(WebSockets::new());
    let mut session = client.build()?.web_socket(cx.echo().ws_url("/echo")).connect().await?;
    cx.sleep(4 * limit).await;
    echoes(&mut session, "still there").await
}

/// Dropping `connect` while it waits closes its connection.
async fn a_dropped_connect_frees_its_connection(cx: Context) -> Verdict {
    let server = cx.server(|conn| conn.drain());
    let client = cx.client();
    let connect = Box::pin(client.web_socket(server.ws_url("/")).connect());
    let waiting = async {
        cx.until("the connection is open", || server.connections() == 1).await?;
        cx.sleep(Duration::from_millis(50)).await;
        Verdict::Ok(())
    };
    match futures_util::future::select(connect, std::pin::pin!(waiting)).await {
        futures_util::future::Either::Left(_) => return Err(Failure::new("there is no answer")),
        futures_util::future::Either::Right((waited, _)) => waited?,
    }
    cx.until("the connection ends", || server.open() == 0).await
}

/// Sessions of one client are independent.
async fn many_sessions_share_a_client(cx: Context) -> Verdict {
    let (client, server) = (cx.client(), cx.echo());
    let mut sessions = Vec::new();
    for _ in 0..20 {
        sessions.push(client.web_socket(server.ws_url("/echo")).connect().await?);
    }
    drop(client);
    for (i, session) in sessions.iter_mut().enumerate() {
        echoes(session, i.to_string()).await?;
    }
    assert_eq!((server.connections(), server.open()), (20, 20));
    Ok(())
}

/// What `/headers` says of a handshake.
pub(super) async fn described(request: WebSocketRequest) -> Verdict<Value> {
    let mut session = request.handshake_timeout(PATIENCE).connect().await?;
    Ok(serde_json::from_str(&text(&mut session).await?)?)
}

/// As long as the server takes to answer, and no longer than the whole.
pub(super) async fn its_phases_are_timed(cx: Context) -> Verdict {
    const PAUSE: Duration = Duration::from_millis(80);
    let server = cx.server(|conn| {
        let request = conn.read_request()?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        thread::sleep(PAUSE);
        conn.accept(&request, &[])?;
        conn.hold()
    });
    let start = Instant::now();
    for (host, is_resolved) in [("127.0.0.1", false), ("localhost", true)] {
        let url = format!("ws://{host}:{}/", server.addr().port());
        let session = cx.client().web_socket(url).connect().await?;
        let phases = session.response().and_then(|head| head.extensions().get()).copied();
        let HandshakePhases { dns, tcp, proxy, tls, upgrade, .. } =
            phases.ok_or_else(|| Failure::new("there are none"))?;
        assert_eq!((dns.is_some(), proxy, tls), (is_resolved, None, None), "{phases:?}");
        let (Some(tcp), Some(upgrade)) = (tcp, upgrade) else {
            return Err(Failure::new(format_args!("{phases:?}")));
        };
        assert!(upgrade >= PAUSE, "{phases:?}");
        assert!(dns.unwrap_or_default() + tcp + upgrade <= start.elapsed(), "{phases:?}");
    }
    Ok(())
}

async fn a_refusal_has_its_phases(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        conn.read_request()?;
        conn.respond(403, &[], "no")
    });
    let error = cx.client().web_socket(server.ws_url("/")).connect().await.err();
    let phases = error
        .as_ref()
        .and_then(|error| error.response())
        .and_then(|response| response.extensions().get::<HandshakePhases>());
    let phases = phases.ok_or_else(|| Failure::new(format_args!("{error:?} has none")))?;
    assert!(phases.tcp.is_some() && phases.upgrade.is_some(), "{phases:?}");
    Ok(())
}

async fn tls_and_a_proxy_are_phases(cx: Context) -> Verdict {
    let (ca, server) = tls::echo_tls(&cx);
    let proxy = cx.server(http_proxy(&ProxyScript::new()));
    let client = builder_for(tls::trusting(&cx, &ca)?)
        .install(WebSockets::new())
        .proxy(Proxy::http("127.0.0.1", proxy.addr().port())?)
        .build()?;
    let session = client.web_socket(server.ws_url("/echo")).connect().await?;
    let phases = session.response().and_then(|head| head.extensions().get::<HandshakePhases>());
    let phases = phases.ok_or_else(|| Failure::new("there are none"))?;
    assert_eq!(phases.dns, None, "the proxy has an address");
    for phase in [phases.tcp, phases.proxy, phases.tls, phases.upgrade] {
        assert!(phase.is_some(), "{phases:?}");
    }
    Ok(())
}
