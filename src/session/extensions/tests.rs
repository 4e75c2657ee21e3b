use drivetrain_engine::ErrorKind;

use super::*;

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
    Extensions::new(transforms).expect("some").within(Unit::Frames, NO_LIMITS)
}

fn letters() -> Extensions {
    let letter = |letter, rsv| (rsv, Box::new(Letter(letter, rsv)) as Box<dyn Transform>);
    extensions(vec![letter(b'A', Rsv::RSV2), letter(b'B', Rsv::RSV3)])
}

fn frame(opcode: OpCode, rsv: Rsv, payload: &'static str, fin: bool) -> RawFrame {
    RawFrame { fin, rsv, ..RawFrame::new(opcode, payload) }
}

/// All that a frame comes to.
fn taken(extensions: &mut Extensions, frame: RawFrame) -> Vec<RawFrame> {
    let first = extensions.incoming(frame).expect("valid");
    let rest = std::iter::from_fn(|| extensions.pull()).map(|piece| piece.expect("valid"));
    first.into_iter().chain(rest).collect()
}

const BOTH: Rsv = Rsv::new(false, true, true);

#[test]
fn they_are_applied_in_order_out_and_in_reverse_order_in() {
    let mut ours = letters();
    ours.outgoing(RawFrame::new(OpCode::Text, "text")).expect("valid");
    assert_eq!(ours.pop_ready(), Some(frame(OpCode::Text, BOTH, "BAtext", true)));
    let received = taken(&mut ours, frame(OpCode::Text, BOTH, "BAtext", true));
    assert_eq!(received, [RawFrame::new(OpCode::Text, "text")]);
    let error = ours.incoming(frame(OpCode::Text, BOTH, "ABtext", true)).expect_err("wrong order");
    assert_eq!(error.close_code(), Some(CloseCode::INTERNAL_ERROR), "of an error without one");
}

#[test]
fn a_message_passes_through_those_whose_bits_it_has() {
    let mut ours = letters();
    let text = |payload| [RawFrame::new(OpCode::Text, payload)];
    assert_eq!(taken(&mut ours, frame(OpCode::Text, Rsv::NONE, "BA", true)), text("BA"));
    assert_eq!(taken(&mut ours, frame(OpCode::Text, Rsv::RSV2, "ABA", true)), text("BA"));
    assert_eq!(taken(&mut ours, frame(OpCode::Text, Rsv::RSV3, "BBA", true)), text("BA"));
    // One without bits of its own sees all.
    let without: Vec<(Rsv, Box<dyn Transform>)> =
        vec![(Rsv::NONE, Box::new(Letter(b'C', Rsv::NONE)))];
    assert_eq!(
        taken(&mut extensions(without), frame(OpCode::Text, Rsv::NONE, "Cx", true)),
        text("x")
    );
}

#[test]
fn what_nobody_uses_is_left_for_the_assembler_to_refuse() {
    let mut ours = letters();
    let strange = frame(OpCode::Text, Rsv::RSV1, "text", true);
    assert_eq!(taken(&mut ours, strange.clone()), [strange]);
    let first = frame(OpCode::Text, Rsv::RSV2, "Ate", false);
    assert_eq!(taken(&mut ours, first), [RawFrame::new(OpCode::Text, "te").not_final()]);
    let bits_again = frame(OpCode::Continuation, Rsv::RSV2, "xt", true);
    assert_eq!(taken(&mut ours, bits_again.clone()), [bits_again]);
    let control = frame(OpCode::Ping, Rsv::RSV2, "ping", true);
    assert_eq!(taken(&mut ours, control.clone()), [control]);
}

#[test]
fn fragments_are_one_message_with_control_frames_between() {
    let mut ours = letters();
    let text = frame(OpCode::Text, BOTH, "BAte", false);
    assert_eq!(taken(&mut ours, text), [RawFrame::new(OpCode::Text, "te").not_final()]);
    let ping = RawFrame::new(OpCode::Ping, "ping");
    assert_eq!(taken(&mut ours, ping.clone()), [ping]);
    let last = RawFrame::new(OpCode::Continuation, "xt");
    assert_eq!(taken(&mut ours, last.clone()), [last]);
    // A continuation of nothing is left for the assembler.
    let stray = RawFrame::new(OpCode::Continuation, "BAxx");
    assert_eq!(taken(&mut ours, stray.clone()), [stray]);
}

