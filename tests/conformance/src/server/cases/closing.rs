//! How sessions end: who closes, with which code, and who ends the TCP connection (RFC 6455 section 7).

use std::time::Duration;

use drivetrain::{CloseCode, CloseReason, Error, ErrorKind, Session, WebSockets};

use super::{ServerCase, case};
use crate::{
    failure::{Failure, Verdict},
    peer::{WireFrame, masked, opcode},
    server::context::{Ends, ServerContext, drain, eventually, within},
};

pub(super) fn cases() -> Vec<ServerCase> {
    vec![
        case(a_clients_close_is_echoed_and_the_server_ends_tcp_first),
        case(every_code_that_may_travel_is_echoed),
        case(a_close_without_a_code_is_answered_alike),
        case(messages_before_a_close_are_answered_before_it),
        case(nothing_is_echoed_behind_a_close),
        case(a_handler_that_returns_closes_with_1000),
        case(a_close_of_the_handlers_arrives_with_its_reason),
        case(an_immediate_close_arrives),
        case(closes_that_cross_are_clean),
        case(a_handler_that_fails_closes_with_1011),
        case(a_handler_that_fails_with_a_code_closes_with_it),
        case(a_handler_that_panics_closes_with_1011),
        case(a_handler_that_panics_at_once_closes_with_1011),
        case(a_client_that_never_answers_a_close_is_cut_off),
        case(a_client_that_drips_after_a_close_is_cut_off),
        case(a_handler_sees_the_clients_close_as_the_end),
        case(a_handler_sees_a_violation_as_its_error),
        case(sending_after_the_clients_close_fails),
        case(a_client_that_ends_its_direction_still_gets_a_close),
        case(an_end_without_a_close_ends_the_session),
    ]
}

fn a_clients_close_is_echoed_and_the_server_ends_tcp_first(cx: &ServerContext) -> Verdict {
    let server = cx.echo();
    let mut client = server.client()?;
    client.send(&WireFrame::close(4001, "enough"))?;
    let close = client.receive_frame()?;
    assert_eq!((close.opcode, close.close_code()), (opcode::CLOSE, Some(4001)));
    // The client has not ended anything.
    client.ended()?;
    Ok(())
}

fn every_code_that_may_travel_is_echoed(cx: &ServerContext) -> Verdict {
    let server = cx.echo();
    let codes = [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000,
        4999,
    ];
    for code in codes {
        let mut client = server.client()?;
        client.close(code)?;
        assert_eq!(client.closed()?.0, code);
        client.ended()?;
    }
    Ok(())
}

fn a_close_without_a_code_is_answered_alike(cx: &ServerContext) -> Verdict {
    let server = cx.echo();
    let mut client = server.client()?;
    client.send(&WireFrame::close(None, ""))?;
    let close = client.receive_frame()?;
    assert!(close.opcode == opcode::CLOSE, "{close:?}");
    assert!(close.payload.is_empty() || close.close_code() == Some(1000), "{close:?}");
    client.ended()?;
    Ok(())
}

fn messages_before_a_close_are_answered_before_it(cx: &ServerContext) -> Verdict {
    let server = cx.echo();
    let mut client = server.client()?;
    for i in 0..100 {
        client.send(&WireFrame::text(i.to_string()))?;
    }
    for i in 0..100 {
        assert_eq!(client.text()?, i.to_string());
    }
    client.close(1000)?;
    assert_eq!(client.closed()?.0, 1000);
    client.ended()?;
    Ok(())
}

fn nothing_is_echoed_behind_a_close(cx: &ServerContext) -> Verdict {
    let server = cx.echo();
    let mut client = server.client()?;
    let frames = [WireFrame::close(1000, ""), WireFrame::text("late"), WireFrame::ping("late")];
    client.write(&frames.iter().flat_map(masked).collect::<Vec<_>>())?;
    assert_eq!(client.closed()?.0, 1000);
    client.gone()?;
    Ok(())
}

fn a_handler_that_returns_closes_with_1000(cx: &ServerContext) -> Verdict {
    let server = cx.start(cx.upgrader(), async |session: Session| session.send("bye").await);
    let mut client = server.client()?;
    assert_eq!(client.text()?, "bye");
    assert_eq!(client.closed()?, (1000, String::new()));
    client.close(1000)?;
    client.ended()?;
    Ok(())
}

