//! Connections that are kept and used again, and answers that come early.

mod rule {
    //! What is repeated, by what an engine says of a request that failed.

    use std::{
        future::poll_fn,
        pin::Pin,
        sync::{
            Arc, Mutex,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use drivetrain::{
        Body, Bytes, Capability, ErrorKind, HttpClient, Result, Support,
        engine::{Answer, Engine, Handshake, Runtime, async_trait},
        http::{Method, Request, Response},
        testing::MockEngine,
    };
    use drivetrain_engine::{EngineSettings, Error, NewConnection, Replay, UPLOAD_GRACE};
    use futures_util::stream;

    /// Fails requests with these marks, the first one first, and answers then.
    #[derive(Clone, Debug)]
    struct Failing {
        marks: Arc<Mutex<Vec<Option<Replay>>>>,
        reads_first: bool,
        calls: Arc<AtomicUsize>,
        new: Arc<AtomicUsize>,
        mock: Arc<MockEngine>,
    }

    #[async_trait]
    impl Engine for Failing {
        fn name(&self) -> &str {
            "failing"
        }

        fn support(&self, capability: Capability) -> Support {
            self.mock.support(capability)
        }

        fn settings(&self) -> EngineSettings {
            self.mock.settings()
        }

        fn check(&self) -> Result<()> {
            Ok(())
        }

        fn runtime(&self) -> Result<Arc<dyn Runtime>> {
            self.mock.runtime()
        }

        async fn execute(&self, request: Request<Body>) -> Result<Response<Body>> {
            self.calls.fetch_add(1, Ordering::SeqCst);
            let is_new = request.extensions().get::<NewConnection>().is_some();
            self.new.fetch_add(usize::from(is_new), Ordering::SeqCst);
            let mut body = request.into_body();
            if self.reads_first {
                poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut body), cx)).await;
            }
            let mut marks = self.marks.lock().expect("no panic");
            if marks.is_empty() {
                return Ok(Response::new(Body::from("answered")));
            }
            let error = Error::new(ErrorKind::Io, "it failed");
            Err(match marks.remove(0) {
                Some(mark) => error.with_replay(mark),
                None => error,
            })
        }

