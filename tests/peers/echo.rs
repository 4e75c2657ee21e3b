//! Peers that serve the paths of `server.py`: Python `websockets`, node `ws`, nginx and haproxy in front of one.

use std::time::Duration;

use drivetrain::{
    Bytes, Capability, CloseReason, ErrorKind, Frame, OpCode, Protocol, RawFrame, Rsv,
    http::StatusCode,
};
use serde_json::Value;

use crate::{
    Scenario,
    lab::{Failure, Lab, close, ensure, expect, expect_cut, id, next, same, text},
};

pub(crate) const EVERY: &[Scenario] = &[
    ("http_get", |lab| Box::pin(http_get(lab))),
    ("text_echo", |lab| Box::pin(text_echo(lab))),
    ("binary_echo", |lab| Box::pin(binary_echo(lab))),
    ("message_of_5_mib", |lab| Box::pin(message_of_5_mib(lab))),
    ("a_thousand_messages_pipelined", |lab| Box::pin(a_thousand_messages_pipelined(lab))),
    ("sixteen_mib_both_ways_at_once", |lab| Box::pin(sixteen_mib_both_ways_at_once(lab))),
    ("fragments_from_the_peer", |lab| Box::pin(fragments_from_the_peer(lab))),
    ("ping_of_the_peer_is_answered", |lab| Box::pin(ping_of_the_peer(lab, false))),
    ("ping_of_the_peer_is_answered_while_idle", |lab| Box::pin(ping_of_the_peer(lab, true))),
    ("ping_round_trip", |lab| Box::pin(ping_round_trip(lab))),
    ("keepalive_keeps_a_live_peer", |lab| Box::pin(keepalive(lab))),
    ("close_from_us", |lab| Box::pin(close_from_us(lab))),
    ("close_comes_after_what_was_accepted", |lab| {
        Box::pin(close_comes_after_what_was_accepted(lab))
    }),
    ("close_from_the_peer", |lab| Box::pin(close_from_the_peer(lab))),
    ("run_closes_with_its_result", |lab| Box::pin(run_closes_with_its_result(lab))),
    ("dropped_session_is_going_away", |lab| Box::pin(dropped_session_is_going_away(lab))),
    ("subprotocol", |lab| Box::pin(subprotocol(lab))),
    ("subprotocol_that_nobody_speaks", |lab| Box::pin(subprotocol_that_nobody_speaks(lab))),
    ("headers_of_the_handshake", |lab| Box::pin(headers_of_the_handshake(lab))),
    ("refused_with_401", |lab| Box::pin(refused(lab, StatusCode::UNAUTHORIZED))),
    ("refused_with_403", |lab| Box::pin(refused(lab, StatusCode::FORBIDDEN))),
    ("killed_peer", |lab| Box::pin(killed_peer(lab))),
];

/// For peers that can tell how many frames a message had.
pub(crate) const SEES_FRAMES: &[Scenario] =
    &[("fragments_from_us", |lab| Box::pin(fragments_from_us(lab)))];

/// For `ws`, which can close without a code.
pub(crate) const NODE: &[Scenario] =
    &[("close_without_a_code", |lab| Box::pin(close_without_a_code(lab)))];

/// For peers that compress what they send to clients that offer to take it.
pub(crate) const DEFLATES: &[Scenario] = &[
    ("extension_on_a_raw_session", |lab| Box::pin(extension_on_a_raw_session(lab))),
    ("extension_is_refused_on_a_session", |lab| Box::pin(extension_is_refused_on_a_session(lab))),
];

async fn http_get(lab: &Lab) -> Result<(), Failure> {
    let answer = lab.get("/some/path?x=1").await?;
    same("the path it saw", &answer["path"], "/some/path")
}

async fn text_echo(lab: &Lab) -> Result<(), Failure> {
    let mut session = lab.open("/echo").await?;
    ensure(session.extensions().is_empty(), "an extension was agreed on that nobody offered")?;
    for text in ["", "hello", "Größe, 大小, 📏, \0", &"é".repeat(40_000)] {
        session.send(text).await?;
        expect(&mut session, text).await?;
    }
    close(&mut session, CloseReason::normal()).await?;
    Ok(())
}

async fn binary_echo(lab: &Lab) -> Result<(), Failure> {
    let mut session = lab.open("/echo").await?;
    // Around the sizes where the header of a frame changes.
    for size in [0, 1, 125, 126, 127, 65_535, 65_536, 65_537] {
        let message = pattern(size);
        session.send(message.clone()).await?;
        expect(&mut session, message).await?;
    }
    close(&mut session, CloseReason::normal()).await?;
    Ok(())
}

async fn message_of_5_mib(lab: &Lab) -> Result<(), Failure> {
    let mut session = lab.open("/echo").await?;
    let message = pattern(5 << 20);
    session.send(message.clone()).await?;
    expect(&mut session, message).await?;
    close(&mut session, CloseReason::normal()).await?;
    Ok(())
}

