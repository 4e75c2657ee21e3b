//! Headless Chromium's DevTools endpoint: a browser's WebSocket server that speaks JSON.

use std::time::Duration;

use drivetrain::{CloseReason, ErrorKind, Session, http::StatusCode};
use serde_json::{Value, json};

use crate::{
    Scenario,
    lab::{Failure, Lab, close, ensure, expect_cut, same},
};

pub(crate) const EVERY: &[Scenario] = &[
    ("http_get", |lab| Box::pin(http_get(lab))),
    ("command_and_answer", |lab| Box::pin(command_and_answer(lab))),
    ("answer_of_3_mib", |lab| Box::pin(answer_of_3_mib(lab))),
    ("command_of_5_mib", |lab| Box::pin(command_of_5_mib(lab))),
    ("a_thousand_commands_pipelined", |lab| Box::pin(a_thousand_commands_pipelined(lab))),
    ("events_while_idle", |lab| Box::pin(events_while_idle(lab))),
    ("ping_round_trip", |lab| Box::pin(ping_round_trip(lab))),
    ("keepalive_keeps_a_live_peer", |lab| Box::pin(keepalive(lab))),
    ("close_from_us", |lab| Box::pin(close_from_us(lab))),
    ("closed_page_ends_its_session", |lab| Box::pin(closed_page(lab))),
    ("origin_is_refused_with_403", |lab| Box::pin(origin_is_refused(lab))),
    ("path_that_is_not_there", |lab| Box::pin(path_that_is_not_there(lab))),
    ("killed_peer", |lab| Box::pin(killed_peer(lab))),
];

async fn http_get(lab: &Lab) -> Result<(), Failure> {
    let version = lab.get("/json/version").await?;
    let browser = version["Browser"].as_str().ok_or("it has no name")?;
    ensure(browser.contains("Chrome/"), format!("the browser is {browser}"))
}

async fn command_and_answer(lab: &Lab) -> Result<(), Failure> {
    let mut session = open(lab, lab.port()).await?;
    let answer = command(&mut session, 1, "Browser.getVersion", json!({})).await?;
    let product = answer["product"].as_str().ok_or("it has no product")?;
    ensure(product.contains("Chrome/"), format!("the product is {product}"))?;
    let targets = command(&mut session, 2, "Target.getTargets", json!({})).await?;
    ensure(targets["targetInfos"].is_array(), "it has no targets")
}

/// A page evaluates a long string.
async fn answer_of_3_mib(lab: &Lab) -> Result<(), Failure> {
    let (mut session, target) = open_page(lab).await?;
    let evaluate = json!({ "expression": "'0123456789abcdef'.repeat(196608)" });
    let answer = command(&mut session, 1, "Runtime.evaluate", evaluate).await?;
    let string = answer["result"]["value"].as_str().ok_or("it has no value")?;
    ensure(string == "0123456789abcdef".repeat(196_608), "the string is not the one asked for")?;
    shut(lab, &target).await
}

/// The page counts what we send.
async fn command_of_5_mib(lab: &Lab) -> Result<(), Failure> {
    let (mut session, target) = open_page(lab).await?;
    let evaluate = json!({ "expression": format!("'{}'.length", "y".repeat(5 << 20)) });
    let answer = command(&mut session, 1, "Runtime.evaluate", evaluate).await?;
    same("the length", &answer["result"]["value"], 5 << 20)?;
    shut(lab, &target).await
}

async fn a_thousand_commands_pipelined(lab: &Lab) -> Result<(), Failure> {
    let mut session = open(lab, lab.port()).await?;
    for id in 0..1000 {
        session.send_serialized(&json!({ "id": id, "method": "Browser.getVersion" })).await?;
    }
    for id in 0..1000 {
        let answer: Value = session.receive_deserialized().await?;
        same("the id", &answer["id"], id)?;
    }
    Ok(())
}

/// The browser speaks on its own while nobody receives.
async fn events_while_idle(lab: &Lab) -> Result<(), Failure> {
    let mut session = open(lab, lab.port()).await?;
    command(&mut session, 1, "Target.setDiscoverTargets", json!({ "discover": true })).await?;
    let (page, target) = open_page(lab).await?;
    lab.sleep(Duration::from_millis(500)).await;
    loop {
        let event: Value = session.receive_deserialized().await?;
        if event["method"] == "Target.targetCreated"
            && event["params"]["targetInfo"]["targetId"] == *target
        {
            break;
        }
    }
    drop(page);
    shut(lab, &target).await
}