        async fn connect(&self, _: Handshake) -> Result<Answer> {
            Err(Error::new(ErrorKind::Other, "it has none"))
        }
    }

    /// How often a request was sent, how often over a new connection, and whether it was answered.
    fn sent(
        marks: &[Option<Replay>],
        method: Method,
        body: Body,
        reads_first: bool,
    ) -> (usize, usize, bool) {
        let (calls, new) = Default::default();
        let marks = Arc::new(Mutex::new(marks.to_vec()));
        let mock = Arc::new(MockEngine::new());
        let engine = Failing { marks, reads_first, calls, new, mock };
        let client = HttpClient::new(engine.clone());
        let request = client.request(method, "http://example.com/").body(body);
        let answer = smol::block_on(request.send());
        let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        (count(&engine.calls), count(&engine.new), answer.is_ok())
    }

    /// Asks for one chunk of a body, answers, and asks for nothing more.
    #[derive(Clone, Debug)]
    struct Stuck {
        mock: Arc<MockEngine>,
        bodies: Arc<Mutex<Vec<Body>>>,
    }

    #[async_trait]
    impl Engine for Stuck {
        fn name(&self) -> &str {
            "stuck"
        }

        fn support(&self, capability: Capability) -> Support {
            self.mock.support(capability)
        }

        fn settings(&self) -> EngineSettings {
            self.mock.settings()
        }

        fn check(&self) -> Result<()> {
            Ok(())
        }

        fn runtime(&self) -> Result<Arc<dyn Runtime>> {
            self.mock.runtime()
        }

        async fn execute(&self, request: Request<Body>) -> Result<Response<Body>> {
            let mut body = request.into_body();
            poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut body), cx)).await;
            self.bodies.lock().expect("no panic").push(body);
            Ok(Response::new(Body::from("answered")))
        }

        async fn connect(&self, _: Handshake) -> Result<Answer> {
            Err(Error::new(ErrorKind::Other, "it has none"))
        }
    }

    /// The body is the caller's, not the engine's.
    #[test]
    fn a_body_is_let_go_after_its_answer_though_the_engine_holds_the_upload() {
        let mock = Arc::new(MockEngine::new());
        let engine = Stuck { mock: Arc::clone(&mock), bodies: Arc::default() };
        let client = HttpClient::new(engine.clone());
        let held = Arc::new(());
        let holds = Arc::clone(&held);
        let streaming = Body::from_stream(stream::repeat_with(move || {
            let _ = &holds;
            std::io::Result::Ok("chunk")
        }));
        let owned = Bytes::from_owner(Owner { bytes: vec![7; 200_000], _held: Arc::clone(&held) });
        let clock = mock.clock();
        let counts = clock.block_on(async {
            for body in [streaming, Body::from(owned)] {
                let request = client.post("http://example.com/").body(body);
                request.send().await?.text().await?;
            }
            clock.advance(UPLOAD_GRACE / 2).await;
            let early = Arc::strong_count(&held);
            clock.advance(UPLOAD_GRACE).await;
            Ok::<_, Error>([early, Arc::strong_count(&held)])
        });
        assert_eq!(counts.expect("answers"), [3, 1], "both have a grace, and none is held");
        for body in engine.bodies.lock().expect("no panic").iter_mut() {
            let next =
                smol::block_on(poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut *body), cx)));
            assert!(next.is_some_and(|next| next.is_err()), "it ends with an error");
        }
    }

    /// Bytes in memory.
    struct Owner {
        bytes: Vec<u8>,
        _held: Arc<()>,
    }

    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }

    const NOT_PROCESSED: Option<Replay> = Some(Replay::NotProcessed);
    const UNANSWERED: Option<Replay> = Some(Replay::Unanswered);

    fn streaming() -> Body {
        Body::from_stream(stream::iter([std::io::Result::Ok("chunk")]))
    }

    #[test]
    fn what_is_not_marked_is_not_repeated() {
        assert_eq!(sent(&[None], Method::GET, Body::empty(), false), (1, 0, false));
    }

    #[test]
    fn what_was_not_processed_is_repeated_whatever_the_method() {
        for method in [Method::GET, Method::POST, Method::PATCH] {
            let small = sent(&[NOT_PROCESSED], method.clone(), Body::from("small"), true);
            assert_eq!(small, (2, 0, true));
            let large = Body::from(vec![7; 200_000]);
            assert_eq!(sent(&[NOT_PROCESSED], method, large, true), (2, 0, true));
        }
        let thrice = [NOT_PROCESSED; 3];
        assert_eq!(sent(&thrice, Method::POST, Body::empty(), false), (4, 1, true));
        let often = [NOT_PROCESSED; 5];
        assert_eq!(sent(&often, Method::POST, Body::empty(), false), (4, 1, false));
    }

    #[test]
    fn what_was_not_answered_is_repeated_once_if_it_is_idempotent() {
        assert_eq!(sent(&[UNANSWERED], Method::GET, Body::empty(), false), (2, 1, true));
        assert_eq!(sent(&[UNANSWERED; 2], Method::GET, Body::empty(), false), (2, 1, false));
        assert_eq!(sent(&[UNANSWERED], Method::POST, Body::empty(), false), (1, 0, false));
    }

    #[test]
    fn a_stream_is_repeated_while_nobody_has_asked_for_a_chunk() {
        for mark in [NOT_PROCESSED, UNANSWERED] {
            assert_eq!(sent(&[mark], Method::PUT, streaming(), false).0, 2);
            assert_eq!(sent(&[mark], Method::PUT, streaming(), true), (1, 0, false));
        }
    }
}

#[cfg(feature = "reqwest")]
mod bursts {
    //! Connections of HTTP/2 that end under many requests.

    use std::{collections::HashSet, io, time::Duration};

