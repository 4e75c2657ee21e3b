//! Pings of the server's own, and clients that are silent.

use std::time::Duration;

use drivetrain::{ErrorKind, WebSockets};

use super::{ServerCase, case};
use crate::{
    context::PATIENCE,
    failure::{Failure, Verdict},
    peer::{WireFrame, opcode},
    server::context::{Ends, ServerContext, echo, within},
};

pub(super) fn cases() -> Vec<ServerCase> {
    vec![
        case(pings_are_on_by_default),
        case(a_client_that_answers_pings_lives_on),
        case(a_silent_client_is_given_up),
    ]
}

fn pings_are_on_by_default(cx: &ServerContext) -> Verdict {
    let upgrader = cx.upgrader();
    let value = |name| upgrader.settings().get(name).map(|row| row.value.to_string());
    assert_eq!(value("ping_interval").as_deref(), Some("20s"));
    assert_eq!(value("ping_timeout").as_deref(), Some("20s"));
    Ok(())
}

/// Each ping has a payload, and only that one answers it.
fn a_client_that_answers_pings_lives_on(cx: &ServerContext) -> Verdict {
    let plugin = WebSockets::new().ping_interval(Duration::from_millis(30)).ping_timeout(PATIENCE);
    let server = cx.start(cx.upgrader().install(plugin), echo);
    let mut client = server.client()?;
    for _ in 0..5 {
        let ping = client.receive()?.ok_or_else(|| Failure::new("the connection has ended"))?;
        assert!(ping.opcode == opcode::PING && !ping.payload.is_empty(), "{ping:?}");
        client.send(&WireFrame::pong(ping.payload))?;
    }
    client.send(&WireFrame::text("still here"))?;
    assert_eq!(client.text()?, "still here");
    client.close(1000)?;
    assert_eq!(client.closed()?.0, 1000);
    client.ended()?;
    Ok(())
}

fn a_silent_client_is_given_up(cx: &ServerContext) -> Verdict {
    let plugin = WebSockets::new()
        .ping_interval(Duration::from_millis(50))
        .ping_timeout(Duration::from_millis(200))
        .close_timeout(Duration::from_millis(200));
    let (ends, ended) = Ends::new();
    let server = cx.start(cx.upgrader().install(plugin), move |session| ends.clone().of(session));
    let mut client = server.client()?;
    let ping = client.receive()?.ok_or_else(|| Failure::new("the connection has ended"))?;
    assert_eq!(ping.opcode, opcode::PING);
    assert_eq!(client.closed()?, (1011, "Ping timeout".into()));
    // It does not answer the Close either.
    client.gone()?;
    let error = within(&ended)?.ok_or_else(|| Failure::new("an error was expected"))?;
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    Ok(())
}
