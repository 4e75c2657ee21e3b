//! The page that shows how to write an engine has the code that the suite runs.

const PAGE: &str = include_str!("../../../docs/how-to/writing-an-engine.md");

#[test]
fn the_pages_halves_are_those_that_the_suite_runs() {
    let halves = [
        ("framing.rs", include_str!("../../guide/framing.rs")),
        ("connector.rs", include_str!("../../guide/connector.rs")),
    ];
    for (file, code) in halves {
        let block = format!("```rust,no_run\n{code}```\n");
        assert!(PAGE.contains(&block), "tests/guide/{file} is not the page's code");
    }
}

#[test]
fn the_pages_subject_is_the_one_that_the_suite_runs() {
    let main = include_str!("../../guide/main.rs");
    let subject = &main[main.find("use std::{future").expect("a subject")..];
    let block = format!("```rust,ignore\n{subject}```\n");
    assert!(PAGE.contains(&block), "tests/guide/main.rs is not the page's code");
}
