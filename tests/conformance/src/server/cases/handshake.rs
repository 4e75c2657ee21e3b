//! Which requests open a WebSocket, and how the others are refused (RFC 6455 section 4.2).

use drivetrain_server::{Origins, Sessions, Upgrader};

use super::{ServerCase, case};
use crate::{
    failure::{Failure, Verdict},
    peer::{Answer, Client, Opening, WireFrame, accepted, masked},
    server::context::{ServerContext, eventually},
};

/// One request and its answer.
struct Row {
    name: &'static str,
    opening: Opening,
    upgrader: fn(Upgrader) -> Upgrader,
    status: u16,
    /// Headers of the answer; `None` for one that must be absent.
    headers: Vec<(&'static str, Option<&'static str>)>,
}

impl Row {
    fn on(self, upgrader: fn(Upgrader) -> Upgrader) -> Self {
        Self { upgrader, ..self }
    }

    fn says(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, Some(value)));
        self
    }

    fn lacks(mut self, name: &'static str) -> Self {
        self.headers.push((name, None));
        self
    }
}

fn row(status: u16, name: &'static str, change: impl Fn(Opening) -> Opening) -> Row {
    let opening = change(Opening::new("/"));
    Row { name, opening, upgrader: |upgrader| upgrader, status, headers: Vec::new() }
}

pub(super) fn cases() -> Vec<ServerCase> {
    let tables =
        [upgrades(), versions_and_keys(), origins(), subprotocols(), extensions_and_bodies()];
    let mut cases: Vec<_> = tables
        .into_iter()
        .flatten()
        .map(|row| {
            let name = row.name;
            case(move |cx: &ServerContext| answers(cx, &row)).named("handshake", name)
        })
        .collect();
    cases.extend([
        case(a_refused_connection_can_try_again),
        case(what_comes_with_the_request_is_not_lost),
        case(a_request_may_come_byte_by_byte),
        case(a_hundred_handshakes_at_once_are_accepted),
        case(a_full_server_refuses_until_there_is_room),
        case(a_server_that_shuts_down_refuses_whatever_is_asked),
    ]);
    cases
}

/// Whether the request asks for a WebSocket.
fn upgrades() -> Vec<Row> {
    let not_an_upgrade = |name, change: fn(Opening) -> Opening| {
        row(426, name, change).says("upgrade", "websocket").says("connection", "Upgrade")
    };
    let method = |name, change: fn(Opening) -> Opening| row(405, name, change).says("allow", "GET");
    vec![
        row(101, "a_handshake_is_accepted", |it| it),
        row(101, "the_upgrade_token_is_one_of_a_list", |it| {
            it.instead("Connection", "keep-alive, Upgrade")
        }),
        row(101, "the_upgrade_token_is_in_a_second_line", |it| {
            it.instead("Connection", "keep-alive").with("Connection", "upgrade")
        }),
        row(101, "tokens_compare_without_case", |it| {
            it.instead("Connection", "UPGRADE").instead("Upgrade", "WebSocket")
        }),
        row(101, "websocket_is_one_of_several_upgrades", |it| {
            it.instead("Upgrade", "x, websocket")
        }),
        row(101, "a_content_type_is_tolerated", |it| it.with("Content-Type", "application/json")),
        row(101, "an_empty_body_is_no_body", |it| it.with("Content-Length", "0")),
        not_an_upgrade("no_connection_header", |it| it.without("Connection")),
        not_an_upgrade("a_connection_header_without_the_token", |it| {
            it.instead("Connection", "keep-alive")
        }),
        not_an_upgrade("a_token_that_contains_upgrade", |it| {
            it.instead("Connection", "notupgrade")
        }),
        not_an_upgrade("no_upgrade_header", |it| it.without("Upgrade")),
        not_an_upgrade("another_upgrade", |it| it.instead("Upgrade", "h2c")),
        not_an_upgrade("a_token_that_contains_websocket", |it| it.instead("Upgrade", "websockets")),
        row(426, "http_1_0", |it| it.version("HTTP/1.0")).says("upgrade", "websocket"),
        method("post", |it| it.method("POST")),
        method("head", |it| it.method("HEAD")),
        method("put", |it| it.method("PUT")),
        method("options", |it| it.method("OPTIONS")),
        not_an_upgrade("a_post_without_an_upgrade", |it| it.method("POST").without("Upgrade")),
    ]
}

