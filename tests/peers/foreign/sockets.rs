//! The routes for WebSockets, which are the same on every server.

use std::time::{Duration, Instant};

use drivetrain::{
    Bytes, Capability, CloseReason, ErrorKind, Frame, OpCode, RawFrame, Session, WebSockets,
    extension::PermessageDeflate, http::StatusCode,
};
use serde::{Deserialize, Serialize};

use crate::site::{
    Site, Verdict, close, echo, ends_with_code, ensure, fails, next, same, scenarios, text, unique,
};

scenarios!(EVERY:
    messages_come_back ["ws:/echo"],
    a_mebibyte_comes_back ["ws:/echo"],
    a_burst_comes_back ["ws:/echo"],
    deflated_messages_come_back ["ws:/echo"],
    deflated_without_context_take_over ["ws:/echo"],
    a_small_window_is_granted_or_refused ["ws:/echo"],
    fragments_come_as_one_message ["ws:/fragments"],
    a_ping_is_answered ["ws:/echo"],
    json_is_converted ["ws:/json"],
    a_subprotocol_is_agreed_on ["ws:/chat"],
    a_subprotocol_that_is_required_is_missing ["ws:/chat"],
    the_peer_closes ["ws:/close/{code}"],
    we_close ["ws:/echo"],
    the_handler_fails ["ws:/fail"],
    the_handler_leaves ["ws:/leave"],
    everybody_gets_a_broadcast ["ws:/broadcast"],
    a_flood_is_read ["ws:/flood/{n}/{size}"],
    a_peer_that_never_reads_is_left ["ws:/never-reads"],
    credentials_are_asked_for ["ws:/private"],
    a_redirect_is_followed ["ws:/redirect"],
    the_request_is_seen ["ws:/room/{name}?q"],
    a_hundred_sessions_at_once ["ws:/echo"],
    a_dropped_session_leaves_the_server_working ["ws:/echo"],
);

scenarios!(
    /// Where frames can be echoed as they are.
    RAW:
    frames_come_back ["ws:/raw"],
);

scenarios!(
    /// Where control frames are echoed too.
    CONTROL:
    control_frames_come_back ["ws:/raw"],
);

scenarios!(
    /// What Go's servers have beside.
    GO:
    many_pings_are_answered ["ws:/pings/{n}"],
    a_close_before_a_cut_is_seen ["ws:/slam/{code}"],
    small_frames_are_one_message ["ws:/tiny/{n}?write"],
);

scenarios!(
    /// The query of `/echo` on gorilla's servers.
    GORILLA:
    any_level_of_the_servers_compression ["ws:/echo?level"],
    buffers_of_any_size ["ws:/echo?read&write"],
    a_server_that_gives_up_writing ["ws:/echo?deadline"],
);

scenarios!(
    PREPARED:
    prepared_messages_come_back ["ws:/echo?prepared"],
);

scenarios!(
    TAKEOVER:
    a_server_without_context_take_over ["ws:/echo?takeover"],
);

scenarios!(
    WINDOW:
    any_window_of_the_server ["ws:/echo?window"],
    any_window_without_context_take_over ["ws:/echo?window&takeover"],
);

scenarios!(
    /// What Java's servers have beside.
    JAVA:
    a_refusal_keeps_its_body ["ws:/refuse/{status}", "ws:/refuse/{status}/{n}"],
    a_late_answer_is_waited_for ["ws:/late/{ms}"],
);

scenarios!(
    /// Where a route has a limit of its own.
    LIMITED:
    a_message_above_the_servers_limit ["ws:/limit/{n}"],
    an_idle_session_is_closed_by_the_server ["ws:/idle/{ms}"],
);

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 31 + at / 251) as u8).collect()
}

