//! haproxy, which takes WebSockets over HTTP/2 (RFC 8441) from the engines that have them switched on.

use drivetrain::{Capability, CloseReason, ErrorKind, Protocol, Session, http::StatusCode};
use drivetrain_conformance::peer::Server;

use crate::{
    Scenario,
    lab::{CLOSED_PORT, Failure, Lab, close, expect, same},
};

pub(crate) const EVERY: &[Scenario] = &[
    ("sockets_share_a_connection", |lab| Box::pin(sockets_share_a_connection(lab))),
    ("more_sockets_than_it_allows_take_another", |lab| Box::pin(more_than_it_allows(lab))),
    ("server_behind_it_is_down", |lab| Box::pin(server_behind_it_is_down(lab))),
];

/// The streams that `start` has it allow on one connection.
const STREAMS: usize = 8;

async fn sockets_share_a_connection(lab: &Lab) -> Result<(), Failure> {
    let server = lab.counting(lab.port());
    let mut sessions = open(lab, &server, STREAMS).await?;
    let connections = if is_over_http2(lab) { 1 } else { STREAMS };
    same("the number of connections", server.connections(), connections)?;
    // Each gets its own, whatever the order.
    for (number, session) in sessions.iter().enumerate() {
        session.send(format!("{number} {}", "x".repeat(number * 10_000))).await?;
    }
    for (number, session) in sessions.iter_mut().enumerate().rev() {
        expect(session, format!("{number} {}", "x".repeat(number * 10_000))).await?;
    }
    // The end of one is not that of the others.
    let mut first = sessions.remove(0);
    close(&mut first, CloseReason::normal()).await?;
    for mut session in sessions {
        session.send("still here").await?;
        expect(&mut session, "still here").await?;
        close(&mut session, CloseReason::normal()).await?;
    }
    same("the number of connections", server.connections(), connections)
}

async fn more_than_it_allows(lab: &Lab) -> Result<(), Failure> {
    let server = lab.counting(lab.port());
    let sessions = open(lab, &server, STREAMS + 3).await?;
    let connections = if is_over_http2(lab) { 2 } else { STREAMS + 3 };
    same("the number of connections", server.connections(), connections)?;
    for mut session in sessions {
        session.send("hello").await?;
        expect(&mut session, "hello").await?;
        close(&mut session, CloseReason::normal()).await?;
    }
    Ok(())
}

async fn server_behind_it_is_down(lab: &Lab) -> Result<(), Failure> {
    let error =
        lab.open(&format!("/to/{CLOSED_PORT}/echo")).await.err().ok_or("it was accepted")?;
    same("the error", error.kind(), ErrorKind::Rejected)?;
    let response = error.response().ok_or("the error has no response")?;
    same("the status", response.status(), StatusCode::SERVICE_UNAVAILABLE)
}

async fn open(lab: &Lab, server: &Server, count: usize) -> Result<Vec<Session>, Failure> {
    let url = format!("wss://localhost:{}/echo", server.addr().port());
    let protocol = if is_over_http2(lab) { Protocol::H2 } else { Protocol::H1 };
    let mut sessions = Vec::new();
    for _ in 0..count {
        let session = lab.client.web_socket(&url).connect().await?;
        same("the protocol", session.protocol(), protocol)?;
        sessions.push(session);
    }
    Ok(sessions)
}

fn is_over_http2(lab: &Lab) -> bool {
    lab.client.support(Capability::WebSocketOverHttp2).is_offered()
}
