//! Messages of every kind and size, whole and in fragments.

use std::io;

use drivetrain::{CloseReason, Frame, Json, MessageKind, WebSockets};
use drivetrain_engine::Capability;
use futures_util::{
    AsyncWriteExt as _, SinkExt as _, StreamExt as _, TryStreamExt as _, future, stream,
};
use serde_json::{Value, json};

use crate::{
    case::{Case, case},
    context::{Context, PATIENCE},
    expect::{echoes, ends_cleanly, fails, message, text},
    failure::{Failure, Verdict},
    peer::{WireFrame, opcode},
    script::{PeerBehaviour::Polite, Script},
};

const MIB: usize = 1 << 20;
/// The most that a frame of an outgoing message holds.
const FRAGMENT: usize = 64 << 10;

pub(super) fn cases() -> Vec<Case> {
    let cases = [
        case(text_and_binary_come_back),
        case(empty_messages_are_messages),
        case(every_length_form_works),
        case(twenty_mib_come_back).needs(&[Capability::MaxFrameSize]),
        case(a_hundred_thousand_messages_go_both_ways_in_order),
        case(fragments_become_one_message),
        case(control_frames_between_fragments_are_served),
        case(text_may_be_split_within_characters),
        case(a_long_message_goes_out_in_fragments).needs(&[Capability::SendFragments]),
        case(a_pong_goes_between_the_fragments_of_a_long_message)
            .needs(&[Capability::SendFragments]),
        case(fragments_have_the_size_that_is_set)
            .needs(&[Capability::SendFragments, Capability::MaxFrameSize]),
        case(every_frame_is_masked),
        case(messages_of_many_tasks_stay_whole),
        case(halves_are_a_sink_and_a_stream),
        case(values_are_converted),
        case(what_cannot_be_converted_is_an_error_and_the_session_goes_on),
    ];
    cases.into_iter().map(|case| case.needs(&[Capability::WebSockets])).collect()
}

/// Text is text and binary is binary.
async fn text_and_binary_come_back(cx: Context) -> Verdict {
    let (_server, mut session) = cx.session("/echo").await?;
    echoes(&mut session, "grüße 🦀").await?;
    echoes(&mut session, vec![0, 255, 128, 7]).await?;
    echoes(&mut session, String::from("owned")).await
}

/// A message of nothing is received as one.
async fn empty_messages_are_messages(cx: Context) -> Verdict {
    let (server, mut session) = cx.session("/echo").await?;
    echoes(&mut session, "").await?;
    echoes(&mut session, Vec::new()).await?;
    assert_eq!((server.messages(), server.bytes()), (2, 0));
    Ok(())
}

/// Around each border of RFC 6455 section 5.2's lengths, and of fragments.
async fn every_length_form_works(cx: Context) -> Verdict {
    let (_server, mut session) = cx.session("/echo").await?;
    for len in [1, 125, 126, 127, 65_535, 65_536, 65_537, 3 * FRAGMENT - 1, 3 * FRAGMENT + 1] {
        echoes(&mut session, pattern(len)).await?;
        echoes(&mut session, "é".repeat(len / 2) + &"x".repeat(len % 2)).await?;
    }
    Ok(())
}

/// Twenty MiB are sent and echoed, in one frame if the limit allows it.
async fn twenty_mib_come_back(cx: Context) -> Verdict {
    let client = cx.client_with(WebSockets::new().max_frame_size(32 * MIB))?;
    let mut session = client.web_socket(cx.echo().ws_url("/echo")).connect().await?;
    echoes(&mut session, pattern(20 * MIB)).await
}

/// Small messages, sent and received at once by different tasks, come in order and all.
async fn a_hundred_thousand_messages_go_both_ways_in_order(cx: Context) -> Verdict {
    const COUNT: u32 = 100_000;
    let (_server, session) = cx.session("/echo").await?;
    let (outgoing, mut incoming) = session.split();
    let sending = cx.spawn(async move {
        for i in 0..COUNT {
            outgoing.send(i.to_string()).await?;
        }
        outgoing.flush().await?;
        Verdict::Ok(outgoing)
    });
    for i in 0..COUNT {
        let frame = incoming.receive().await?.ok_or_else(|| Failure::new("it ended"))?;
        assert_eq!(frame.read_text().map(str::parse), Some(Ok(i)));
    }
    let outcome = sending.await?.close(CloseReason::normal()).await?;
    assert!(outcome.clean && outcome.discarded == 0, "{outcome:?}");
    Ok(())
}

