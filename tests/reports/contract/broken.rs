//! The suite goes red on each engine that breaks the contract, and says what is wrong.

use std::thread;

use drivetrain_conformance::verdicts;

use super::engines::{Broken, How};

/// The breakage, the cases that are run, the one that has to fail, and a part of what it says.
type Row = (How, &'static str, &'static str, &'static str);

const ROWS: &[Row] = &[
    (How::Keys(|_| [0; 4]), "keys", "masking_keys", "00000000 in every frame"),
    (How::Keys(|_| [0x5a, 1, 2, 3]), "keys", "masking_keys", "5a010203 in every frame"),
    (How::Keys(spread), "keys", "masking_keys", "the same masking keys in the same order"),
    (How::Keys(repeating), "keys", "masking_keys", "have 5 masking keys"),
    (How::Keys(counted), "keys", "masking_keys", "masking keys are counted"),
    (How::Keys(half), "keys", "masking_keys", "bits ffff0000 of all masking keys are the same"),
    (How::BusyReceive, "wakers", "a_pending_receive_is_no_busy_loop", "it is a busy loop"),
    (How::BusySend, "wakers", "a_pending_send_is_no_busy_loop", "it is a busy loop"),
    (How::TouchesMemory, "memory", "a_header_is_no_reason", "grow with what arrives"),
    (How::FirstReceiveWaker, "wakers", "the_latest_waker_of_a_receive", "latest one was not woken"),
    (How::FirstSendWaker, "wakers", "the_latest_waker_of_a_send", "latest one was not woken"),
    (
        How::OneWaker(true),
        "wakers",
        "a_waker_each",
        "writes have to register the waker of poll_ready",
    ),
    (
        How::OneWaker(false),
        "wakers",
        "a_waker_each",
        "reads have to register the waker of poll_receive",
    ),
    (How::ControlUnderLimit, "frames::control", "control_frames_are_not_under", "max_payload = 0"),
    (How::LaxControl, "frames::a_ping_in", "a_ping_in_fragments", "breaks RFC 6455 section 5"),
    (
        How::LaxControl,
        "frames::a_close_of_126",
        "a_close_of_126_bytes",
        "breaks RFC 6455 section 5",
    ),
    (How::LaxControl, "frames::opcode_3", "opcode_3", "breaks RFC 6455 section 5"),
    (How::ResetIsEnd, "ends::a_reset", "a_reset_is_an_error", "ECONNRESET"),
    (How::AnyEndIsEnd, "ends::an_end", "an_end_inside_a_frame", "ended inside a frame"),
    (
        How::FreesLate,
        "ends::a_dropped_transport_frees",
        "a_dropped_transport_frees",
        "socket was still open",
    ),
    (How::DropsBehindHead, "frames::frames_behind", "behind_the_101", "was lost"),
];

fn repeating(number: u32) -> [u8; 4] {
    (number % 5 * 0x1234_5677 + 0x0707_0707).to_be_bytes()
}

/// It looks random, and is the same for each connection.
fn spread(number: u32) -> [u8; 4] {
    let mut state = number.wrapping_add(0x9e37_79b9);
    for factor in [0x85eb_ca6b_u32, 0xc2b2_ae35] {
        state = (state ^ (state >> 15)).wrapping_mul(factor);
    }
    state.to_be_bytes()
}

fn counted(number: u32) -> [u8; 4] {
    number.wrapping_mul(0x0101_0101).wrapping_add(0x7654_3210).to_be_bytes()
}

fn half(number: u32) -> [u8; 4] {
    [
        0x77,
        0x12,
        (number.wrapping_mul(rand_of_process() | 1) >> 13) as u8,
        (number * 37 + rand_of_process()) as u8,
    ]
}

/// Another number each time.
fn rand_of_process() -> u32 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0) as u32
}

/// Cases that fail, with what they say.
fn failures(how: How, filter: &str) -> Vec<(String, String)> {
    let all = verdicts(Broken::subject(how), &format!("reports::contract::{filter}"));
    assert!(!all.is_empty(), "no case has {filter} in its name");
    all.into_iter().filter_map(|(name, verdict)| Some((name, verdict.err()?))).collect()
}

#[test]
fn an_engine_that_breaks_nothing_passes() {
    let all = verdicts(Broken::subject(How::Nothing), "reports::contract::");
    let failed: Vec<_> = all.iter().filter(|(_, verdict)| verdict.is_err()).collect();
    assert!(all.len() > 30 && failed.is_empty(), "{failed:?}");
}

#[test]
fn each_breakage_is_found_and_named() {
    // Most of the time is waiting for what does not come.
    let unnoticed: Vec<String> = thread::scope(|scope| {
        let rows: Vec<_> = ROWS.iter().map(|row| scope.spawn(|| unnoticed(row))).collect();
        rows.into_iter().filter_map(|row| row.join().expect("a verdict")).collect()
    });
    assert!(unnoticed.is_empty(), "{unnoticed:#?}");
}

fn unnoticed((how, filter, case, says): &Row) -> Option<String> {
    let failed = failures(*how, filter);
    let is_named = |(name, said): &(String, String)| name.contains(case) && said.contains(says);
    let missed = || format!("{how:?}: {case} has to say {says:?}; what failed: {failed:?}");
    (!failed.iter().any(is_named)).then(missed)
}

/// What an engine does otherwise is declared by its author: undeclared it fails, and so does what is declared and
/// not done.
#[test]
fn a_deviation_passes_where_it_is_declared_and_done() {
    let row = "hostile::a_promise_of_4_eib_without_limits";
    let ends = |how| verdicts(Broken::subject(how), row).remove(0).1;
    assert_eq!(ends(How::UpToOneGib(true)), Ok(()));
    let undeclared = ends(How::UpToOneGib(false)).expect_err("it is not declared");
    assert!(undeclared.contains("TooBig"), "{undeclared}");
    assert_eq!(ends(How::Nothing), Ok(()));
    ends(How::OnlyDeclares).expect_err("it is not done");
}
