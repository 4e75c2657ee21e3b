//! The claimed capabilities of an engine against its behaviour, both ways.

use std::{
    net::{SocketAddr, TcpStream},
    panic::AssertUnwindSafe,
    time::Duration,
};

use drivetrain::{
    ErrorKind, HandshakePhases, HttpClient, HttpTimeout, MessageKind, Requirement, Resolver,
    Session, WebSockets, extension::PermessageDeflate,
};
use drivetrain_engine::{Capability, Engine as _, TlsVersion};
use futures_util::FutureExt as _;
use socket2::{Domain, Socket, Type};

#[cfg(unix)]
use super::unix_sockets;
use super::{
    cookies, extensions, handshake, http2, keepalive, limits, messages, outbox, proxies, raw,
    resolver, tls,
};
use crate::{
    CountedStream,
    case::{Case, case},
    context::{Context, PATIENCE, builder_for},
    expect::{echoes, fails},
    failure::{Failure, Verdict},
    line::Line,
    peer::{LengthEncoding, TestCa, frame_header, opcode},
    script::PeerBehaviour::Polite,
};

/// A connect timeout that passes.
const SHORT: Duration = Duration::from_millis(300);

pub(super) fn cases() -> Vec<Case> {
    let row = |&capability: &Capability| {
        let name: String = capability
            .name()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
            .collect();
        case(move |cx| a_claim_is_true(cx, capability)).named("limitations", name)
    };
    Capability::ALL.iter().map(row).collect()
}

/// An offered capability works; a missing one is refused by name, or observably absent.
async fn a_claim_is_true(cx: Context, capability: Capability) -> Verdict {
    subject_and_engine_agree(&cx, capability)?;
    match (cx.offers(capability), capability.requirement()) {
        (true, _) => return works(cx, capability).await,
        (false, Requirement::Option) => refused(&cx, capability).await?,
        (false, Requirement::Behaviour) => is_absent(cx.clone(), capability).await?,
    }
    is_lacking(&cx, capability).await
}

/// What is missing does not work when it is asked for all the same: the client is told that it is offered, so that
/// it does not refuse it in the engine's place.
async fn is_lacking(cx: &Context, capability: Capability) -> Verdict {
    // There is no way to ask for these: `subject_and_engine_agree` compares what the subject makes.
    let is_asked_for = !matches!(
        capability,
        Capability::ClientCertificates
            | Capability::EnginePing
            | Capability::CallerStream
            | Capability::Resolver
            | Capability::WebSocketOverHttp2
    );
    if !is_asked_for || needs(capability).iter().any(|&need| !cx.offers(need)) {
        return Ok(());
    }
    let pretending = cx.pretending(capability)?;
    if capability == Capability::Tls {
        return is_not_dialled(&pretending).await;
    }
    // A failing case may panic, which is expected here.
    match AssertUnwindSafe(works(pretending, capability)).catch_unwind().await {
        Ok(Ok(())) => Err(hidden(capability, "it works when it is asked for")),
        Ok(Err(_)) | Err(_) => Ok(()),
    }
}

fn hidden(capability: Capability, what: &str) -> Failure {
    Failure::new(format_args!(
        "the engine says that it lacks `{capability}`, and {what}: `support` has to claim it"
    ))
}

/// An engine without TLS refuses `https` and `wss` by itself, before it dials.
async fn is_not_dialled(cx: &Context) -> Verdict {
    let (_ca, server) = tls::echo_tls(cx);
    let mut refused = Vec::new();
    if cx.offers(Capability::WebSockets) {
        refused.push(cx.client().web_socket(server.ws_url("/echo")).connect().await.map(drop));
    }
    if cx.offers(Capability::Http1) {
        refused.push(cx.client().get(server.http_url("/get")).send().await.map(drop));
    }
    if server.connections() > 0 {
        return Err(Failure::new(
            "the engine says that it lacks TLS, and dials for `wss` or `https`: it has to refuse them, or `support` \
             has to claim it",
        ));
    }
    for result in refused {
        fails(result, ErrorKind::Unsupported)?;
    }
    Ok(())
}