fn a_close_of_the_handlers_arrives_with_its_reason(cx: &ServerContext) -> Verdict {
    let (ends, ended) = std::sync::mpsc::channel();
    let server = cx.start(cx.upgrader(), move |session: Session| {
        let ends = ends.clone();
        async move {
            session.send("last words").await?;
            let outcome = session.close(CloseReason::new(4321, "because")?).await?;
            let _ = ends.send(outcome);
            Ok(())
        }
    });
    let mut client = server.client()?;
    assert_eq!(client.text()?, "last words");
    assert_eq!(client.closed()?, (4321, "because".into()));
    client.send(&WireFrame::close(4321, "as you like"))?;
    client.ended()?;
    let outcome = within(&ended)?;
    let received =
        outcome.received.as_ref().map(|reason| (u16::from(reason.code()), reason.text()));
    assert!(outcome.clean && received == Some((4321, "as you like")), "{outcome:?}");
    Ok(())
}

fn an_immediate_close_arrives(cx: &ServerContext) -> Verdict {
    let server = cx.start(cx.upgrader(), async |session: Session| {
        session.close(CloseReason::new(1013, "test")?).await.map(drop)
    });
    let mut client = server.client()?;
    assert_eq!(client.closed()?, (1013, "test".into()));
    client.close(1013)?;
    client.ended()?;
    Ok(())
}

fn closes_that_cross_are_clean(cx: &ServerContext) -> Verdict {
    let (ends, ended) = std::sync::mpsc::channel();
    let server = cx.start(cx.upgrader(), move |mut session: Session| {
        let ends = ends.clone();
        async move {
            session.receive().await?;
            let outcome = session.close(CloseReason::new(4001, "")?).await?;
            let _ = ends.send(outcome);
            Ok(())
        }
    });
    let mut client = server.client()?;
    // The server sees the Close behind the text, at the earliest with it.
    client
        .write(&[masked(&WireFrame::text("go")), masked(&WireFrame::close(4002, ""))].concat())?;
    let code = client.closed()?.0;
    assert!(code == 4001 || code == 4002, "{code}");
    client.ended()?;
    assert!(within(&ended)?.clean);
    Ok(())
}

fn a_handler_that_fails_closes_with_1011(cx: &ServerContext) -> Verdict {
    let server = cx.start(cx.upgrader(), async |_: Session| Err(Error::other("a secret")));
    let mut client = server.client()?;
    // Its reason is not for the client.
    assert_eq!(client.closed()?, (1011, String::new()));
    client.close(1011)?;
    client.ended()?;
    Ok(())
}

fn a_handler_that_fails_with_a_code_closes_with_it(cx: &ServerContext) -> Verdict {
    let server = cx.start(cx.upgrader(), async |_: Session| {
        Err(Error::other("token expired").with_close_code(CloseCode::try_from(4401)?))
    });
    let mut client = server.client()?;
    let (code, reason) = client.closed()?;
    assert!(code == 4401 && reason.contains("token expired"), "{code} {reason}");
    client.close(4401)?;
    client.ended()?;
    Ok(())
}

fn a_handler_that_panics_closes_with_1011(cx: &ServerContext) -> Verdict {
    let server = cx.start(cx.upgrader(), async |mut session: Session| {
        session.receive().await?;
        panic!("the handler of a case panics");
    });
    let mut client = server.client()?;
    client.send(&WireFrame::text("go"))?;
    assert_eq!(client.closed()?, (1011, String::new()));
    client.close(1011)?;
    client.ended()?;
    // The server serves on.
    server.client()?;
    Ok(())
}

fn a_handler_that_panics_at_once_closes_with_1011(cx: &ServerContext) -> Verdict {
    fn panics(_: Session) -> std::future::Ready<drivetrain::Result<()>> {
        panic!("the handler of a case panics at once");
    }
    let server = cx.start(cx.upgrader(), panics);
    let mut client = server.client()?;
    assert_eq!(client.closed()?, (1011, String::new()));
    client.close(1011)?;
    client.ended()?;
    Ok(())
}

