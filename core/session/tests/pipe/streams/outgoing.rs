//! What goes out as it is written.

use super::*;

#[test]
fn what_is_written_goes_out_in_fragments_and_closing_ends_the_message() {
    let (runtime, session, mut peer) = open(WebSockets::new());
    let sent: Vec<u8> = (0..150_000_u32).map(|i| i as u8).collect();
    runtime.block_on(async {
        let mut writer = session.send_stream(MessageKind::Binary).await.unwrap();
        for bytes in sent.chunks(10_000) {
            writer.write_all(bytes).await.unwrap();
        }
        writer.flush().await.unwrap();
        writer.close().await.unwrap();
        assert_eq!(writer.write(b"more").await.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    });
    let frames: Vec<_> = std::iter::from_fn(|| peer.receive()).collect();
    let got: Vec<_> = frames.iter().map(|f| (f.opcode, f.payload.len(), f.fin)).collect();
    let expected = [
        (OpCode::Binary, FRAGMENT, false),
        (OpCode::Continuation, FRAGMENT, false),
        (OpCode::Continuation, 150_000 - 2 * FRAGMENT, false),
        (OpCode::Continuation, 0, true),
    ];
    assert_eq!(got, expected);
    assert_eq!(frames.iter().flat_map(|f| f.payload.to_vec()).collect::<Vec<_>>(), sent);
    assert_eq!(session.stats().sent.messages, 1);
}

#[test]
fn a_full_fragment_goes_out_before_the_message_ends() {
    let (runtime, session, mut peer) = open(WebSockets::new());
    let mut first = writer(&runtime, &session, MessageKind::Binary);
    let taken: Vec<_> =
        (0..7).map(|_| write(&runtime, &mut first, &[7; 10_000]).unwrap()).collect();
    assert_eq!((taken[..6].iter().sum(), taken[6]), (60_000, FRAGMENT - 60_000));
    runtime.settle();
    assert_eq!(seen(&mut peer), [(OpCode::Binary, FRAGMENT, false)]);
    runtime.block_on(first.close()).unwrap();
}

#[test]
fn a_short_one_is_a_frame_and_chunks_are_sent_as_they_are() {
    let (runtime, session, mut peer) = open(WebSockets::new().max_frame_size(100));
    runtime.block_on(async {
        let mut writer = session.send_stream(MessageKind::Text).await.unwrap();
        writer.write_chunk("hel").await.unwrap();
        writer.write_chunk("lo").await.unwrap();
        writer.finish().await.unwrap();
        writer.finish().await.unwrap();
        session.send_stream(MessageKind::Text).await.unwrap().finish().await.unwrap();
        let mut writer = session.send_stream(MessageKind::Binary).await.unwrap();
        writer.write_chunk(vec![0; 250]).await.unwrap();
        writer.finish().await.unwrap();
        session.flush().await.unwrap();
    });
    let expected = [
        (OpCode::Text, 5, true),
        (OpCode::Text, 0, true),
        (OpCode::Binary, 100, false),
        (OpCode::Continuation, 100, false),
        (OpCode::Continuation, 50, false),
        (OpCode::Continuation, 0, true),
    ];
    assert_eq!(seen(&mut peer), expected);
}

/// Also those that were waiting before the other began to, and a second writer.
#[test]
fn other_messages_wait_and_control_frames_do_not() {
    let (runtime, session, mut peer) = open(WebSockets::new().ping_interval(20 * SECOND));
    let mut first = writer(&runtime, &session, MessageKind::Binary);
    write(&runtime, &mut first, &[0; 10]).unwrap();
    runtime.block_on(first.flush()).unwrap();
    let mut second = Box::pin(session.send_stream(MessageKind::Text));
    let mut sending = pin!(session.send("waits"));
    assert!(runtime.poll_now(second.as_mut()).is_none());
    assert!(runtime.poll_now(sending.as_mut()).is_none());
    drop(runtime.poll_now(pin!(session.send("dropped while it waits"))));
    drop(runtime.poll_now(pin!(session.send_stream(MessageKind::Text))));
    runtime.block_on(session.send(Frame::Ping("app".into()))).unwrap();
    peer.send(RawFrame::new(OpCode::Ping, "peer"));
    runtime.pass(20 * SECOND);
    let expected = [
        (OpCode::Binary, 10, false),
        (OpCode::Ping, 3, true),
        (OpCode::Pong, 4, true),
        (OpCode::Ping, 8, true),
    ];
    assert_eq!(seen(&mut peer), expected);
    runtime.block_on(first.finish()).unwrap();
    let mut second = runtime.poll_now(second.as_mut()).expect("its turn").unwrap();
    assert!(runtime.poll_now(sending.as_mut()).is_none());
    runtime.block_on(second.finish()).unwrap();
    runtime.poll_now(sending).expect("its turn").unwrap();
    runtime.block_on(session.flush()).unwrap();
    let expected =
        [(OpCode::Continuation, 0, true), (OpCode::Text, 0, true), (OpCode::Text, 5, true)];
    assert_eq!(seen(&mut peer), expected);
}

#[test]
fn dropped_before_anything_went_out_it_is_as_if_it_had_not_begun() {
    let (runtime, session, mut peer) = open(WebSockets::new());
    let mut first = writer(&runtime, &session, MessageKind::Text);
    write(&runtime, &mut first, b"not flushed").unwrap();
    let mut sending = pin!(session.send("next"));
    assert!(runtime.poll_now(sending.as_mut()).is_none());
    let dropping = async { drop(first) };
    // One is woken by the other.
    runtime.block_on(futures_util::future::join(sending, dropping)).0.unwrap();
    runtime.block_on(session.flush()).unwrap();
    assert_eq!(seen(&mut peer), [(OpCode::Text, 4, true)]);
}

#[test]
fn dropped_midway_the_session_fails_and_the_message_never_looks_whole() {
    let (runtime, mut session, mut peer) = open(WebSockets::new());
    // What was accepted waits, too.
    peer.set_stalled(true);
    runtime.block_on(session.feed("before")).unwrap();
    let mut first = writer(&runtime, &session, MessageKind::Text);
    runtime.block_on(first.write_all(&[b'x'; 2 * FRAGMENT + 1])).unwrap();
    drop(first);
    peer.set_stalled(false);
    runtime.settle();
    let frames: Vec<_> = std::iter::from_fn(|| peer.receive()).collect();
    assert_eq!(frames[0], RawFrame::new(OpCode::Text, "before"), "it was accepted");
    assert_eq!((frames[1].opcode, frames[1].fin), (OpCode::Text, false));
    assert_eq!((frames[2].opcode, frames[2].fin), (OpCode::Continuation, false));
    assert_eq!((close_code(&frames[3]), frames.len()), (CloseCode::INTERNAL_ERROR, 4));
    peer.send(close_frame(1011));
    let error = runtime.block_on(session.receive()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other);
    assert!(error.to_string().contains("dropped"), "{error}");
    assert!(!error.outcome().unwrap().clean);
    let error = runtime.block_on(session.send_stream(MessageKind::Text)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other);
}

#[test]
fn a_session_that_closes_meanwhile_sends_what_was_accepted_and_its_close() {
    for they_close in [false, true] {
        let (runtime, session, mut peer) = open(WebSockets::new());
        let mut first = writer(&runtime, &session, MessageKind::Binary);
        runtime.block_on(first.write_all(&[0; FRAGMENT + 1])).unwrap();
        if they_close {
            peer.send(close_frame(1000));
            runtime.pass(SECOND);
        } else {
            let mut close = pin!(session.close(CloseReason::normal()));
            assert!(runtime.poll_now(close.as_mut()).is_none());
            peer.send(close_frame(1000));
            assert!(runtime.poll_now(close).expect("closed").unwrap().clean);
        }
        let error = runtime.block_on(first.finish()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert!(error.outcome().unwrap().clean);
        let error = write(&runtime, &mut first, b"more").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(Error::from(error).kind(), ErrorKind::Closed, "ours again");
        drop(first);
        assert!(session.outcome().clean);
        let expected = [(OpCode::Binary, FRAGMENT, false), (OpCode::Close, 2, true)];
        assert_eq!(seen(&mut peer), expected, "they close: {they_close}");
    }
}

#[test]
fn a_writer_keeps_the_session_alive_and_its_end_frees_it() {
    let (runtime, session, mut peer) = open(WebSockets::new());
    let mut last = writer(&runtime, &session, MessageKind::Binary);
    drop(session);
    runtime.settle();
    assert!(!peer.is_closed());
    runtime.block_on(async {
        last.write_all(b"the last").await.unwrap();
        last.finish().await.unwrap();
    });
    drop(last);
    runtime.settle();
    assert!(peer.is_closed());
    assert_eq!(seen(&mut peer), [(OpCode::Binary, 8, true), (OpCode::Close, 2, true)]);
    assert_eq!(runtime.tasks(), 0);
}

/// It is the fragment that is written into, what the session keeps, and what the transport takes.
#[test]
fn writing_waits_for_a_peer_that_does_not_take_it() {
    let (runtime, session, mut peer) = open(WebSockets::new().outgoing_capacity(100_000));
    peer.set_stalled(true);
    let mut first = writer(&runtime, &session, MessageKind::Binary);
    let mut written = 0;
    while let Some(count) =
        runtime.poll_now(pin!(poll_fn(|cx| Pin::new(&mut first).poll_write(cx, &[7; 4096]))))
    {
        written += count.unwrap();
        assert!(written < 1 << 20, "there is no bound");
    }
    assert!(written <= 100_000 + 3 * FRAGMENT, "{written} bytes were taken");
    // Dropped while it waits, nothing more was taken.
    drop(runtime.poll_now(pin!(first.write_chunk(vec![9; 100]))));
    drop(runtime.poll_now(pin!(first.finish())));
    peer.set_stalled(false);
    runtime.block_on(first.close()).unwrap();
    let payload: usize = seen(&mut peer).iter().map(|(_, size, _)| size).sum();
    assert_eq!(payload, written);
}

#[test]
fn a_text_may_be_cut_anywhere_and_nothing_else_leaves() {
    let text = "aé√🦀z";
    for cut in 0..=text.len() {
        let (runtime, session, mut peer) = open(WebSockets::new());
        let mut first = writer(&runtime, &session, MessageKind::Text);
        let (before, after) = text.as_bytes().split_at(cut);
        runtime.block_on(async {
            first.write_all(before).await.unwrap();
            first.flush().await.unwrap();
        });
        if !text.is_char_boundary(cut) {
            let error = runtime.block_on(first.finish()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "cut at {cut}");
            let error = runtime.block_on(first.write_chunk("z")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "cut at {cut}");
            let error = write(&runtime, &mut first, b"z").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "cut at {cut}");
        }
        let error = runtime.block_on(first.write_chunk(&b"\xff"[..])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        runtime.block_on(async {
            first.write_all(after).await.unwrap();
            first.close().await.unwrap();
        });
        let payload = std::iter::from_fn(|| peer.receive()).flat_map(|f| f.payload.to_vec());
        assert_eq!(payload.collect::<Vec<_>>(), text.as_bytes(), "cut at {cut}");
    }
}

/// A write takes the text before what is none.
#[test]
fn the_text_before_what_is_none_is_taken() {
    let (runtime, session, mut peer) = open(WebSockets::new());
    let mut first = writer(&runtime, &session, MessageKind::Text);
    assert_eq!(write(&runtime, &mut first, b"good\xc3(bad").unwrap(), 4);
    write(&runtime, &mut first, b"\xc3(bad").unwrap_err();
    runtime.block_on(first.close()).unwrap();
    assert_eq!(peer.receive(), Some(RawFrame::new(OpCode::Text, "good")));
}

#[test]
fn its_own_limit_holds_and_that_of_whole_messages_does_not() {
    let plugin = WebSockets::new().max_frame_size(101).max_message_size(10).max_stream_size(100);
    let (runtime, session, mut peer) = open(plugin);
    let mut first = writer(&runtime, &session, MessageKind::Binary);
    runtime.block_on(first.write_chunk(vec![0; 90])).unwrap();
    let error = runtime.block_on(first.write_chunk(vec![0; 11])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooBig);
    assert_eq!(write(&runtime, &mut first, &[0; 11]).unwrap(), 10);
    write(&runtime, &mut first, &[0]).unwrap_err();
    runtime.block_on(first.close()).unwrap();
    assert_eq!(seen(&mut peer), [(OpCode::Binary, 100, true)]);
}

#[test]
fn a_connection_of_whole_messages_refuses_it_by_name() {
    let runtime = TestRuntime::new();
    let (connection, mut peer) = direct_pipe(&runtime);
    let connection = connection.with_duties(Duties::messages());
    let session = runtime.session(connection, WebSockets::new());
    let error = runtime.block_on(session.send_stream(MessageKind::Text)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.capability(), Some(Capability::SendFragments));
    runtime.block_on(session.send("still open")).unwrap();
    assert_eq!(seen(&mut peer), [(OpCode::Text, 10, true)]);
}
