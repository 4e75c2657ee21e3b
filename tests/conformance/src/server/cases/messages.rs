//! Messages and control frames of good clients.

use std::thread;

use drivetrain::{ErrorKind, Json, Session, WebSockets};
use serde_json::{Value, json};

use super::{ServerCase, case};
use crate::{
    failure::Verdict,
    peer::{WireFrame, masked, opcode},
    server::context::{ServerContext, echo, within},
};

pub(super) fn cases() -> Vec<ServerCase> {
    vec![
        case(messages_of_every_length_form_come_back),
        case(texts_of_1_to_125_bytes_come_back_in_order),
        case(a_conversation_of_a_hundred_steps),
        case(twenty_thousand_messages_come_back_in_order),
        case(a_message_of_20_mib_comes_back),
        case(fragments_with_a_ping_between_are_one_message),
        case(binary_fragments_are_one_message),
        case(every_mask_is_removed),
        case(every_ping_is_answered_in_order),
        case(pongs_that_nobody_asked_for_are_ignored),
        case(ten_thousand_pings_are_survived),
        case(a_server_speaks_first),
        case(values_are_converted),
        case(without_a_converter_values_are_refused),
    ]
}

fn messages_of_every_length_form_come_back(cx: &ServerContext) -> Verdict {
    let server = cx.echo();
    let mut client = server.client()?;
    for size in [0, 1, 125, 126, 127, 0xc123, 0xcdef, 0xffff, 0x1_0000, 300_000] {
        let payload = vec![b'x'; size];
        client.send(&WireFrame::text(payload.clone()))?;
        assert_eq!(client.message()?, (opcode::TEXT, payload.clone()), "{size}");
        client.send(&WireFrame::binary(payload.clone()))?;
        assert_eq!(client.message()?, (opcode::BINARY, payload), "{size}");
    }
    Ok(())
}

fn texts_of_1_to_125_bytes_come_back_in_order(cx: &ServerContext) -> Verdict {
    let server = cx.echo();
    let mut client = server.client()?;
    let texts: Vec<_> = (1..=125).map(|size| "x".repeat(size)).collect();
    let frames: Vec<u8> =
        texts.iter().flat_map(|text| masked(&WireFrame::text(text.as_str()))).collect();
    client.write(&frames)?;
    for text in texts {
        assert_eq!(client.text()?, text);
    }
    Ok(())
}

fn a_conversation_of_a_hundred_steps(cx: &ServerContext) -> Verdict {
    let server = cx.echo();
    let mut client = server.client()?;
    for step in 0..100 {
        client.send(&WireFrame::text(format!("step {step}")))?;
        assert_eq!(client.text()?, format!("step {step}"));
    }
    client.close(1000)?;
    assert_eq!(client.closed()?.0, 1000);
    client.ended()?;
    Ok(())
}

fn twenty_thousand_messages_come_back_in_order(cx: &ServerContext) -> Verdict {
    const ROUNDS: u32 = 100;
    const PER_ROUND: u32 = 200;
    let server = cx.echo();
    let mut client = server.client()?;
    for round in 0..ROUNDS {
        let numbers = || round * PER_ROUND..(round + 1) * PER_ROUND;
        let frames = numbers().flat_map(|i| masked(&WireFrame::binary(i.to_be_bytes())));
        client.write(&frames.collect::<Vec<_>>())?;
        for i in numbers() {
            assert_eq!(client.message()?, (opcode::BINARY, i.to_be_bytes().to_vec()));
        }
    }
    Ok(())
}

/// The client writes and reads at once: the server holds at most what its limits allow.
fn a_message_of_20_mib_comes_back(cx: &ServerContext) -> Verdict {
    const SIZE: usize = 20 << 20;
    let plugin = WebSockets::new().max_frame_size(SIZE).max_message_size(SIZE);
    let server = cx.start(cx.upgrader().install(plugin), echo);
    let mut client = server.client()?;
    let payload: Vec<u8> = (0..SIZE).map(|i| (i % 251) as u8).collect();
    let frame = masked(&WireFrame::binary(payload.clone()));
    let mut socket = client.socket().try_clone()?;
    let writer = thread::spawn(move || std::io::Write::write_all(&mut socket, &frame));
    let (opcode, back) = client.message()?;
    assert!(opcode == opcode::BINARY && back == payload, "{} bytes came back", back.len());
    assert!(writer.join().is_ok_and(|written| written.is_ok()));
    Ok(())
}

fn fragments_with_a_ping_between_are_one_message(cx: &ServerContext) -> Verdict {
    let server = cx.echo();
    let mut client = server.client()?;
    client.send(&WireFrame { fin: false, ..WireFrame::text("ABC") })?;
    client.send(&WireFrame::ping("between"))?;
    client.send(&WireFrame::continuation("12", false))?;
    client.send(&WireFrame::continuation("3", true))?;
    assert_eq!(client.receive_frame()?, WireFrame::pong("between"));
    assert_eq!(client.text()?, "ABC123");
    Ok(())
}