fn a_client_that_never_answers_a_close_is_cut_off(cx: &ServerContext) -> Verdict {
    let plugin = WebSockets::new().close_timeout(Duration::from_millis(200));
    let server = cx.start(cx.upgrader().install(plugin), async |_: Session| Ok(()));
    let mut client = server.client()?;
    assert_eq!(client.closed()?.0, 1000);
    client.gone()?;
    Ok(())
}

fn a_client_that_drips_after_a_close_is_cut_off(cx: &ServerContext) -> Verdict {
    let plugin = WebSockets::new().close_timeout(Duration::from_millis(200));
    let server = cx.start(cx.upgrader().install(plugin), async |_: Session| Ok(()));
    let mut client = server.client()?;
    assert_eq!(client.closed()?.0, 1000);
    eventually("the server has had enough", || client.send(&WireFrame::text("drip")).is_err())
}

fn a_handler_sees_the_clients_close_as_the_end(cx: &ServerContext) -> Verdict {
    let (ends, ended) = Ends::new();
    let server = cx.start(cx.upgrader(), move |session| ends.clone().of(session));
    let mut client = server.client()?;
    client.send(&WireFrame::close(1001, "page left"))?;
    assert_eq!(client.closed()?.0, 1001);
    client.ended()?;
    assert!(within(&ended)?.is_none(), "a Close is no error");
    Ok(())
}

fn a_handler_sees_a_violation_as_its_error(cx: &ServerContext) -> Verdict {
    for (frame, kind, code) in [
        (WireFrame::new(3, "").encode(Some([1; 4])), ErrorKind::Protocol, 1002),
        (WireFrame::text("unmasked").encode(None), ErrorKind::Protocol, 1002),
        (masked(&WireFrame::text([0xff])), ErrorKind::Protocol, 1007),
        (masked(&WireFrame::text([b'x'; 101])), ErrorKind::TooBig, 1009),
    ] {
        let (ends, ended) = Ends::new();
        let plugin = WebSockets::new().max_message_size(100);
        let server =
            cx.start(cx.upgrader().install(plugin), move |session| ends.clone().of(session));
        let mut client = server.client()?;
        client.write(&frame)?;
        assert_eq!(client.closed()?.0, code);
        client.close(code)?;
        client.gone()?;
        let error = within(&ended)?.ok_or_else(|| Failure::new("an error was expected"))?;
        assert_eq!(
            (error.kind(), error.close_code().map(u16::from)),
            (kind, Some(code)),
            "{error:?}"
        );
    }
    Ok(())
}

fn sending_after_the_clients_close_fails(cx: &ServerContext) -> Verdict {
    let (ends, ended) = std::sync::mpsc::channel();
    let server = cx.start(cx.upgrader(), move |mut session: Session| {
        let ends = ends.clone();
        async move {
            while session.receive().await?.is_some() {}
            let _ = ends.send((session.send("late").await, session.outcome()));
            Ok(())
        }
    });
    let mut client = server.client()?;
    client.send(&WireFrame::close(1001, "going"))?;
    assert_eq!(client.closed()?.0, 1001);
    client.ended()?;
    let (sent, outcome) = within(&ended)?;
    assert_eq!(sent.map_err(|error| error.kind()), Err(ErrorKind::Closed));
    let received =
        outcome.received.as_ref().map(|reason| (u16::from(reason.code()), reason.text()));
    assert!(outcome.clean && received == Some((1001, "going")), "{outcome:?}");
    Ok(())
}

/// The client's Close and its FIN come at once.
fn a_client_that_ends_its_direction_still_gets_a_close(cx: &ServerContext) -> Verdict {
    let server = cx.start(cx.upgrader(), drain);
    let mut client = server.client()?;
    client.send(&WireFrame::close(4000, "enough"))?;
    client.shutdown_write()?;
    assert_eq!(client.closed()?.0, 4000);
    client.ended()?;
    Ok(())
}

fn an_end_without_a_close_ends_the_session(cx: &ServerContext) -> Verdict {
    let (ends, ended) = Ends::new();
    let server = cx.start(cx.upgrader(), move |session| ends.clone().of(session));
    let mut client = server.client()?;
    client.send(&WireFrame::text("then nothing"))?;
    client.shutdown_write()?;
    let error = within(&ended)?.ok_or_else(|| Failure::new("an error was expected"))?;
    assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
    client.gone()?;
    Ok(())
}