async fn a_thousand_messages_pipelined(lab: &Lab) -> Result<(), Failure> {
    let mut session = lab.open("/echo").await?;
    let message = |number: usize| format!("{number} {}", "x".repeat(number % 300));
    for number in 0..1000 {
        session.send(message(number)).await?;
    }
    for number in 0..1000 {
        expect(&mut session, message(number)).await?;
    }
    close(&mut session, CloseReason::normal()).await?;
    Ok(())
}

async fn sixteen_mib_both_ways_at_once(lab: &Lab) -> Result<(), Failure> {
    let mut session = lab.open("/echo").await?;
    let outgoing = session.outgoing();
    let message = |number: usize| pattern(60_000 + 100 * number);
    lab.spawn(async move {
        for number in 0..240 {
            if outgoing.send(message(number)).await.is_err() {
                return; // the receiver is told too
            }
        }
    });
    for number in 0..240 {
        expect(&mut session, message(number)).await?;
    }
    close(&mut session, CloseReason::normal()).await?;
    Ok(())
}

async fn fragments_from_the_peer(lab: &Lab) -> Result<(), Failure> {
    for (bytes, frame) in [(100_000, 999), (3 << 20, 70_000)] {
        let mut session = lab.open(&format!("/large?bytes={bytes}&frame={frame}")).await?;
        session.send("go").await?;
        expect(&mut session, vec![b'x'; bytes]).await?;
        close(&mut session, CloseReason::normal()).await?;
    }
    Ok(())
}

async fn fragments_from_us(lab: &Lab) -> Result<(), Failure> {
    let mut session = lab.open("/frames").await?;
    // Design, section 5: messages above 64 KiB go out as fragments.
    for (size, fewest) in [(1_000, 1), (64 << 10, 1), ((64 << 10) + 1, 2), (1 << 20, 16)] {
        session.send(pattern(size)).await?;
        let answer = text(&mut session).await?;
        let (frames, bytes) = answer.split_once(' ').ok_or("an answer without a size")?;
        let frames: usize = frames.parse()?;
        same("the size it saw", bytes, size.to_string())?;
        let offered = lab.client.support(Capability::SendFragments).is_offered();
        let right = if fewest == 1 || !offered { frames == 1 } else { frames >= fewest };
        ensure(right, format!("{size} bytes went out in {frames} frames"))?;
    }
    close(&mut session, CloseReason::normal()).await?;
    Ok(())
}

/// The peer pings at once and tells how long the pong took.
async fn ping_of_the_peer(lab: &Lab, idle: bool) -> Result<(), Failure> {
    let mut session = lab.open("/ping").await?;
    if idle {
        lab.sleep(Duration::from_millis(1500)).await;
    }
    let took: u64 = text(&mut session).await?.parse()?;
    // Design, section 5: at once while the application receives, within 1 s otherwise.
    let limit = if idle { 1100 } else { 300 };
    ensure(took <= limit, format!("the pong took {took} ms"))?;
    close(&mut session, CloseReason::normal()).await?;
    Ok(())
}

async fn ping_round_trip(lab: &Lab) -> Result<(), Failure> {
    let session = lab.open("/echo").await?;
    for _ in 0..3 {
        let took = session.ping().await?;
        ensure(took < Duration::from_secs(30), format!("the pong took {took:?}"))?;
    }
    ensure(session.latency().is_some(), "latency() does not know of it")
}

async fn keepalive(lab: &Lab) -> Result<(), Failure> {
    let request = lab.client.web_socket(lab.url("/echo"));
    let mut session = request.ping_interval(Duration::from_millis(100)).connect().await?;
    lab.sleep(Duration::from_secs(1)).await;
    ensure(session.latency().is_some(), "no pong came in a second of pings")?;
    session.send("still here").await?;
    expect(&mut session, "still here").await?;
    close(&mut session, CloseReason::normal()).await?;
    Ok(())
}

async fn close_from_us(lab: &Lab) -> Result<(), Failure> {
    for (code, reason) in [(1000, ""), (4001, "bye, schöne Grüße"), (4999, &*"x".repeat(123))] {
        let id = id();
        let mut session = lab.open(&format!("/echo?id={id}")).await?;
        session.send("before").await?;
        expect(&mut session, "before").await?;
        let outcome = close(&mut session, CloseReason::new(code, reason)?).await?;
        let received = outcome.received.as_ref().map(|reason| u16::from(reason.code()));
        same("the echoed code", received, Some(code))?;
        seen(lab, &id, code, reason).await?;
    }
    Ok(())
}

