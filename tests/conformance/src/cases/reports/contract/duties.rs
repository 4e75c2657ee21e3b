//! What the engine says that it does by itself, both ways on the wire.

use std::time::Duration;

use drivetrain::{Capability, CloseReason, ErrorKind, OpCode, RawFrame};
use drivetrain_engine::Unit;

use crate::{
    case::{Case, case},
    context::{Context, PATIENCE},
    failure::{Failure, Verdict},
    line::{Line, NO_LIMIT},
    peer::{Conn, WireFrame, opcode},
    script::{PeerBehaviour::Silent, Saw, Script},
};

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case(the_unit_is_what_is_yielded),
        case(a_ping_is_answered_below_or_not),
        case(a_close_is_echoed_below_or_not),
        case(text_is_checked_below_or_not),
        case(the_limit_for_messages_is_kept_below_or_not),
        case(extensions_are_applied_below_or_not),
        case(no_close_is_sent_that_is_not_a_duty),
    ];
    cases.into_iter().map(|case| case.needs(&[Capability::WebSockets])).collect()
}

/// The claim that does not hold.
fn belied(duty: &str, claimed: bool, what: &str) -> Failure {
    let claim = if claimed { "claim" } else { "do not claim" };
    Failure::new(format_args!("the connection's duties {claim} `{duty}`, and {what}"))
}

async fn line(cx: &Context, peer: &Script) -> Verdict<Line> {
    Line::open(cx, &peer.url()).await
}

async fn the_unit_is_what_is_yielded(cx: Context) -> Verdict {
    let peer = cx.peer(Silent, |conn| {
        conn.feed(&WireFrame { fin: false, ..WireFrame::text("a ") });
        conn.send(&WireFrame::continuation("message", true))
    });
    let mut line = line(&cx, &peer).await?;
    let is_whole = line.duties.unit == Unit::Messages;
    let frame = line.receive(NO_LIMIT).await??.ok_or_else(|| Failure::new("the stream ended"))?;
    if frame.fin != is_whole {
        return Err(belied("unit: Messages", is_whole, &format!("fragments came as {frame:?}")));
    }
    Ok(())
}

async fn a_ping_is_answered_below_or_not(cx: Context) -> Verdict {
    let mut peer = cx.peer(Silent, |conn| {
        conn.feed(&WireFrame::ping("?"));
        conn.send(&WireFrame::text("behind"))
    });
    let mut line = line(&cx, &peer).await?;
    loop {
        match line.receive(NO_LIMIT).await?? {
            Some(frame) if frame.opcode == OpCode::Text => break,
            Some(_) => {}
            None => return Err(Failure::new("the stream ended")),
        }
    }
    line.flush().await?;
    line.send(RawFrame::new(OpCode::Text, "marker")).await?;
    let claimed = line.duties.answers_ping;
    let mut answered = false;
    loop {
        let frame = peer.frame().await?;
        match frame.opcode {
            opcode::PONG => answered = true,
            _ => break,
        }
    }
    if answered != claimed {
        let what = if answered { "a Pong went out by itself" } else { "no Pong went out" };
        return Err(belied("answers_ping", claimed, what));
    }
    Ok(())
}

async fn a_close_is_echoed_below_or_not(cx: Context) -> Verdict {
    let mut peer = cx.peer(Silent, |conn| conn.send(&WireFrame::close(4001, "bye")));
    let mut line = line(&cx, &peer).await?;
    let frame = line.receive(NO_LIMIT).await??;
    if frame.as_ref().is_none_or(|frame| frame.opcode != OpCode::Close) {
        return Err(Failure::new(format_args!(
            "the peer's Close has to be yielded, with its reason, even if the engine echoes it: {frame:?}"
        )));
    }
    let claimed = line.duties.echoes_close;
    if let Err(failure) = line.flush().await {
        // A library may have ended the connection, both Closes being through.
        if !claimed {
            return Err(failure);
        }
    }
    drop(line);
    let echoed = first_close(&mut peer).await?.is_some();
    if echoed != claimed {
        let what = if echoed { "a Close went out by itself" } else { "no Close went out" };
        return Err(belied("echoes_close", claimed, what));
    }
    Ok(())
}

/// The code of the Close that comes first, if one comes before the end.
async fn first_close(peer: &mut Script) -> Verdict<Option<Option<u16>>> {
    loop {
        match peer.next().await? {
            Saw::Frame(frame) if frame.opcode == opcode::CLOSE => {
                return Ok(Some(frame.close_code()));
            }
            Saw::Frame(_) => {}
            Saw::End | Saw::Broken(_) => return Ok(None),
        }
    }
}