async fn ping_round_trip(lab: &Lab) -> Result<(), Failure> {
    let session = open(lab, lab.port()).await?;
    for _ in 0..3 {
        let took = session.ping().await?;
        ensure(took < Duration::from_secs(30), format!("the pong took {took:?}"))?;
    }
    Ok(())
}

async fn keepalive(lab: &Lab) -> Result<(), Failure> {
    let request = lab.client.web_socket(debugger_url(lab, lab.port()).await?);
    let mut session = request.ping_interval(Duration::from_millis(100)).connect().await?;
    lab.sleep(Duration::from_secs(1)).await;
    ensure(session.latency().is_some(), "no pong came in a second of pings")?;
    command(&mut session, 1, "Browser.getVersion", json!({})).await?;
    Ok(())
}

async fn close_from_us(lab: &Lab) -> Result<(), Failure> {
    let mut session = open(lab, lab.port()).await?;
    command(&mut session, 1, "Browser.getVersion", json!({})).await?;
    close(&mut session, CloseReason::new(4001, "bye")?).await?;
    Ok(())
}

/// Closing a page ends its session; Chromium sends no Close.
async fn closed_page(lab: &Lab) -> Result<(), Failure> {
    let (mut session, target) = open_page(lab).await?;
    command(&mut session, 1, "Runtime.evaluate", json!({ "expression": "1" })).await?;
    shut(lab, &target).await?;
    // There may be events on the way out.
    while let Ok(Some(_)) = session.receive().await {}
    expect_cut(&mut session).await
}

async fn origin_is_refused(lab: &Lab) -> Result<(), Failure> {
    let request = lab.client.web_socket(debugger_url(lab, lab.port()).await?);
    let opened = request.header("origin", "http://example.com").connect().await;
    let error = opened.err().ok_or("the handshake was accepted")?;
    same("the error's kind", error.kind(), ErrorKind::Rejected)?;
    let response = error.response().ok_or("the error has no response")?;
    same("the status", response.status(), StatusCode::FORBIDDEN)?;
    let body = String::from_utf8_lossy(response.body());
    ensure(body.contains("http://example.com"), format!("the body is {body:?}"))
}

async fn path_that_is_not_there(lab: &Lab) -> Result<(), Failure> {
    let error = lab.open("/devtools/page/none").await.err().ok_or("the handshake was accepted")?;
    same("the error's kind", error.kind(), ErrorKind::Rejected)?;
    let response = error.response().ok_or("the error has no response")?;
    ensure(response.status().is_client_error() || response.status().is_server_error(), "no error")
}

async fn killed_peer(lab: &Lab) -> Result<(), Failure> {
    let port = lab.victim("chromium")?;
    let mut session = open(lab, port).await?;
    command(&mut session, 1, "Browser.getVersion", json!({})).await?;
    lab.kill()?;
    expect_cut(&mut session).await
}

/// Where the browser itself takes commands.
async fn debugger_url(lab: &Lab, port: u16) -> Result<String, Failure> {
    let request = lab.client.get(format!("http://localhost:{port}/json/version"));
    let version: Value = request.send().await?.error_for_status().await?.json().await?;
    Ok(version["webSocketDebuggerUrl"].as_str().ok_or("it has no URL for a debugger")?.to_owned())
}

async fn open(lab: &Lab, port: u16) -> Result<Session, Failure> {
    Ok(lab.client.web_socket(debugger_url(lab, port).await?).connect().await?)
}

/// A session with a new page, and the page's id.
async fn open_page(lab: &Lab) -> Result<(Session, String), Failure> {
    let mut browser = open(lab, lab.port()).await?;
    let page = json!({ "url": "about:blank" });
    let created = command(&mut browser, 1, "Target.createTarget", page).await?;
    let target = created["targetId"].as_str().ok_or("it has no target")?;
    Ok((lab.open(&format!("/devtools/page/{target}")).await?, target.to_owned()))
}

async fn shut(lab: &Lab, target: &str) -> Result<(), Failure> {
    let mut browser = open(lab, lab.port()).await?;
    command(&mut browser, 1, "Target.closeTarget", json!({ "targetId": target })).await?;
    close(&mut browser, CloseReason::normal()).await?;
    Ok(())
}

/// The result of a command; events before it are passed over.
async fn command(
    session: &mut Session,
    id: u32,
    method: &str,
    params: Value,
) -> Result<Value, Failure> {
    session.send_serialized(&json!({ "id": id, "method": method, "params": params })).await?;
    loop {
        let mut answer: Value = session.receive_deserialized().await?;
        if answer["id"] == id {
            ensure(answer["error"].is_null(), format!("{method}: {}", answer["error"]))?;
            return Ok(answer["result"].take());
        }
    }
}
