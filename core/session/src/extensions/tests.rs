use drivetrain_engine::ErrorKind;

use super::*;

const FRAGMENT: usize = 64 << 10;

const NO_LIMITS: Limits = Limits { max_frame_size: usize::MAX, max_message_size: usize::MAX };

/// Puts its letter before a message, and takes it away; several of it have an order.
#[derive(Debug)]
struct Letter(u8, Rsv);

impl Transform for Letter {
    fn incoming(&mut self, part: &mut MessagePart, room: usize) -> Result<Bytes> {
        if part.first && part.payload.split_to(1) != [self.0][..] {
            return Err(Error::new(ErrorKind::Other, "another letter"));
        }
        Ok(part.payload.split_to(part.payload.len().min(room)))
    }

    fn outgoing(&mut self, part: &mut MessagePart) -> Result<()> {
        if part.first {
            part.rsv = part.rsv | self.1;
            part.payload = [&[self.0], &part.payload[..]].concat().into();
        }
        Ok(())
    }
}

/// Makes a thousand bytes of each that comes in.
#[derive(Debug)]
struct Thousandfold(usize);

impl Transform for Thousandfold {
    fn incoming(&mut self, part: &mut MessagePart, room: usize) -> Result<Bytes> {
        self.0 += 1000 * std::mem::take(&mut part.payload).len();
        let now = self.0.min(room);
        self.0 -= now;
        Ok(vec![b'x'; now].into())
    }

    fn outgoing(&mut self, _part: &mut MessagePart) -> Result<()> {
        Ok(())
    }
}

fn extensions(transforms: Vec<(Rsv, Box<dyn Transform>)>) -> Extensions {
    Extensions::new(transforms).expect("some").within(FRAGMENT, NO_LIMITS)
}

fn letters() -> Extensions {
    let letter = |letter, rsv| (rsv, Box::new(Letter(letter, rsv)) as Box<dyn Transform>);
    extensions(vec![letter(b'A', Rsv::RSV2), letter(b'B', Rsv::RSV3)])
}

fn frame(opcode: OpCode, rsv: Rsv, payload: &'static str, fin: bool) -> RawFrame {
    RawFrame { fin, rsv, ..RawFrame::new(opcode, payload) }
}

/// Runs transforms that are due.
fn run(extensions: &mut Extensions) -> Result<()> {
    let Some(job) = extensions.take_job() else { return Ok(()) };
    assert!(!extensions.is_idle() && !extensions.is_due());
    let done = job.run(&mut Panics::default()).expect("no panic");
    match extensions.put_back(done) {
        Returned::Incoming(Err(error)) => {
            extensions.stop();
            Err(error)
        }
        Returned::Outgoing(result) => result,
        _ => Ok(()),
    }
}

/// The whole output of a frame.
fn taken(extensions: &mut Extensions, frame: RawFrame) -> Result<Vec<RawFrame>> {
    match extensions.incoming(frame) {
        Passed::AsItIs(frame) => return Ok(vec![frame]),
        Passed::Discarded(_) => return Ok(Vec::new()),
        Passed::Transformed => {}
    }
    let mut all = Vec::new();
    while extensions.has_more() {
        match extensions.pull() {
            Some(chunk) => all.push(chunk),
            None => run(extensions)?,
        }
    }
    Ok(all)
}

fn sends(extensions: &mut Extensions, frame: RawFrame) {
    assert!(extensions.is_idle());
    extensions.outgoing(frame, false);
    run(extensions).expect("valid");
}

/// The same of a valid frame.
fn output(extensions: &mut Extensions, frame: RawFrame) -> Vec<RawFrame> {
    taken(extensions, frame).expect("valid")
}

const BOTH: Rsv = Rsv::new(false, true, true);

#[test]
fn they_are_applied_in_order_out_and_in_reverse_order_in() {
    let mut ours = letters();
    sends(&mut ours, RawFrame::new(OpCode::Text, "text"));
    assert_eq!(ours.pop_ready(), Some(frame(OpCode::Text, BOTH, "BAtext", true)));
    let received = output(&mut ours, frame(OpCode::Text, BOTH, "BAtext", true));
    assert_eq!(received, [RawFrame::new(OpCode::Text, "text")]);
    let wrong_order = frame(OpCode::Text, BOTH, "ABtext", true);
    let error = taken(&mut ours, wrong_order).expect_err("wrong order");
    assert_eq!(error.close_code(), Some(CloseCode::INTERNAL_ERROR), "of an error without one");
}