/// Fragments, empty ones too, are one message of the first one's kind.
async fn fragments_become_one_message(cx: Context) -> Verdict {
    let peer = cx.peer(Polite, |conn| {
        for first in [WireFrame::text("o"), WireFrame::binary("o"), WireFrame::text("")] {
            conn.feed(&WireFrame { fin: false, ..first });
            conn.feed(&WireFrame::continuation("n", false));
            conn.feed(&WireFrame::continuation("", false));
            conn.feed(&WireFrame::continuation("e", true));
        }
        conn.feed(&WireFrame { fin: false, ..WireFrame::binary("") });
        conn.send(&WireFrame::continuation("", true))
    });
    let mut session = peer.connect().await?;
    for expected in [Frame::from("one"), b"one".to_vec().into(), "ne".into(), Vec::new().into()] {
        assert_eq!(message(&mut session).await?, expected);
    }
    Ok(())
}

/// Pings between fragments are answered, pongs ignored, and the message is whole.
async fn control_frames_between_fragments_are_served(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |conn| {
        conn.send(&WireFrame { fin: false, ..WireFrame::text("o") })?;
        conn.send(&WireFrame::ping("first"))?;
        conn.send(&WireFrame::continuation("n", false))?;
        conn.feed(&WireFrame::pong("unasked"));
        conn.feed(&WireFrame::ping("second"));
        conn.send(&WireFrame::continuation("e", true))
    });
    let mut session = peer.connect().await?;
    assert_eq!(text(&mut session).await?, "one");
    let pongs = async {
        let first = peer.frame_of(opcode::PONG).await?.payload;
        Verdict::Ok((first, peer.frame_of(opcode::PONG).await?.payload))
    };
    assert_eq!(while_receiving(&mut session, pongs).await?, (b"first".into(), b"second".into()));
    Ok(())
}

/// A character may begin in one fragment and end in another.
async fn text_may_be_split_within_characters(cx: Context) -> Verdict {
    const TEXT: &str = "grüße €uro 🦀 ひらがな";
    let peer = cx.peer(Polite, |conn| {
        for (i, byte) in TEXT.bytes().enumerate() {
            let fin = i + 1 == TEXT.len();
            conn.feed(&match i {
                0 => WireFrame { fin, ..WireFrame::text([byte]) },
                _ => WireFrame::continuation([byte], fin),
            });
        }
        conn.flush()
    });
    let mut session = peer.connect().await?;
    assert_eq!(text(&mut session).await?, TEXT);
    Ok(())
}

/// A message above 64 KiB goes out as fragments of at most that, and is the same message.
pub(super) async fn a_long_message_goes_out_in_fragments(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |_| Ok(()));
    let session = peer.connect().await?;
    let payload = pattern(5 * FRAGMENT + 1);
    session.send(payload.clone()).await?;
    session.flush().await?;
    let mut whole = Vec::new();
    let mut frames = 0;
    loop {
        let frame = peer.frame().await?;
        let expected = if frames == 0 { opcode::BINARY } else { opcode::CONTINUATION };
        assert_eq!(frame.opcode, expected);
        assert!(frame.payload.len() <= FRAGMENT, "{frame:?}");
        whole.extend_from_slice(&frame.payload);
        frames += 1;
        if frame.fin {
            break;
        }
    }
    assert!(frames > 1, "it came in one frame");
    assert!(whole == payload, "it came changed");
    session.send("x".repeat(FRAGMENT)).await?;
    assert!(peer.frame().await?.fin, "64 KiB are one frame");
    Ok(())
}

