//! `docs/reference/hostile-peers.md` shows the suite's table of hostile peers. `UPDATE=1 cargo test --features full --test
//! reports docs` writes the page.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};

#[test]
fn the_page_is_the_table_that_the_suite_runs() {
    let page = drivetrain_conformance::hostile_page();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/hostile-peers.md");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == page,
        "docs/reference/hostile-peers.md is out of date: run UPDATE=1 cargo test --features full --test reports docs"
    );
}
