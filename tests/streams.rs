//! Messages as streams, out and in, in virtual time over an in-memory connection.
#![cfg(feature = "testing")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{future::poll_fn, io, pin::Pin, pin::pin, time::Duration};

use drivetrain::{
    Bytes, CloseCode, CloseReason, ErrorKind, Frame, MessageKind, MessageReader, MessageWriter,
    OpCode, RawFrame, Session, WebSockets,
    testing::{Peer, TestRuntime, pipe},
};
use futures_util::io::{AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _};

const SECOND: Duration = Duration::from_secs(1);
const FRAGMENT: usize = 64 << 10;

fn open(plugin: WebSockets) -> (TestRuntime, Session, Peer) {
    let runtime = TestRuntime::new();
    let (connection, peer) = pipe();
    let session = runtime.session(connection, plugin);
    (runtime, session, peer)
}

/// Opcode, size and FIN of what the peer got.
fn seen(peer: &mut Peer) -> Vec<(OpCode, usize, bool)> {
    std::iter::from_fn(|| peer.receive()).map(|f| (f.opcode, f.payload.len(), f.fin)).collect()
}

fn close_code(frame: &RawFrame) -> CloseCode {
    assert_eq!(frame.opcode, OpCode::Close);
    CloseReason::from_payload(&frame.payload).unwrap().unwrap().code()
}

fn close_frame(code: u16) -> RawFrame {
    RawFrame::new(OpCode::Close, CloseReason::new(code, "").unwrap().to_payload())
}

fn fragment(opcode: OpCode, payload: impl Into<Bytes>, fin: bool) -> RawFrame {
    RawFrame { fin, ..RawFrame::new(opcode, payload) }
}

fn writer(runtime: &TestRuntime, session: &Session, kind: MessageKind) -> MessageWriter {
    runtime.block_on(session.send_stream(kind)).unwrap()
}

/// Writes once.
fn write(runtime: &TestRuntime, writer: &mut MessageWriter, bytes: &[u8]) -> io::Result<usize> {
    runtime.block_on(poll_fn(|cx| Pin::new(&mut *writer).poll_write(cx, bytes)))
}

/// The next message, in one piece.
async fn whole(session: &mut Session) -> drivetrain::Result<Option<(MessageKind, Vec<u8>)>> {
    let Some(mut reader) = session.receive_stream().await? else { return Ok(None) };
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).await?;
    Ok(Some((reader.kind(), bytes)))
}

mod outgoing {
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
            assert_eq!(
                writer.write(b"more").await.unwrap_err().kind(),
                io::ErrorKind::InvalidInput
            );
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
        runtime.advance(20 * SECOND);
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
        drop(first);
        runtime.poll_now(sending).expect("its turn").unwrap();
        runtime.block_on(session.flush()).unwrap();
        assert_eq!(seen(&mut peer), [(OpCode::Text, 4, true)]);
    }

    #[test]
    fn dropped_midway_the_session_fails_and_the_message_never_looks_whole() {
        let (runtime, mut session, mut peer) = open(WebSockets::new());
        runtime.block_on(session.feed("before")).unwrap();
        let mut first = writer(&runtime, &session, MessageKind::Text);
        runtime.block_on(first.write_all(&[b'x'; FRAGMENT + 1])).unwrap();
        drop(first);
        let frames: Vec<_> = std::iter::from_fn(|| peer.receive()).collect();
        assert_eq!(frames[0], RawFrame::new(OpCode::Text, "before"), "it was accepted");
        assert_eq!((frames[1].opcode, frames[1].fin), (OpCode::Text, false));
        assert_eq!((close_code(&frames[2]), frames.len()), (CloseCode::INTERNAL_ERROR, 3));
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
                runtime.advance(SECOND);
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
            assert_eq!(drivetrain::Error::from(error).kind(), ErrorKind::Closed, "ours again");
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
        assert!(!peer.is_dropped());
        runtime.block_on(async {
            last.write_all(b"the last").await.unwrap();
            last.finish().await.unwrap();
        });
        drop(last);
        runtime.settle();
        assert!(peer.is_dropped());
        assert_eq!(seen(&mut peer), [(OpCode::Binary, 8, true), (OpCode::Close, 2, true)]);
        assert_eq!(runtime.tasks(), 0);
    }

    /// It is the fragment that is written into, what the session keeps, and what the transport takes.
    #[test]
    fn writing_waits_for_a_peer_that_does_not_take_it() {
        let (runtime, session, mut peer) = open(WebSockets::new().outgoing_capacity(100_000));
        peer.set_writable(false);
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
        peer.set_writable(true);
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
        let plugin = WebSockets::new().max_message_size(10).max_stream_size(100);
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
        let (connection, mut peer) = pipe();
        let connection = connection.with_duties(drivetrain_engine::Duties::messages());
        let session = runtime.session(connection, WebSockets::new());
        let error = runtime.block_on(session.send_stream(MessageKind::Text)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(error.capability(), Some(drivetrain::Capability::SendFragments));
        runtime.block_on(session.send("goes on")).unwrap();
        assert_eq!(seen(&mut peer), [(OpCode::Text, 7, true)]);
    }
}

