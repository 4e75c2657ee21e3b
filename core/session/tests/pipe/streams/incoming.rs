//! What is read as it comes.

use super::*;

async fn chunk(reader: &mut MessageReader<'_>) -> Option<Bytes> {
    reader.chunk().await.unwrap()
}

#[test]
fn each_frame_is_a_chunk_and_control_frames_between_are_served() {
    let (runtime, mut session, mut peer) = open(WebSockets::new());
    peer.send(fragment(OpCode::Text, "one", false));
    peer.send(RawFrame::new(OpCode::Ping, "?"));
    peer.send(fragment(OpCode::Continuation, "", false));
    peer.send(fragment(OpCode::Continuation, "two", false));
    peer.send(fragment(OpCode::Continuation, "", true));
    peer.send(RawFrame::new(OpCode::Binary, "in one"));
    peer.send(RawFrame::new(OpCode::Text, ""));
    runtime.block_on(async {
        let mut reader = session.receive_stream().await.unwrap().unwrap();
        assert_eq!(reader.kind(), MessageKind::Text);
        assert_eq!(chunk(&mut reader).await.unwrap(), "one");
        assert_eq!(chunk(&mut reader).await.unwrap(), "two");
        assert_eq!(chunk(&mut reader).await, None);
        assert_eq!(chunk(&mut reader).await, None);
        drop(reader);
        let one = (MessageKind::Binary, b"in one".to_vec());
        assert_eq!(whole(&mut session).await.unwrap(), Some(one));
        assert_eq!(whole(&mut session).await.unwrap(), Some((MessageKind::Text, vec![])));
    });
    assert_eq!(peer.receive(), Some(RawFrame::new(OpCode::Pong, "?")));
    peer.send(close_frame(1000));
    assert!(runtime.block_on(session.receive_stream()).unwrap().is_none());
    assert_eq!(session.stats().received.messages, 3);
    assert_eq!(session.outcome().discarded, 0);
}

/// In any order of arrival, and whichever reader had begun: the session task, or a `receive` that was dropped.
#[test]
fn it_may_begin_at_any_moment_and_so_may_receive() {
    let parts = 5;
    for before in 0..=parts {
        for (gathers, session_task, streams) in
            (0..8).map(|bits| (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0))
        {
            let (runtime, mut session, mut peer) = open(WebSockets::new());
            let mut send = |part: usize| {
                let opcode = if part == 0 { OpCode::Text } else { OpCode::Continuation };
                peer.send(fragment(opcode, part.to_string(), part + 1 == parts));
            };
            (0..before).for_each(&mut send);
            if gathers {
                // Whole messages are received below, all the same.
                if runtime.poll_now(pin!(session.receive())).is_some() {
                    assert_eq!(before, parts);
                    continue;
                }
            }
            (before..parts - 1).for_each(&mut send);
            if session_task {
                runtime.pass(2 * SECOND);
            }
            if before < parts {
                send(parts - 1);
            }
            peer.send(RawFrame::new(OpCode::Text, "next"));
            let got = runtime.block_on(async {
                if streams {
                    return whole(&mut session).await.unwrap().unwrap().1;
                }
                session.receive().await.unwrap().unwrap().into_bytes().to_vec()
            });
            assert_eq!(got, b"01234", "{before} {gathers} {session_task} {streams}");
            let next = runtime.block_on(session.receive()).unwrap();
            assert_eq!(next, Some(Frame::from("next")));
        }
    }
}

#[test]
fn of_a_reader_that_is_dropped_the_rest_is_thrown_away_and_counted() {
    let parts = 4;
    for arrived in 1..=parts {
        for (read, session_task) in (0..arrived).flat_map(|read| [(read, false), (read, true)]) {
            let (runtime, mut session, mut peer) = open(WebSockets::new());
            for part in 0..arrived {
                let opcode = if part == 0 { OpCode::Text } else { OpCode::Continuation };
                peer.send(fragment(opcode, "x", part + 1 == parts));
            }
            if session_task {
                runtime.pass(2 * SECOND);
            }
            runtime.block_on(async {
                let mut reader = session.receive_stream().await.unwrap().unwrap();
                for _ in 0..read {
                    reader.chunk().await.unwrap().unwrap();
                }
            });
            for part in arrived..parts {
                peer.send(fragment(OpCode::Continuation, "x", part + 1 == parts));
            }
            peer.send(fragment(OpCode::Text, "ne", false));
            peer.send(fragment(OpCode::Continuation, "xt", true));
            let next = runtime.block_on(session.receive()).unwrap();
            assert_eq!(next, Some(Frame::from("next")), "{arrived} {read} {session_task}");
            peer.send(close_frame(1000));
            assert!(runtime.block_on(session.receive()).unwrap().is_none());
            let expected = u64::from(read < parts);
            assert_eq!(session.outcome().discarded, expected, "{arrived} {read} {session_task}");
        }
    }
}