/// What a subject makes engines with is there if the engine offers it, and only then.
fn subject_and_engine_agree(cx: &Context, capability: Capability) -> Verdict {
    let made = match capability {
        Capability::Tls => {
            let made = cx.engine_with_root(&TestCa::new()).is_some();
            let with_version = cx.engine_with_min_tls_version(&TestCa::new(), TlsVersion::V1_2);
            assert_eq!(with_version.is_some(), made, "with_min_tls_version goes with TLS");
            let accepting = cx.engine_accepting_any_certificate();
            assert_eq!(accepting.is_some(), made, "accepting_any_certificate goes with TLS");
            made
        }
        Capability::ClientCertificates => {
            cx.engine_with_client_certificate(&TestCa::new()).is_some()
        }
        Capability::EnginePing => cx.engine_with_ping_interval(SHORT).is_some(),
        Capability::Resolver => {
            let resolver = Resolver::new(|_| std::future::ready(Ok(Vec::new())));
            cx.engine_with_resolver(resolver).is_some()
        }
        Capability::CallerStream => {
            cx.engine_over(CountedStream::connect(cx.echo().addr())?).is_some()
        }
        Capability::WebSocketOverHttp2 => {
            // It may be switched on by that alone.
            if let Some(engine) = cx.engine_over_http2(&TestCa::new()) {
                assert!(
                    engine.support(capability).is_offered(),
                    "the subject makes an engine with over_http2, whose `support` says that it lacks it"
                );
            }
            return Ok(());
        }
        _ => return Ok(()),
    };
    let offered = cx.offers(capability);
    assert_eq!(made, offered, "what the subject makes, and what the engine offers");
    Ok(())
}

async fn works(cx: Context, capability: Capability) -> Verdict {
    match capability {
        Capability::Http1 => {
            let response = cx.client().get(cx.echo().http_url("/get")).send().await?;
            assert_eq!(response.version(), drivetrain::http::Version::HTTP_11);
            Ok(())
        }
        Capability::Http2 => http2::requests_share_a_connection(cx).await,
        Capability::ConnectionReuse if is_used_again(&cx).await? => Ok(()),
        Capability::ConnectionReuse => Err(Failure::new("each request has its own connection")),
        Capability::WebSocketOverHttp2 => {
            http2::web_sockets_share_a_connection_where_that_is_switched_on(cx).await
        }
        Capability::WebSockets => echoes(&mut cx.session("/echo").await?.1, "works").await,
        Capability::Tls if cx.offers(Capability::WebSockets) => {
            tls::wss_trusts_a_root_of_the_callers(cx).await
        }
        Capability::Tls => tls::https_trusts_a_root_of_the_callers(cx).await,
        Capability::ClientCertificates if cx.offers(Capability::WebSockets) => {
            tls::wss_presents_a_client_certificate(cx).await
        }
        Capability::ClientCertificates => tls::https_presents_a_client_certificate(cx).await,
        Capability::HandshakeHeaders => handshake::headers_of_the_callers_arrive(cx).await,
        Capability::HandshakeResponse => {
            let (_server, session) = cx.session("/echo").await?;
            let response = session.response().ok_or_else(|| Failure::new("it is not visible"))?;
            assert_eq!(response.status(), 101);
            assert!(response.headers().contains_key("sec-websocket-accept"), "{response:?}");
            Ok(())
        }
        Capability::Subprotocols => handshake::the_chosen_subprotocol_is_given(cx).await,
        Capability::MaxFrameSize => {
            a_header_above_the_limit_is_refused(&cx).await?;
            limits::a_frame_above_the_limit_is_refused(cx).await
        }
        Capability::MaxMessageSize => limits::a_message_above_the_limit_is_refused(cx).await,
        Capability::PluginPing => keepalive::the_plugins_interval_is_kept(cx).await,
        Capability::EnginePing => {
            keepalive::an_engine_level_interval_wins_and_is_really_sent(cx).await
        }
        Capability::SendPing => {
            super::control::pings_and_pongs_of_the_applications_arrive(cx).await
        }
        Capability::SendFragments => messages::a_long_message_goes_out_in_fragments(cx).await,
        Capability::RawSessions => raw::works(cx).await,
        // The bits of an extension that the session applies.
        Capability::RsvBits if !cx.offers(Capability::RawSessions) => {
            extensions::messages_are_compressed_both_ways(cx).await
        }
        Capability::RsvBits => raw::reserved_bits_travel_with_a_negotiated_extension(cx).await,
        Capability::Extensions => extensions::messages_are_compressed_both_ways(cx).await,
        Capability::CallerStream => {
            let (_server, mut session, writes) = outbox::counted(&cx).await?;
            echoes(&mut session, "works").await?;
            assert!(writes.count() >= 2, "it runs over something else");
            Ok(())
        }
        Capability::ConnectTimeout => a_connect_timeout_passes(cx).await,
        Capability::Proxies => proxies::works(cx, proxies::Kind::Http).await,
        Capability::HttpsProxies => proxies::works(cx, proxies::Kind::Https).await,
        Capability::SocksProxies => proxies::works(cx, proxies::Kind::Socks5).await,
        #[cfg(unix)]
        Capability::UnixSockets => unix_sockets::works(cx).await,
        Capability::Resolver => resolver::works(cx).await,
        Capability::HandshakePhases => handshake::its_phases_are_timed(cx).await,
        // Nothing else counts writes.
        Capability::BatchedWrites if !cx.offers(Capability::CallerStream) => {
            refused(&cx, Capability::CallerStream).await
        }
        Capability::BatchedWrites => outbox::many_messages_cost_few_writes(cx).await,
        unknown => Err(Failure::new(format_args!("the suite does not know `{unknown}` yet"))),
    }
}

