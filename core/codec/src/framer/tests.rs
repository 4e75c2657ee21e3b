//! The framer over a scripted stream. The decoder and the encoder have their own tests.

use std::{collections::VecDeque, task::Waker};

use drivetrain_engine::{BoxStream, CloseCode, ErrorKind, OpCode};

use super::*;

enum Step {
    Bytes(Vec<u8>),
    Wait,
    Fail(io::ErrorKind),
}

/// Reads what the script says, then ends; writes at most `accepts` bytes at a time, every other call.
#[derive(Default)]
struct Scripted {
    script: VecDeque<Step>,
    reads: usize,
    written: Vec<u8>,
    /// Why the next writes fail.
    fails: VecDeque<io::ErrorKind>,
    accepts: Option<usize>,
    hesitates: bool,
    writes: usize,
    flushed: bool,
    closed: bool,
}

impl AsyncRead for Scripted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        assert!(!buffer.is_empty(), "a read without room");
        self.reads += 1;
        match self.script.pop_front() {
            None => Poll::Ready(Ok(0)),
            Some(Step::Wait) => Poll::Pending,
            Some(Step::Fail(kind)) => Poll::Ready(Err(kind.into())),
            Some(Step::Bytes(mut bytes)) => {
                let count = bytes.len().min(buffer.len());
                let rest = bytes.split_off(count);
                buffer[..count].copy_from_slice(&bytes);
                if !rest.is_empty() {
                    self.script.push_front(Step::Bytes(rest));
                }
                Poll::Ready(Ok(count))
            }
        }
    }
}

impl AsyncWrite for Scripted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        assert!(!bytes.is_empty(), "a write of nothing");
        self.writes += 1;
        if let Some(kind) = self.fails.pop_front() {
            return Poll::Ready(Err(kind.into()));
        }
        if self.hesitates && self.writes % 2 == 1 {
            return Poll::Pending;
        }
        let count = bytes.len().min(self.accepts.unwrap_or(usize::MAX));
        self.written.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flushed = true;
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.closed = true;
        Poll::Ready(Ok(()))
    }
}

fn client(script: impl IntoIterator<Item = Step>) -> Framer<Scripted> {
    let stream = Scripted { script: script.into_iter().collect(), ..Scripted::default() };
    Framer::new(stream, b"", Role::Client, &Buffers::default())
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn wait<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    for _ in 0..1_000_000 {
        if let Poll::Ready(value) = poll(&mut cx()) {
            return value;
        }
    }
    panic!("never ready");
}

fn receive(framer: &mut Framer<Scripted>) -> Result<Option<RawFrame>, Error> {
    wait(|cx| framer.poll_receive(cx, 2 << 30))
}

fn frame(framer: &mut Framer<Scripted>) -> RawFrame {
    receive(framer).expect("receives").expect("a frame")
}

/// A server's binary frame of this many zeros.
fn zeros(length: usize) -> Vec<u8> {
    let mut bytes = vec![0x82, 127];
    bytes.extend((length as u64).to_be_bytes());
    bytes.resize(bytes.len() + length, 0);
    bytes
}

#[test]
fn the_end_is_clean_between_frames_and_an_error_within_one() {
    let bytes = b"\x82\x03abc";
    for cut in 0..=bytes.len() {
        let script = (cut > 0).then(|| Step::Bytes(bytes[..cut].to_vec()));
        let mut framer = client(script);
        if cut == bytes.len() {
            assert_eq!(frame(&mut framer).payload, "abc");
        }
        for _ in 0..2 {
            match receive(&mut framer) {
                Ok(None) => assert!(cut == 0 || cut == bytes.len(), "cut at {cut}"),
                Ok(Some(frame)) => panic!("{frame:?}"),
                Err(error) => {
                    assert!((1..bytes.len()).contains(&cut), "cut at {cut}");
                    assert_eq!(error.kind(), ErrorKind::Io);
                    assert!(error.to_string().contains("in the middle of a frame"), "{error}");
                }
            }
        }
    }
}

#[test]
fn a_read_error_comes_after_the_frames_before_it() {
    let mut framer = client([
        Step::Fail(io::ErrorKind::Interrupted),
        Step::Bytes(b"\x81\x03one\x81\x03two".to_vec()),
        Step::Fail(io::ErrorKind::ConnectionReset),
    ]);
    assert_eq!(frame(&mut framer).payload, "one");
    assert_eq!(frame(&mut framer).payload, "two");
    assert_eq!(receive(&mut framer).expect_err("reset").kind(), ErrorKind::Io);
}