#[test]
fn a_forgotten_reader_is_as_a_dropped_one() {
    let (runtime, mut session, mut peer) = open(WebSockets::new());
    peer.send(fragment(OpCode::Text, "one", false));
    std::mem::forget(runtime.block_on(session.receive_stream()).unwrap());
    peer.send(fragment(OpCode::Continuation, "two", true));
    peer.send(RawFrame::new(OpCode::Text, "next"));
    assert_eq!(runtime.block_on(session.receive()).unwrap(), Some(Frame::from("next")));
}

#[test]
fn a_text_is_checked_as_it_comes() {
    let text = "aé√🦀z";
    for cut in 1..text.len() {
        let (before, after) = text.as_bytes().split_at(cut);
        let (runtime, mut session, mut peer) = open(WebSockets::new());
        peer.send(fragment(OpCode::Text, before, false));
        peer.send(fragment(OpCode::Continuation, after, true));
        let got = runtime.block_on(whole(&mut session)).unwrap().unwrap().1;
        assert_eq!(got, text.as_bytes(), "cut at {cut}");
        peer.send(fragment(OpCode::Text, before, false));
        peer.send(fragment(OpCode::Continuation, &b"\xff"[..], false));
        peer.send(close_frame(1007));
        let mut reader = runtime.block_on(session.receive_stream()).unwrap().unwrap();
        assert_eq!(runtime.block_on(reader.chunk()).unwrap().unwrap(), before);
        let error = runtime.block_on(reader.chunk()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert_eq!(close_code(&peer.receive().unwrap()), CloseCode::INVALID_PAYLOAD);
    }
}

#[test]
fn a_message_that_is_not_whole_never_ends_well() {
    for (clean, kind) in [(true, ErrorKind::Closed), (false, ErrorKind::Io)] {
        let (runtime, mut session, mut peer) = open(WebSockets::new());
        peer.send(fragment(OpCode::Binary, "half", false));
        if clean {
            peer.send(close_frame(1001));
        } else {
            peer.shut_down();
        }
        let mut reader = runtime.block_on(session.receive_stream()).unwrap().unwrap();
        assert_eq!(runtime.block_on(reader.chunk()).unwrap().unwrap(), "half");
        for _ in 0..2 {
            let error = runtime.block_on(reader.chunk()).unwrap_err();
            assert_eq!(error.kind(), kind);
            assert_eq!(error.outcome().unwrap().clean, clean);
        }
        let error = runtime.block_on(reader.read(&mut [0; 4])).unwrap_err();
        assert_eq!(Error::from(error).kind(), kind);
    }
}

/// The session task does not know how it will be received: it reads what there is room for, and no more.
#[test]
fn a_message_above_the_limit_for_whole_ones_waits_for_its_reader() {
    for (streams, capacity) in [(true, 5000), (false, 5000), (true, 1 << 20), (false, 1 << 20)] {
        let plugin = WebSockets::new().max_message_size(1000).incoming_capacity(capacity);
        let (runtime, mut session, mut peer) = open(plugin);
        peer.send(fragment(OpCode::Binary, vec![0; 1000], false));
        for i in 1..100 {
            peer.send(fragment(OpCode::Continuation, vec![i; 1000], i == 99));
        }
        runtime.pass(100 * SECOND);
        assert!(session.outcome().error.is_none(), "{:?}", session.outcome());
        let read = session.stats().received.bytes;
        assert!(read <= capacity as u64 + 1000, "{read} of {capacity}");
        if streams {
            let message = runtime.block_on(whole(&mut session)).unwrap().unwrap().1;
            assert_eq!(message.len(), 100_000);
            continue;
        }
        peer.send(close_frame(1009));
        let error = runtime.block_on(session.receive()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooBig);
        assert_eq!(close_code(&peer.receive().unwrap()), CloseCode::TOO_BIG);
    }
}

#[test]
fn a_streamed_message_has_a_limit_of_its_own() {
    let (runtime, mut session, mut peer) = open(WebSockets::new().max_stream_size(100));
    peer.send(fragment(OpCode::Binary, vec![0; 60], false));
    peer.send(fragment(OpCode::Continuation, vec![0; 60], true));
    peer.send(close_frame(1009));
    let mut reader = runtime.block_on(session.receive_stream()).unwrap().unwrap();
    assert_eq!(runtime.block_on(reader.chunk()).unwrap().unwrap().len(), 60);
    let error = runtime.block_on(reader.chunk()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooBig);
    assert_eq!(close_code(&peer.receive().unwrap()), CloseCode::TOO_BIG);
}

/// After this end's Close what does not fit is thrown away, but nothing of what is being read; and of a
/// message that is not being read all or nothing.
#[test]
fn while_closing_a_reader_loses_nothing_and_messages_are_not_cut() {
    for reads in [true, false] {
        let (runtime, mut session, mut peer) = open(WebSockets::new().incoming_capacity(300));
        peer.send(fragment(OpCode::Text, "0", false));
        let outgoing = session.outgoing();
        let mut close = pin!(outgoing.close(CloseReason::normal()));
        let mut reader = None;
        if reads {
            reader = runtime.block_on(session.receive_stream()).unwrap();
        }
        assert!(runtime.poll_now(close.as_mut()).is_none());
        for part in 1..10 {
            peer.send(fragment(OpCode::Continuation, part.to_string(), part == 9));
        }
        peer.send(RawFrame::new(OpCode::Text, "next"));
        peer.send(close_frame(1000));
        runtime.settle();
        let mut got = String::new();
        if let Some(reader) = &mut reader {
            assert!(runtime.poll_now(close.as_mut()).is_none(), "it waits for the reader");
            runtime.block_on(reader.read_to_string(&mut got)).unwrap();
            assert_eq!(got, "0123456789");
        }
        drop(reader);
        let outcome = runtime.poll_now(close).expect("closed").unwrap();
        assert!(outcome.clean, "{outcome}");
        assert_eq!(runtime.block_on(session.receive()).unwrap(), Some(Frame::from("next")));
        assert!(runtime.block_on(session.receive()).unwrap().is_none());
        assert_eq!(outcome.discarded, u64::from(!reads));
    }
}

/// An echo that holds nothing: a reader and a writer at once.
#[test]
fn a_reader_may_be_copied_into_a_writer() {
    let (runtime, mut session, mut peer) = open(WebSockets::new());
    for part in 0..100 {
        let opcode = if part == 0 { OpCode::Binary } else { OpCode::Continuation };
        peer.send(fragment(opcode, vec![part; 3000], part == 99));
    }
    runtime.block_on(async {
        let outgoing = session.outgoing();
        let reader = session.receive_stream().await.unwrap().unwrap();
        let mut writer = outgoing.send_stream(reader.kind()).await.unwrap();
        let copied = futures_util::io::copy_buf(reader, &mut writer).await.unwrap();
        assert_eq!(copied, 300_000);
        writer.close().await.unwrap();
    });
    let size: usize = seen(&mut peer).iter().map(|(_, size, _)| size).sum();
    assert_eq!(size, 300_000);
}

/// A `receive` that has told the end was the last that anybody hears: what it had gathered of a message that was
/// cut is no beginning of another.
#[test]
fn nothing_begins_after_the_end_was_told() {
    let (runtime, mut session, mut peer) = open(WebSockets::new());
    peer.send(fragment(OpCode::Text, "cut", false));
    assert!(runtime.poll_now(pin!(session.receive())).is_none());
    peer.shut_down();
    let told = runtime.block_on(session.receive()).unwrap_err();
    assert_eq!(told.kind(), ErrorKind::Io);
    let again = runtime.block_on(session.receive_stream()).map(|_| ()).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Io);
}

/// Also of a message in one frame, which the reader has from the start.
#[test]
fn a_reader_that_is_dropped_unread_has_thrown_its_message_away() {
    let (runtime, mut session, mut peer) = open(WebSockets::new());
    peer.send(RawFrame::new(OpCode::Text, "unread"));
    peer.send(RawFrame::new(OpCode::Text, "read"));
    runtime.block_on(async {
        drop(session.receive_stream().await.unwrap().unwrap());
        let mut reader = session.receive_stream().await.unwrap().unwrap();
        assert_eq!(chunk(&mut reader).await.unwrap(), "read");
    });
    assert_eq!(session.outcome().discarded, 0, "as it stands before the end, it is not told");
    peer.send(close_frame(1000));
    assert!(runtime.block_on(session.receive()).unwrap().is_none());
    assert_eq!(session.outcome().discarded, 1);
}