/// A behaviour that is missing is not there.
async fn is_absent(cx: Context, capability: Capability) -> Verdict {
    if let Some(&missing) = needs(capability).iter().find(|&&need| !cx.offers(need)) {
        return refused(&cx, missing).await;
    }
    match capability {
        Capability::Http2 if http2::is_spoken(&cx).await? => {
            Err(hidden(capability, "it is spoken where the server has it"))
        }
        Capability::Http2 => http2::http_1_1_is_spoken(cx).await,
        Capability::ConnectionReuse if is_used_again(&cx).await? => {
            Err(hidden(capability, "a connection was used again"))
        }
        Capability::ConnectionReuse => Ok(()),
        Capability::WebSocketOverHttp2 => http2::web_sockets_use_http_1_1(&cx).await,
        Capability::HandshakeResponse => {
            let (_server, session) = cx.session("/echo").await?;
            match session.response() {
                None => Ok(()),
                Some(_) => Err(hidden(capability, "the response is visible")),
            }
        }
        Capability::HandshakePhases => {
            let (_server, session) = cx.session("/echo").await?;
            match session.response().and_then(|head| head.extensions().get::<HandshakePhases>()) {
                None => Ok(()),
                Some(_) => Err(hidden(capability, "the phases are timed")),
            }
        }
        Capability::SendFragments => {
            let mut peer = cx.peer(Polite, |_| Ok(()));
            let session = peer.connect().await?;
            session.send(vec![0; 1 << 20]).await?;
            if !peer.frame_of(opcode::BINARY).await?.fin {
                return Err(hidden(capability, "a long message came in fragments"));
            }
            let sized = WebSockets::new().max_fragment_size(1000);
            let request = cx.client().web_socket(peer.url()).max_fragment_size(1000);
            for error in [
                unsupported(session.send_stream(MessageKind::Binary).await)?,
                unsupported(HttpClient::builder(cx.engine()).install(sized).build())?,
                unsupported(request.connect().await)?,
            ] {
                assert_eq!(error.capability(), Some(Capability::SendFragments), "{error:?}");
            }
            Ok(())
        }
        Capability::BatchedWrites => {
            let (_server, session, writes) = outbox::counted(&cx).await?;
            let cost = outbox::writes_of_many_messages(&session, &writes).await?;
            if cost < outbox::MESSAGES {
                let what = format!("{} messages cost {cost} writes", outbox::MESSAGES);
                return Err(hidden(capability, &what));
            }
            Ok(())
        }
        unknown => Err(Failure::new(format_args!("the suite does not know `{unknown}` yet"))),
    }
}