fn binary_fragments_are_one_message(cx: &ServerContext) -> Verdict {
    let server = cx.echo();
    let mut client = server.client()?;
    client.send(&WireFrame { fin: false, ..WireFrame::binary([0xff]) })?;
    for _ in 0..10 {
        client.send(&WireFrame::continuation("", false))?;
        client.send(&WireFrame::continuation([0xc3], false))?;
    }
    client.send(&WireFrame::continuation("", true))?;
    let whole = [&[0xff][..], &[0xc3; 10]].concat();
    assert_eq!(client.message()?, (opcode::BINARY, whole));
    Ok(())
}

/// A mask of zeros is a mask.
fn every_mask_is_removed(cx: &ServerContext) -> Verdict {
    let server = cx.echo();
    let mut client = server.client()?;
    for key in [[0; 4], [0xff; 4], [1, 2, 3, 4], [0, 0, 0, 1]] {
        for size in (0..20).chain([126, 70_000]) {
            let payload: Vec<u8> = (0..size).map(|i| (i % 127) as u8).collect();
            client.write(&WireFrame::text(payload.clone()).encode(Some(key)))?;
            assert_eq!(client.message()?, (opcode::TEXT, payload), "{key:?}, {size}");
        }
    }
    Ok(())
}

fn every_ping_is_answered_in_order(cx: &ServerContext) -> Verdict {
    let server = cx.echo();
    let mut client = server.client()?;
    for payload in [&b""[..], b"one", b"two", &[0xff; 125], b"two"] {
        client.send(&WireFrame::ping(payload))?;
        assert_eq!(client.receive_frame()?, WireFrame::pong(payload));
    }
    Ok(())
}

fn pongs_that_nobody_asked_for_are_ignored(cx: &ServerContext) -> Verdict {
    let server = cx.echo();
    let mut client = server.client()?;
    for payload in ["", "nobody asked"] {
        client.send(&WireFrame::pong(payload))?;
    }
    client.send(&WireFrame::text("still here"))?;
    assert_eq!(client.receive_frame()?, WireFrame::text("still here"));
    Ok(())
}

/// More than the server has to answer: newer pongs may replace older ones.
fn ten_thousand_pings_are_survived(cx: &ServerContext) -> Verdict {
    let server = cx.echo();
    let mut client = server.client()?;
    for chunk in 0..100_u32 {
        let pings =
            (0..100).flat_map(|i| masked(&WireFrame::ping((chunk * 100 + i).to_be_bytes())));
        client.write(&pings.collect::<Vec<_>>())?;
    }
    client.send(&WireFrame::text("after the flood"))?;
    let mut newest = None;
    loop {
        let frame = client.receive_frame()?;
        if frame.opcode == opcode::TEXT {
            assert_eq!(frame, WireFrame::text("after the flood"));
            break;
        }
        assert_eq!(frame.opcode, opcode::PONG);
        let number = frame.payload.first_chunk().map(|number| u32::from_be_bytes(*number));
        assert!(number > newest, "{number:?} after {newest:?}");
        newest = number;
    }
    client.close(1000)?;
    assert_eq!(client.closed()?.0, 1000);
    Ok(())
}

fn a_server_speaks_first(cx: &ServerContext) -> Verdict {
    let server = cx.start(cx.upgrader(), async |session: Session| {
        for i in 0..10 {
            session.send(format!("text {i}")).await?;
        }
        Ok(())
    });
    let mut client = server.client()?;
    for i in 0..10 {
        assert_eq!(client.text()?, format!("text {i}"));
    }
    assert_eq!(client.closed()?.0, 1000);
    Ok(())
}

/// What is no value is an error of the one call, and the session goes on.
fn values_are_converted(cx: &ServerContext) -> Verdict {
    let plugin = WebSockets::new().converter(Json);
    let server = cx.start(cx.upgrader().install(plugin), async |mut session: Session| {
        loop {
            match session.receive_deserialized::<Vec<u8>>().await {
                Ok(value) => {
                    session.send_serialized(&json!({ "sum": value.iter().sum::<u8>() })).await?
                }
                Err(error) if error.kind() == ErrorKind::Convert => session.send("what?").await?,
                Err(error) if error.kind() == ErrorKind::Closed => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    });
    let mut client = server.client()?;
    for (sent, back) in [("[1,2]", json!({ "sum": 3 })), ("[]", json!({ "sum": 0 }))] {
        client.send(&WireFrame::text(sent))?;
        assert_eq!(serde_json::from_str::<Value>(&client.text()?)?, back);
        for wrong in ["not JSON", "null"] {
            client.send(&WireFrame::text(wrong))?;
            assert_eq!(client.text()?, "what?");
        }
    }
    client.close(1000)?;
    assert_eq!(client.closed()?.0, 1000);
    client.ended()?;
    Ok(())
}

fn without_a_converter_values_are_refused(cx: &ServerContext) -> Verdict {
    let (kinds, seen) = std::sync::mpsc::channel();
    let server = cx.start(cx.upgrader(), move |session: Session| {
        let kinds = kinds.clone();
        async move {
            let _ = kinds.send(session.send_serialized(&1).await.map_err(|error| error.kind()));
            Ok(())
        }
    });
    let mut client = server.client()?;
    assert_eq!(within(&seen)?, Err(ErrorKind::InvalidInput));
    assert_eq!(client.closed()?.0, 1000);
    Ok(())
}
