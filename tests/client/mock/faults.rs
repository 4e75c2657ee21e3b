//! Every fault that a network has.

use std::time::Duration;

use drivetrain::{
    CloseReason, Error, ErrorKind, HttpClient, HttpTimeout, WebSockets,
    http::Method,
    testing::{MockEngine, Reply, Script},
};

use super::{SECOND, client, connect, on, while_time_passes};

const URL: &str = "http://example.com/";

fn with_timeouts() -> (HttpClient, MockEngine) {
    let mock = MockEngine::new();
    let timeout = HttpTimeout::new().connect(5 * SECOND).request(30 * SECOND).socket(10 * SECOND);
    let client = HttpClient::builder(mock.clone())
        .install(WebSockets::new().handshake_timeout(20 * SECOND))
        .install(timeout)
        .build()
        .unwrap();
    (client, mock)
}

#[test]
fn a_request_fails_when_and_how_it_was_said() {
    let tls = Error::new(ErrorKind::Tls, "the certificate has expired");
    let cases: [(Reply, ErrorKind, Duration); 6] = [
        (Reply::refused(), ErrorKind::Connect, Duration::ZERO),
        (Reply::refused().after(3 * SECOND), ErrorKind::Connect, 3 * SECOND),
        (Reply::fails(tls), ErrorKind::Tls, Duration::ZERO),
        (Reply::unreachable(), ErrorKind::Timeout, 5 * SECOND),
        (Reply::never(), ErrorKind::Timeout, 30 * SECOND),
        (Reply::from("late").after(31 * SECOND), ErrorKind::Timeout, 30 * SECOND),
    ];
    for (reply, kind, after) in cases {
        let (client, mock) = with_timeouts();
        let what = format!("{reply:?}");
        mock.on(Method::GET, "/").respond(reply);
        let sent = while_time_passes(&mock, SECOND, client.get(URL).send());
        let (result, elapsed) = mock.clock().block_on(sent);
        let error = result.expect_err(&what);
        assert_eq!((error.kind(), elapsed), (kind, after), "{what}: {error}");
        assert_eq!(error.engine(), Some("mock"));
    }
}

#[test]
fn a_body_breaks_where_it_was_said() {
    let half = || Reply::from("the first half");
    let broken = Error::new(ErrorKind::Protocol, "a chunk has no length");
    let cases: [(Reply, Result<&str, ErrorKind>, Duration); 5] = [
        (half().cut(), Err(ErrorKind::Io), Duration::ZERO),
        (half().then_fail(broken), Err(ErrorKind::Protocol), Duration::ZERO),
        (half().stall(), Err(ErrorKind::Timeout), 10 * SECOND),
        (half().pause(11 * SECOND).body("."), Err(ErrorKind::Timeout), 10 * SECOND),
        (half().pause(9 * SECOND).body("."), Ok("the first half."), 9 * SECOND),
    ];
    for (reply, expected, after) in cases {
        let (client, mock) = with_timeouts();
        mock.on(Method::GET, "/").respond(reply);
        let read = async { client.get(URL).send().await.unwrap().text().await };
        let (result, elapsed) = mock.clock().block_on(while_time_passes(&mock, SECOND, read));
        let result = result.map_err(|error| error.kind());
        assert_eq!((result.as_deref(), elapsed), (expected.as_ref().map(|text| *text), after));
    }
}

#[test]
fn a_handshake_fails_when_and_how_it_was_said() {
    for (reply, kind, after) in [
        (Reply::refused(), ErrorKind::Connect, Duration::ZERO),
        (Reply::unreachable(), ErrorKind::Timeout, 5 * SECOND),
        (Reply::never(), ErrorKind::Timeout, 20 * SECOND),
    ] {
        let (client, mock) = with_timeouts();
        mock.web_socket("/chat").respond(reply);
        let sent = while_time_passes(&mock, SECOND, connect(&client));
        let (result, elapsed) = mock.clock().block_on(sent);
        assert_eq!((result.unwrap_err().kind(), elapsed), (kind, after));
    }
    let (client, mock) = with_timeouts();
    mock.web_socket("/chat").after(19 * SECOND).open();
    let (session, elapsed) =
        mock.clock().block_on(while_time_passes(&mock, SECOND, connect(&client)));
    assert_eq!((session.is_ok(), elapsed), (true, 19 * SECOND));
}