async fn text_is_checked_below_or_not(cx: Context) -> Verdict {
    let peer = cx.peer(Silent, |conn| conn.send(&WireFrame::text(b"\xff\xfe".to_vec())));
    let mut line = line(&cx, &peer).await?;
    let claimed = line.duties.validates_utf8;
    match line.receive(NO_LIMIT).await? {
        Err(error) if claimed && error.kind() == ErrorKind::Protocol => Ok(()),
        Ok(Some(_)) if !claimed => Ok(()),
        other => Err(belied("validates_utf8", claimed, &format!("invalid text came as {other:?}"))),
    }
}

async fn the_limit_for_messages_is_kept_below_or_not(cx: Context) -> Verdict {
    let peer = cx.peer(Silent, |conn| {
        conn.feed(&WireFrame { fin: false, ..WireFrame::binary([0; 60]) });
        conn.send(&WireFrame::continuation([0; 60], true))
    });
    let mut line = line(&cx, &peer).await?;
    if line.duties.unit == Unit::Frames {
        if line.duties.enforces_message_limit {
            return Err(Failure::new("enforces_message_limit is for engines of whole messages"));
        }
        return Ok(());
    }
    let claimed = line.duties.enforces_message_limit;
    match line.receive(100).await? {
        Err(error) if claimed && error.kind() == ErrorKind::TooBig => Ok(()),
        Ok(Some(_)) if !claimed => Ok(()),
        other => {
            let what = format!("a message of 120 bytes under a limit of 100 came as {other:?}");
            Err(belied("enforces_message_limit", claimed, &what))
        }
    }
}

const DEFLATE: &str = "permessage-deflate";
/// RFC 7692 section 7.2.3.1: "Hello", compressed.
const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

/// An engine without reserved bits may offer an extension of its library's.
async fn extensions_are_applied_below_or_not(cx: Context) -> Verdict {
    let server = cx.server(|conn| {
        let request = conn.read_request()?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        let offers = request.header("sec-websocket-extensions").unwrap_or_default();
        if !offers.contains(DEFLATE) {
            conn.accept_with_tail(&request, &[], &WireFrame::text("plain").encode(None))?;
            return conn.drain();
        }
        let frame = WireFrame { rsv: 4, ..WireFrame::text(HELLO) };
        let header = ("sec-websocket-extensions", DEFLATE);
        conn.accept_with_tail(&request, &[header], &frame.encode(None))?;
        conn.drain()
    });
    let has_bits = cx.offers(Capability::RsvBits);
    let mut line = match has_bits {
        true => Line::offering(&cx, &server.ws_url("/"), DEFLATE).await?,
        false => Line::open(&cx, &server.ws_url("/")).await?,
    };
    let received = line.receive(NO_LIMIT).await?.map_err(|error| {
        Failure::new(format_args!(
            "a compressed text was refused: with reserved bits it is an extension's, and not checked: {error:?}"
        ))
    })?;
    let frame = received.ok_or_else(|| Failure::new("the stream ended"))?;
    let claimed = line.duties.applies_extensions;
    if frame.payload == "plain" {
        return match (has_bits, claimed) {
            (true, _) => Err(Failure::new("the handshake's offer of an extension was not sent")),
            (false, true) => Err(belied("applies_extensions", claimed, "none is offered")),
            (false, false) => Ok(()),
        };
    }
    let is_as_it_was = frame.payload == HELLO[..] && !frame.rsv.is_none();
    if (claimed && frame.payload != "Hello") || (!claimed && !is_as_it_was) {
        let what = format!("a compressed message came as {frame:?}");
        return Err(belied("applies_extensions", claimed, &what));
    }
    Ok(())
}

/// After a violation the session sends the Close, with the code that is right, unless the library does it.
async fn no_close_is_sent_that_is_not_a_duty(cx: Context) -> Verdict {
    let mut peer = cx.peer(Silent, |conn: &mut Conn| conn.write_all(&[0x83, 0x00]));
    let mut line = line(&cx, &peer).await?;
    let claimed = line.duties.sends_close;
    if line.receive(NO_LIMIT).await?.is_ok() {
        return Err(Failure::new("a reserved opcode was taken"));
    }
    // What a library sends by itself goes out by then; a session asks for no more.
    for _ in 0..3 {
        let _ = cx.within(PATIENCE, "", line.flush()).await?;
        cx.sleep(Duration::from_millis(20)).await;
    }
    if !claimed {
        line.send(RawFrame::new(OpCode::Close, CloseReason::new(4321, "ours")?.to_payload()))
            .await?;
    }
    drop(line);
    match first_close(&mut peer).await? {
        None => Err(belied("sends_close", claimed, "no Close went out")),
        Some(code) if (code != Some(4321)) != claimed => {
            Err(belied("sends_close", claimed, &format!("Close {code:?} went out first")))
        }
        Some(_) => Ok(()),
    }
}