#[test]
fn an_end_without_close_notify_is_told_from_one_within_a_frame() {
    for (kind, before, is_inside) in [
        (io::ErrorKind::UnexpectedEof, &b"\x82\x03ab"[..], true),
        (io::ErrorKind::UnexpectedEof, b"", false),
        (io::ErrorKind::ConnectionReset, b"\x82\x03ab", false),
    ] {
        let bytes = (!before.is_empty()).then(|| Step::Bytes(before.to_vec()));
        let error = receive(&mut client(bytes.into_iter().chain([Step::Fail(kind)])));
        let error = error.expect_err("the read failed");
        assert_eq!(error.kind(), ErrorKind::Io);
        assert_eq!(error.to_string().contains("in the middle of a frame"), is_inside, "{error}");
    }
}

#[test]
fn progress_is_what_came_and_what_was_written() {
    let mut framer = client([Step::Bytes(b"\x82\x03abc\x82".to_vec()), Step::Wait]);
    assert_eq!(framer.progress(), Some(Progress { received: 0, written: 0 }));
    assert_eq!(frame(&mut framer).payload, "abc");
    framer.start_send(RawFrame::new(OpCode::Text, "hi")).expect("taken");
    let received = Progress { received: 6, written: 0 };
    assert_eq!(framer.progress(), Some(received), "what only waits is no progress");
    wait(|cx| framer.poll_flush(cx)).expect("written");
    assert_eq!(framer.progress(), Some(Progress { written: 8, ..received }));
}

#[test]
fn what_was_read_ahead_comes_first_and_buffered_frames_need_no_read() {
    let script = [Step::Bytes(b"wo".to_vec()), Step::Wait].into_iter().collect();
    let stream = Scripted { script, ..Scripted::default() };
    let ahead = b"\x81\x03one\x81\x03t";
    let mut framer = Framer::new(stream, ahead, Role::Client, &Buffers::default());
    let one = framer.try_receive_buffered(100).expect("buffered").expect("a frame");
    assert_eq!(one.payload, "one");
    assert!(framer.try_receive_buffered(100).is_none(), "half a frame");
    assert_eq!(framer.stream.reads, 0);
    assert_eq!(frame(&mut framer).payload, "two");
    assert!(framer.poll_receive(&mut cx(), 100).is_pending());
}

#[test]
fn a_frame_that_comes_in_small_portions_is_not_lost_by_waiting() {
    let steps = zeros(70_000).into_iter().flat_map(|byte| [Step::Bytes(vec![byte]), Step::Wait]);
    assert_eq!(frame(&mut client(steps.chain([Step::Wait]))).payload.len(), 70_000);
}

#[test]
fn a_huge_frame_does_not_keep_the_thread() {
    let mut framer = client([Step::Bytes(zeros(8 << 20))]);
    let mut polls = 0;
    let received = wait(|cx| {
        polls += 1;
        framer.poll_receive(cx, usize::MAX)
    });
    assert_eq!(received.expect("receives").expect("a frame").payload.len(), 8 << 20);
    assert!(polls >= 16, "{polls} polls");
}

#[test]
fn after_a_violation_the_rest_is_read_up_to_the_end() {
    let rest = Step::Bytes(zeros(100_000));
    let mut framer = client([Step::Bytes(b"\x83\x00".to_vec()), rest, Step::Wait]);
    let error = receive(&mut framer).expect_err("a reserved opcode");
    assert_eq!(error.close_code(), Some(CloseCode::PROTOCOL_ERROR));
    assert!(framer.try_receive_buffered(10).is_none());
    assert_eq!(receive(&mut framer).expect("the end"), None);
}

#[test]
fn a_text_is_refused_within_its_frame_if_the_session_asks_for_it() {
    let bytes = || [Step::Bytes(b"\x81\x10\xff".to_vec()), Step::Wait];
    assert!(client(bytes()).poll_receive(&mut cx(), 100).is_pending());
    let mut framer = client(bytes());
    framer.check_text_early();
    let error = receive(&mut framer).expect_err("not UTF-8");
    assert_eq!(error.close_code(), Some(CloseCode::INVALID_PAYLOAD));
}

#[test]
fn sending_is_ready_below_the_mark_and_writes_above_it() {
    let mut framer = client([]);
    for _ in 0..33 {
        assert!(framer.poll_ready(&mut cx()).is_ready());
        framer.start_send(RawFrame::new(OpCode::Binary, vec![0; 1000])).expect("taken");
    }
    assert_eq!(framer.stream.writes, 0, "nothing is written below the mark");
    framer.stream.accepts = Some(400);
    framer.stream.hesitates = true;
    assert!(framer.poll_ready(&mut cx()).is_pending());
    wait(|cx| framer.poll_ready(cx)).expect("ready");
    let written = framer.stream.written.len();
    assert!((400..1000).contains(&written), "{written} bytes bring it below the mark");
    framer.stream.accepts = Some(0);
    assert_eq!(wait(|cx| framer.poll_flush(cx)).expect_err("zero").kind(), ErrorKind::Io);
}

