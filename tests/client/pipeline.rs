//! Layers around a client, and decompression: above the engines, so the same on each.
#![cfg(feature = "full")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    future::ready,
    io::Read as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use drivetrain::{
    Body, Capability, CloseReason, Error, ErrorKind, HttpClient, HttpClientBuilder, HttpService,
    Redirects, WebSockets, engine, http,
};
use drivetrain_conformance::peer::{EchoServer, Server};
use http::{HeaderValue, Request, Response, header};
use tower::{Layer, ServiceExt as _, retry::RetryLayer, service_fn};
use tower_http::{
    follow_redirect::FollowRedirectLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    set_header::{SetRequestHeaderLayer, SetResponseHeaderLayer},
    timeout::TimeoutLayer,
    trace::TraceLayer,
};

/// A client of each engine, and whether it has WebSockets.
async fn on_each<F: AsyncFn(HttpClient, bool)>(
    with: impl Fn(HttpClientBuilder) -> HttpClientBuilder,
    check: F,
) {
    for engine in engine::all() {
        let web_sockets = engine.support(Capability::WebSockets).is_offered();
        let builder = with(HttpClient::builder(engine));
        let builder = if web_sockets { builder.install(WebSockets::new()) } else { builder };
        check(builder.build().unwrap(), web_sockets).await;
    }
}