#[test]
fn a_session_ends_badly_where_it_was_said() {
    let cases: [(&str, Script, &str); 4] = [
        ("the stream ends without a Close", Script::new().send("one").eof(), "without a Close"),
        ("a reset", Script::new().send("one").reset(), "reset the connection"),
        (
            "the end inside a frame",
            Script::new().send("one").send_raw(&b"\x81\x05hel"[..]).eof(),
            "middle of a frame",
        ),
        (
            "a frame whose head is cut",
            Script::new().send("one").send_raw(&b"\x81"[..]).eof(),
            "middle of a frame",
        ),
    ];
    for (what, script, says) in cases {
        let (client, mock) = client();
        mock.web_socket("/chat").script(script);
        on(&mock, async {
            let mut session = connect(&client).await?;
            assert_eq!(session.receive().await?.unwrap().read_text(), Some("one"), "{what}");
            for _ in 0..2 {
                let error = session.receive().await.expect_err(what);
                assert_eq!(error.kind(), ErrorKind::Io, "{what}: {error}");
                let text = error.to_string().to_lowercase();
                assert!(text.contains(&says.to_lowercase()), "{what}: {text}");
            }
            assert!(session.send("x").await.is_err(), "{what}");
            Ok(())
        })
        .unwrap();
        mock.assert_done();
        drop(mock);
    }
}

#[test]
fn a_stalled_peer_takes_nothing_until_it_resumes() {
    let (client, mock) = client();
    mock.web_socket("/chat").open();
    on(&mock, async {
        let mut session = connect(&client).await?;
        let mut peer = mock.accept().await?;
        peer.stall();
        let outgoing = session.outgoing();
        let sends = async {
            for _ in 0..100 {
                outgoing.send(vec![0; 10_000]).await?;
            }
            outgoing.flush().await
        };
        let mut sends = std::pin::pin!(sends);
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(sends.as_mut().poll(&mut cx).is_pending(), "there is no room for all of it");
        peer.send("the other direction");
        assert_eq!(session.receive().await?.unwrap().read_text(), Some("the other direction"));
        for _ in 0..10 {
            mock.clock().settle().await;
            assert!(sends.as_mut().poll(&mut cx).is_pending());
        }
        assert_eq!(peer.writes(), 0, "nothing was taken");
        peer.resume();
        sends.await?;
        for _ in 0..100 {
            assert_eq!(peer.receive().await?.unwrap().read_bytes().len(), 10_000);
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_peer_that_never_closes_is_left_after_the_close_timeout() {
    for stalls in [false, true] {
        let mock = MockEngine::new();
        let plugin = WebSockets::new().close_timeout(7 * SECOND);
        let client = HttpClient::builder(mock.clone()).install(plugin).build().unwrap();
        mock.web_socket("/chat").silent().open();
        mock.clock().block_on(async {
            let session = connect(&client).await.unwrap();
            let mut peer = mock.accept().await.unwrap();
            if stalls {
                peer.stall();
            }
            let close = session.close(CloseReason::normal());
            let (outcome, elapsed) = while_time_passes(&mock, SECOND / 2, close).await;
            assert_eq!(elapsed, 7 * SECOND, "stalls: {stalls}");
            let outcome = match outcome {
                Ok(outcome) => outcome,
                Err(error) => error.outcome().cloned().unwrap(),
            };
            assert!(!outcome.clean);
            assert_eq!(outcome.error.unwrap().kind(), ErrorKind::Timeout);
        });
        assert_eq!(mock.clock().tasks(), 0);
    }
}