async fn messages_come_back(site: &Site) -> Verdict {
    let mut session = site.open("/echo").await?;
    for message in ["hello", "Größe, 大小, 📏, \0", &"é".repeat(40_000)] {
        echo(&mut session, message).await?;
    }
    // Around the sizes where the header of a frame changes.
    for size in [1, 125, 126, 127, 65_535, 65_536, 65_537] {
        echo(&mut session, pattern(size)).await?;
    }
    if !crate::faults::loses_empty_messages(site.server().name()) {
        echo(&mut session, "").await?;
        echo(&mut session, Vec::new()).await?;
    }
    close(site, &mut session).await?;
    Ok(())
}

async fn a_mebibyte_comes_back(site: &Site) -> Verdict {
    let mut session = site.open("/echo").await?;
    session.send(pattern(1 << 20)).await?;
    let expected = pattern(1 << 20);
    let mut received = Vec::new();
    while received.len() < expected.len() {
        let part = next(&mut session).await?;
        received.extend_from_slice(part.payload());
        ensure(
            received.len() == expected.len() || site.server().name() == "go-xnet",
            "the message came in parts",
        )?;
    }
    ensure(received == expected, "the echo differs")?;
    close(site, &mut session).await?;
    Ok(())
}

async fn a_burst_comes_back(site: &Site) -> Verdict {
    let mut session = site.open("/echo").await?;
    let message = |number: usize| format!("{number} {}", "x".repeat(number % 300));
    for number in 0..500 {
        session.send(message(number)).await?;
    }
    for number in 0..500 {
        same("the message", text(&mut session).await?, message(number))?;
    }
    close(site, &mut session).await?;
    Ok(())
}

async fn deflated(site: &Site, deflate: PermessageDeflate) -> Verdict {
    deflated_at(site, "/echo", deflate).await
}

async fn deflated_at(site: &Site, path: &str, deflate: PermessageDeflate) -> Verdict {
    let Some(mut session) = offered(site, path, deflate).await? else { return Ok(()) };
    for round in 0..3 {
        echo(&mut session, "compressible ".repeat(1000 * (round + 1))).await?;
        echo(&mut session, pattern(100_000)).await?;
        echo(&mut session, "short").await?;
    }
    close(site, &mut session).await?;
    Ok(())
}

/// A session with that offer; `None` if the engine has no extensions, which it has to say.
async fn offered(site: &Site, path: &str, deflate: PermessageDeflate) -> Verdict<Option<Session>> {
    let request = site.client.web_socket(site.ws(path)).extension(deflate);
    if !site.lacks(Capability::Extensions) {
        return Ok(Some(request.connect().await?));
    }
    fails(request.connect().await, ErrorKind::Unsupported)?;
    Ok(None)
}

async fn deflated_messages_come_back(site: &Site) -> Verdict {
    deflated(site, PermessageDeflate::new()).await
}

async fn deflated_without_context_take_over(site: &Site) -> Verdict {
    let deflate = PermessageDeflate::new();
    deflated(site, deflate.client_no_context_takeover().server_no_context_takeover()).await
}

async fn a_small_window_is_granted_or_refused(site: &Site) -> Verdict {
    deflated(site, PermessageDeflate::new().server_max_window_bits(9).client_max_window_bits(9))
        .await
}

async fn fragments_come_as_one_message(site: &Site) -> Verdict {
    let mut session = site.open("/fragments").await?;
    same("the message", text(&mut session).await?, "ABC123")?;
    close(site, &mut session).await?;
    Ok(())
}