#[test]
fn a_write_that_is_interrupted_is_repeated_and_any_other_failure_is_told() {
    for (kinds, works) in [
        (vec![io::ErrorKind::Interrupted; 3], true),
        (vec![io::ErrorKind::Interrupted, io::ErrorKind::BrokenPipe], false),
    ] {
        let mut framer = client([]);
        framer.stream.fails = kinds.into();
        framer.start_send(RawFrame::new(OpCode::Text, "hi")).expect("taken");
        let written = wait(|cx| framer.poll_flush(cx));
        assert_eq!(written.is_ok(), works, "{written:?}");
        assert_eq!(framer.stream.written.len(), if works { 8 } else { 0 });
    }
}

#[test]
fn a_short_text_that_is_here_is_lent() {
    let long = [&b"\x81\x7d"[..], &[b'x'; 125]].concat();
    let mut framer = client([
        Step::Bytes([&b"\x82\x00\x81\x02hi\x81\x03abc"[..], &long, b"\x81\x01"].concat()),
        Step::Wait,
    ]);
    assert_eq!(frame(&mut framer).payload, "");
    assert_eq!(framer.try_receive_short_text(2), Some(&b"hi"[..]));
    assert_eq!(framer.try_receive_short_text(2), None, "above the limit");
    assert_eq!(framer.try_receive_short_text(3), Some(&b"abc"[..]));
    assert_eq!(framer.try_receive_short_text(1000), None, "not short enough to be lent");
    assert_eq!(frame(&mut framer).payload.len(), 125);
    assert_eq!(framer.try_receive_short_text(1000), None, "not all of it is here");
}

#[test]
fn nothing_is_taken_at_the_mark() {
    let stream = Scripted::default();
    let buffers = Buffers::default().write_buffer_size(12);
    let mut framer = Framer::new(stream, b"", Role::Server, &buffers);
    assert!(!framer.try_send(OpCode::Text, &[0; 126]), "not short");
    assert!(framer.try_send(OpCode::Text, b"123456789"), "11 bytes wait, below the mark");
    assert!(framer.poll_ready(&mut cx()).is_ready() && framer.stream.writes == 0);
    assert!(framer.try_send(OpCode::Binary, b"") && framer.encoder.len() == 13);
    assert!(!framer.try_send(OpCode::Text, b"x"), "above it");
    framer.stream.accepts = Some(1);
    framer.stream.hesitates = true;
    assert!(framer.poll_ready(&mut cx()).is_pending());
    assert!(framer.poll_ready(&mut cx()).is_pending() && framer.encoder.len() == 12);
    assert!(!framer.try_send(OpCode::Text, b"x"), "at it");
    assert!(wait(|cx| framer.poll_ready(cx)).is_ok() && framer.encoder.len() == 11);
}

#[test]
fn closing_writes_what_waits_before_it_ends_the_stream() {
    let mut framer = client([]);
    framer.stream.accepts = Some(1);
    framer.stream.hesitates = true;
    for turn in 0..20 {
        framer.start_send(RawFrame::new(OpCode::Binary, vec![7; turn])).expect("taken");
        // Progress in between, so that frames are encoded behind half-written ones.
        assert!(framer.poll_flush(&mut cx()).is_pending());
    }
    assert!(!framer.stream.flushed && !framer.stream.closed);
    wait(|cx| framer.poll_close(cx)).expect("closed");
    assert!(framer.stream.flushed && framer.stream.closed);
    let mut server = Decoder::new(Role::Server);
    server.feed(&framer.stream.written);
    for turn in 0..20 {
        let frame = server.decode(100).expect("nothing wrong").expect("a frame");
        assert_eq!(frame.payload, vec![7; turn]);
    }
    assert!(server.is_empty());
}

#[test]
fn a_frame_that_cannot_be_sent_leaves_nothing() {
    let mut framer = client([]);
    let bad = RawFrame::new(OpCode::Ping, vec![0; 126]);
    assert_eq!(framer.start_send(bad).expect_err("refused").kind(), ErrorKind::InvalidInput);
    wait(|cx| framer.poll_flush(cx)).expect("nothing to write");
    assert_eq!(framer.stream.writes, 0);
}

#[test]
fn debug_shows_lengths_only() {
    let mut framer = client([Step::Bytes(b"\x81\x7dsecret".to_vec()), Step::Wait]);
    assert!(framer.poll_receive(&mut cx(), 200).is_pending());
    framer.start_send(RawFrame::new(OpCode::Text, "secret")).expect("taken");
    let shown = format!("{framer:?}");
    assert!(shown.contains("8 bytes received") && shown.contains("12 bytes to write"), "{shown}");
}

#[test]
fn a_framer_is_small() {
    // Each connection has one: what is beside its 64 masks is kept small.
    assert!(size_of::<Framer<BoxStream>>() <= 552, "{}", size_of::<Framer<BoxStream>>());
}
