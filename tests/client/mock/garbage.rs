//! What breaks a rule is a violation as on a socket: refused with the code for it, and the peer sees the Close.

use drivetrain::{
    CloseCode, ErrorKind, HttpClient, OpCode, RawFrame, Rsv, WebSockets,
    testing::{MockEngine, Script},
};

use super::connect;

/// Bytes that a server may not send, in hex as on the wire, and the code of the Close that answers them.
const BYTES: [(&str, &[u8], u16); 21] = [
    ("reserved opcode 3", b"\x83\x00", 1002),
    ("reserved opcode 7", b"\x87\x00", 1002),
    ("reserved opcode 11", b"\x8b\x00", 1002),
    ("reserved opcode 15", b"\x8f\x00", 1002),
    ("RSV1 that nobody agreed on", b"\xc1\x00", 1002),
    ("RSV2", b"\xa1\x00", 1002),
    ("RSV3 of a ping", b"\x99\x00", 1002),
    ("a masked frame", b"\x82\x80\x8a\x00\x8a\x00", 1002),
    ("a ping in fragments", b"\x09\x00", 1002),
    ("a ping of 126 bytes", b"\x89\x7e\x00\x7e", 1002),
    ("a close of 2^63 bytes", b"\x88\x7f\x80\x00\x00\x00\x00\x00\x00\x00", 1002),
    ("a length that is not the shortest", b"\x81\x7e\x00\x05hello", 1002),
    ("a length with the highest bit", b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff", 1002),
    ("a continuation of nothing", b"\x80\x00", 1002),
    ("a message inside another", b"\x01\x01a\x81\x01b", 1002),
    ("a close with one byte", b"\x88\x01\x03", 1002),
    ("a close with 1005", b"\x88\x02\x03\xed", 1002),
    ("a close whose reason is not UTF-8", b"\x88\x03\x03\xe8\xff", 1007),
    ("text that is not UTF-8", b"\x81\x02\xc3\x28", 1007),
    ("text that ends inside a character", b"\x81\x01\xc3", 1007),
    ("HTTP", b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 40\r\n\r\nwhat a server says that is no WebSocket", 1002),
];

/// Plays a script to a client, and says how its session failed and which Close the peer saw.
fn violated(script: Script, plugin: WebSockets) -> (ErrorKind, Option<CloseCode>) {
    let mock = MockEngine::new();
    let client = HttpClient::builder(mock.clone()).install(plugin).build().unwrap();
    mock.web_socket("/chat").open();
    mock.web_socket("/script").optional().script(script.clone());
    mock.clock().block_on(async {
        let mut session = client.web_socket("ws://example.com/script").connect().await.unwrap();
        let kind = loop {
            match session.receive().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it was taken for a clean end"),
                Err(error) => break error.kind(),
            }
        };
        let sent = session.outcome().sent.map(|reason| reason.code());
        // Another session is not concerned.
        connect(&client).await.unwrap();
        (kind, sent)
    })
}

#[test]
fn bytes_that_break_a_rule_are_answered_with_its_code() {
    for (what, bytes, code) in BYTES {
        for in_chunks in [false, true] {
            let script = match in_chunks {
                true => {
                    bytes.iter().fold(Script::new(), |script, &byte| script.send_raw(vec![byte]))
                }
                false => Script::new().send_raw(bytes),
            };
            let (kind, sent) = violated(script.send("and after it"), WebSockets::new());
            assert_eq!(kind, ErrorKind::Protocol, "{what}");
            assert_eq!(sent.map(u16::from), Some(code), "{what}, in chunks: {in_chunks}");
        }
    }
}

#[test]
fn frames_that_break_a_rule_are_answered_with_its_code() {
    let ping = |payload: usize| RawFrame::new(OpCode::Ping, vec![0; payload]);
    let frames = [
        ("a ping of 126 bytes", ping(126), 1002),
        ("a ping in fragments", ping(0).not_final(), 1002),
        ("a continuation of nothing", RawFrame::new(OpCode::Continuation, ""), 1002),
        ("RSV1", RawFrame { rsv: Rsv::RSV1, ..RawFrame::new(OpCode::Text, "") }, 1002),
        ("not UTF-8", RawFrame::new(OpCode::Text, &b"\xff"[..]), 1007),
    ];
    for (what, frame, code) in frames {
        let (kind, sent) = violated(Script::new().send_frame(frame), WebSockets::new());
        assert_eq!((kind, sent.map(u16::from)), (ErrorKind::Protocol, Some(code)), "{what}");
    }
}

#[test]
fn what_is_too_big_is_refused_by_its_head() {
    let plugin = || WebSockets::new().max_frame_size(1000).max_message_size(1500);
    let fragment = |opcode| RawFrame::new(opcode, vec![0; 800]).not_final();
    for script in [
        Script::new().send_raw(&b"\x82\x7f\x40\x00\x00\x00\x00\x00\x00\x00"[..]),
        Script::new().send(vec![0; 1001]),
        Script::new()
            .send_frame(fragment(OpCode::Binary))
            .send_frame(fragment(OpCode::Continuation)),
    ] {
        assert_eq!(violated(script, plugin()), (ErrorKind::TooBig, Some(CloseCode::TOO_BIG)));
    }
}

/// There, nothing above the mock looks at it.
#[test]
fn what_is_too_big_for_a_raw_session_is_refused_too() {
    for payload in [1000, 1001] {
        let mock = MockEngine::new();
        let plugin = WebSockets::new().max_frame_size(1000);
        let client = HttpClient::builder(mock.clone()).install(plugin).build().unwrap();
        mock.web_socket("/chat").script(Script::new().send(vec![0; payload]));
        let received = mock.clock().block_on(async {
            let mut raw = client.web_socket("ws://example.com/chat").connect_raw().await.unwrap();
            raw.receive().await
        });
        let received = received.map(|frame| frame.unwrap().payload.len());
        let expected = if payload > 1000 { Err(ErrorKind::TooBig) } else { Ok(payload) };
        assert_eq!(received.map_err(|error| error.kind()), expected);
    }
}