#[test]
fn a_message_passes_through_those_whose_bits_it_has() {
    let mut ours = letters();
    let text = |payload| [RawFrame::new(OpCode::Text, payload)];
    assert_eq!(output(&mut ours, frame(OpCode::Text, Rsv::NONE, "BA", true)), text("BA"));
    assert_eq!(output(&mut ours, frame(OpCode::Text, Rsv::RSV2, "ABA", true)), text("BA"));
    assert_eq!(output(&mut ours, frame(OpCode::Text, Rsv::RSV3, "BBA", true)), text("BA"));
    // One without bits of its own sees all.
    let without: Vec<(Rsv, Box<dyn Transform>)> =
        vec![(Rsv::NONE, Box::new(Letter(b'C', Rsv::NONE)))];
    assert_eq!(
        output(&mut extensions(without), frame(OpCode::Text, Rsv::NONE, "Cx", true)),
        text("x")
    );
}

#[test]
fn what_nobody_uses_is_left_for_the_validator_to_refuse() {
    let mut ours = letters();
    let strange = frame(OpCode::Text, Rsv::RSV1, "text", true);
    assert_eq!(output(&mut ours, strange.clone()), [strange]);
    let first = frame(OpCode::Text, Rsv::RSV2, "Ate", false);
    assert_eq!(output(&mut ours, first), [RawFrame::new(OpCode::Text, "te").not_final()]);
    let bits_again = frame(OpCode::Continuation, Rsv::RSV2, "xt", true);
    assert_eq!(output(&mut ours, bits_again.clone()), [bits_again]);
    let control = frame(OpCode::Ping, Rsv::RSV2, "ping", true);
    assert_eq!(output(&mut ours, control.clone()), [control]);
}

#[test]
fn fragments_are_one_message_with_control_frames_between() {
    let mut ours = letters();
    let text = frame(OpCode::Text, BOTH, "BAte", false);
    assert_eq!(output(&mut ours, text), [RawFrame::new(OpCode::Text, "te").not_final()]);
    let ping = RawFrame::new(OpCode::Ping, "ping");
    assert_eq!(output(&mut ours, ping.clone()), [ping]);
    let last = RawFrame::new(OpCode::Continuation, "xt");
    assert_eq!(output(&mut ours, last.clone()), [last]);
    // A continuation of nothing is left for the validator.
    let stray = RawFrame::new(OpCode::Continuation, "BAxx");
    assert_eq!(output(&mut ours, stray.clone()), [stray]);
}

#[test]
fn the_output_of_a_frame_is_handed_on_in_chunks() {
    let many: Vec<(Rsv, Box<dyn Transform>)> = vec![(Rsv::RSV1, Box::new(Thousandfold(0)))];
    let mut ours = Extensions::new(many)
        .expect("some")
        .within(700, Limits { max_frame_size: 700, ..NO_LIMITS });
    let chunks = output(&mut ours, frame(OpCode::Text, Rsv::RSV1, "ab", false));
    let seen: Vec<_> = chunks.iter().map(|p| (p.opcode, p.payload.len(), p.fin)).collect();
    let going_on = |bytes| (OpCode::Continuation, bytes, false);
    assert_eq!(seen, [(OpCode::Text, 700, false), going_on(700), going_on(600)]);
    let chunks = output(&mut ours, frame(OpCode::Continuation, Rsv::NONE, "c", true));
    let seen: Vec<_> = chunks.iter().map(|p| (p.opcode, p.payload.len(), p.fin)).collect();
    assert_eq!(seen, [going_on(700), (OpCode::Continuation, 300, true)]);
}

#[test]
fn one_hands_its_chunks_to_the_next() {
    let both: Vec<(Rsv, Box<dyn Transform>)> = vec![
        (Rsv::RSV2, Box::new(Letter(b'x', Rsv::RSV2))),
        (Rsv::RSV1, Box::new(Thousandfold(0))),
    ];
    let mut ours = extensions(both);
    let rsv = Rsv::RSV1 | Rsv::RSV2;
    let payload = "a".repeat(200); // 200,000 bytes, of which the first goes
    let whole = RawFrame { rsv, ..RawFrame::new(OpCode::Binary, payload) };
    let chunks = output(&mut ours, whole);
    assert_eq!(chunks.iter().map(|chunk| chunk.payload.len()).sum::<usize>(), 199_999);
    assert!(chunks.iter().all(|chunk| chunk.payload.len() <= CHUNK && chunk.rsv.is_none()));
    assert_eq!(chunks[0].opcode, OpCode::Binary);
    assert!(chunks[1..].iter().all(|chunk| chunk.opcode == OpCode::Continuation));
    let fins: Vec<_> = chunks.iter().map(|chunk| chunk.fin).collect();
    assert_eq!(fins.iter().filter(|fin| **fin).count(), 1, "{fins:?}");
    assert_eq!(fins.last(), Some(&true));
}

#[test]
fn after_an_error_only_control_frames_pass() {
    let mut ours = letters();
    assert!(taken(&mut ours, frame(OpCode::Text, BOTH, "xx", true)).is_err());
    assert!(!ours.has_more());
    assert_eq!(output(&mut ours, frame(OpCode::Text, BOTH, "BAtext", true)), []);
    let close = RawFrame::new(OpCode::Close, "");
    assert_eq!(output(&mut ours, close.clone()), [close]);
}