async fn a_ping_is_answered(site: &Site) -> Verdict {
    let session = site.open("/echo").await?;
    for _ in 0..3 {
        session.ping().await?;
    }
    ensure(session.latency().is_some(), "latency() does not know of it")
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Greeting {
    to: String,
    times: u32,
}

async fn json_is_converted(site: &Site) -> Verdict {
    let mut session = site.open("/json").await?;
    for times in 1..4 {
        session.send_serialized(&Greeting { to: "ann".into(), times }).await?;
        let back: Greeting = session.receive_deserialized().await?;
        same("the answer", back, Greeting { to: "ANN".into(), times: times + 1 })?;
    }
    // Its end is the handler's matter: some leave by an exception.
    drop(session);
    Ok(())
}

async fn a_subprotocol_is_agreed_on(site: &Site) -> Verdict {
    let request = site.client.web_socket(site.ws("/chat")).subprotocol("chat");
    let mut session = request.connect().await?;
    same("the subprotocol", session.subprotocol(), Some("chat"))?;
    same("the message", text(&mut session).await?, "chat")?;
    close(site, &mut session).await?;
    Ok(())
}

async fn a_subprotocol_that_is_required_is_missing(site: &Site) -> Verdict {
    let refused = site.client.web_socket(site.ws("/chat")).connect().await;
    let error = fails(refused, ErrorKind::Rejected)?;
    let expected = if site.server().name() == "javaws" { 404 } else { 400 };
    let status = error.response().map(|response| response.status().as_u16());
    same("the status", status, Some(expected))
}

async fn the_peer_closes(site: &Site) -> Verdict {
    for code in [1000, 1001, 1008, 1011, 4000] {
        let mut session = site.open(&format!("/close/{code}")).await?;
        let outcome = ends_with_code(&mut session, code).await?;
        let may_be_cut = crate::faults::ends_with_its_close(site.server().name());
        ensure(outcome.clean || may_be_cut, format!("the end is not clean: {outcome}"))?;
        same("its text", outcome.received.as_ref().map(CloseReason::text), Some("because"))?;
        fails(session.send("late").await, ErrorKind::Closed)?;
    }
    Ok(())
}

async fn we_close(site: &Site) -> Verdict {
    for (code, reason) in [(1000, ""), (4001, "bye, schöne Grüße"), (4999, &*"x".repeat(123))] {
        let mut session = site.open("/echo").await?;
        echo(&mut session, "before").await?;
        let outcome = session.close(CloseReason::new(code, reason)?).await?;
        ensure(outcome.clean, format!("the end is not clean: {outcome}"))?;
        ensure(outcome.received.is_some(), "no Close was received")?;
        same("what comes then", session.receive().await?, None)?;
    }
    Ok(())
}

/// It ends, soon, and in either way.
async fn the_handler_fails(site: &Site) -> Verdict {
    let mut session = site.open("/fail").await?;
    match site.within(Duration::from_secs(60), session.receive()).await? {
        Ok(None) => ensure(session.outcome().received.is_some(), "a clean end without a Close"),
        Ok(Some(frame)) => Err(format!("{frame:?} came from a handler that fails").into()),
        Err(error) => same("the error's kind", error.kind(), ErrorKind::Io),
    }
}

async fn the_handler_leaves(site: &Site) -> Verdict {
    let mut session = site.open("/leave").await?;
    same("the message", text(&mut session).await?, "bye")?;
    match site.within(Duration::from_secs(60), session.receive()).await? {
        Ok(Some(frame)) => Err(format!("{frame:?} came behind the last message").into()),
        Ok(None) => ensure(session.outcome().received.is_some(), "a clean end without a Close"),
        // Some libraries drop the connection without a Close.
        Err(error) => same("the error's kind", error.kind(), ErrorKind::Io),
    }
}

async fn everybody_gets_a_broadcast(site: &Site) -> Verdict {
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(site.open("/broadcast").await?);
    }
    let said = unique();
    let mut heard = vec![false; sessions.len()];
    // A server may take a while to know of a session: it is said until everybody has heard it.
    for attempt in 0.. {
        ensure(attempt < 50, "not everybody has heard it")?;
        sessions[0].send(said.as_str()).await?;
        for (session, heard) in sessions.iter_mut().zip(&mut heard) {
            while !*heard {
                // Other trials speak here too.
                let Ok(frame) = site.within(Duration::from_millis(300), next(session)).await else {
                    break;
                };
                *heard = frame?.read_text() == Some(&said);
            }
        }
        if heard.iter().all(|heard| *heard) {
            break;
        }
    }
    Ok(())
}

async fn a_flood_is_read(site: &Site) -> Verdict {
    let mut session = site.open("/flood/2000/1000").await?;
    for _ in 0..2000 {
        same("the size", next(&mut session).await?.payload().len(), 1000)?;
    }
    close(site, &mut session).await?;
    let mut session = site.open("/flood/8/100000").await?;
    for _ in 0..8 {
        same("the size", next(&mut session).await?.payload().len(), 100_000)?;
    }
    close(site, &mut session).await?;
    Ok(())
}