fn versions_and_keys() -> Vec<Row> {
    let version = |name, value: &'static str| {
        row(426, name, move |it| it.instead("Sec-WebSocket-Version", value))
            .says("sec-websocket-version", "13")
    };
    let key = |name, value: &'static str| {
        row(400, name, move |it| it.instead("Sec-WebSocket-Key", value))
            .lacks("sec-websocket-accept")
    };
    vec![
        version("version_8", "8"),
        version("version_7_as_hixie", "7"),
        version("a_version_that_is_no_number", "abc"),
        version("an_empty_version", ""),
        version("two_versions_in_one_line", "13, 8"),
        row(426, "no_version", |it| it.without("Sec-WebSocket-Version"))
            .says("sec-websocket-version", "13"),
        row(400, "a_repeated_version", |it| it.with("Sec-WebSocket-Version", "13")),
        row(400, "no_key", |it| it.without("Sec-WebSocket-Key")),
        row(400, "a_repeated_key", |it| it.with("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")),
        key("an_empty_key", ""),
        key("a_key_that_is_not_base64", "dGhlIHNhbXBsZSBub25jZ!=="),
        key("a_key_without_its_padding", "dGhlIHNhbXBsZSBub25jZQ"),
        key("a_key_of_15_bytes", "dGhlIHNhbXBsZSBub25j"),
        key("a_key_of_17_bytes", "dGhlIHNhbXBsZSBub25jZSE="),
        key("a_key_that_is_cut_short", "dGhlIHNhbXBsZSBu"),
    ]
}

fn origins() -> Vec<Row> {
    let origin = |status, name, value: &'static str| {
        row(status, name, move |it| it.instead("Host", "example.com").with("Origin", value))
    };
    let hosts = |status, name, host: &'static str| {
        row(status, name, move |it| it.instead("Host", host))
            .on(|it| it.hosts(["localhost", "127.0.0.1", "[::1]"]))
    };
    let listed = |status, name, value: &'static str| {
        origin(status, name, value).on(|it| {
            it.origins(Origins::same_host().and("https://app.test").and("https://*.wild.test"))
        })
    };
    vec![
        origin(101, "an_origin_of_the_same_host", "http://example.com"),
        origin(101, "an_origin_of_the_same_host_over_tls", "https://EXAMPLE.com"),
        origin(101, "an_origin_with_the_default_port", "http://example.com:80"),
        origin(403, "a_foreign_origin", "https://evil.test"),
        origin(403, "an_origin_of_another_port", "http://example.com:8080"),
        origin(403, "a_null_origin", "null"),
        origin(403, "an_empty_origin", ""),
        origin(403, "an_origin_that_ends_in_another_domain", "https://example.com.evil.test"),
        origin(403, "an_origin_that_begins_with_another_name", "https://evilexample.com"),
        origin(403, "an_origin_with_user_information", "https://example.com@evil.test"),
        origin(403, "an_origin_of_another_scheme", "ftp://example.com"),
        row(403, "two_origins", |it| {
            it.instead("Host", "example.com")
                .with("Origin", "http://example.com")
                .with("Origin", "https://evil.test")
        }),
        listed(101, "a_listed_origin", "https://app.test"),
        listed(101, "an_origin_of_a_listed_domain", "https://a.wild.test"),
        listed(403, "a_listed_origin_over_another_scheme", "http://app.test"),
        listed(403, "an_origin_that_only_ends_like_a_listed_domain", "https://evilwild.test"),
        row(403, "an_absent_origin_where_one_is_insisted_on", |it| it)
            .on(|it| it.origins(Origins::same_host().require())),
        row(500, "a_wrong_origin_in_the_configuration_lets_nobody_in", |it| it)
            .on(|it| it.origins(Origins::any().and("https//typo.test"))),
        row(101, "any_origin_where_all_are_let_in", |it| it.with("Origin", "https://evil.test"))
            .on(|it| it.origins(Origins::any())),
        hosts(101, "a_served_host", "localhost:8080"),
        hosts(421, "a_host_that_is_not_served", "evil.test"),
        hosts(421, "a_host_that_begins_like_a_served_one", "localhost.evil.test"),
    ]
}