    use drivetrain::{HttpClient, engine};
    use drivetrain_conformance::peer::{Conn, Server};

    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const GOAWAY: u8 = 7;
    const WINDOW_UPDATE: u8 = 8;
    /// Of SETTINGS.
    const ACK: u8 = 1;
    const END_STREAM: u8 = 1;
    const END_HEADERS: u8 = 4;

    /// SETTINGS_MAX_CONCURRENT_STREAMS, set to 128, as nginx has it.
    const SOME_STREAMS: [u8; 6] = [0, 3, 0, 0, 0, 128];

    /// The requests that a connection answers.
    const REQUESTS: usize = 100;

    fn send(conn: &mut Conn, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let length = u8::try_from(payload.len()).expect("it is short");
        let head = [&[0, 0, length, kind, flags][..], &stream.to_be_bytes()].concat();
        conn.write_all(&[&head, payload].concat())
    }

    /// Answers what it takes, says with its last request that it takes no more, and leaves when all are answered.
    fn serve(conn: &mut Conn) -> io::Result<()> {
        conn.read_exact(&mut [0; 24])?;
        send(conn, SETTINGS, 0, 0, &SOME_STREAMS)?;
        let (mut taken, mut open) = (0, HashSet::new());
        while taken < REQUESTS || !open.is_empty() {
            let mut head = [0; 9];
            conn.read_exact(&mut head)?;
            let [a, b, c, kind, flags, stream @ ..] = head;
            let stream = u32::from_be_bytes(stream);
            let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
            conn.read_exact(&mut payload)?;
            match kind {
                SETTINGS if flags & ACK == 0 => send(conn, SETTINGS, ACK, 0, &[])?,
                HEADERS if taken < REQUESTS => {
                    taken += 1;
                    open.insert(stream);
                    if taken == REQUESTS {
                        send(conn, GOAWAY, 0, 0, &[stream.to_be_bytes(), [0; 4]].concat())?;
                    }
                }
                DATA => {
                    if !payload.is_empty() {
                        send(conn, WINDOW_UPDATE, 0, 0, &(payload.len() as u32).to_be_bytes())?;
                    }
                    if flags & END_STREAM != 0 && open.remove(&stream) {
                        send(conn, HEADERS, END_HEADERS, stream, &[0x88])?;
                        send(conn, DATA, END_STREAM, stream, b"done")?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A request that waits in a library when its connection goes away was not processed: about one of a burst. Two of
    /// 340 000 in such bursts were forgotten there: these are sent again after 30 s.
    #[test]
    fn every_request_is_answered_though_connections_go_away() {
        let server = Server::start(serve);
        let client = HttpClient::new(engine::Reqwest::new().http2_prior_knowledge());
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            for _ in 0..8 {
                let post = || client.post(server.http_url("/")).body("a body").send();
                let answers = (0..400).map(|_| {
                    let answer = post();
                    tokio::spawn(async move { answer.await?.text().await })
                });
                let answers: Vec<_> = answers.collect();
                let answered = async {
                    for answer in answers {
                        let text = answer.await.expect("no panic").expect("it is answered");
                        assert_eq!(text, "done");
                    }
                };
                tokio::time::timeout(Duration::from_secs(300), answered).await.expect("it hangs");
            }
        });
        assert!(server.connections() >= 8 * 4, "{server:?}");
    }
}

#[cfg(all(feature = "native", feature = "rustls"))]
mod runtimes {
    use std::time::Duration;

    use drivetrain::{HttpClient, Protocol, engine};
    use drivetrain_conformance::peer::{
        Conn, EchoServer, Http2Sockets, Server, TestCa, serve_http2,
    };
    use tokio::runtime::{Builder, Runtime};

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    fn within<T>(runtime: &Runtime, work: impl Future<Output = T>) -> T {
        runtime.block_on(async {
            let limit = Duration::from_secs(60);
            tokio::time::timeout(limit, work).await.expect("it ends though nobody drives the other")
        })
    }

    /// The first runtime lives and is not driven: what it dialled is of no use.
    #[test]
    fn a_client_is_used_from_a_second_runtime() {
        let server = Server::start(EchoServer::serve);
        let client = HttpClient::new(engine::Native::new());
        let get = || async {
            let text = client.get(server.http_url("/get")).send().await?.text().await?;
            Ok::<_, drivetrain::Error>(text)
        };
        let (first, second) = (runtime(), runtime());
        for runtime in [&first, &second, &first, &second] {
            assert_eq!(within(runtime, get()).expect("it is answered"), "get");
        }
    }

    #[test]
    fn a_client_is_used_from_a_second_runtime_over_http_2() {
        let ca = TestCa::new();
        let serve = |conn: &mut Conn| serve_http2(conn, Http2Sockets::Echoed);
        let server = Server::start_with_tls(serve, ca.http2_server_config());
        let http = engine::Reqwest::new().root_certificate_pem(ca.ca_pem());
        let client = HttpClient::new(engine::Native::new().http(http.web_socket_over_http2()));
        let (first, second) = (runtime(), runtime());
        let mut kept = Vec::new();
        for runtime in [&first, &second, &first, &second] {
            within(runtime, async {
                client.get(server.http_url("/")).send().await?.text().await?;
                let mut session = client.web_socket(server.ws_url("/")).connect().await?;
                assert_eq!(session.protocol(), Protocol::H2);
                session.send("here").await?;
                assert!(session.receive().await?.is_some());
                kept.push(session);
                Ok::<_, drivetrain::Error>(())
            })
            .expect("it is answered");
        }
        assert_eq!(server.connections(), 4, "two of each runtime's");
        for (index, session) in kept.drain(..).enumerate() {
            within(if index % 2 == 0 { &first } else { &second }, async { drop(session) });
        }
    }

    /// There is no ALPN: it is known beforehand.
    #[test]
    fn http_2_in_clear_text_is_spoken_where_it_is_known() {
        let server = Server::start(|conn: &mut Conn| serve_http2(conn, Http2Sockets::Echoed));
        let http = engine::Reqwest::new().web_socket_over_http2().http2_prior_knowledge();
        let client = HttpClient::new(engine::Native::new().http(http));
        let first = runtime();
        within(&first, async {
            let response = client.get(server.http_url("/")).send().await?;
            assert_eq!(response.version(), drivetrain::http::Version::HTTP_2);
            response.text().await?;
            for _ in 0..2 {
                let mut session = client.web_socket(server.ws_url("/")).connect().await?;
                assert_eq!(session.protocol(), Protocol::H2);
                session.send("here").await?;
                assert!(session.receive().await?.is_some());
                assert!(session.close(drivetrain::CloseReason::normal()).await?.clean);
            }
            Ok::<_, drivetrain::Error>(())
        })
        .expect("it is answered");
        let contradiction = engine::Reqwest::new().http1_only().http2_prior_knowledge();
        let refused = HttpClient::builder(contradiction).build().expect_err("it cannot be both");
        assert!(refused.to_string().contains("http1_only"), "{refused}");
    }

    /// Their sockets are driven by a thread of the process.
    #[cfg(all(feature = "async-std", feature = "smol"))]
    #[test]
    fn engines_without_tokio_have_one_runtime() {
        let server = Server::start(EchoServer::serve);
        let clients =
            [HttpClient::new(engine::AsyncStd::new()), HttpClient::new(engine::Smol::new())];
        for client in clients {
            for block_on in
                [async_std::task::block_on, |work| smol::block_on(work)] as [fn(_) -> _; 2]
            {
                let (client, url) = (client.clone(), server.http_url("/get"));
                let work: std::pin::Pin<Box<dyn Future<Output = drivetrain::Result<String>>>> =
                    Box::pin(async move { client.get(url).send().await?.text().await });
                assert_eq!(block_on(work).expect("it is answered"), "get");
            }
        }
        assert_eq!(server.connections(), 2, "each client kept one");
    }
}