/// Asking for an option that the engine lacks is `Unsupported`, names engine and capability, and nothing
/// is dialled. Where there is no method to ask with, the subject has none either.
pub(crate) async fn refused(cx: &Context, capability: Capability) -> Verdict {
    let server = cx.echo();
    let request = || cx.client().web_socket(server.ws_url("/echo"));
    let plugin = |plugin| HttpClient::builder(cx.engine()).install(plugin).build();
    let secure = |url: String| url.replacen("://", "s://", 1);
    let error = match capability {
        Capability::Http1 => unsupported(cx.client().get(server.http_url("/get")).send().await)?,
        Capability::WebSockets => {
            unsupported(plugin(WebSockets::new()))?;
            unsupported(request().connect_raw().await)?;
            unsupported(request().connect().await)?
        }
        Capability::Tls => {
            let url = secure(server.ws_url("/echo"));
            unsupported(cx.client().web_socket(url).connect().await)?;
            unsupported(cx.client().get(secure(server.http_url("/get"))).send().await)?
        }
        Capability::HandshakeHeaders => {
            unsupported(request().bearer_auth("token").connect().await)?;
            let (jar, client) = cookies::with_jar(cx.engine())?;
            jar.set(server.ws_url("/"), "session=1")?;
            unsupported(client.web_socket(server.ws_url("/echo")).connect().await)?;
            unsupported(request().header("x-test", "1").connect().await)?
        }
        Capability::Subprotocols => unsupported(request().subprotocol("chat").connect().await)?,
        Capability::MaxFrameSize => {
            unsupported(plugin(WebSockets::new().max_frame_size(1000)))?;
            unsupported(request().max_frame_size(1000).connect().await)?
        }
        Capability::MaxMessageSize => {
            unsupported(plugin(WebSockets::new().max_message_size(1000)))?;
            unsupported(request().max_message_size(1000).connect().await)?
        }
        Capability::PluginPing => {
            unsupported(plugin(WebSockets::new().ping_interval(SHORT)))?;
            unsupported(request().ping_interval(SHORT).connect().await)?
        }
        Capability::RawSessions => unsupported(request().connect_raw().await)?,
        Capability::RsvBits => {
            unsupported(request().offer_extension("x-test").connect_raw().await)?
        }
        Capability::Extensions => {
            unsupported(plugin(WebSockets::new().extension(PermessageDeflate::new())))?;
            unsupported(request().extension(PermessageDeflate::new()).connect().await)?
        }
        Capability::ConnectTimeout => {
            let timeout = HttpTimeout::new().connect(SHORT);
            unsupported(HttpClient::builder(cx.engine()).install(timeout).build())?
        }
        Capability::Proxies | Capability::HttpsProxies | Capability::SocksProxies => {
            let scheme = match capability {
                Capability::Proxies => "http",
                Capability::HttpsProxies => "https",
                _ => "socks5",
            };
            let proxy = format!("{scheme}://{}", server.addr());
            unsupported(HttpClient::builder(cx.engine()).proxy(proxy).build())?
        }
        Capability::UnixSockets => {
            unsupported(HttpClient::builder(cx.engine()).unix_socket("/run/test.sock").build())?
        }
        Capability::SendPing if cx.offers(Capability::WebSockets) => {
            let session = cx.client().web_socket(server.ws_url("/echo")).connect().await?;
            return ping_is_refused(&session).await;
        }
        Capability::SendPing => unsupported(request().connect().await)?,
        Capability::ClientCertificates
        | Capability::EnginePing
        | Capability::CallerStream
        | Capability::Resolver => {
            return subject_and_engine_agree(cx, capability);
        }
        // A case that needs it: its absence is what `limitations` checks.
        behaviour => return Box::pin(is_absent(cx.clone(), behaviour)).await,
    };
    let engine = cx.client().engine_name().to_owned();
    let named = error.capability().ok_or_else(|| Failure::new("it names no capability"))?;
    assert!(named == capability || needs(capability).contains(&named), "{error:?}");
    assert!(!cx.offers(named), "it names {named}, which it offers");
    assert_eq!(error.engine(), Some(engine.as_str()));
    assert!(error.to_string().contains(&engine), "{error}");
    assert_eq!(server.connections(), 0, "it has dialled");
    Ok(())
}

