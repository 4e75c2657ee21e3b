//! Scripted peers, and scripts that are not kept to.

use drivetrain::{CloseCode, CloseReason, ErrorKind, Frame, testing::Script};

use super::{SECOND, URL, client, connect, on, problems, text};

#[test]
fn a_script_is_played_for_each_connection() {
    let (client, mock) = client();
    let script = Script::new()
        .expect("hi")
        .send("ho")
        .ping("there?")
        .expect_pong("there?")
        .send(vec![1, 2, 3])
        .expect_matching("a long binary message", |frame| frame.read_bytes().len() == 100_000)
        .close(CloseReason::new(4001, "moved").unwrap())
        .expect_close_code(CloseCode::try_from(4001).unwrap());
    mock.web_socket("/chat").times(2).script(script);
    for _ in 0..2 {
        let outcome = on(&mock, async {
            let mut session = connect(&client).await?;
            session.send("hi").await?;
            assert_eq!(text(session.receive().await?), "ho");
            assert_eq!(session.receive().await?, Some(Frame::from(vec![1, 2, 3])));
            session.send(vec![7; 100_000]).await?;
            assert_eq!(session.receive().await?, None, "a clean end");
            session.closed().await
        })
        .unwrap();
        assert!(outcome.clean);
        assert_eq!(outcome.received.unwrap().text(), "moved");
    }
    mock.assert_done();
    assert_eq!(mock.clock().tasks(), 0);
}

#[test]
fn a_mismatch_fails_the_session_and_the_test() {
    let wrong: [(Script, Frame, &str); 5] = [
        (
            Script::new().expect("hi"),
            "ho".into(),
            "step 1 of 1: expected text \"hi\", but text \"ho\" came",
        ),
        (
            Script::new().send("a").expect(vec![1]),
            "\u{1}".into(),
            "step 2 of 2: expected 1 binary bytes b\"\\x01\", but text \"\\u{1}\" came",
        ),
        (
            Script::new().expect_any(),
            CloseReason::normal().into(),
            "step 1 of 1: expected a message, but a close 1000 came",
        ),
        (
            Script::new().expect_close_code(CloseCode::GOING_AWAY),
            CloseReason::normal().into(),
            "step 1 of 1: expected a close with code 1001, but a close 1000 came",
        ),
        (Script::new(), "more".into(), "its 0 steps were done, but text \"more\" came"),
    ];
    for (script, frame, says) in wrong {
        let (client, mock) = client();
        mock.web_socket("/chat").silent().script(script);
        on(&mock, async {
            let session = connect(&client).await?;
            session.send(frame).await?;
            let mut incoming = session.split().1;
            let error = loop {
                match incoming.receive().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("the session ended well"),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), ErrorKind::Other);
            assert!(error.to_string().contains(says), "{error}");
            Ok(())
        })
        .unwrap();
        let told = problems(&mock);
        assert_eq!(told, format!("the script of WebSocket http://example.com/chat, {says}"));
        assert_eq!(mock.clock().tasks(), 0, "nothing runs after it");
    }
}

#[test]
fn sending_fails_after_a_mismatch_too() {
    let (client, mock) = client();
    mock.web_socket("/chat").script(Script::new().expect("hi"));
    let error = on(&mock, async {
        let session = connect(&client).await?;
        loop {
            session.send("ho").await?;
            session.flush().await?;
            mock.clock().settle().await;
        }
        #[allow(unreachable_code)]
        Ok(())
    })
    .unwrap_err();
    assert!(error.to_string().contains("expected text \"hi\", but text \"ho\" came"), "{error}");
}

#[test]
fn a_script_that_waits_for_a_client_that_is_gone_has_failed() {
    let (client, mock) = client();
    mock.web_socket("/chat").script(Script::new().send("hello").expect("hi"));
    on(&mock, async { connect(&client).await.map(drop) }).unwrap();
    let told = problems(&mock);
    assert!(told.ends_with("step 2 of 2: expected text \"hi\", but a close 1001 came"), "{told}");

    let (client, mock) = super::client();
    mock.web_socket("/chat").script(Script::new().expect("hi"));
    on(&mock, async {
        let mut raw = client.web_socket(URL).connect_raw().await?;
        raw.shutdown().await?;
        let error = raw.receive().await.unwrap_err();
        assert!(error.to_string().contains("but the client ended the connection"), "{error}");
        Ok(())
    })
    .unwrap();
    assert!(problems(&mock).ends_with("but the client ended the connection"));
}

#[test]
fn a_script_that_still_waits_is_named() {
    let (client, mock) = client();
    mock.web_socket("/chat").script(Script::new().expect("hi").pause(SECOND).expect("ho"));
    let session = on(&mock, connect(&client)).unwrap();
    assert!(problems(&mock).ends_with("it is at step 1 of 3, expected text \"hi\""));
    on(&mock, session.send("hi")).unwrap();
    assert!(
        problems(&mock).ends_with("it is at step 2 of 3, pauses for 1s"),
        "{}",
        problems(&mock)
    );
    on(&mock, async {
        mock.clock().advance(SECOND).await;
        session.send("ho").await
    })
    .unwrap();
    mock.assert_done();
}