/// Sending waits when all buffers are full; closing ends by its limit.
async fn a_peer_that_never_reads_is_left(site: &Site) -> Verdict {
    let client = site.with(WebSockets::new().close_timeout(Duration::from_millis(300)))?;
    let mut session = client.web_socket(site.ws("/never-reads")).connect().await?;
    let begin = Instant::now();
    let flood = async {
        // Far more than sockets and libraries hold.
        for _ in 0..2048 {
            session.send(vec![0; 64 << 10]).await?;
        }
        Verdict::Ok(())
    };
    // Some servers read in the handler's place: then there is no waiting.
    let _ = site.within(Duration::from_millis(700), flood).await;
    let outcome =
        site.within(Duration::from_secs(60), session.close(CloseReason::normal())).await?;
    drop(outcome);
    let end = site.within(Duration::from_secs(60), async {
        while let Ok(Some(_)) = session.receive().await {}
    });
    end.await?;
    ensure(begin.elapsed() < Duration::from_secs(150), "it took too long")
}

async fn credentials_are_asked_for(site: &Site) -> Verdict {
    let refused = site.client.web_socket(site.ws("/private")).connect().await;
    let error = fails(refused, ErrorKind::Rejected)?;
    if site.server().name() != "javaws" {
        let response = error.response().ok_or("the error has no response")?;
        same("the status", response.status(), StatusCode::UNAUTHORIZED)?;
        ensure(response.headers().contains_key("www-authenticate"), "it does not say how")?;
    }
    let request = site.client.web_socket(site.ws("/private")).basic_auth("user", Some("pa:ss"));
    let mut session = request.connect().await?;
    same("the message", text(&mut session).await?, "hello user")?;
    close(site, &mut session).await?;
    Ok(())
}

async fn a_redirect_is_followed(site: &Site) -> Verdict {
    let refused = site.builder().redirects(drivetrain::Redirects::none()).build()?;
    let error = refused.web_socket(site.ws("/redirect")).connect().await;
    let error = fails(error, ErrorKind::Rejected)?;
    let status = error.response().map(|response| response.status());
    if site.server().name() == "javaws" {
        return same("the status", status, Some(StatusCode::NOT_FOUND));
    }
    ensure(status.is_some_and(|status| status.is_redirection()), format!("{status:?}"))?;
    let mut session = site.open("/redirect").await?;
    echo(&mut session, "there").await?;
    close(site, &mut session).await?;
    Ok(())
}

async fn the_request_is_seen(site: &Site) -> Verdict {
    let request = site.client.web_socket(site.ws("/room/den%20haag?q=a%26b"));
    let request =
        request.header("origin", "https://example.com").header("user-agent", "drivetrain");
    let mut session = request.connect().await?;
    let seen = text(&mut session).await?;
    for part in ["den", "haag", "https://example.com", "drivetrain"] {
        ensure(seen.contains(part), format!("{part} is missing in: {seen}"))?;
    }
    close(site, &mut session).await?;
    Ok(())
}

async fn a_hundred_sessions_at_once(site: &Site) -> Verdict {
    let one = async |number: usize| -> Verdict {
        let mut session = site.open("/echo").await?;
        echo(&mut session, format!("number {number}")).await?;
        close(site, &mut session).await.map(drop)
    };
    let all = (0..100).map(one);
    for result in futures_util::future::join_all(all).await {
        result?;
    }
    Ok(())
}

async fn a_dropped_session_leaves_the_server_working(site: &Site) -> Verdict {
    for _ in 0..10 {
        let session = site.open("/echo").await?;
        session.send(pattern(100_000)).await?;
        drop(session);
    }
    echo(&mut site.open("/echo").await?, "still there").await
}