#[test]
fn what_a_frame_comes_to_is_handed_on_in_pieces() {
    let many: Vec<(Rsv, Box<dyn Transform>)> = vec![(Rsv::RSV1, Box::new(Thousandfold(0)))];
    let mut ours = Extensions::new(many)
        .expect("some")
        .within(Unit::Frames, Limits { max_frame_size: 700, ..NO_LIMITS });
    let pieces = taken(&mut ours, frame(OpCode::Text, Rsv::RSV1, "ab", false));
    let seen: Vec<_> = pieces.iter().map(|p| (p.opcode, p.payload.len(), p.fin)).collect();
    let going_on = |bytes| (OpCode::Continuation, bytes, false);
    assert_eq!(seen, [(OpCode::Text, 700, false), going_on(700), going_on(600)]);
    let pieces = taken(&mut ours, frame(OpCode::Continuation, Rsv::NONE, "c", true));
    let seen: Vec<_> = pieces.iter().map(|p| (p.opcode, p.payload.len(), p.fin)).collect();
    assert_eq!(seen, [going_on(700), (OpCode::Continuation, 300, true)]);
}

#[test]
fn one_hands_its_pieces_to_the_next() {
    let both: Vec<(Rsv, Box<dyn Transform>)> = vec![
        (Rsv::RSV2, Box::new(Letter(b'x', Rsv::RSV2))),
        (Rsv::RSV1, Box::new(Thousandfold(0))),
    ];
    let mut ours = extensions(both);
    let rsv = Rsv::RSV1 | Rsv::RSV2;
    let payload = "a".repeat(200); // 200,000 bytes, of which the first goes
    let whole = RawFrame { rsv, ..RawFrame::new(OpCode::Binary, payload) };
    let pieces = taken(&mut ours, whole);
    assert_eq!(pieces.iter().map(|piece| piece.payload.len()).sum::<usize>(), 199_999);
    assert!(pieces.iter().all(|piece| piece.payload.len() <= PIECE && piece.rsv.is_none()));
    assert_eq!(pieces[0].opcode, OpCode::Binary);
    assert!(pieces[1..].iter().all(|piece| piece.opcode == OpCode::Continuation));
    let fins: Vec<_> = pieces.iter().map(|piece| piece.fin).collect();
    assert_eq!(fins.iter().filter(|fin| **fin).count(), 1, "{fins:?}");
    assert_eq!(fins.last(), Some(&true));
}

#[test]
fn after_an_error_only_control_frames_pass() {
    let mut ours = letters();
    assert!(ours.incoming(frame(OpCode::Text, BOTH, "xx", true)).is_err());
    assert!(!ours.has_more());
    assert_eq!(taken(&mut ours, frame(OpCode::Text, BOTH, "BAtext", true)), []);
    let close = RawFrame::new(OpCode::Close, "");
    assert_eq!(taken(&mut ours, close.clone()), [close]);
}

/// What goes out is what is split, whatever it was before.
#[test]
fn the_result_is_fragmented_with_the_bits_on_the_first_frame() {
    let sent = |unit, max_frame_size: usize, parts: &[usize]| {
        let letter: Vec<(Rsv, Box<dyn Transform>)> =
            vec![(Rsv::RSV3, Box::new(Letter(b'A', Rsv::RSV3)))];
        let mut ours = Extensions::new(letter)
            .expect("some")
            .within(unit, Limits { max_frame_size, ..NO_LIMITS });
        for (i, size) in parts.iter().enumerate() {
            let opcode = if i == 0 { OpCode::Text } else { OpCode::Continuation };
            let fin = i + 1 == parts.len();
            let part = RawFrame { fin, ..RawFrame::new(opcode, vec![b'x'; *size]) };
            ours.outgoing(part).expect("valid");
        }
        let frames = std::iter::from_fn(|| ours.pop_ready());
        frames.map(|f| (f.opcode, f.rsv, f.payload.len(), f.fin)).collect::<Vec<_>>()
    };
    let first = |size, fin| (OpCode::Text, Rsv::RSV3, size, fin);
    let next = |size, fin| (OpCode::Continuation, Rsv::NONE, size, fin);
    let together = sent(Unit::Frames, usize::MAX, &[100, 200, FRAGMENT, 7]);
    assert_eq!(together, [first(FRAGMENT, false), next(308, true)]);
    assert_eq!(
        sent(Unit::Frames, 10, &[9, 15]),
        [first(10, false), next(10, false), next(5, true)]
    );
    assert_eq!(sent(Unit::Frames, 10, &[0]), [first(1, true)]);
    assert_eq!(sent(Unit::Frames, 10, &[9]), [first(10, true)]);
    assert_eq!(sent(Unit::Messages, 10, &[100]), [first(101, true)]);
}

#[test]
fn payloads_are_not_printed() {
    let mut ours = letters();
    ours.outgoing(RawFrame::new(OpCode::Text, "secret").not_final()).expect("valid");
    let held = format!("{ours:?}");
    assert!(held.contains("8 bytes") && !held.contains("secret"), "{held}");
    ours.outgoing(RawFrame::new(OpCode::Continuation, "secret")).expect("valid");
    let ready = format!("{ours:?}");
    assert!(ready.contains("14 bytes") && !ready.contains("secret"), "{ready}");
}