/// The smaller of the plugin's and the request's, and never above the limit for frames. On a stream, too.
async fn fragments_have_the_size_that_is_set(cx: Context) -> Verdict {
    let set = |bytes| WebSockets::new().max_fragment_size(bytes);
    for (plugin, request, message, expected) in [
        (set(1000), None, 1000, &[1000][..]),
        (set(1000), None, 2500, &[1000, 1000, 500]),
        (set(1000), Some(300), 700, &[300, 300, 100]),
        (set(300), Some(1000), 700, &[300, 300, 100]),
        (set(1000).max_frame_size(400), None, 900, &[400, 400, 100]),
        (set(usize::MAX), None, 3 * FRAGMENT, &[3 * FRAGMENT]),
        (WebSockets::new(), Some(2 * FRAGMENT), 3 * FRAGMENT, &[2 * FRAGMENT, FRAGMENT]),
    ] {
        let mut peer = cx.peer(Polite, |_| Ok(()));
        let mut opening = cx.client_with(plugin)?.web_socket(peer.url());
        if let Some(bytes) = request {
            opening = opening.max_fragment_size(bytes);
        }
        let session = opening.connect().await?;
        session.send(pattern(message)).await?;
        session.flush().await?;
        let (sizes, received) = fragments(&mut peer).await?;
        assert_eq!(sizes, expected);
        assert!(received == pattern(message), "it came changed");
        let mut writer = session.send_stream(MessageKind::Binary).await?;
        writer.write_all(&received).await?;
        writer.close().await?;
        let (sizes, streamed) = fragments(&mut peer).await?;
        let most = expected[0].min(FRAGMENT);
        assert!(sizes.iter().all(|&size| size <= most), "{sizes:?} on a stream");
        assert!(streamed == received, "the stream came changed");
    }
    Ok(())
}

/// The sizes of the frames of the next message, and the message.
async fn fragments(peer: &mut Script) -> Verdict<(Vec<usize>, Vec<u8>)> {
    let (mut sizes, mut whole) = (Vec::new(), Vec::new());
    loop {
        let frame = peer.frame().await?;
        sizes.push(frame.payload.len());
        whole.extend_from_slice(&frame.payload);
        if frame.fin {
            return Ok((sizes, whole));
        }
    }
}

/// While a long message is under way, a ping is answered before its end.
async fn a_pong_goes_between_the_fragments_of_a_long_message(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |conn| {
        let first = conn.receive()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        assert!(!first.fin, "{first:?}");
        conn.send(&WireFrame::ping("between"))
    });
    let mut session = peer.connect().await?;
    session.send(pattern(32 * MIB)).await?;
    let pong = async {
        loop {
            match peer.frame().await? {
                frame if frame.opcode == opcode::PONG => return Verdict::Ok(frame.payload),
                frame if frame.fin => {
                    return Err(Failure::new("all 512 fragments came before the pong"));
                }
                _ => {}
            }
        }
    };
    assert_eq!(while_receiving(&mut session, pong).await?, b"between");
    Ok(())
}

/// Whatever a client sends is masked (RFC 6455 section 5.3).
async fn every_frame_is_masked(cx: Context) -> Verdict {
    let mut peer = cx.peer(Polite, |conn| conn.send(&WireFrame::ping("?")));
    let mut session = peer.connect().await?;
    session.send("text").await?;
    session.send(pattern(FRAGMENT + 1)).await?;
    while_receiving(&mut session, peer.frame_of(opcode::PONG)).await?;
    let closing = async { Verdict::Ok(session.close(CloseReason::normal()).await?) };
    // `close` fails on a frame that is not masked.
    future::try_join(closing, peer.close()).await?;
    Ok(())
}