/// The transformed output is split into frames.
#[test]
fn the_result_is_fragmented_with_the_bits_on_the_first_frame() {
    let sent = |fragment: usize, parts: &[usize]| {
        let letter: Vec<(Rsv, Box<dyn Transform>)> =
            vec![(Rsv::RSV3, Box::new(Letter(b'A', Rsv::RSV3)))];
        let mut ours = Extensions::new(letter).expect("some").within(fragment, NO_LIMITS);
        for (i, size) in parts.iter().enumerate() {
            let opcode = if i == 0 { OpCode::Text } else { OpCode::Continuation };
            let fin = i + 1 == parts.len();
            let part = RawFrame { fin, ..RawFrame::new(opcode, vec![b'x'; *size]) };
            sends(&mut ours, part);
        }
        let frames = std::iter::from_fn(|| ours.pop_ready());
        frames.map(|f| (f.opcode, f.rsv, f.payload.len(), f.fin)).collect::<Vec<_>>()
    };
    let first = |size, fin| (OpCode::Text, Rsv::RSV3, size, fin);
    let next = |size, fin| (OpCode::Continuation, Rsv::NONE, size, fin);
    let together = sent(FRAGMENT, &[100, 200, FRAGMENT, 7]);
    assert_eq!(together, [first(FRAGMENT, false), next(308, true)]);
    assert_eq!(sent(10, &[9, 15]), [first(10, false), next(10, false), next(5, true)]);
    assert_eq!(sent(10, &[0]), [first(1, true)]);
    assert_eq!(sent(10, &[9]), [first(10, true)]);
    assert_eq!(sent(usize::MAX, &[100]), [first(101, true)]);
}

#[test]
fn payloads_are_not_printed() {
    let mut ours = letters();
    sends(&mut ours, RawFrame::new(OpCode::Text, "secret").not_final());
    let held = format!("{ours:?}");
    assert!(held.contains("8 bytes") && !held.contains("secret"), "{held}");
    sends(&mut ours, RawFrame::new(OpCode::Continuation, "secret"));
    let ready = format!("{ours:?}");
    assert!(ready.contains("14 bytes") && !ready.contains("secret"), "{ready}");
}

/// The messages that pass through no transform do not wait for one; those that do are in order.
#[test]
fn while_they_run_only_what_needs_them_waits() {
    let mut ours = letters();
    ours.outgoing(RawFrame::new(OpCode::Text, "out"), false);
    assert!(ours.is_due() && ours.is_encoding() && ours.messages_ready() == 1);
    let job = ours.take_job().expect("due");
    let plain = RawFrame::new(OpCode::Text, "plain");
    assert_eq!(output(&mut ours, plain.clone()), [plain]);
    assert_eq!(ours.incoming(frame(OpCode::Text, BOTH, "BAin", true)), Passed::Transformed);
    assert_eq!(ours.pull(), None);
    assert!(ours.has_more() && !ours.is_due() && ours.take_job().is_none());
    let done = job.run(&mut Panics::default()).expect("no panic");
    assert!(matches!(ours.put_back(done), Returned::Outgoing(Ok(()))));
    assert_eq!(ours.pop_ready().map(|frame| frame.payload), Some("BAout".into()));
    assert!(ours.serve_reader() && ours.is_due() && !ours.is_encoding());
    run(&mut ours).expect("valid");
    assert!(!ours.serve_reader(), "nobody waits for more");
    assert_eq!(ours.pull(), Some(RawFrame::new(OpCode::Text, "in")));
    assert!(!ours.has_more() && ours.is_idle());
}

/// What is under way when an error stops the session is discarded with the rest.
#[test]
fn an_error_discards_what_is_due_and_what_runs() {
    let mut ours = letters();
    ours.outgoing(RawFrame::new(OpCode::Text, "due"), false);
    assert_eq!(ours.stop(), [Bytes::from("due")]);
    assert!(ours.is_idle() && !ours.is_encoding() && ours.messages_ready() == 0);
    for incoming in [true, false] {
        let mut ours = letters();
        if incoming {
            assert_eq!(ours.incoming(frame(OpCode::Text, BOTH, "BAin", true)), Passed::Transformed);
            assert_eq!(ours.pull(), None);
        } else {
            ours.outgoing(RawFrame::new(OpCode::Text, "in"), false);
        }
        let job = ours.take_job().expect("due");
        assert!(ours.stop().is_empty() && !ours.has_more() && !ours.is_encoding());
        let done = job.run(&mut Panics::default()).expect("no panic");
        let Returned::Discarded { incoming: of_incoming, payloads } = ours.put_back(done) else {
            panic!("{ours:?}")
        };
        assert_eq!((of_incoming, payloads.len()), (incoming, 1));
        assert!(ours.is_idle() && !ours.has_ready() && ours.pull().is_none() && !ours.is_due());
    }
}