#[tokio::test]
async fn layers_of_tower_http_see_requests_and_handshakes() {
    let agent = HeaderValue::from_static("layered");
    let with = |builder: HttpClientBuilder| {
        builder
            .layer(TraceLayer::new_for_http())
            .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
            .layer(PropagateRequestIdLayer::x_request_id())
            .layer(SetRequestHeaderLayer::overriding(header::USER_AGENT, agent.clone()))
            .layer(SetResponseHeaderLayer::overriding(header::SERVER, agent.clone()))
            .layer(TimeoutLayer::with_status_code(
                http::StatusCode::REQUEST_TIMEOUT,
                Duration::from_secs(60),
            ))
    };
    on_each(with, async |client, web_sockets| {
        let server = EchoServer::start();
        let response = client.get(server.http_url("/headers")).send().await.unwrap();
        assert_eq!(response.headers()[header::SERVER], "layered");
        assert!(response.headers().contains_key("x-request-id"));
        assert!(response.text().await.unwrap().contains("layered"));
        if web_sockets {
            let mut session = client.web_socket(server.ws_url("/headers")).connect().await.unwrap();
            assert_eq!(session.response().unwrap().headers()[header::SERVER], "layered");
            let seen = session.receive().await.unwrap().unwrap();
            assert!(seen.read_text().unwrap().contains("layered"));
            session.close(CloseReason::normal()).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn the_layer_added_first_is_the_outermost_and_sees_a_call_not_its_hops() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counting = |name: &'static str| {
        let seen = Arc::clone(&seen);
        tower::layer::layer_fn(move |inner: HttpService| {
            let seen = Arc::clone(&seen);
            service_fn(move |mut request: Request<Body>| {
                let inner = inner.clone();
                seen.fetch_add(1, Ordering::Relaxed);
                request.headers_mut().append("x-order", HeaderValue::from_static(name));
                async move { inner.oneshot(request).await }
            })
        })
    };
    let with = |builder: HttpClientBuilder| builder.layer(counting("a")).layer(counting("b"));
    on_each(with, async |client, _| {
        let server = EchoServer::start();
        seen.store(0, Ordering::Relaxed);
        let response = client.get(server.http_url("/redirect?to=/headers")).send().await.unwrap();
        let text = response.text().await.unwrap().replace(char::is_whitespace, "");
        assert!(text.contains(r#""x-order":["a","b"]"#), "{text}");
        assert_eq!((seen.load(Ordering::Relaxed), server.requests()), (2, 2));
    })
    .await;
}

#[derive(Clone)]
struct ThreeTimes(usize);

impl tower::retry::Policy<Request<Body>, Response<Body>, Error> for ThreeTimes {
    type Future = std::future::Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<Body>,
        result: &mut Result<Response<Body>, Error>,
    ) -> Option<Self::Future> {
        let failed = result.as_ref().is_ok_and(|response| response.status() == 503);
        self.0 = self.0.checked_sub(1)?;
        failed.then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        let mut again = Request::new(request.body().try_clone()?);
        *again.uri_mut() = request.uri().clone();
        *again.method_mut() = request.method().clone();
        *again.headers_mut() = request.headers().clone();
        *again.extensions_mut() = request.extensions().clone();
        Some(again)
    }
}

#[tokio::test]
async fn tower_retries_requests_and_handshakes() {
    let with = |builder: HttpClientBuilder| builder.layer(RetryLayer::new(ThreeTimes(3)));
    on_each(with, async |client, web_sockets| {
        let turn = AtomicUsize::new(0);
        let server = Server::start(move |conn| {
            EchoServer::serve_but(conn, |conn, _| {
                if turn.fetch_add(1, Ordering::Relaxed) % 3 == 2 {
                    return Ok(false);
                }
                conn.respond(503, &[], "later")?;
                Ok(true)
            })
        });
        let response = client.post(server.http_url("/echo")).body("again").send().await.unwrap();
        assert_eq!(response.text().await.unwrap(), "again");
        if web_sockets {
            let mut session = client.web_socket(server.ws_url("/echo")).connect().await.unwrap();
            session.send("hello").await.unwrap();
            assert_eq!(session.receive().await.unwrap().unwrap().read_text(), Some("hello"));
            session.close(CloseReason::normal()).await.unwrap();
        }
        assert_eq!(server.requests(), if web_sockets { 6 } else { 3 });
    })
    .await;
}

#[tokio::test]
async fn tower_https_own_redirects_work_where_ours_are_off() {
    let with = |builder: HttpClientBuilder| {
        builder.redirects(Redirects::none()).layer(FollowRedirectLayer::new())
    };
    on_each(with, async |client, _| {
        let server = EchoServer::start();
        let response = client.get(server.http_url("/redirect?to=/get")).send().await.unwrap();
        assert_eq!(response.url().as_str(), server.http_url("/get"));
        assert_eq!(response.text().await.unwrap(), "get");
    })
    .await;
}

#[tokio::test]
async fn a_layer_that_replaces_the_response_of_a_handshake_is_named() {
    let replacing = tower::layer::layer_fn(|inner: HttpService| {
        service_fn(move |request: Request<Body>| {
            let inner = inner.clone();
            async move {
                let answer = inner.oneshot(request).await?;
                let mut other = Response::new(Body::empty());
                *other.status_mut() = answer.status();
                Ok::<_, Error>(other)
            }
        })
    });
    on_each(
        |builder| builder.layer(replacing),
        async |client, web_sockets| {
            if web_sockets {
                let server = EchoServer::start();
                let connect = client.web_socket(server.ws_url("/echo")).connect();
                let error = connect.await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Other);
                assert!(error.to_string().contains("layer"), "{error}");
                assert!(server.wait_until_idle(Duration::from_secs(60)), "the socket is freed");
            }
        },
    )
    .await;
}

#[tokio::test]
async fn an_error_of_a_layers_is_the_callers() {
    let failing = tower::layer::layer_fn(|_: HttpService| {
        service_fn(|_: Request<Body>| ready(Err::<Response<Body>, _>("no, said the layer")))
    });
    let with = |builder: HttpClientBuilder| {
        builder.layer(tower::layer::layer_fn(move |inner| {
            failing.layer(inner).map_err(std::io::Error::other)
        }))
    };
    on_each(with, async |client, _| {
        let error = client.get("http://127.0.0.1:1/").send().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Other);
        assert!(error.to_string().contains("no, said the layer"), "{error}");
    })
    .await;
}

/// "hello" in each encoding: raw blocks, so that anyone can read them.
const ENCODED: [(&str, &[u8]); 3] = [
    ("gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x01\x05\0\xfa\xffhello\x86\xa6\x10\x36\x05\0\0\0"),
    ("br", b"\x0b\x02\x80hello\x03"),
    ("zstd", b"\x28\xb5\x2f\xfd\x20\x05\x29\0\0hello"),
];

#[tokio::test]
async fn encodings_are_asked_for_and_undone() {
    on_each(
        |builder| builder,
        async |client, web_sockets| {
            let server = Server::start(|conn| {
                EchoServer::serve_but(conn, |conn, request| {
                    let wanted = request.path.trim_start_matches('/');
                    let Some((name, body)) = ENCODED.iter().find(|(name, _)| *name == wanted)
                    else {
                        return Ok(false);
                    };
                    let offered = request.header("accept-encoding").unwrap_or_default();
                    assert!(offered.split(',').any(|offer| offer.trim() == *name), "{offered}");
                    let body = if request.parameter("cut").is_some() { &body[..8] } else { body };
                    conn.respond(200, &[("content-encoding", *name)], body)?;
                    Ok(true)
                })
            });
            for (name, _) in ENCODED {
                let response =
                    client.get(server.http_url(&format!("/{name}"))).send().await.unwrap();
                assert!(!response.headers().contains_key(header::CONTENT_ENCODING), "{name}");
                assert_eq!(response.text().await.unwrap(), "hello", "{name}");
                let cut = client.get(server.http_url(&format!("/{name}?cut=1"))).send().await;
                let error = cut.unwrap().text().await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Protocol, "{name}");
            }
            if web_sockets {
                let mut session =
                    client.web_socket(server.ws_url("/headers")).connect().await.unwrap();
                let seen = session.receive().await.unwrap().unwrap();
                assert!(!seen.read_text().unwrap().contains("accept-encoding"), "{seen:?}");
                session.close(CloseReason::normal()).await.unwrap();
            }
        },
    )
    .await;
}