/// Messages that several tasks send at once arrive whole, and those of one task in its order.
async fn messages_of_many_tasks_stay_whole(cx: Context) -> Verdict {
    const TASKS: u8 = 16;
    const EACH: u8 = 100;
    let (_server, session) = cx.session("/echo").await?;
    let (outgoing, mut incoming) = session.split();
    let sending = (0..TASKS).map(|task| {
        let outgoing = outgoing.clone();
        cx.spawn(async move {
            for i in 0..EACH {
                // Every eighth goes out in fragments.
                let len = if i % 8 == 0 { FRAGMENT + 100 } else { usize::from(i) * 10 };
                let mut payload = vec![task; len + 2];
                payload[1] = i;
                outgoing.send(payload).await?;
            }
            Verdict::Ok(())
        })
    });
    let sending = sending.collect::<Vec<_>>();
    let mut next = [0; TASKS as usize];
    for _ in 0..usize::from(TASKS) * usize::from(EACH) {
        let frame = incoming.receive().await?.ok_or_else(|| Failure::new("it ended"))?;
        let payload = frame.read_bytes();
        let task = usize::from(payload[0]);
        assert_eq!(payload[1], next[task], "of task {task}");
        next[task] += 1;
        assert!(payload[2..].iter().all(|&byte| usize::from(byte) == task), "mixed up");
    }
    future::try_join_all(sending).await?;
    Ok(())
}

/// The sending half is a `Sink` and the receiving half a `Stream`, which ends with the session.
async fn halves_are_a_sink_and_a_stream(cx: Context) -> Verdict {
    let (_server, session) = cx.session("/echo").await?;
    let (mut outgoing, incoming) = session.split();
    let messages: Vec<Frame> = (0..100).map(|i: i32| Frame::from(i.to_string())).collect();
    let mut source = stream::iter(messages.clone()).map(drivetrain::Result::Ok);
    outgoing.send_all(&mut source).await?;
    let sink: &mut (dyn futures_util::Sink<Frame, Error = drivetrain::Error> + Unpin + Send) =
        &mut outgoing;
    let received = async { Verdict::Ok(incoming.try_collect::<Vec<_>>().await?) };
    let closed = async {
        cx.sleep(std::time::Duration::from_millis(50)).await;
        Verdict::Ok(sink.close().await?)
    };
    let (received, ()) =
        cx.within(PATIENCE, "the stream ends", future::try_join(received, closed)).await??;
    assert_eq!(received, messages);
    Ok(())
}

/// A value is sent as JSON and echoed as the same value.
async fn values_are_converted(cx: Context) -> Verdict {
    let client = cx.client_with(WebSockets::new().converter(Json))?;
    let mut session = client.web_socket(cx.echo().ws_url("/json")).connect().await?;
    let value = json!({ "name": "Zoë", "list": [1, null, true] });
    session.send_serialized(&value).await?;
    assert_eq!(session.receive_deserialized::<Value>().await?, value);
    session.close(CloseReason::normal()).await?;
    ends_cleanly(&mut session).await?;
    fails(session.receive_deserialized::<Value>().await, drivetrain::ErrorKind::Closed)?;
    Ok(())
}

/// A message that is not the value asked for is `Convert`, and the next one is received.
async fn what_cannot_be_converted_is_an_error_and_the_session_goes_on(cx: Context) -> Verdict {
    use drivetrain::ErrorKind::{Convert, InvalidInput};
    let server = cx.echo();
    let client = cx.client_with(WebSockets::new().converter(Json))?;
    let mut session = client.web_socket(server.ws_url("/json")).connect().await?;
    for wrong in ["not JSON", "\"another type\"", "null"] {
        session.send(wrong).await?;
        fails(session.receive_deserialized::<Vec<u8>>().await, Convert)?;
    }
    session.send("[1,2]").await?;
    assert_eq!(session.receive_deserialized::<Vec<u8>>().await?, [1, 2]);
    let mut without = cx.client().web_socket(server.ws_url("/json")).connect().await?;
    fails(without.send_serialized(&1).await, InvalidInput)?;
    fails(without.receive_deserialized::<u8>().await, InvalidInput)?;
    Ok(())
}

/// What `future` gives while the application receives, and gets no message.
pub(super) async fn while_receiving<T>(
    session: &mut drivetrain::Session,
    future: impl Future<Output = Verdict<T>>,
) -> Verdict<T> {
    match future::select(std::pin::pin!(future), std::pin::pin!(session.receive())).await {
        future::Either::Left((output, _)) => output,
        future::Either::Right((received, _)) => {
            Err(Failure::new(format_args!("nothing was to be received: {received:?}")))
        }
    }
}

/// Bytes that show when they are moved.
pub(super) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}
