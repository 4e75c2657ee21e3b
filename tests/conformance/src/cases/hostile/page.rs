//! The table in Markdown.

use std::collections::BTreeSet;

use super::{
    parts,
    table::{End, Over, Row},
};

/// The hostile peers of the suite and what each comes to, as a page in Markdown: the table that the cases
/// are made from.
pub fn page() -> String {
    let parts = parts();
    let rows = || parts.iter().flat_map(|(_, rows)| rows);
    let count = rows().count();
    let scripts: usize = rows().map(Row::scripts).sum();
    let mut page = format!(
        "# Hostile peers\n\n\
         Each of these {count} rows is a case of the conformance suite, on every engine. A case is one \
         peer or several that come to the same, such as one for every place at which its bytes can be \
         cut: {scripts} in all. The cases are made from the same table as this page.\n\n\
         - **error**: the kind of the error that `receive()` and `send()` give, from then on, or \
         `connect()` where there is no session.\n\
         - **Close on the wire**: the code of the one Close that the peer gets, its last frame.\n\
         - **`outcome()`**: whether `clean`, with the codes of `sent` and `received`. A peer that was \
         refused may answer our Close: where its answer can still be told from the rest, `received` is \
         that code.\n"
    );
    let mut deviations = BTreeSet::new();
    for (title, rows) in &parts {
        page.push_str(&format!(
            "\n## {title}\n\n| peer | error | Close on the wire | `outcome()` |\n| --- | --- | --- | --- |\n"
        ));
        for row in rows {
            page.push_str(&line(&row.name, row.end));
            deviations.extend(row.deviations.iter().map(|&(engine, end)| {
                line(&row.name, end).replacen("| ", &format!("| `{engine}` | "), 1)
            }));
        }
    }
    page.push_str(
        "\n## Deviations\n\n\
         Why is said in [limitations](limitations.md#deviations).\n\n\
         | engine | peer | error | Close on the wire | `outcome()` |\n| --- | --- | --- | --- | --- |\n",
    );
    page.extend(deviations);
    page
}

fn line(name: &str, end: End) -> String {
    let (error, wire, outcome) = match end {
        End::Open => ("none".into(), "none".into(), "the session goes on".into()),
        End::NoSession(kind) => {
            (format!("`{kind:?}` of `connect()`"), "none".into(), "no session".into())
        }
        End::Over(over) => over_columns(over),
    };
    format!("| `{name}` | {error} | {wire} | {outcome} |\n")
}

fn over_columns(over: Over) -> (String, String, String) {
    let code = |code: Option<u16>| code.map_or("none".into(), |code| code.to_string());
    let error = over.kind.map_or("none".into(), |kind| format!("`{kind:?}`"));
    let clean = if over.kind.is_none() { "clean" } else { "not clean" };
    let mut received = code(over.received);
    if over.may_receive() != over.received {
        received.push_str(&format!(" or {}", code(over.may_receive())));
    }
    let outcome = format!("{clean}, sent {}, received {received}", code(over.sent));
    (error, code(over.wire), outcome)
}
