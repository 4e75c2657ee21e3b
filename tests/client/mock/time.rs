//! Hours in microseconds.

use std::time::Duration;

use drivetrain::{
    CloseCode, ErrorKind, Frame, HttpClient, WebSockets,
    http::Method,
    sse::Reconnect,
    testing::{Clock, MockEngine, Reply, Script},
};

use super::{SECOND, client, connect, on, while_time_passes};

fn pinging(mock: &MockEngine) -> HttpClient {
    let plugin = WebSockets::new().ping_interval(20 * SECOND).ping_timeout(10 * SECOND);
    HttpClient::builder(mock.clone()).install(plugin).build().unwrap()
}

#[test]
fn a_dead_peer_is_found_at_interval_and_timeout_exactly() {
    for stalls in [false, true] {
        let mock = MockEngine::new();
        let client = pinging(&mock);
        mock.web_socket("/chat").silent().open();
        mock.clock().block_on(async {
            let mut session = connect(&client).await.unwrap();
            let mut peer = mock.accept().await.unwrap();
            if stalls {
                peer.stall();
            }
            mock.clock().advance(30 * SECOND - Duration::from_nanos(1)).await;
            assert!(!peer.is_dropped());
            mock.clock().advance(Duration::from_nanos(1)).await;
            assert!(peer.is_dropped());
            assert_eq!(session.receive().await.unwrap_err().kind(), ErrorKind::Timeout);
            if !stalls {
                assert!(matches!(peer.receive().await.unwrap(), Some(Frame::Ping(_))));
                let close = peer.receive().await.unwrap().unwrap();
                let reason = close.read_reason().unwrap();
                assert_eq!(
                    (reason.code(), reason.text()),
                    (CloseCode::INTERNAL_ERROR, "Ping timeout")
                );
            }
        });
        assert_eq!(mock.clock().tasks(), 0);
    }
}

#[test]
fn a_living_peer_is_pinged_for_days() {
    let mock = MockEngine::new();
    let client = pinging(&mock);
    mock.web_socket("/chat").open();
    mock.clock().block_on(async {
        let session = connect(&client).await.unwrap();
        let peer = mock.accept().await.unwrap();
        mock.clock().advance(24 * 3600 * SECOND).await;
        assert_eq!(peer.writes(), 24 * 180, "one ping each 20 s");
        assert_eq!(session.latency(), Some(Duration::ZERO));
        assert!(session.close(drivetrain::CloseReason::normal()).await.unwrap().clean);
    });
}

#[test]
fn a_script_waits_and_expects_pings() {
    let mock = MockEngine::new().ping_interval(20 * SECOND);
    let client = HttpClient::new(mock.clone());
    let script = Script::new().expect_ping().pause(SECOND).send("slow").expect_ping().eof();
    mock.web_socket("/chat").script(script);
    let (result, elapsed) = mock.clock().block_on(async {
        let mut session = connect(&client).await.unwrap();
        while_time_passes(&mock, SECOND / 4, async {
            assert_eq!(session.receive().await.unwrap(), Some(Frame::from("slow")));
            assert_eq!(mock.clock().elapsed(), 21 * SECOND);
            session.receive().await
        })
        .await
    });
    assert_eq!((result.unwrap_err().kind(), elapsed), (ErrorKind::Io, 40 * SECOND));
    mock.assert_done();
}

#[test]
fn pings_between_its_steps_are_none_of_a_scripts_business() {
    let mock = MockEngine::new().ping_interval(20 * SECOND);
    let client = HttpClient::new(mock.clone());
    mock.web_socket("/chat").script(Script::new().expect("at last"));
    mock.clock().block_on(async {
        let session = connect(&client).await.unwrap();
        mock.clock().advance(60 * SECOND).await;
        assert_eq!(session.stats().sent.pings, 3);
        session.send("at last").await.unwrap();
    });
    mock.assert_done();
}

#[test]
fn an_event_stream_connects_again_after_its_delay() {
    let (client, mock) = client();
    let events = |text: &'static str| Reply::event_stream().body(text);
    mock.on(Method::GET, "/events").times(1).respond(events("id: 1\ndata: one\n\n").cut());
    mock.on(Method::GET, "/events").times(2).respond(Reply::refused());
    let late = events("id: 2\ndata: two\n\n").pause(3600 * SECOND).body("data: three\n\n");
    mock.on(Method::GET, "/events").times(1).respond(late.stall());
    let read = async {
        let request = client.sse("http://example.com/events");
        let mut events = request.reconnect(Reconnect::new().max_tries(5)).connect().await?;
        let mut came = Vec::new();
        while came.len() < 3 {
            let event = events.next().await?.unwrap();
            came.push((event.data, mock.clock().elapsed().as_secs()));
        }
        Ok::<_, drivetrain::Error>(came)
    };
    let (came, _) = mock.clock().block_on(while_time_passes(&mock, 1000 * SECOND, read));
    let expected = [("one", 0), ("two", 3 + 6 + 12), ("three", 3 + 6 + 12 + 3600)];
    assert_eq!(came.unwrap(), expected.map(|(data, at)| (data.to_owned(), at)));
    let ids: Vec<_> =
        mock.requests().iter().map(|r| r.header("last-event-id").map(str::to_owned)).collect();
    assert_eq!(ids, [None, Some("1".into()), Some("1".into()), Some("1".into())]);
    mock.assert_done();
}

#[test]
fn two_mocks_may_have_one_clock() {
    let clock = Clock::new();
    let [a, b] = [(), ()].map(|()| MockEngine::with_clock(clock.clone()));
    a.on(Method::GET, "/").respond(Reply::from("a").after(10 * SECOND));
    b.on(Method::GET, "/").respond(Reply::from("b").after(20 * SECOND));
    let get = |mock: &MockEngine| HttpClient::new(mock.clone()).get("http://example.com/").send();
    let both = async {
        let first = get(&a).await.unwrap().text().await.unwrap();
        (first, get(&b).await.unwrap().text().await.unwrap())
    };
    let (texts, elapsed) = clock.block_on(while_time_passes(&a, SECOND, both));
    assert_eq!((texts, elapsed), (("a".into(), "b".into()), 30 * SECOND));
}

#[test]
fn time_stands_still_by_itself() {
    let (client, mock) = client();
    mock.web_socket("/chat").open();
    on(&mock, async {
        let mut session = connect(&client).await?;
        let mut peer = mock.accept().await?;
        for _ in 0..100 {
            session.send("a").await?;
            peer.receive().await?;
            peer.send("b");
            session.receive().await?;
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(mock.clock().elapsed(), Duration::ZERO);
}

#[test]
fn waiting_for_what_cannot_happen_fails_and_does_not_hang() {
    let (client, mock) = client();
    mock.web_socket("/chat").open();
    let mut session = on(&mock, connect(&client)).unwrap();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = on(&mock, session.receive());
    }));
    std::panic::set_hook(hook);
    let message = *waited.unwrap_err().downcast_ref::<&str>().unwrap();
    assert!(message.contains("cannot happen while time stands still"), "{message}");
}