async fn frames_come_back(site: &Site) -> Verdict {
    let mut session = site.client.web_socket(site.ws("/raw")).connect_raw().await?;
    let fragments = [
        RawFrame::new(OpCode::Text, Bytes::from_static(b"one ")).not_final(),
        RawFrame::new(OpCode::Continuation, Bytes::from_static(b"two")),
    ];
    for frames in [&fragments[..], &[RawFrame::new(OpCode::Binary, Bytes::from_static(b"three"))]] {
        for frame in frames {
            session.send(frame.clone()).await?;
        }
        session.flush().await?;
        let (mut sent, mut back) = (Vec::new(), Vec::new());
        for frame in frames {
            sent.extend_from_slice(&frame.payload);
        }
        while back.len() < sent.len() {
            let received = site.within(Duration::from_secs(20), session.receive());
            let frame = received.await??.ok_or("the session was closed")?;
            if let (OpCode::Close, [high, low, ..]) = (frame.opcode, &frame.payload[..]) {
                let code = u16::from_be_bytes([*high, *low]);
                return Err(format!("a Close came, with {code}").into());
            }
            back.extend_from_slice(&frame.payload);
        }
        same("the echo", back, sent)?;
    }
    let outcome = session.close(CloseReason::normal()).await?;
    let may_lack = crate::faults::leaves_closes_unanswered(site.server().name());
    ensure(outcome.received.is_some() || may_lack, format!("no Close was received: {outcome}"))
}

async fn control_frames_come_back(site: &Site) -> Verdict {
    let mut session = site.client.web_socket(site.ws("/raw")).connect_raw().await?;
    for opcode in [OpCode::Ping, OpCode::Pong, OpCode::Text] {
        session.send(RawFrame::new(opcode, Bytes::from_static(b"echo me"))).await?;
        session.flush().await?;
        let frame = session.receive().await?.ok_or("the session was closed")?;
        same("the frame", (frame.opcode, &*frame.payload), (opcode, &b"echo me"[..]))?;
    }
    session.close(CloseReason::normal()).await?;
    Ok(())
}

async fn many_pings_are_answered(site: &Site) -> Verdict {
    let mut session = site.open("/pings/200").await?;
    same("the message", text(&mut session).await?, "done")?;
    echo_or_end(site, &mut session).await
}

/// It reads what comes then, and need not answer.
async fn echo_or_end(site: &Site, session: &mut Session) -> Verdict {
    session.send("behind").await?;
    close(site, session).await?;
    Ok(())
}

async fn a_close_before_a_cut_is_seen(site: &Site) -> Verdict {
    for code in [1001, 4001] {
        let mut session = site.open(&format!("/slam/{code}")).await?;
        same("the message", text(&mut session).await?, "last")?;
        ends_with_code(&mut session, code).await?;
    }
    Ok(())
}

async fn small_frames_are_one_message(site: &Site) -> Verdict {
    for size in [1, 7, 126, 1000] {
        let mut session = site.open(&format!("/tiny/{size}?write={size}")).await?;
        echo(&mut session, "in frames of a few bytes, ".repeat(20)).await?;
        echo(&mut session, pattern(10_000)).await?;
        close(site, &mut session).await?;
    }
    Ok(())
}

/// From Huffman coding alone to the smallest, and none.
async fn any_level_of_the_servers_compression(site: &Site) -> Verdict {
    for level in ["-2", "-1", "0", "1", "6", "9", "off"] {
        let path = format!("/echo?level={level}");
        deflated_at(site, &path, PermessageDeflate::new()).await?;
        let mut session = site.open(&path).await?;
        echo(&mut session, "not compressed").await?;
        close(site, &mut session).await?;
    }
    Ok(())
}

async fn buffers_of_any_size(site: &Site) -> Verdict {
    for (read, write) in [(1, 1), (130, 64), (4096, 4096), (100_000, 100_000)] {
        let mut session = site.open(&format!("/echo?read={read}&write={write}")).await?;
        for size in [1, 125, 126, 4096, 65_536, 200_000] {
            echo(&mut session, pattern(size)).await?;
        }
        close(site, &mut session).await?;
    }
    Ok(())
}

