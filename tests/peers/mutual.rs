//! nginx that wants a client certificate of its authority.

use drivetrain::{CloseReason, ErrorKind, HttpClient, http::StatusCode};

use crate::{
    Scenario,
    lab::{Failure, Lab, close, ensure, expect, same},
};

pub(crate) const EVERY: &[Scenario] = &[
    ("request_with_a_certificate", |lab| Box::pin(request_with_a_certificate(lab))),
    ("web_socket_with_a_certificate", |lab| Box::pin(web_socket_with_a_certificate(lab))),
    ("nothing_gets_past_without_a_certificate", |lab| Box::pin(without_a_certificate(lab))),
    ("nothing_gets_past_with_the_certificate_of_a_stranger", |lab| Box::pin(as_a_stranger(lab))),
];

async fn request_with_a_certificate(lab: &Lab) -> Result<(), Failure> {
    let answer = lab.get("/some/path").await?;
    same("the path it saw", &answer["path"], "/some/path")
}

async fn web_socket_with_a_certificate(lab: &Lab) -> Result<(), Failure> {
    let mut session = lab.open("/echo").await?;
    session.send("hello").await?;
    expect(&mut session, "hello").await?;
    close(&mut session, CloseReason::normal()).await?;
    Ok(())
}

async fn without_a_certificate(lab: &Lab) -> Result<(), Failure> {
    refused(lab, &lab.trusting()?.build()?, "No required SSL certificate was sent").await
}

async fn as_a_stranger(lab: &Lab) -> Result<(), Failure> {
    refused(lab, &lab.with_certificate("stranger")?, "The SSL certificate error").await
}

/// nginx ends the TLS handshake well and answers with a page; who is behind it hears nothing.
async fn refused(lab: &Lab, client: &HttpClient, page: &str) -> Result<(), Failure> {
    let behind = lab.counting(lab.port_of("websockets")?);
    let path = format!("/to/{}/echo", behind.addr().port());

    let response = client.get(lab.http_url(&path)).send().await?;
    same("the status", response.status(), StatusCode::BAD_REQUEST)?;
    ensure(response.text().await?.contains(page), "the page does not say why")?;

    let error = client.web_socket(lab.url(&path)).connect().await.err().ok_or("it was accepted")?;
    same("the error", error.kind(), ErrorKind::Rejected)?;
    let response = error.response().ok_or("the error has no response")?;
    same("the status", response.status(), StatusCode::BAD_REQUEST)?;
    let body = String::from_utf8_lossy(response.body());
    ensure(body.contains(page), "the page does not say why")?;

    same("the number of connections behind it", behind.connections(), 0)?;
    // And it is the way that leads there.
    let mut session = lab.open(&path).await?;
    close(&mut session, CloseReason::normal()).await?;
    same("the number of connections behind it", behind.connections(), 1)
}
