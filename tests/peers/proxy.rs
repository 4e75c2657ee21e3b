//! nginx: TLS with a certificate authority of our own, HTTP/2 beside HTTP/1.1, a proxy that loses patience.

use std::time::Duration;

use drivetrain::{
    Capability, CloseReason, ErrorKind,
    http::{StatusCode, Version},
};

use crate::{
    Scenario,
    lab::{CLOSED_PORT, Failure, Lab, close, ensure, expect, expect_cut, same},
};

pub(crate) const EVERY: &[Scenario] = &[
    ("http_version_is_negotiated", |lab| Box::pin(http_version_is_negotiated(lab))),
    ("certificate_for_an_address", |lab| Box::pin(certificate_for_an_address(lab))),
    ("certificate_of_a_stranger_is_refused", |lab| Box::pin(stranger_is_refused(lab))),
    ("tls_to_a_port_without_it_is_refused", |lab| Box::pin(no_tls_is_refused(lab))),
    ("pings_keep_an_idle_proxy", |lab| Box::pin(pings_keep_an_idle_proxy(lab))),
    ("impatient_proxy_cuts", |lab| Box::pin(impatient_proxy_cuts(lab))),
    ("server_behind_it_is_down", |lab| Box::pin(server_behind_it_is_down(lab))),
];

/// A WebSocket takes HTTP/1.1 where a request takes HTTP/2.
async fn http_version_is_negotiated(lab: &Lab) -> Result<(), Failure> {
    let response = lab.client.get(lab.http_url("/")).send().await?;
    let http2 = lab.client.support(Capability::Http2).is_offered();
    let version = if http2 { Version::HTTP_2 } else { Version::HTTP_11 };
    same("the version", response.version(), version)?;
    same("the status", response.status(), StatusCode::OK)?;
    let mut session = lab.open("/echo").await?;
    close(&mut session, CloseReason::normal()).await?;
    Ok(())
}

async fn certificate_for_an_address(lab: &Lab) -> Result<(), Failure> {
    let url = lab.url("/echo").replace("localhost", "127.0.0.1");
    let mut session = lab.client.web_socket(url).connect().await?;
    session.send("hello").await?;
    expect(&mut session, "hello").await?;
    close(&mut session, CloseReason::normal()).await?;
    Ok(())
}

async fn stranger_is_refused(lab: &Lab) -> Result<(), Failure> {
    let opened = lab.stranger.web_socket(lab.url("/echo")).connect().await;
    let error = opened.err().ok_or("the certificate was accepted")?;
    same("the WebSocket's error", error.kind(), ErrorKind::Tls)?;
    let answered = lab.stranger.get(lab.http_url("/")).send().await;
    let error = answered.err().ok_or("the certificate was accepted")?;
    same("the request's error", error.kind(), ErrorKind::Tls)
}

/// The port of a plain server: it answers a TLS hello with an HTTP error.
async fn no_tls_is_refused(lab: &Lab) -> Result<(), Failure> {
    let url = format!("wss://localhost:{}/echo", lab.victim("ws")?);
    let error = lab.client.web_socket(url).connect().await.err().ok_or("it was accepted")?;
    same("the error", error.kind(), ErrorKind::Tls)
}

/// nginx gives up after 2 s without traffic.
async fn pings_keep_an_idle_proxy(lab: &Lab) -> Result<(), Failure> {
    let request = lab.client.web_socket(lab.url("/echo"));
    let mut session = request.ping_interval(Duration::from_millis(500)).connect().await?;
    lab.sleep(Duration::from_secs(5)).await;
    session.send("still here").await?;
    expect(&mut session, "still here").await?;
    close(&mut session, CloseReason::normal()).await?;
    Ok(())
}

async fn impatient_proxy_cuts(lab: &Lab) -> Result<(), Failure> {
    let mut session = lab.open("/echo").await?;
    lab.sleep(Duration::from_secs(3)).await;
    expect_cut(&mut session).await
}

async fn server_behind_it_is_down(lab: &Lab) -> Result<(), Failure> {
    let error =
        lab.open(&format!("/to/{CLOSED_PORT}/echo")).await.err().ok_or("it was accepted")?;
    same("the error", error.kind(), ErrorKind::Rejected)?;
    let response = error.response().ok_or("the error has no response")?;
    same("the status", response.status(), StatusCode::BAD_GATEWAY)?;
    let page = String::from_utf8_lossy(response.body());
    ensure(page.contains("502 Bad Gateway"), "nginx's page is not the body")?;
    ensure(error.is_transient(), "the error does not say that trying again may help")
}
