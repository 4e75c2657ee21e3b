//! permessage-deflate (RFC 7692): what a server answers to offers, and what then travels.

use drivetrain::{ErrorKind, WebSockets, extension::PermessageDeflate};
use drivetrain_server::Upgrader;

use super::{ServerCase, case};
use crate::{
    failure::{Failure, Verdict},
    peer::{Client, DeflatePeer, Opening, WireFrame, accepted, join, opcode},
    server::context::{ServerContext, Started, echo},
};

const NAME: &str = "sec-websocket-extensions";

/// A case, what the server wishes, the lines of the offer, and the answer.
type Row = (&'static str, fn() -> PermessageDeflate, &'static [&'static str], Option<&'static str>);

static ROWS: [Row; 27] = {
    const PLAIN: fn() -> PermessageDeflate = PermessageDeflate::new;
    const WINDOWS: fn() -> PermessageDeflate =
        || PermessageDeflate::new().client_max_window_bits(12).server_max_window_bits(11);
    const ALONE: fn() -> PermessageDeflate =
        || PermessageDeflate::new().server_no_context_takeover().client_no_context_takeover();
    [
        ("a_plain_offer", PLAIN, &["permessage-deflate"], Some("permessage-deflate")),
        ("no_offer", PLAIN, &[], None),
        ("an_offer_of_another_extension", PLAIN, &["x-webkit-deflate-frame"], None),
        ("an_offer_in_other_case", PLAIN, &["Permessage-Deflate"], None),
        (
            "an_offer_behind_an_unknown_extension",
            PLAIN,
            &["x-unknown; a=1, permessage-deflate"],
            Some("permessage-deflate"),
        ),
        (
            "an_offer_in_a_second_line",
            PLAIN,
            &["x-unknown", "permessage-deflate"],
            Some("permessage-deflate"),
        ),
        (
            "a_client_window_without_a_value",
            PLAIN,
            &["permessage-deflate; client_max_window_bits"],
            Some("permessage-deflate"),
        ),
        (
            "a_server_window_of_9",
            PLAIN,
            &["permessage-deflate; server_max_window_bits=9"],
            Some("permessage-deflate; server_max_window_bits=9"),
        ),
        (
            "a_server_window_of_15",
            PLAIN,
            &["permessage-deflate; server_max_window_bits=15"],
            Some("permessage-deflate; server_max_window_bits=15"),
        ),
        (
            "a_quoted_server_window",
            PLAIN,
            &["permessage-deflate; server_max_window_bits=\"10\""],
            Some("permessage-deflate; server_max_window_bits=10"),
        ),
        (
            "no_takeover_of_the_server",
            PLAIN,
            &["permessage-deflate; server_no_context_takeover"],
            Some("permessage-deflate; server_no_context_takeover"),
        ),
        (
            "no_takeover_of_the_client",
            PLAIN,
            &["permessage-deflate; client_no_context_takeover"],
            Some("permessage-deflate; client_no_context_takeover"),
        ),
        (
            "no_takeover_at_all",
            PLAIN,
            &["permessage-deflate; client_no_context_takeover; server_no_context_takeover"],
            Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
        ),
        (
            "the_first_acceptable_of_several_offers",
            PLAIN,
            &[
                "permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=12, permessage-deflate",
            ],
            Some("permessage-deflate; server_max_window_bits=12"),
        ),
        (
            "a_good_offer_behind_one_with_an_unknown_parameter",
            PLAIN,
            &["permessage-deflate; unknown, permessage-deflate; server_no_context_takeover"],
            Some("permessage-deflate; server_no_context_takeover"),
        ),
        ("an_unknown_parameter", PLAIN, &["permessage-deflate; unknown"], None),
        (
            "a_server_window_without_a_value",
            PLAIN,
            &["permessage-deflate; server_max_window_bits"],
            None,
        ),
        ("a_server_window_of_8", PLAIN, &["permessage-deflate; server_max_window_bits=8"], None),
        ("a_server_window_of_16", PLAIN, &["permessage-deflate; server_max_window_bits=16"], None),
        (
            "a_server_window_with_a_leading_zero",
            PLAIN,
            &["permessage-deflate; server_max_window_bits=09"],
            None,
        ),
        (
            "a_repeated_parameter",
            PLAIN,
            &["permessage-deflate; server_no_context_takeover; server_no_context_takeover"],
            None,
        ),
        (
            "a_takeover_with_a_value",
            PLAIN,
            &["permessage-deflate; client_no_context_takeover=1"],
            None,
        ),
        (
            "wished_windows_and_a_client_that_knows_its_own",
            WINDOWS,
            &["permessage-deflate; client_max_window_bits"],
            Some("permessage-deflate; server_max_window_bits=11; client_max_window_bits=12"),
        ),
        (
            "wished_windows_and_a_client_that_does_not_know_its_own",
            WINDOWS,
            &["permessage-deflate"],
            Some("permessage-deflate; server_max_window_bits=11"),
        ),
        (
            "wished_windows_and_a_client_with_smaller_ones",
            WINDOWS,
            &["permessage-deflate; client_max_window_bits=10; server_max_window_bits=9"],
            Some("permessage-deflate; server_max_window_bits=9; client_max_window_bits=10"),
        ),
        (
            "wished_windows_and_a_client_with_larger_ones",
            WINDOWS,
            &["permessage-deflate; client_max_window_bits=15; server_max_window_bits=15"],
            Some("permessage-deflate; server_max_window_bits=11; client_max_window_bits=12"),
        ),
        (
            "a_server_that_wishes_no_takeover",
            ALONE,
            &["permessage-deflate"],
            Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
        ),
    ]
};

pub(super) fn cases() -> Vec<ServerCase> {
    let mut cases: Vec<_> = ROWS
        .iter()
        .map(|row| case(move |cx: &ServerContext| negotiates(cx, row)).named("deflate", row.0))
        .collect();
    cases.extend([
        case(a_required_extension_that_is_not_offered_is_refused),
        case(a_compressed_bomb_is_too_big),
        case(compressed_garbage_breaks_the_protocol),
        case(compressed_fragments_are_one_message),
        case(a_raw_session_agrees_on_nothing),
    ]);
    cases
}

/// A server with this extension; `None` if its framing has none, which it says by name.
fn compressing(cx: &ServerContext, deflate: PermessageDeflate) -> Verdict<Option<Started>> {
    let plugin = WebSockets::new().extension(deflate).max_message_size(1 << 20);
    let upgrader = cx.upgrader().install(plugin);
    Ok(match offers(&upgrader)? {
        true => Some(cx.start(upgrader, echo)),
        false => None,
    })
}

fn offers(upgrader: &Upgrader) -> Verdict<bool> {
    match upgrader.check() {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            assert!(error.to_string().contains("extensions"), "{error}");
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

fn ask(server: &Started, lines: &[&str]) -> Verdict<(Client, Option<String>)> {
    let opening = lines.iter().fold(Opening::new("/"), |it, line| it.with(NAME, line));
    let (client, answer) = Client::ask(server.address(), &opening)?;
    accepted(&answer)?;
    assert!(answer.count(NAME) <= 1, "{answer:?}");
    Ok((client, answer.header(NAME).map(str::to_owned)))
}

/// The answer, and messages that refer to each other where that was agreed on.
fn negotiates(cx: &ServerContext, (_, wishes, lines, answer): &Row) -> Verdict {
    let Some(server) = compressing(cx, wishes())? else { return Ok(()) };
    let (mut client, agreed) = ask(&server, lines)?;
    assert_eq!(agreed.as_deref(), *answer);
    let Some(agreed) = agreed else {
        client.send(&WireFrame { rsv: 4, ..WireFrame::text("compressed?") })?;
        assert_eq!(client.closed()?.0, 1002);
        client.close(1002)?;
        return Ok(client.gone()?);
    };
    let takes_over = |side: &str| !agreed.contains(&format!("{side}_no_context_takeover"));
    // What comes in is the server's.
    let mut deflate = DeflatePeer::new(takes_over("server"), takes_over("client"));
    // Small enough for a window of 9 bits to see all of the message before.
    let long = "a text that repeats itself ".repeat(8);
    let much = long.repeat(10);
    let small_window = agreed.contains("client_max_window_bits");
    for round in 0..5 {
        let text = format!("{round} {}", if small_window { &long } else { &much });
        client.send(&deflate.compress(opcode::TEXT, text.as_bytes()))?;
        assert_eq!(inflated(&mut client, &mut deflate)?, text.as_bytes());
        client.send(&WireFrame::text("plain"))?;
        assert_eq!(inflated(&mut client, &mut deflate)?, b"plain");
    }
    Ok(())
}

/// The next message, compressed or not.
fn inflated(client: &mut Client, deflate: &mut DeflatePeer) -> Verdict<Vec<u8>> {
    let mut frames = Vec::new();
    loop {
        let frame = client.receive_frame()?;
        let fin = frame.fin;
        frames.push(frame);
        if fin {
            break;
        }
    }
    let message = join(&frames)?;
    match message.rsv {
        0 => Ok(message.payload),
        _ => Ok(deflate.inflate(&message)?),
    }
}

fn a_required_extension_that_is_not_offered_is_refused(cx: &ServerContext) -> Verdict {
    let Some(server) = compressing(cx, PermessageDeflate::new().required())? else { return Ok(()) };
    for lines in [&[][..], &["x-unknown"], &["permessage-deflate; unknown"]] {
        let opening = lines.iter().fold(Opening::new("/"), |it, line| it.with(NAME, line));
        let (_, answer) = Client::ask(server.address(), &opening)?;
        assert_eq!(answer.status, 400, "{answer:?}");
    }
    ask(&server, &["permessage-deflate"])?;
    Ok(())
}

/// A MiB is the limit, and more is in a few bytes.
fn a_compressed_bomb_is_too_big(cx: &ServerContext) -> Verdict {
    let Some(server) = compressing(cx, PermessageDeflate::new())? else { return Ok(()) };
    let (mut client, _) = ask(&server, &["permessage-deflate"])?;
    let mut deflate = DeflatePeer::new(true, true);
    let bomb = deflate.compress(opcode::BINARY, &vec![0; 64 << 20]);
    assert!(bomb.payload.len() < 1 << 20);
    client.send(&bomb)?;
    assert_eq!(client.closed()?.0, 1009);
    client.close(1009)?;
    client.gone()?;
    Ok(())
}

fn compressed_garbage_breaks_the_protocol(cx: &ServerContext) -> Verdict {
    let Some(server) = compressing(cx, PermessageDeflate::new())? else { return Ok(()) };
    for frame in [
        WireFrame { rsv: 4, ..WireFrame::binary([0xff; 50]) },
        WireFrame { rsv: 2, ..WireFrame::binary("the wrong bit") },
        WireFrame { rsv: 4, ..WireFrame::ping("a control frame") },
        WireFrame { rsv: 4, ..WireFrame::continuation("of nothing", true) },
    ] {
        let (mut client, _) = ask(&server, &["permessage-deflate"])?;
        client.send(&frame)?;
        let code = client.closed()?.0;
        assert!([1002, 1007].contains(&code), "{frame:?}: {code}");
        client.close(code)?;
        client.gone()?;
    }
    Ok(())
}

fn compressed_fragments_are_one_message(cx: &ServerContext) -> Verdict {
    let Some(server) = compressing(cx, PermessageDeflate::new())? else { return Ok(()) };
    let (mut client, _) = ask(&server, &["permessage-deflate"])?;
    let mut deflate = DeflatePeer::new(true, true);
    let text = "compressed as a whole and then cut ".repeat(100);
    let whole = deflate.compress(opcode::TEXT, text.as_bytes());
    let (first, rest) = whole.payload.split_at(10);
    client.send(&WireFrame { fin: false, rsv: 4, ..WireFrame::text(first) })?;
    client.send(&WireFrame::ping("between"))?;
    for byte in rest {
        client.send(&WireFrame::continuation([*byte], false))?;
    }
    client.send(&WireFrame::continuation("", true))?;
    assert_eq!(client.receive_frame()?, WireFrame::pong("between"));
    let back = inflated(&mut client, &mut deflate)?;
    match back == text.as_bytes() {
        true => Ok(()),
        false => Err(Failure::new(format_args!("{} bytes came back", back.len()))),
    }
}

fn a_raw_session_agrees_on_nothing(cx: &ServerContext) -> Verdict {
    let plugin = WebSockets::new().extension(PermessageDeflate::new());
    let upgrader = cx.upgrader().install(plugin);
    if !offers(&upgrader)? {
        return Ok(());
    }
    let server = cx.start_raw(upgrader, async |mut session: drivetrain_server::RawSession| {
        while session.receive().await?.is_some() {}
        Ok(())
    });
    let (_, agreed) = ask(&server, &["permessage-deflate"])?;
    assert_eq!(agreed, None);
    Ok(())
}