mod incoming {
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

    /// Whatever was there when, and whoever had begun to read it: the keeper, or a `receive` that was dropped.
    #[test]
    fn it_may_begin_at_any_moment_and_so_may_receive() {
        let parts = 5;
        for before in 0..=parts {
            for (gathers, keeper, streams) in
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
                if keeper {
                    runtime.advance(2 * SECOND);
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
                assert_eq!(got, b"01234", "{before} {gathers} {keeper} {streams}");
                let next = runtime.block_on(session.receive()).unwrap();
                assert_eq!(next, Some(Frame::from("next")));
            }
        }
    }

    #[test]
    fn of_a_reader_that_is_dropped_the_rest_is_thrown_away_and_counted() {
        let parts = 4;
        for arrived in 1..=parts {
            for (read, keeper) in (0..arrived).flat_map(|read| [(read, false), (read, true)]) {
                let (runtime, mut session, mut peer) = open(WebSockets::new());
                for part in 0..arrived {
                    let opcode = if part == 0 { OpCode::Text } else { OpCode::Continuation };
                    peer.send(fragment(opcode, "x", part + 1 == parts));
                }
                if keeper {
                    runtime.advance(2 * SECOND);
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
                assert_eq!(next, Some(Frame::from("next")), "{arrived} {read} {keeper}");
                peer.send(close_frame(1000));
                assert!(runtime.block_on(session.receive()).unwrap().is_none());
                let expected = u64::from(read < parts);
                assert_eq!(session.outcome().discarded, expected, "{arrived} {read} {keeper}");
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
                peer.end();
            }
            let mut reader = runtime.block_on(session.receive_stream()).unwrap().unwrap();
            assert_eq!(runtime.block_on(reader.chunk()).unwrap().unwrap(), "half");
            for _ in 0..2 {
                let error = runtime.block_on(reader.chunk()).unwrap_err();
                assert_eq!(error.kind(), kind);
                assert_eq!(error.outcome().unwrap().clean, clean);
            }
            let error = runtime.block_on(reader.read(&mut [0; 4])).unwrap_err();
            assert_eq!(drivetrain::Error::from(error).kind(), kind);
        }
    }

    /// The keeper does not know how it will be received: it reads what there is room for, and no more.
    #[test]
    fn a_message_above_the_limit_for_whole_ones_waits_for_its_reader() {
        for streams in [true, false] {
            let plugin = WebSockets::new().max_message_size(1000).incoming_capacity(5000);
            let (runtime, mut session, mut peer) = open(plugin);
            peer.send(fragment(OpCode::Binary, vec![0; 1000], false));
            for i in 1..100 {
                peer.send(fragment(OpCode::Continuation, vec![i; 1000], i == 99));
            }
            runtime.advance(100 * SECOND);
            assert!(session.outcome().error.is_none(), "{:?}", session.outcome());
            assert!(session.stats().received.bytes <= 6000, "{:?}", session.stats());
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
}