/// A server that cannot write for so long ends the connection: a client that sends without reading gets an error.
async fn a_server_that_gives_up_writing(site: &Site) -> Verdict {
    let mut session = site.open("/echo?deadline=20000").await?;
    echo(&mut session, pattern(100_000)).await?;
    close(site, &mut session).await?;
    let mut session = site.open("/echo?deadline=200").await?;
    let flood = async {
        loop {
            if let Err(error) = session.send(vec![0; 64 << 10]).await {
                return error;
            }
        }
    };
    let error = site.within(Duration::from_secs(60), flood).await?;
    same("the error's kind", error.kind(), ErrorKind::Io)?;
    // What came before is read, and then it ends.
    let end = site.within(Duration::from_secs(60), async {
        loop {
            match session.receive().await {
                Ok(Some(_)) => {}
                end => return end,
            }
        }
    });
    fails(end.await?, ErrorKind::Io)?;
    Ok(())
}

async fn prepared_messages_come_back(site: &Site) -> Verdict {
    deflated_at(site, "/echo?prepared=1", PermessageDeflate::new()).await?;
    let mut session = site.open("/echo?prepared=1").await?;
    for size in [0, 1, 126, 70_000] {
        echo(&mut session, pattern(size)).await?;
    }
    close(site, &mut session).await?;
    Ok(())
}

async fn a_server_without_context_take_over(site: &Site) -> Verdict {
    deflated_at(site, "/echo?takeover=off", PermessageDeflate::new()).await
}

/// A server may choose both windows (RFC 7692 section 7.1.2).
async fn any_window_of_the_server(site: &Site) -> Verdict {
    for bits in 8..=15 {
        deflated_at(site, &format!("/echo?window={bits}"), PermessageDeflate::new()).await?;
    }
    Ok(())
}

async fn any_window_without_context_take_over(site: &Site) -> Verdict {
    for bits in [8, 11, 15] {
        let path = format!("/echo?window={bits}&takeover=off");
        deflated_at(site, &path, PermessageDeflate::new()).await?;
    }
    Ok(())
}

async fn a_refusal_keeps_its_body(site: &Site) -> Verdict {
    let is_javaws = site.server().name() == "javaws";
    for (status, more) in [(403, None), (429, Some(1000)), (503, Some(100_000))] {
        let path = match more {
            None => format!("/refuse/{status}"),
            Some(more) => format!("/refuse/{status}/{more}"),
        };
        let refused = site.client.web_socket(site.ws(&path));
        let error = fails(refused.connect().await, ErrorKind::Rejected)?;
        let response = error.response().ok_or("the error has no response")?;
        let expected = if is_javaws { 404 } else { status };
        same("the status", response.status().as_u16(), expected)?;
        if !is_javaws {
            let after = response.headers().get("retry-after").ok_or("Retry-After is missing")?;
            same("Retry-After", after, "7")?;
            let least = more.unwrap_or(1).min(64 << 10);
            ensure(response.body().len() >= least, format!("{} bytes", response.body().len()))?;
        }
    }
    Ok(())
}

async fn a_late_answer_is_waited_for(site: &Site) -> Verdict {
    echo(&mut site.open("/late/300").await?, "at last").await
}

async fn a_message_above_the_servers_limit(site: &Site) -> Verdict {
    let mut session = site.open("/limit/1000").await?;
    echo(&mut session, "x".repeat(900)).await?;
    session.send("x".repeat(2000)).await?;
    let end = site.within(Duration::from_secs(60), session.receive()).await?;
    same("what comes then", end?, None)?;
    let received = session.outcome().received;
    same("the code", received.map(|reason| u16::from(reason.code())), Some(1009))
}

async fn an_idle_session_is_closed_by_the_server(site: &Site) -> Verdict {
    let mut session = site.open("/idle/300").await?;
    let end = site.within(Duration::from_secs(60), session.receive()).await?;
    same("what comes", end?, None::<Frame>)?;
    ensure(session.outcome().received.is_some(), "no Close came")
}