/// Other capabilities that a capability needs: the error may name one of them.
fn needs(capability: Capability) -> &'static [Capability] {
    match capability {
        Capability::Http1
        | Capability::WebSockets
        | Capability::ConnectTimeout
        | Capability::Proxies
        | Capability::HttpsProxies
        | Capability::SocksProxies
        | Capability::UnixSockets
        | Capability::Resolver => &[],
        Capability::ConnectionReuse => &[Capability::Http1],
        Capability::Http2 => &[Capability::Http1, Capability::Tls],
        Capability::WebSocketOverHttp2 => &[Capability::WebSockets, Capability::Tls],
        Capability::BatchedWrites => &[Capability::WebSockets, Capability::CallerStream],
        Capability::RsvBits => &[Capability::WebSockets, Capability::RawSessions],
        _ => &[Capability::WebSockets],
    }
}

/// An application's ping is refused, and the session stays open.
async fn ping_is_refused(session: &Session) -> Verdict {
    let ping = drivetrain::Frame::Ping(drivetrain::Bytes::new());
    let error = unsupported(session.send(ping).await)?;
    assert_eq!(error.capability(), Some(Capability::SendPing), "{error:?}");
    unsupported(session.ping().await)?;
    Ok(session.send("the session is still open").await?)
}

#[track_caller]
fn unsupported<T>(result: drivetrain::Result<T>) -> Verdict<drivetrain::Error> {
    fails(result, ErrorKind::Unsupported)
}

/// By the transport, before anything of the payload has come.
async fn a_header_above_the_limit_is_refused(cx: &Context) -> Verdict {
    let server = cx.server(|conn| {
        conn.accept_web_socket()?;
        let binary = opcode::BINARY;
        conn.write_all(&frame_header(true, 0, binary, false, LengthEncoding::Minimal, 1001))?;
        conn.hold()
    });
    let mut line = Line::open(cx, &server.ws_url("/")).await?;
    let received = cx.within(PATIENCE / 4, "it is refused", line.receive(1000)).await;
    let received = received.map_err(|_| {
        Failure::new(
            "a header announced 1001 bytes with max_payload = 1000, and the transport waits for them: it has to be \
             TooBig before there is memory for it",
        )
    })?;
    fails(received?, ErrorKind::TooBig)?;
    Ok(())
}

/// Whether requests in turn share a connection. Not each need: a library may take a moment to see that one is idle.
async fn is_used_again(cx: &Context) -> Verdict<bool> {
    let (server, client) = (cx.echo(), cx.client());
    for _ in 0..50 {
        client.get(server.http_url("/get")).send().await?.bytes().await?;
        if server.connections() < server.requests() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A host that does not answer is given up, for HTTP and for WebSockets.
async fn a_connect_timeout_passes(cx: Context) -> Verdict {
    let (addr, _full) = crate::context::blocking(unanswering).await??;
    let timeout = HttpTimeout::new().connect(SHORT);
    if cx.offers(Capability::Http1) {
        let client = builder_for(cx.engine()).install(timeout).build()?;
        let request = client.get(format!("http://{addr}/")).send();
        let answer = cx.within(PATIENCE / 2, "the connect timeout passes", request).await?;
        fails(answer, ErrorKind::Timeout)?;
    }
    if cx.offers(Capability::WebSockets) {
        // The handshake's own limit is far away.
        let plugin = WebSockets::new().handshake_timeout(10 * PATIENCE);
        let builder = builder_for(cx.engine()).install(timeout).install(plugin);
        let connect = builder.build()?.web_socket(format!("ws://{addr}/")).connect();
        let answer = cx.within(PATIENCE / 2, "the connect timeout passes", connect).await?;
        fails(answer, ErrorKind::Timeout)?;
    }
    Ok(())
}

/// An address that answers no SYN: its listener's queue is full and never accepted.
fn unanswering() -> std::io::Result<(SocketAddr, (Socket, Vec<TcpStream>))> {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    listener.listen(0)?;
    let addr = listener.local_addr()?.as_socket().ok_or(std::io::ErrorKind::AddrNotAvailable)?;
    let mut queue = Vec::new();
    while let Ok(queued) = TcpStream::connect_timeout(&addr, Duration::from_millis(200)) {
        queue.push(queued);
        if queue.len() > 1000 {
            return Err(std::io::Error::other("the listener's queue has no end"));
        }
    }
    Ok((addr, (listener, queue)))
}