/// Design, section 5: after a clean close every accepted message arrived once.
async fn close_comes_after_what_was_accepted(lab: &Lab) -> Result<(), Failure> {
    let id = id();
    let mut session = lab.open(&format!("/count?id={id}")).await?;
    for number in 0..500 {
        session.send(pattern(10 * number)).await?;
    }
    close(&mut session, CloseReason::normal()).await?;
    let told = lab.get(&format!("/seen?id={id}")).await?;
    same("the number of messages it got", &told["messages"], 500)
}

async fn close_from_the_peer(lab: &Lab) -> Result<(), Failure> {
    for (code, reason) in [(1000, ""), (1001, "restart"), (1011, ""), (4002, "no more, 再见")] {
        let id = id();
        let query = query(&[("id", &id), ("code", &code.to_string()), ("reason", reason)]);
        let mut session = lab.open(&format!("/close?{query}")).await?;
        session.send("now").await?;
        for _ in 0..2 {
            let end = session.receive().await?;
            ensure(end.is_none(), format!("{end:?} came after the Close"))?;
        }
        let outcome = session.outcome();
        ensure(outcome.clean, format!("the end is not clean: {outcome}"))?;
        let theirs = Some(CloseReason::new(code, reason)?);
        same("the Close that came", &outcome.received, &theirs)?;
        let sent = outcome.sent.as_ref().map(|reason| u16::from(reason.code()));
        same("the code that went back", sent, Some(code))?;
        let error = session.send("too late").await.err().ok_or("send() works after the Close")?;
        same("the error of sending then", error.kind(), ErrorKind::Closed)?;
        same("its reason", error.close_reason(), theirs.as_ref())?;
        let told = lab.get(&format!("/seen?id={id}")).await?;
        same("the code the peer saw", &told["code"], code)?;
    }
    Ok(())
}

async fn close_without_a_code(lab: &Lab) -> Result<(), Failure> {
    let id = id();
    let mut session = lab.open(&format!("/close?id={id}")).await?;
    session.send("now").await?;
    ensure(session.receive().await?.is_none(), "something came after the Close")?;
    let outcome = session.outcome();
    ensure(outcome.clean, format!("the end is not clean: {outcome}"))?;
    let received = outcome.received.as_ref().map(|reason| u16::from(reason.code()));
    same("the code that came", received, Some(1005))?;
    seen(lab, &id, 1005, "").await
}

async fn run_closes_with_its_result(lab: &Lab) -> Result<(), Failure> {
    let first = id();
    let url = lab.url(&format!("/echo?id={first}"));
    let value = lab
        .client
        .web_socket(url)
        .run(async |session| {
            session.send("hello").await?;
            session.receive().await
        })
        .await?;
    same("the value", value, Some(Frame::from("hello")))?;
    seen(lab, &first, 1000, "").await?;

    let second = id();
    let url = lab.url(&format!("/echo?id={second}"));
    let failing = async |_: &mut drivetrain::Session| Err(drivetrain::Error::other("mine"));
    let result: drivetrain::Result<()> = lab.client.web_socket(url).run(failing).await;
    same("the error's kind", result.err().map(|error| error.kind()), Some(ErrorKind::Other))?;
    seen(lab, &second, 1011, "").await
}

async fn dropped_session_is_going_away(lab: &Lab) -> Result<(), Failure> {
    let id = id();
    let mut session = lab.open(&format!("/echo?id={id}")).await?;
    session.send("hello").await?;
    next(&mut session).await?;
    drop(session);
    seen(lab, &id, 1001, "").await
}

async fn subprotocol(lab: &Lab) -> Result<(), Failure> {
    let request = lab.client.web_socket(lab.url("/echo"));
    let session = request.subprotocol("chat.v1").subprotocol("chat.v2").connect().await?;
    same("the subprotocol", session.subprotocol(), Some("chat.v2"))?;
    if lab.client.support(Capability::HandshakeResponse).is_offered() {
        let status = session.response().map(|response| response.status());
        // RFC 8441, section 5: over HTTP/2 it is 200.
        let accepted = match session.protocol() {
            Protocol::H2 => StatusCode::OK,
            _ => StatusCode::SWITCHING_PROTOCOLS,
        };
        same("the status of the handshake", status, Some(accepted))?;
    }
    Ok(())
}

async fn subprotocol_that_nobody_speaks(lab: &Lab) -> Result<(), Failure> {
    let request = lab.client.web_socket(lab.url("/echo")).subprotocol("chat.v1");
    let mut session = request.connect().await?;
    same("the subprotocol", session.subprotocol(), None)?;
    close(&mut session, CloseReason::normal()).await?;
    Ok(())
}

