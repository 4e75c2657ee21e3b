//! A handshake passes through tower layers as the HTTP call it is: accepted, with its connection in the
//! response's extensions, or refused, as a response like any other.
#![cfg(feature = "tungstenite")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use drivetrain::{
    Body, Error, OpCode, RawFrame,
    engine::{Answer, Connection, Engine, Handshake, Tungstenite},
};
use drivetrain_conformance::peer::EchoServer;
use http::{HeaderValue, Request, Response, StatusCode, header};
use tower::{Service, ServiceBuilder, ServiceExt as _, service_fn};
use tower_http::set_header::{SetRequestHeaderLayer, SetResponseHeaderLayer};

/// The engine's `connect` as a service, under two layers of tower-http's, which know nothing of it.
fn layered() -> impl Service<Request<()>, Response = Response<Body>, Error = Error> {
    let engine: Arc<dyn Engine> = Arc::new(Tungstenite::new());
    let connect = service_fn(move |request: Request<()>| {
        let engine = Arc::clone(&engine);
        async move {
            match engine.connect(Handshake::try_from(request)?).await? {
                Answer::Refused(response) => Ok(response),
                Answer::Open(connection) => {
                    let mut response = Response::new(Body::empty());
                    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                    connection.attach(&mut response);
                    Ok(response)
                }
            }
        }
    });
    let agent = HeaderValue::from_static("through a layer");
    ServiceBuilder::new()
        .layer(SetRequestHeaderLayer::overriding(header::USER_AGENT, agent.clone()))
        .layer(SetResponseHeaderLayer::overriding(header::SERVER, agent))
        .service(connect)
}

async fn handshake(url: String) -> Response<Body> {
    let handshake = Handshake::new(url.parse().unwrap()).unwrap();
    layered().ready().await.unwrap().call(handshake.into()).await.unwrap()
}

#[tokio::test]
async fn an_accepted_handshake_brings_its_connection_through() {
    let server = EchoServer::start();
    let mut response = handshake(server.ws_url("/headers")).await;
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()[header::SERVER], "through a layer");

    let connection = Connection::take(&mut response).unwrap();
    assert!(Connection::take(&mut response).is_none(), "it is there once");
    let mut transport = connection.into_transport();
    let frame = std::future::poll_fn(|cx| transport.poll_receive(cx, 1 << 20)).await;
    let frame: RawFrame = frame.unwrap().unwrap();
    assert_eq!(frame.opcode, OpCode::Text);
    let seen = String::from_utf8(frame.payload.to_vec()).unwrap();
    assert!(seen.contains("through a layer"), "the server saw the layer's header: {seen}");
}

#[tokio::test]
async fn a_refused_handshake_is_a_response_with_its_body() {
    let server = EchoServer::start();
    let mut response = handshake(server.ws_url("/refuse?status=401")).await;
    assert_eq!(response.status(), 401);
    assert_eq!(response.headers()[header::SERVER], "through a layer");
    assert!(Connection::take(&mut response).is_none());
    let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    assert!(!body.is_empty());
}