/// 64 MiB of zeros in 64 KiB of gzip: what is decoded counts, and decoding stops there.
#[tokio::test]
async fn a_small_body_that_grows_is_cut_at_the_limit() {
    const ZEROS: u64 = 64 << 20;
    let zeros = std::io::repeat(0).take(ZEROS);
    let mut bomb = Vec::new();
    flate2::read::GzEncoder::new(zeros, flate2::Compression::best())
        .read_to_end(&mut bomb)
        .unwrap();
    assert!(bomb.len() < 100_000, "{}", bomb.len());
    let server = Server::start(move |conn| {
        while conn.read_request()?.is_some() {
            conn.respond(200, &[("content-encoding", "gzip")], &bomb)?;
        }
        Ok(())
    });
    on_each(
        |builder| builder.max_response_size(1 << 20),
        async |client, _| {
            let read = Arc::new(AtomicUsize::new(0));
            let seen = Arc::clone(&read);
            let request = client.get(server.http_url("/")).on_download(move |bytes, _| {
                seen.store(usize::try_from(bytes).unwrap(), Ordering::Relaxed);
            });
            let error = request.send().await.unwrap().bytes().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooBig);
            assert!(read.load(Ordering::Relaxed) < 2 << 20, "{read:?}");
        },
    )
    .await;
}

#[test]
fn what_is_in_the_stack_stands_in_the_settings() {
    let client = HttpClient::builder(engine::Tungstenite::new())
        .redirects(Redirects::new().limit(3))
        .cookie_jar(drivetrain::CookieJar::new())
        .on_unauthorized(|_| ready(Ok(None)))
        .no_decompression()
        .layer(tower::layer::util::Identity::new())
        .build()
        .unwrap();
    let table = client.settings().to_string();
    for row in ["redirects", "at most 3", "cookie_jar", "on_unauthorized", "a hook, once", "layers"]
    {
        assert!(table.contains(row), "{row}: {table}");
    }
    let table = HttpClient::new(engine::Tungstenite::new()).settings().to_string();
    assert!(table.contains("gzip, br, zstd"), "{table}");
}