fn subprotocols() -> Vec<Row> {
    fn two(upgrader: Upgrader) -> Upgrader {
        upgrader.subprotocols(["v2", "v1"])
    }
    fn required(upgrader: Upgrader) -> Upgrader {
        two(upgrader).require_subprotocol()
    }
    const NAME: &str = "sec-websocket-protocol";
    let offers =
        |status, name, value: &'static str| row(status, name, move |it| it.with(NAME, value));
    vec![
        offers(101, "subprotocols_are_ignored_where_none_is_set", "v1").lacks(NAME),
        row(101, "no_subprotocol_is_offered", |it| it).on(two).lacks(NAME),
        offers(101, "one_subprotocol_is_offered", "v1").on(two).says(NAME, "v1"),
        offers(101, "the_server_prefers_a_subprotocol", "v1, v2").on(two).says(NAME, "v2"),
        row(101, "subprotocols_are_offered_in_two_lines", |it| {
            it.with(NAME, "v1").with(NAME, "v0,v2")
        })
        .on(two)
        .says(NAME, "v2"),
        offers(101, "no_subprotocol_in_common", "v0").on(two).lacks(NAME),
        offers(101, "subprotocols_compare_with_case", "V1").on(two).lacks(NAME),
        offers(400, "a_subprotocol_that_is_offered_twice", "v1, v1").on(two),
        offers(400, "a_subprotocol_that_is_no_token", "v 1"),
        offers(101, "a_required_subprotocol_is_offered", "v1").on(required).says(NAME, "v1"),
        row(400, "a_required_subprotocol_is_missing", |it| it).on(required).says(NAME, "v2, v1"),
        offers(400, "a_required_subprotocol_is_not_in_common", "v0")
            .on(required)
            .says(NAME, "v2, v1"),
    ]
}

fn extensions_and_bodies() -> Vec<Row> {
    const NAME: &str = "sec-websocket-extensions";
    vec![
        row(101, "an_unknown_extension_is_declined", |it| it.with(NAME, "x-unknown; a=1"))
            .lacks(NAME),
        row(101, "deflate_is_declined_where_it_is_off", |it| it.with(NAME, "permessage-deflate"))
            .lacks(NAME),
        row(400, "extensions_that_cannot_be_read", |it| it.with(NAME, "x; a=\"")),
        row(400, "a_body_of_known_length", |it| it.with("Content-Length", "3").followed_by("abc")),
        row(400, "a_chunked_body", |it| {
            it.with("Transfer-Encoding", "chunked").followed_by("3\r\nabc\r\n0\r\n\r\n")
        }),
    ]
}

/// The answer is the row's. A refusal is one line of text, opens nothing, and is counted.
fn answers(cx: &ServerContext, row: &Row) -> Verdict {
    let server = cx.start((row.upgrader)(cx.upgrader()), super::super::context::echo);
    let (mut client, answer) = Client::ask(server.address(), &row.opening)?;
    if answer.status != row.status {
        return Err(Failure::new(format_args!("{} was expected: {answer:?}", row.status)));
    }
    for (name, expected) in &row.headers {
        assert_eq!(answer.header(name), *expected, "{name}: {answer:?}");
    }
    if row.status == 101 {
        accepted(&answer)?;
        client.send(&WireFrame::text("hello"))?;
        assert_eq!(client.text()?, "hello");
        return Ok(());
    }
    is_refused(&mut client, &answer, row.name != "head")?;
    assert_eq!((server.sessions.refused(), server.sessions.len()), (1, 0));
    Ok(())
}

fn is_refused(client: &mut Client, answer: &Answer, has_body: bool) -> Verdict {
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"), "{answer:?}");
    assert_eq!(answer.header("sec-websocket-accept"), None, "{answer:?}");
    if has_body {
        let body = client.body(answer)?;
        assert!(body.len() > 1 && body.find('\n') == Some(body.len() - 1), "one line: {body:?}");
    }
    Ok(())
}