async fn headers_of_the_handshake(lab: &Lab) -> Result<(), Failure> {
    let request = lab.client.web_socket(lab.url("/headers")).header("x-drivetrain", "from a user");
    let mut session = request.bearer_auth("token").connect().await?;
    let headers: Value = session.receive_deserialized().await?;
    for (name, value) in [
        ("x-drivetrain", "from a user"),
        ("authorization", "Bearer token"),
        ("sec-websocket-version", "13"),
        ("host", &format!("localhost:{}", lab.port())),
    ] {
        same(name, &headers[name], value)?;
    }
    for name in ["origin", "sec-websocket-extensions", "sec-websocket-protocol"] {
        ensure(headers[name].is_null(), format!("{name} was sent: {}", headers[name]))?;
    }
    close(&mut session, CloseReason::normal()).await?;
    Ok(())
}

async fn refused(lab: &Lab, status: StatusCode) -> Result<(), Failure> {
    let refused = lab.open(&format!("/refuse/{}", status.as_u16())).await;
    let error = refused.err().ok_or("the handshake was accepted")?;
    same("the error's kind", error.kind(), ErrorKind::Rejected)?;
    let response = error.response().ok_or("the error has no response")?;
    same("the status", response.status(), status)?;
    same("the body", String::from_utf8_lossy(response.body()), "not you\n")?;
    let realm = response.headers().get("www-authenticate").ok_or("a header is missing")?;
    same("the header", realm, "Basic realm=\"peers\"")?;
    ensure(!error.is_transient(), "the error says that trying again may help")
}

/// The server process gets SIGKILL in the middle of a session; with nginx and haproxy, the one behind it.
async fn killed_peer(lab: &Lab) -> Result<(), Failure> {
    let url = if matches!(&*lab.peer, "nginx" | "haproxy") {
        lab.url(&format!("/to/{}/echo", lab.victim("websockets")?))
    } else {
        format!("ws://localhost:{}/echo", lab.victim(&lab.peer)?)
    };
    let mut session = lab.client.web_socket(url).connect().await?;
    session.send("hello").await?;
    expect(&mut session, "hello").await?;
    lab.kill()?;
    expect_cut(&mut session).await
}

/// The peer's permessage-deflate seen raw: agreed on, and RSV1 on what it sends (RFC 7692 section 6).
async fn extension_on_a_raw_session(lab: &Lab) -> Result<(), Failure> {
    let request = lab.client.web_socket(lab.url("/echo"));
    let opened =
        request.offer_extension("permessage-deflate; client_max_window_bits").connect_raw().await;
    if let Some(capability) = [Capability::RawSessions, Capability::RsvBits]
        .into_iter()
        .find(|capability| !lab.client.support(*capability).is_offered())
    {
        let error = opened.err().ok_or("an engine did what it does not offer")?;
        same("the error's kind", error.kind(), ErrorKind::Unsupported)?;
        return same("what is lacking", error.capability(), Some(capability));
    }
    let mut session = opened?;
    same("the number of extensions", session.extensions().len(), 1)?;
    // An uncompressed message is allowed; the answer comes compressed.
    let message = "compressible ".repeat(100);
    session.send(RawFrame::new(OpCode::Text, Bytes::from(message.clone()))).await?;
    session.flush().await?;
    let frame = session.receive().await?.ok_or("the session was closed")?;
    same("the opcode", frame.opcode, OpCode::Text)?;
    ensure(frame.fin && frame.rsv == Rsv::RSV1, format!("{frame:?} is not compressed"))?;
    ensure(frame.payload.len() < message.len() / 4, format!("{frame:?} is not compressed"))?;
    let bye = CloseReason::normal().to_payload();
    session.send(RawFrame::new(OpCode::Close, bye.clone())).await?;
    session.flush().await?;
    let frame = session.receive().await?.ok_or("the session was closed without a Close")?;
    same("the last frame", frame, RawFrame::new(OpCode::Close, bye))?;
    ensure(session.receive().await?.is_none(), "something came after the Close")
}

async fn extension_is_refused_on_a_session(lab: &Lab) -> Result<(), Failure> {
    let request = lab.client.web_socket(lab.url("/echo")).offer_extension("permessage-deflate");
    let error = request.connect().await.err().ok_or("a session took an extension")?;
    same("the error's kind", error.kind(), ErrorKind::InvalidInput)
}

/// What the peer says about the end of the session with this id.
async fn seen(lab: &Lab, id: &str, code: u16, reason: &str) -> Result<(), Failure> {
    let told = lab.get(&format!("/seen?id={id}")).await?;
    same("the code the peer saw", &told["code"], code)?;
    same("the reason the peer saw", &told["reason"], reason)
}

fn query(pairs: &[(&str, &str)]) -> String {
    let encode = |text: &str| {
        text.bytes()
            .map(|byte| {
                if byte.is_ascii_alphanumeric() || byte == b'-' {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            })
            .collect::<String>()
    };
    let pairs: Vec<_> =
        pairs.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    pairs.join("&")
}

/// Bytes that differ at any shift.
fn pattern(size: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..size).map(|_| step()).collect()
}
