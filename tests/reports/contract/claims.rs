//! Engines that claim too little or too much: what does not hold is found, and said.

use std::thread;

use drivetrain::{
    Capability,
    engine::{Duties, Unit},
};
use drivetrain_conformance::verdicts;

use crate::altered::Altered;

#[test]
fn whatever_an_engine_hides_is_found() {
    let unnoticed = in_parallel(Capability::ALL, |&capability| unnoticed(capability));
    assert!(unnoticed.is_empty(), "{unnoticed:#?}");
}

/// The row of the table that names it has to fail.
fn unnoticed(capability: Capability) -> Option<String> {
    let name: String = capability
        .name()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
        .collect();
    let hiding = Altered { hides: Some(capability), ..Altered::lacking("hiding", &[]) };
    let all = verdicts(hiding, &format!("limitations::{name}"));
    let row = all.iter().find(|(row, _)| *row == format!("limitations::{name}")).expect("a row");
    let said = row.1.as_ref().err().map_or("nothing", String::as_str);
    let mut hints = ["has to claim it", "the engine offers", "says that it lacks it"].iter();
    let right = hints.any(|hint| said.contains(hint));
    (!right).then(|| format!("{capability} is hidden, and its row says {said}"))
}

/// A duty's name, with the duty and without it, and what the library lacks.
type Duty = (&'static str, Duties, Duties, &'static [Capability]);

fn duties() -> Vec<Duty> {
    use Capability::{Extensions, MaxFrameSize, RawSessions, RsvBits, SendFragments};
    const WHOLE: &[Capability] = &[SendFragments, MaxFrameSize, RawSessions, RsvBits, Extensions];
    const FRAMES: Duties = Duties::frames();
    let mut messages = FRAMES;
    messages.unit = Unit::Messages;
    let mut limited = messages;
    limited.enforces_message_limit = true;
    vec![
        ("unit: Messages", messages, FRAMES, WHOLE),
        ("answers_ping", FRAMES.answering_ping(), FRAMES, &[]),
        ("echoes_close", FRAMES.echoing_close(), FRAMES, &[]),
        ("sends_close", FRAMES.sending_close(), FRAMES, &[]),
        ("validates_utf8", FRAMES.validating_utf8(), FRAMES, &[]),
        ("enforces_message_limit", limited, messages, WHOLE),
        ("applies_extensions", FRAMES.applying_extensions(), FRAMES, &[RsvBits, Extensions]),
    ]
}

/// What fails of the cases about duties.
fn failures(does: Duties, claims: Duties, lacks: &'static [Capability]) -> Vec<String> {
    let altered = Altered { claims, ..Altered::lacking("claiming", lacks).doing(does) };
    let all = verdicts(altered, "reports::contract::duties::");
    assert!(all.len() >= duties().len(), "a case for each duty");
    all.into_iter().filter_map(|(_, verdict)| verdict.err()).collect()
}

#[test]
fn a_duty_that_is_done_and_claimed_passes() {
    let wrong = in_parallel(&duties(), |&(duty, with, _, lacks)| {
        let failed = failures(with, with, lacks);
        (!failed.is_empty()).then(|| format!("{duty}: {failed:#?}"))
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_duty_that_is_done_and_not_claimed_is_found() {
    let unnoticed = in_parallel(&duties(), |&(duty, with, without, lacks)| {
        let failed = failures(with, without, lacks);
        let says = format!("do not claim `{duty}`");
        (!failed.iter().any(|said| said.contains(&says))).then(|| format!("{duty}: {failed:#?}"))
    });
    assert!(unnoticed.is_empty(), "{unnoticed:#?}");
}

#[test]
fn a_duty_that_is_claimed_and_not_done_is_found() {
    let unnoticed = in_parallel(&duties(), |&(duty, with, without, lacks)| {
        let failed = failures(without, with, lacks);
        let says = format!("duties claim `{duty}`");
        (!failed.iter().any(|said| said.contains(&says))).then(|| format!("{duty}: {failed:#?}"))
    });
    assert!(unnoticed.is_empty(), "{unnoticed:#?}");
    // On a library with reserved bits the same claim is false in another way.
    let failed = failures(Duties::frames(), Duties::frames().applying_extensions(), &[]);
    assert!(failed.iter().any(|said| said.contains("a compressed message came as")), "{failed:?}");
}

/// What is wrong, row by row. Most of the time is waiting for what does not come.
fn in_parallel<T: Sync>(rows: &[T], wrong: impl Fn(&T) -> Option<String> + Sync) -> Vec<String> {
    let wrong = &wrong;
    thread::scope(|scope| {
        let rows: Vec<_> = rows.iter().map(|row| scope.spawn(move || wrong(row))).collect();
        rows.into_iter().filter_map(|row| row.join().expect("a verdict")).collect()
    })
}