fn a_refused_connection_can_try_again(cx: &ServerContext) -> Verdict {
    let server = cx.echo();
    let (mut client, answer) =
        Client::ask(server.address(), &Opening::new("/").without("Upgrade"))?;
    assert_eq!(answer.status, 426);
    is_refused(&mut client, &answer, true)?;
    client.write(&Opening::new("/").bytes(server.address()))?;
    accepted(&client.answer()?)?;
    client.send(&WireFrame::text("at last"))?;
    assert_eq!(client.text()?, "at last");
    Ok(())
}

fn what_comes_with_the_request_is_not_lost(cx: &ServerContext) -> Verdict {
    let server = cx.echo();
    let early = ["early", "bird"].map(|text| masked(&WireFrame::text(text))).concat();
    let long = masked(&WireFrame::text(vec![b'x'; 100_000]));
    let opening = Opening::new("/").followed_by([early, long].concat());
    let (mut client, answer) = Client::ask(server.address(), &opening)?;
    accepted(&answer)?;
    assert_eq!((client.text()?, client.text()?), ("early".into(), "bird".into()));
    assert_eq!(client.text()?.len(), 100_000);
    Ok(())
}

fn a_request_may_come_byte_by_byte(cx: &ServerContext) -> Verdict {
    let server = cx.echo();
    let mut client = Client::dial(server.address())?;
    let opening = Opening::new("/").followed_by(masked(&WireFrame::text("slow")));
    for byte in opening.bytes(server.address()) {
        client.write(&[byte])?;
    }
    accepted(&client.answer()?)?;
    assert_eq!(client.text()?, "slow");
    Ok(())
}

fn a_hundred_handshakes_at_once_are_accepted(cx: &ServerContext) -> Verdict {
    let server = cx.echo();
    let mut clients = Vec::new();
    for _ in 0..100 {
        let mut client = Client::dial(server.address())?;
        client.write(&Opening::new("/").bytes(server.address()))?;
        clients.push(client);
    }
    for (i, client) in clients.iter_mut().enumerate() {
        accepted(&client.answer()?)?;
        client.send(&WireFrame::text(i.to_string()))?;
    }
    for (i, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.text()?, i.to_string());
    }
    assert_eq!(server.sessions.len(), 100);
    Ok(())
}

fn a_full_server_refuses_until_there_is_room(cx: &ServerContext) -> Verdict {
    let upgrader = cx.upgrader().sessions(&Sessions::new().max_sessions(1));
    let server = cx.start(upgrader, super::super::context::echo);
    let mut first = server.client()?;
    is_unavailable(&server.address(), &Opening::new("/"))?;
    first.close(1000)?;
    assert_eq!(first.closed()?.0, 1000);
    first.ended()?;
    eventually("there is room", || server.sessions.is_empty())?;
    server.client()?;
    Ok(())
}

/// Also for a request that would be refused for another reason.
fn a_server_that_shuts_down_refuses_whatever_is_asked(cx: &ServerContext) -> Verdict {
    let server = cx.echo();
    let sessions = server.sessions.clone();
    let report = cx.spawn(async move { sessions.shutdown(crate::context::PATIENCE).await });
    assert_eq!(super::super::context::within(&report)?.sessions, 0);
    for opening in [
        Opening::new("/"),
        Opening::new("/").without("Upgrade"),
        Opening::new("/").with("Origin", "https://evil.test"),
    ] {
        is_unavailable(&server.address(), &opening)?;
    }
    Ok(())
}

fn is_unavailable(server: &std::net::SocketAddr, opening: &Opening) -> Verdict {
    let (mut client, answer) = Client::ask(*server, opening)?;
    assert_eq!(answer.status, 503, "{answer:?}");
    let seconds: u64 = answer.header("retry-after").unwrap_or_default().parse()?;
    assert!(seconds > 0);
    assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
    is_refused(&mut client, &answer, true)?;
    client.ended()?;
    Ok(())
}
